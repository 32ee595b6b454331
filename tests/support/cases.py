"""One test over many cases that differ in a name only: it starts once, and fails with each case that fails."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def for_each(argument: str, cases: Iterable[Any], named: Callable[[Any], str] = str) -> Callable[[Test], Test]:
    """Call the test with each case as `argument`; the first failure's cause is shown whole."""
    every = list(cases)
    assert every, "a test without a case shows nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def over_all(**fixtures: Any) -> None:
            failures = []
            for case in every:
                try:
                    test(**fixtures, **{argument: case})
                except Exception as error:
                    failures.append((named(case), error))
            if failures:
                told = "\n".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures)
                raise AssertionError(f"{len(failures)} of {len(every)} cases fail:\n{told}") from failures[0][1]

        signature = inspect.signature(test)
        kept = [parameter for name, parameter in signature.parameters.items() if name != argument]
        over_all.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return over_all

    return decorate
