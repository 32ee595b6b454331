"""No record that passes the filter holds a value that it was told, in any form."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from monitoring import LogFilter, MonitorManager
from monitoring.privacy.log_filter import REPLACEMENT, protect
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

NAME = "Canary^Invented Ä"
TOKEN = "tok/en+with=signs"


@pytest.fixture
def log_filter() -> Iterator[LogFilter]:
    found = LogFilter()
    found.install()
    yield found
    found.uninstall()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.DEBUG)
    return logging.getLogger("some.library")


@pytest.fixture
def own_stream() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that hands its records to nobody but a handler of its own."""
    logger, stream = logging.getLogger("own"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(threadName)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)
    logger.propagate = True


def formatted(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(message)s")
    return "\n".join(formatter.format(record) for record in caplog.records)


def test_a_studys_values_are_removed_a_name_by_its_parts_too_and_short_ones_stay(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME, "1.2.826", "1.2.826.0.1.77", "M", "DX", ""]):
        for form in (NAME, quote(NAME), json.dumps(NAME), repr(NAME), ascii(NAME), repr(NAME.encode()), "Canary"):
            log.info("read %s", form)
            assert REPLACEMENT in caplog.messages[-1]
            assert form.strip("'\"") not in caplog.messages[-1]
        log.info("M DX series 1.2.826.0.1.77")
    assert caplog.messages[-1] == f"M DX series {REPLACEMENT}"


def test_arguments_and_tracebacks_are_cleaned(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        try:
            raise ValueError(f"can't parse {NAME}")
        except ValueError:
            log.exception("failed for %(who)s", {"who": NAME})
    text = formatted(caplog)
    assert NAME not in text
    assert "ValueError" in text
    assert all(NAME not in repr(vars(record)) for record in caplog.records)


def test_the_next_study_is_not_cleaned_of_the_last_ones_values_but_secrets_are_for_ever(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    log_filter.add_secrets([TOKEN])
    with log_filter.study([NAME]):
        pass
    log.info("%s and %s", NAME, TOKEN)
    assert formatted(caplog) == f"{NAME} and {REPLACEMENT}"


# --- records -------------------------------------------------------------------------------------


def everything(record: logging.LogRecord) -> str:
    return repr(vars(record))


def test_extra_attributes_are_cleaned_and_what_shows_nothing_is_left_as_it_is(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    harmless, number = {"count": [1, 2]}, 7730661
    extra = {"who": NAME, "nested": {"a": [NAME]}, "raw": NAME.encode(), "number": number, "harmless": harmless}
    with log_filter.study([NAME, str(number)]):
        log.info("done", extra=extra)
    (record,) = caplog.records
    assert "Canary" not in everything(record)
    assert "7730661" not in everything(record)
    assert vars(record)["harmless"] is harmless


@pytest.mark.parametrize("arguments", [({"who": NAME},), (["x", NAME],), (5, NAME), (Path(NAME),), (NAME.encode(),)])
def test_arguments_that_the_message_doesnt_show_are_cleaned_too(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture, arguments: tuple[Any, ...]
) -> None:
    with log_filter.study([NAME]):
        log.info(
            "done" if len(arguments) == 1 and isinstance(arguments[0], dict) else "%.0s" * len(arguments), *arguments
        )
    assert "Canary" not in everything(caplog.records[0])


def test_arguments_of_plain_types_stay_arguments(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        log.info("%s %d %.1f %s", NAME, 5, 2.5, "ok")
        log.info("%s of %d", "one", 5)
    first, second = caplog.records
    assert (first.msg, first.args) == ("%s %d %.1f %s", (REPLACEMENT, 5, 2.5, "ok"))
    assert (second.msg, second.args) == ("%s of %d", ("one", 5))
    assert first.getMessage() == f"{REPLACEMENT} 5 2.5 ok"


def test_a_number_that_is_an_identifier_is_removed(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study(["7730661"]):
        log.info("patient %d", 7730661)
    assert caplog.messages == [f"patient {REPLACEMENT}"]


def test_a_value_that_only_the_whole_message_makes_is_removed(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study(["Zzyzxson Quillaboo"]):
        log.info("of %s %s", "Zzyzxson", "Quillaboo")
    assert caplog.messages == [f"of {REPLACEMENT}"]


def test_an_exception_or_any_object_may_be_the_message(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        log.error(ValueError(NAME))
        log.error({"who": NAME})
    assert "Canary" not in "".join(map(everything, caplog.records))


def raise_all() -> None:
    try:
        try:
            raise KeyError(NAME)
        except KeyError as error:
            error.add_note(f"a note on {NAME}")
            raise ValueError("first cause") from error
    except ValueError:
        others = [OSError(2, "gone", f"/in/{NAME}.dcm"), TypeError(NAME)]
        raise ExceptionGroup(f"several of {NAME}", others) from None


def test_tracebacks_with_causes_notes_and_groups_are_cleaned_and_still_say_what_happened(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        try:
            raise_all()
        except ExceptionGroup:
            log.exception("failed", stack_info=True)
        try:
            raise ValueError("in vain") from KeyError(NAME)
        except ValueError as error:
            log.warning("again", exc_info=error)
    text = formatted(caplog)
    assert "Canary" not in text
    assert all("Canary" not in everything(record) for record in caplog.records)
    for kind in ("ExceptionGroup", "FileNotFoundError", "TypeError", "KeyError", "in vain", "raise_all"):
        assert kind in text


def test_a_handler_gets_no_exception_whose_frames_hold_values(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        local = NAME
        try:
            raise ValueError("nothing in here")
        except ValueError:
            log.exception("failed")
    assert local
    assert caplog.records[0].exc_info is None
    assert "ValueError: nothing in here" in str(caplog.records[0].exc_text)


def test_without_a_value_to_look_for_a_record_is_left_as_it_is(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    argument = [1]
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("%s", argument)
    assert caplog.records[0].args == (argument,)
    assert caplog.records[0].exc_info is not None


def test_names_of_loggers_and_threads_are_cleaned(
    log_filter: LogFilter, own_stream: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, stream = own_stream
    with log_filter.study([NAME]):
        thread = threading.Thread(target=lambda: logger.getChild(NAME).warning("here"), name=f"work on {NAME}")
        thread.start()
        thread.join()
    assert "Canary" not in stream.getvalue()
    assert stream.getvalue().startswith("WARNING own.[removed] work on [removed] here")


@pytest.mark.parametrize("make", ["LogRecord", "makeLogRecord", "another factory"])
def test_records_that_something_else_made_are_cleaned_when_they_are_handled(
    log_filter: LogFilter, own_stream: tuple[logging.Logger, io.StringIO], make: str
) -> None:
    logger, stream = own_stream
    if make == "LogRecord":
        record = logging.LogRecord("own", logging.ERROR, "path", 1, "of %s", (NAME,), None)
    elif make == "makeLogRecord":
        record = logging.makeLogRecord(
            {"msg": f"of {NAME}", "exc_text": f"E: {NAME}", "stack_info": NAME, "levelno": 40}
        )
    else:
        record = type("Record", (logging.LogRecord,), {})("own", logging.ERROR, "path", 1, f"of {NAME}", (), None)
    with log_filter.study([NAME]):
        logger.handle(record)
        logger.handlers[0].handle(record)
    assert "Canary" not in stream.getvalue()
    assert stream.getvalue().count(f"of {REPLACEMENT}") == 2


def test_records_that_are_queued_are_cleaned_even_if_they_are_written_when_the_study_is_over(
    log_filter: LogFilter,
) -> None:
    lines: queue.Queue[Any] = queue.Queue()
    stream = io.StringIO()
    logger, handler = logging.getLogger("queued"), logging.handlers.QueueHandler(lines)
    logger.addHandler(handler)
    with log_filter.study([NAME]):
        try:
            raise ValueError(NAME)
        except ValueError:
            logger.exception("of %s", NAME, extra={"who": NAME})
    listener = logging.handlers.QueueListener(lines, logging.StreamHandler(stream))
    listener.start()
    listener.stop()
    logger.removeHandler(handler)
    assert "ValueError" in stream.getvalue()
    assert "Canary" not in stream.getvalue()


def test_warnings_that_logging_captures_are_cleaned(log_filter: LogFilter, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), log_filter.study([NAME]):
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn(f"odd value {NAME}", stacklevel=1)
        finally:
            logging.captureWarnings(False)
    assert "UserWarning: odd value [removed]" in caplog.text
    assert "Canary" not in caplog.text


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError(NAME)


def test_what_cant_be_shown_costs_the_line_and_not_the_caller(
    log_filter: LogFilter, own_stream: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, stream = own_stream
    with log_filter.study([NAME]):
        logger.error("of %s", Unshowable())
        logger.error("done", extra={"thing": Unshowable()})
    assert stream.getvalue().count("left out") == 2
    assert "Canary" not in stream.getvalue() + capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "arguments"), [("%d", (NAME,)), ("%s", (NAME, NAME)), ("%(a)s", (NAME,)), ("%", (1,))]
)
def test_a_wrong_format_string_shows_no_value_on_any_stream(
    log_filter: LogFilter, own_stream: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str],
    message: str, arguments: tuple[Any, ...],
) -> None:  # fmt: skip
    logger, stream = own_stream
    with log_filter.study([NAME]):
        logger.error(message, *arguments)
    assert "Canary" not in stream.getvalue() + capsys.readouterr().err
    assert stream.getvalue().count("\n") == 1
    assert message in stream.getvalue()


def test_a_handler_that_fails_shows_no_value_on_the_error_stream(
    log_filter: LogFilter, own_stream: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, stream = own_stream
    stream.close()
    logger.handlers[0].setStream(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))  # type: ignore[attr-defined]
    with log_filter.study([NAME]):
        logger.error("Ä of %s", NAME)
    shown = capsys.readouterr().err
    assert "UnicodeEncodeError" in shown
    assert "Canary" not in shown
    assert "Invented" not in shown


# --- studies, secrets, and being installed -------------------------------------------------------


def test_studies_that_overlap_are_each_clean_until_they_end(log_filter: LogFilter) -> None:
    first, second = log_filter.study(["Zzyzxson"]), log_filter.study(["Quillaboo"])
    both = "Zzyzxson Quillaboo"
    first.__enter__()
    second.__enter__()
    assert log_filter.clean(both) == "[removed] [removed]"
    first.__exit__(None, None, None)
    assert log_filter.clean(both) == "Zzyzxson [removed]"
    second.__exit__(None, None, None)
    assert log_filter.clean(both) is both


def test_a_study_ends_when_it_fails(log_filter: LogFilter) -> None:
    with pytest.raises(KeyError), log_filter.study([NAME]):
        raise KeyError
    assert log_filter.clean(NAME) == NAME


def test_a_secrets_parts_are_not_secrets(log_filter: LogFilter) -> None:
    log_filter.add_secrets(["admin^password=x", "p^q"])
    assert log_filter.clean("the admin wants a password") == "the admin wants a password"
    assert log_filter.clean("it is admin^password=x.") == "it is [removed]."


@pytest.mark.parametrize("key", [b"\x00\xffraw\xc3\xa4 key\x8012345", b"0123456789abcdef"])
def test_a_secret_of_bytes_is_removed_as_it_is_shown(log_filter: LogFilter, key: bytes) -> None:
    log_filter.add_secrets([key])
    for shown in (repr(key), repr(repr(key)), quote(key), key.decode() if key.isascii() else ascii(key)):
        cleaned = log_filter.clean(f"key {shown} end")
        assert REPLACEMENT in cleaned
        assert shown[6:-4] not in cleaned


def test_protect_tells_the_filters_that_are_installed_and_is_nothing_without_one(log_filter: LogFilter) -> None:
    second, absent = LogFilter(), LogFilter()
    second.install()
    try:
        protect([TOKEN, b"raw-secret"])
    finally:
        second.uninstall()
    for found in (log_filter, second):
        assert found.clean(f"{TOKEN} raw-secret") == "[removed] [removed]"
    assert absent.clean(TOKEN) is TOKEN
    log_filter.uninstall()
    protect(["another-secret"])
    assert log_filter.clean("another-secret") == "another-secret"


def test_filters_may_be_taken_away_in_any_order() -> None:
    before = (logging.getLogRecordFactory(), logging.Handler.handle)
    first, second = LogFilter(), LogFilter()
    first.install()
    first.install()
    second.install()
    first.uninstall()
    with second.study([NAME]):
        assert REPLACEMENT in logging.makeLogRecord({}).getMessage() + second.clean(NAME)
        assert "Canary" not in logging.getLogRecordFactory()("n", 20, "p", 1, NAME, (), None).getMessage()
    second.uninstall()
    second.uninstall()
    assert (logging.getLogRecordFactory(), logging.Handler.handle) == before


def test_a_factory_that_was_put_in_front_of_ours_goes_on_working() -> None:
    before = logging.getLogRecordFactory()
    found = LogFilter()
    found.install()
    ours = logging.getLogRecordFactory()

    def theirs(*arguments: Any, **named: Any) -> logging.LogRecord:
        return ours(*arguments, **named)

    logging.setLogRecordFactory(theirs)
    try:
        found.uninstall()
        assert logging.getLogRecordFactory() is theirs
        found.install()
        with found.study([NAME]):
            assert theirs("n", 20, "p", 1, NAME, (), None).getMessage() == REPLACEMENT
    finally:
        logging.setLogRecordFactory(ours)
        found.uninstall()
    assert logging.getLogRecordFactory() is before


def test_the_filter_is_made_of_the_standard_library_alone(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
import logging
from monitoring import LogFilter
LogFilter().install()
logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
with LogFilter().study(["Somebody"]):
    logging.warning("hello")
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
assert tops - set(sys.stdlib_module_names) <= {"monitoring"}, tops
parts = {name for name in sys.modules if name.startswith("monitoring.")} - {"monitoring.version"}
assert parts == {"monitoring.privacy", "monitoring.privacy.log_filter", "monitoring.privacy.redaction"}, parts
"""
    root = REPOSITORY
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_key_that_the_store_made_for_itself_is_protected_too(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    settings = {"enabled": True, "metrics": {"include_system_metrics": False}, "store": {"path": str(tmp_path)}}
    with MonitorManager({"monitoring": settings}):
        key = (tmp_path / "monitoring.key").read_text()
        log.warning("the key is %s", key)
    assert f"the key is {REPLACEMENT}" in formatted(caplog)
    assert key not in formatted(caplog)
