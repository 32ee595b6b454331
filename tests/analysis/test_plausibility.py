"""Which lengths no leg can have."""

from __future__ import annotations

import pytest

from analysis.landmarks import Landmark, Spacing
from analysis.measurements import measure
from analysis.plausibility import find_disordered, find_implausible


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


def landmarks(**moved: tuple[float, float]) -> dict[int, Landmark]:
    places = {1: (100, 100), 2: (300, 100), 3: (90, 500), 4: (310, 500), 5: (110, 500), 6: (290, 500)}
    places |= {7: (100, 800), 8: (300, 800)} | {int(label[1:]): place for label, place in moved.items()}
    return {label: Landmark(label, float(x), float(y), 0.9, 3) for label, (x, y) in places.items()}


def disordered(found: dict[int, Landmark]) -> set[tuple[str, str, str]]:
    issues = find_disordered(measure(found, Spacing(0.5, 0.5)), found)
    return {(issue["code"], issue["severity"], issue["measurement"]) for issue in issues}


def test_landmarks_in_their_order_have_no_issue():
    assert disordered(landmarks()) == set()


@pytest.mark.parametrize(
    ("moved", "name"),
    [({"L1": (100, 900)}, "PLL_R_FEM"), ({"L2": (300, 500)}, "PLL_L_FEM"), ({"L8": (300, 100)}, "PLL_L_TIB")],
)
def test_a_bone_that_is_upside_down_is_hard_implausible_though_its_length_is_not(moved: dict, name: str):
    assert disordered(landmarks(**moved)) == {("landmarks_upside_down", "hard", name)}


def test_legs_on_each_others_side_are_hard_implausible():
    found = disordered(landmarks(L7=(300, 800), L8=(100, 800)))
    assert {(code, severity) for code, severity, _ in found} == {("sides_crossed", "hard")}
    assert len(found) == 6


def test_one_leg_can_not_be_crossed():
    assert disordered({label: landmark for label, landmark in landmarks().items() if label % 2}) == set()
