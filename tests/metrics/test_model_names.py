"""Models whose names can't be kept are still several: an ensemble's figures don't depend on what it is called."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.domain.anatomy import LABELS
from monitoring.domain.derivation import Facts, derive
from monitoring.metrics import catalogue
from monitoring.metrics_collector import samples
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.session import Session

IDENTIFIERS = ("1.2.840.1", "1.2.840.2", "1.2.840.3")
GOOD = ("resnet", "hrnet", "vit")
SPACING = {"row_spacing_mm": 1.0, "column_spacing_mm": 1.0}


def detections(off_px: float = 0.0, labels: tuple[int, ...] = LABELS) -> dict[str, Any]:
    boxes = [[100.0 * label + off_px, 300.0 * label, 100.0 * label + off_px, 300.0 * label] for label in labels]
    return {"predictions": {"boxes": boxes, "labels": labels, "scores": [0.9] * len(labels)}}


def ensemble(names: tuple[Any, ...]) -> SessionRecord:
    """Three models, the first of which is 40 mm off and misses the ankles."""
    session = Session()
    found = (detections(40.0, LABELS[:6]), detections(), detections())
    session.record_performance_data({"individual_model_predictions": dict(zip(names, found, strict=True))})
    for number, name in enumerate(names):
        session.record_model_performance(name, {"inference_seconds": number + 1.0})
    session.record_context(SPACING, {})
    return session.freeze()


@pytest.mark.parametrize(
    "names",
    [
        ("ResNet 101", "3d-unet", "resnet50+fpn"),
        ("models/a.onnx", "models/b.onnx", "vit"),
        (0, 1, 2),
        IDENTIFIERS,
    ],
    ids=["words", "paths", "numbers", "identifiers"],
)
def test_an_ensembles_figures_are_those_of_well_named_models(names: tuple[Any, ...]) -> None:
    expected, found = derive(ensemble(GOOD), Facts()), derive(ensemble(names), Facts())
    assert len(expected.ensemble) == 14
    assert found.ensemble == expected.ensemble
    assert found.points == expected.points
    assert found.missed == expected.missed


def test_what_was_told_of_an_unnamed_model_in_two_calls_is_put_together_and_its_name_is_not_kept() -> None:
    record = ensemble(IDENTIFIERS)
    assert [(model.model, model.inference_seconds, model.landmarks_found) for model in record.models] == [
        ("other", 1.0, 6), ("other", 2.0, 8), ("other", 3.0, 8),
    ]  # fmt: skip
    assert record.refused == {"name": 6}
    assert not [name for name in IDENTIFIERS if name in record.to_json()]


def test_a_landmark_that_an_unnamed_model_missed_is_a_miss_of_other() -> None:
    found = {
        sample.labels["landmark"]: sample.value
        for sample in samples(ensemble(IDENTIFIERS))
        if sample.metric is catalogue.MODEL_LANDMARK_MISSES
    }
    assert found == {str(label): float(label > 6) for label in LABELS}


def test_names_of_models_that_are_not_plain_are_made_plain_and_stay_several() -> None:
    record = ensemble(("ResNet 101", "3d-unet", "resnet50+fpn"))
    assert [model.model.rpartition("-")[0] for model in record.models] == ["ResNet_101", "name_3d-unet", "resnet50_fpn"]
    assert record.refused == {}
