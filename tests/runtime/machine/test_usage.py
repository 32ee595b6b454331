"""From readings at odd moments to a session's average and maximum."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.records.session_record import Usage
from monitoring.runtime.machine.usage import Figure, Latest, Level, Recording, Trailing, Work


def usage(*figures: tuple[float, Figure]) -> Usage | None:
    recording = Recording()
    for at, figure in figures:
        recording.add({"it": figure}, at)
    return recording.usages().get("it")


def test_a_recording_without_a_reading_has_nothing() -> None:
    assert Recording().usages() == {}


def test_resources_are_kept_apart_and_one_that_is_missing_in_between_is_not_zero() -> None:
    recording = Recording()
    recording.add({"a": Level(1.0), "b": Level(-5.0)}, 0.0)
    recording.add({"b": Level(-7.0)}, 1.0)
    recording.add({"a": Level(3.0)}, 2.0)
    assert recording.usages() == {"a": Usage(2.0, 3.0), "b": Usage(-6.0, -5.0)}


def test_one_level_alone_is_average_and_maximum() -> None:
    assert usage((5.0, Level(4.0))) == Usage(4.0, 4.0)


def test_a_level_is_averaged_over_time_and_not_over_samples() -> None:
    crowded_end = [(10.0 + step / 100, Level(8.0)) for step in range(10)]
    measured = usage((0.0, Level(2.0)), (10.0, Level(2.0)), *crowded_end)
    assert measured is not None
    assert measured.average == pytest.approx(2.0, rel=0.05)
    assert measured.maximum == 8.0


def test_levels_at_the_same_moment_are_averaged_plainly() -> None:
    assert usage((1.0, Level(2.0)), (1.0, Level(4.0))) == Usage(3.0, 4.0)


def test_a_figure_that_comes_too_late_is_left_out() -> None:
    assert usage((0.0, Level(2.0)), (2.0, Level(2.0)), (1.0, Level(100.0))) == Usage(2.0, 2.0)


def test_a_peak_that_rose_between_two_samples_is_the_sessions_maximum() -> None:
    assert usage((0.0, Level(2.0, peak=5.0)), (1.0, Level(3.0, peak=9.0))) == Usage(2.5, 9.0)


def test_a_peak_from_before_the_session_is_not_its_maximum() -> None:
    assert usage((0.0, Level(2.0, peak=9.0)), (1.0, Level(3.0, peak=9.0))) == Usage(2.5, 3.0)


def test_a_peak_that_was_reset_and_has_risen_again_counts_once_it_is_seen_to_rise() -> None:
    figures = (0.0, Level(1.0, peak=9.0)), (1.0, Level(1.0, peak=1.0)), (2.0, Level(1.0, peak=4.0))
    assert usage(*figures) == Usage(1.0, 4.0)


def test_a_trailing_figure_of_the_sessions_start_tells_of_the_time_before_it() -> None:
    assert usage((0.0, Trailing(0.9)), (10.0, Trailing(0.1)), (11.0, Trailing(0.3))) == Usage(
        pytest.approx((10 * 0.1 + 0.3) / 11), 0.3
    )


def test_a_trailing_figure_alone_is_better_than_none() -> None:
    assert usage((0.0, Trailing(0.9))) == Usage(0.9, 0.9)


def test_work_is_divided_by_the_sessions_own_time() -> None:
    assert usage((0.0, Work(100.0, 50.0)), (10.0, Work(104.0, 60.0)), (12.0, Work(106.0, 62.0))) == Usage(0.5, 1.0)


def test_work_read_once_says_nothing() -> None:
    assert usage((0.0, Work(100.0, 50.0))) is None


def test_work_whose_clock_has_not_moved_says_nothing() -> None:
    assert usage((0.0, Work(100.0, 50.0)), (0.001, Work(100.0, 50.0))) is None


def test_a_span_too_short_to_divide_by_makes_no_maximum() -> None:
    samples = (0.0, Work(0.0, 0.0)), (10.0, Work(1.0, 10.0)), (10.001, Work(1.01, 10.001))
    measured = usage(*samples)
    assert measured is not None
    assert measured.maximum == pytest.approx(1.01 / 10.001)


def test_short_spans_are_joined_until_they_are_long_enough() -> None:
    samples = [(step / 100, Work(float(step >= 5), step / 100)) for step in range(11)]
    measured = usage(*samples)
    assert measured is not None
    assert measured.maximum == pytest.approx(1.0 / 0.1)


def test_a_session_shorter_than_any_span_has_its_own_share() -> None:
    assert usage((0.0, Work(0.0, 0.0)), (0.001, Work(0.0005, 0.001))) == Usage(0.5, 0.5)


def test_work_is_a_share_of_the_capacity_and_held_to_what_is_possible() -> None:
    assert usage((0.0, Work(0.0, 0.0, 2.0)), (1.0, Work(1.0, 1.0, 2.0))) == Usage(0.5, 0.5)
    assert usage((0.0, Work(0.0, 0.0, 2.0, 1.0)), (1.0, Work(3.0, 1.0, 2.0, 1.0))) == Usage(1.0, 1.0)


def test_a_count_that_fell_back_is_no_negative_share() -> None:
    assert usage((0.0, Work(9.0, 0.0)), (1.0, Work(1.0, 1.0))) == Usage(0.0, 0.0)


def test_another_counter_begins_anew() -> None:
    samples = (0.0, Work(5.0, 0.0, counter="a")), (1.0, Work(900.0, 1.0, counter="b"))
    assert usage(*samples) is None
    assert usage(*samples, (3.0, Work(901.0, 3.0, counter="b"))) == Usage(0.5, 0.5)


def test_what_holds_for_the_session_is_what_was_read_last() -> None:
    assert usage((0.0, Latest(1.0)), (1.0, Latest(7.0)), (2.0, Latest(5.0))) == Usage(5.0, 5.0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_kept(odd: float) -> None:
    for figure in (Level(odd), Trailing(odd), Latest(odd)):
        assert usage((0.0, figure), (1.0, figure)) is None
    assert usage((0.0, Work(0.0, 0.0)), (1.0, Work(odd, 1.0))) in (None, Usage(0.0, 0.0))


LEVELS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e12), st.floats(0, 1e12)), min_size=1, max_size=20)


@given(LEVELS)
def test_an_average_lies_between_the_least_and_the_maximum(samples: list[tuple[float, float, float]]) -> None:
    for kind in (Level, Trailing):
        measured = usage(*((at, kind(value)) for at, value, _ in samples))
        assert measured is not None
        # A sum of products keeps no digits of numbers at the edge of what a float can hold.
        least = min(value for _, value, _ in samples) * (1 - 1e-9) - 1e-300
        assert least <= measured.average <= measured.maximum + 1e-300


@given(LEVELS)
def test_a_share_of_work_is_never_negative_nor_beyond_the_possible(samples: list[tuple[float, float, float]]) -> None:
    measured = usage(*((at, Work(done, clock, most=4.0)) for at, done, clock in samples))
    if measured is not None:
        assert 0.0 <= measured.average <= measured.maximum <= 4.0


def test_of_what_is_left_the_smallest_is_kept_too() -> None:
    low_between = ((0.0, Level(9.0, is_left=True)), (1.0, Level(2.0, is_left=True)), (2.0, Level(9.0, is_left=True)))
    assert usage(*low_between) == Usage(5.5, 9.0, 2.0)
    assert usage((0.0, Level(9.0)), (1.0, Level(2.0))) == Usage(5.5, 9.0)
