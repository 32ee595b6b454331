"""An error is told by its type and its places in the code, and never by its message."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest

from analysis.crash import described, log_without_messages

SAID = "Zzyzxson^Quillaboo"


@pytest.fixture(autouse=True)
def _hooks_are_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setitem(sys.modules, "some.module", ModuleType("some.module"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def fail() -> None:
    raise KeyError(SAID)


def caught(code: str) -> BaseException:
    names = vars(sys.modules["some.module"])
    names.update(fail=fail, said=SAID)
    try:
        exec(code, names)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_error_is_told_from_the_innermost_place_outwards() -> None:
    assert re.fullmatch(
        r"KeyError at tests\.analysis\.test_crash:\d+ < some\.module:2 < tests\.analysis\.test_crash:\d+",
        described(caught("\nfail()")),
    )


def test_a_name_that_no_code_has_is_not_told() -> None:
    """A class can be made, and text be run, under the name of whatever was read from a file."""
    made = type("Quillaboo", (LookupError,), {})
    try:
        exec("raise made", {"made": made, "__name__": "Quillaboo"})
    except LookupError as error:
        told = described(error)
    assert re.fullmatch(r"LookupError at tests\.analysis\.test_crash:\d+", told)


def test_what_is_behind_an_error_is_told_too_unless_it_was_put_aside() -> None:
    chained = "\ntry: fail()\nexcept KeyError as e: raise ValueError(said){}"
    assert re.fullmatch(r"ValueError at .*, after KeyError at .*", described(caught(chained.format(" from e"))))
    assert re.fullmatch(r"ValueError at .*, after KeyError at .*", described(caught(chained.format(""))))
    assert "KeyError" not in described(caught(chained.format(" from None")))


def test_the_errors_of_a_group_are_told() -> None:
    group = caught("raise BaseExceptionGroup(said, [KeyboardInterrupt(said), ExceptionGroup('', [TypeError(said)])])")
    assert re.findall(r"\w+(?= at)", described(group)) == [
        "BaseExceptionGroup",
        "KeyboardInterrupt",
        "ExceptionGroup",
        "TypeError",
    ]


def test_errors_in_a_circle_and_without_end_are_told_in_one_line_of_bounded_length() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert described(first) == "ValueError at ?, after KeyError at ?"
    last: BaseException = ValueError()
    for _ in range(1000):
        behind, last = last, ValueError()
        last.__cause__ = behind
    assert described(last).count(" at ") == 10
    deep = caught("def f(n): 1/n; f(n-1)\nf(500)")
    assert described(deep).count(" < ") < 20


def test_no_hook_tells_a_message(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    log_without_messages(logging.getLogger("told"))
    error = caught("fail()")
    sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fail, name=SAID)
    thread.start()
    thread.join()
    type("Closing", (), {"__del__": lambda self: fail()})()
    warnings.warn(SAID, stacklevel=1)
    warnings.warn_explicit(DeprecationWarning(SAID), None, "/some/module.py", 7)
    kinds = [re.sub(r"[\w.]+:\d+( < [\w.]+:\d+)*", "...", message) for message in caplog.messages]
    assert kinds == [
        "ended by KeyError at ...", "a thread ended by KeyError at ...", "ignored: KeyError at ...",
        "UserWarning at ...", "DeprecationWarning at ...",
    ]  # fmt: skip
    assert SAID not in caplog.text + capsys.readouterr().err
