from __future__ import annotations

import pytest

from analysis.landmarks import LABELS, PLACE, Joint, Landmark, Side, Spacing, name_of
from analysis.measurements import MEASUREMENTS, describe, find_issues, left_right_difference_mm, measure
from analysis.settings import AnalysisSettings

ROWS_OF_HALF_A_MM = Spacing(0.5, 3.0)
YS = {1: 100, 2: 110, 3: 498, 5: 502, 4: 500, 6: 520, 7: 820, 8: 830}


def landmarks(without: tuple[int, ...] = (), **moved: int) -> dict[int, Landmark]:
    ys = YS | {int(label[1:]): y for label, y in moved.items()}
    return {label: Landmark(label, 50.0 * label, y, 0.9, 3) for label, y in ys.items() if label not in without}


def test_lengths_are_vertical_distances_by_the_row_spacing():
    lengths = {name: length["millimeters"] for name, length in measure(landmarks(), ROWS_OF_HALF_A_MM).items()}
    assert lengths == {
        "PLL_R_FEM": 200.0,
        "PLL_R_TIB": 160.0,
        "PLL_R_LGL": 360.0,
        "PLL_L_FEM": 200.0,
        "PLL_L_TIB": 160.0,
        "PLL_L_LGL": 360.0,
    }
    assert measure(landmarks(), ROWS_OF_HALF_A_MM)["PLL_R_FEM"]["centimeters"] == 20.0


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        (1, {"PLL_R_FEM", "PLL_R_LGL"}),
        (7, {"PLL_R_TIB", "PLL_R_LGL"}),
        (3, {"PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"}),
        (6, {"PLL_L_FEM", "PLL_L_TIB", "PLL_L_LGL"}),
    ],
)
def test_a_missing_landmark_takes_its_lengths_along_and_says_so(gone: int, missing: set[str]):
    lengths = measure(landmarks(without=(gone,)), ROWS_OF_HALF_A_MM)
    assert set(MEASUREMENTS) - set(lengths) == missing
    issues = find_issues(lengths, AnalysisSettings())
    assert {issue["measurement"] for issue in issues if issue["code"] == "measurement_missing"} == missing


def test_no_landmarks_give_no_lengths():
    assert measure({}, ROWS_OF_HALF_A_MM) == {}


def test_a_difference_is_flagged_only_beyond_its_threshold_in_cm():
    lengths = measure(landmarks(L8=871, L7=821), ROWS_OF_HALF_A_MM)  # left tibia 20 mm longer
    assert left_right_difference_mm(lengths, "TIB") == pytest.approx(-20.0)
    assert find_issues(lengths, AnalysisSettings(tibia_threshold=2.0)) == []
    (issue,) = find_issues(lengths, AnalysisSettings(tibia_threshold=1.9))
    assert (issue["code"], issue["severity"], issue["measurement"]) == (
        "tibia_length_difference",
        "warning",
        "PLL_R_TIB",
    )
    assert (issue["difference_mm"], issue["threshold_mm"]) == (pytest.approx(20.0), pytest.approx(19.0))


def test_the_shorter_side_is_the_one_that_is_flagged():
    for longer, shorter in ((7, "L"), (8, "R")):
        lengths = measure(landmarks(**{f"L{longer}": 900}), ROWS_OF_HALF_A_MM)
        assert {issue["measurement"][4] for issue in find_issues(lengths, AnalysisSettings())} == {shorter}


def test_odd_labels_are_the_right_side_and_each_has_its_place():
    assert all((PLACE[label][0] is Side.RIGHT) == bool(label % 2) for label in LABELS)
    assert [PLACE[label][1] for label in (1, 3, 5, 7)] == [
        Joint.HEAD,
        Joint.LATERAL_CONDYLE,
        Joint.MEDIAL_CONDYLE,
        Joint.ANKLE,
    ]
    assert name_of(2) == "left femoral head"
    assert describe("PLL_L_LGL") == "left leg"
