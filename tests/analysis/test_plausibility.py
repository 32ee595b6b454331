"""Which lengths no leg can have."""

from __future__ import annotations

import pytest

from analysis.plausibility import find_implausible


def lengths(**millimeters: float) -> dict[str, dict[str, float]]:
    return {name: {"millimeters": value, "centimeters": value / 10} for name, value in millimeters.items()}


def test_the_lengths_of_a_ten_year_old_boy_are_plausible() -> None:
    assert find_implausible(lengths(PLL_R_FEM=362.9, PLL_R_TIB=285.3, PLL_L_FEM=361.0, PLL_L_TIB=286.0)) == []


@pytest.mark.parametrize(("name", "value"), [("PLL_R_FEM", 59.9), ("PLL_L_FEM", 620.1), ("PLL_R_TIB", 49.9)])
def test_a_bone_outside_its_limits_is_a_hard_issue(name: str, value: float) -> None:
    (issue,) = find_implausible(lengths(**{name: value}))
    assert (issue["code"], issue["severity"], issue["measurement"]) == ("length_implausible", "hard", name)
    assert issue["value"] == value


@pytest.mark.parametrize("femur", [314.9, 450.1])
def test_a_femur_that_does_not_fit_its_tibia_is_a_hard_issue(femur: float) -> None:
    (issue,) = find_implausible(lengths(PLL_L_FEM=femur, PLL_L_TIB=300.0))
    assert issue["code"] == "femur_to_tibia_implausible"
    assert issue["value"] == pytest.approx(femur / 300.0)


def test_a_tibia_of_no_length_is_implausible_and_no_division_fails() -> None:
    codes = {issue["code"] for issue in find_implausible(lengths(PLL_L_FEM=300.0, PLL_L_TIB=0.0))}
    assert codes == {"length_implausible", "femur_to_tibia_implausible"}


def test_what_was_not_measured_is_not_judged() -> None:
    assert find_implausible({}) == []
