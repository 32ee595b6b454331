"""How large a change is and where it sits, of numbers that are written out."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from monitoring.analytics.changes import Past, evenly, extent_of_events, extent_of_numbers, of_events, of_numbers


def points(stratum: str, values: list[float]) -> list[Past]:
    return [(number, 0.0, value, stratum) for number, value in enumerate(values)]


def normal(count: int, mean: float = 0.0) -> list[float]:
    return [NormalDist(mean, 1.0).inv_cdf((number + 0.5) / count) for number in range(count)]


def test_a_stratum_of_which_little_was_known_before_is_never_said_to_be_spared():
    """However many exams there are since: two of before may both have been high."""
    since = points("a", normal(40, 2.0)) + points("b", normal(400))
    for before, strata in ((2, ()), (100, ("a",))):
        known = of_numbers(points("a", normal(200)) + points("b", normal(before)))
        assert extent_of_numbers(known, since, 1.0).strata == strata


def test_exams_that_depend_on_one_another_say_less_of_where_a_change_sits():
    known = of_numbers(points("a", normal(100)) + points("b", normal(100)))
    since = points("a", normal(12, -2.0)) + points("b", normal(12))
    assert extent_of_numbers(known, since, -1.0).strata == ("a",)
    assert extent_of_numbers(known, since, -1.0, inflation=10.0).strata == ()
    assert extent_of_numbers(known, since, 1.0).strata == ()  # nothing moved that way


def test_strata_count_by_their_exams_since_and_new_ones_not_at_all():
    known = of_numbers(points("a", [10.0] * 9) + points("b", [100.0] * 9))
    since = points("a", [11.0] * 3) + points("b", [102.0]) + points("new", [900.0])
    found = extent_of_numbers(known, since, 1.0)
    assert (found.size, found.exams) == (pytest.approx((3 * 1 + 2) / 4), 4)
    assert extent_of_numbers(known, points("new", [900.0]), 1.0).size == 0.0


def test_one_hung_session_of_before_does_not_turn_the_size_about():
    known = of_numbers(points("a", [*[1.0] * 20, 5_000.0]))
    assert extent_of_numbers(known, points("a", [1.5] * 6), 1.0).size == pytest.approx(0.5)


def test_forty_values_stand_for_all():
    assert evenly([]) == []
    assert evenly([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    many = evenly([float(number) for number in range(400)])
    assert (len(many), many[0], many[-1]) == (40, 5.0, 395.0)


def test_the_size_of_events_is_against_the_accepted_share_where_nothing_was_before():
    found = extent_of_events(of_events([]), points("a", [1.0, 1.0, 0.0, 1.0]), 0.05)
    assert (found.size, found.exams, found.strata) == (pytest.approx(0.7), 4, ())


def test_events_in_every_exam_of_one_device_and_in_none_of_another_are_of_that_one():
    known = of_events(points("a", [0.0] * 50) + points("b", [0.0] * 50))
    found = extent_of_events(known, points("a", [1.0] * 6) + points("b", [0.0] * 6), 0.05)
    assert (found.size, found.exams, found.strata) == (pytest.approx(0.5), 12, ("a",))
    # One more exam of another device says nothing yet.
    assert extent_of_events(known, points("a", [1.0] * 6) + points("b", [0.0]), 0.05).strata == ()


def test_failures_that_leave_no_device_in_the_record_are_counted_among_all_sessions():
    """Whoever fails is of a stratum of its own, in which all failed before, too."""
    known = of_events(points("leg", [0.0] * 97) + points("not told", [1.0] * 3))
    found = extent_of_events(known, points("leg", [0.0] * 10) + points("not told", [1.0] * 10), 0.05)
    assert (found.size, found.exams) == (pytest.approx(0.47), 20)


def test_one_failure_at_a_device_of_which_little_is_known_does_not_say_that_the_fault_is_there():
    known = of_events(
        [point for device in ("a", "b", "c") for point in points(device, [0.0] * (10 if device == "b" else 50))]
    )
    since = points("a", [1.0] * 8 + [0.0] * 4) + points("c", [0.0] * 12)
    assert extent_of_events(known, since, 0.05).strata == ("a",)
    assert extent_of_events(known, since + points("b", [1.0, 0.0, 0.0]), 0.05).strata == ()
