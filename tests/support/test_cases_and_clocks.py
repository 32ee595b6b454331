"""A test over many cases fails with each that fails, and a busy machine is allowed as much more as it is slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import clocks
from tests.support.cases import for_each
from tests.support.clocks import assert_took_at_most, slowness


def test_every_case_that_fails_is_named(tmp_path: Path) -> None:
    @for_each("number", range(5), named=lambda number: f"number {number}")
    def all_are_small(number: int, tmp_path: Path) -> None:
        assert number < 3

    with pytest.raises(
        AssertionError, match=r"2 of 5 cases fail:\nnumber 3: AssertionError[\s\S]*\nnumber 4"
    ) as failure:
        all_are_small(tmp_path=tmp_path)
    assert isinstance(failure.value.__cause__, AssertionError)


def test_a_test_over_no_case_is_none() -> None:
    with pytest.raises(AssertionError, match="shows nothing"):
        for_each("number", [])


def test_a_time_is_held_against_the_machine_as_it_is_just_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1.0 <= slowness() < 1000.0
    monkeypatch.setattr(clocks, "slowness", lambda: 4.0)
    assert_took_at_most(3.9, 1.0)
    with pytest.raises(AssertionError, match=r"took 4.1 s; 4.0 s would be slow"):
        assert_took_at_most(4.1, 1.0)
