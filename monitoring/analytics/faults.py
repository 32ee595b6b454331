"""Faults of a known size that are put into copies of exams, and what follows from them in what is recorded. Pure.

Each moves what the models saw: the boxes, or the film's scale; or it slows the machine. What monitoring derives is
derived again by its own formulas; what the application had computed itself (lengths of the fused landmarks and of each
model, its ensemble's scores) changes by as much as a plain formula of the same boxes does, so that the application's
own way of measuring stays in it. A length is |row of the femoral head or ankle - row of the knee's centre| x row
spacing, a leg the sum of its bones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import isfinite
from random import Random
from typing import Final

from msgspec.structs import replace

from monitoring.analytics.series import stratum
from monitoring.domain import disagreement
from monitoring.domain.anatomy import ANKLE, FEMUR, HEAD, KNEE, LEG, SIDES, TIBIA, measurement_name
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.domain.statistics import is_number, mean
from monitoring.exceptions import RecordError
from monitoring.metrics.session_writes import DerivedValues
from monitoring.metrics_collector import computed
from monitoring.records.session_record import Prediction, RecordOutline, SessionRecord
from monitoring.store.analysis import Analysed

_ANKLES, _KNEES = frozenset(ANKLE.values()), frozenset(label for pair in KNEE.values() for label in pair)
# Odd labels are the right leg's, even ones the left's, in pairs.
_SWAPPED: Final = {label: label + (1 if label % 2 else -1) for label in range(1, 9)}


# --- faults -------------------------------------------------------------------------------------

Fault = Callable[[SessionRecord], SessionRecord]
Shift = Callable[[str, int, float, float], tuple[float, float]]
"""Of a model, a landmark's label and place (x, y pixels): by how many pixels it is off, to the right and down."""


def shifted(record: SessionRecord, shift: Shift) -> SessionRecord:
    """With each box where ``shift`` puts it, as a whole."""
    predictions = []
    for seen in record.predictions:
        boxes = []
        for (x1, y1, x2, y2), label in zip(seen.boxes, seen.labels, strict=True):
            right, down = shift(seen.model, label, (x1 + x2) / 2, (y1 + y2) / 2)
            # As a whole: landmarks are the boxes' middles, and how large boxes are says nothing here.
            boxes.append((x1 + right, y1 + down, x2 + right, y2 + down))
        predictions.append(Prediction(seen.model, tuple(boxes), seen.labels, seen.scores))
    return replace(record, predictions=tuple(predictions))


def lower(record: SessionRecord, labels: frozenset[int], millimeters: float, model: str | None = None) -> SessionRecord:
    """Landmarks that one model, or each, places too low."""
    rows = millimeters / spacing_mm(record)
    return shifted(record, lambda of, label, *_: (0.0, rows if label in labels and model in (None, of) else 0.0))


def magnified(record: SessionRecord, by: float) -> SessionRecord:
    """A film on which all is larger, about its middle, than its header says."""
    # About the middle of what is seen: from where it grows makes no difference to a length.
    fused = disagreement.fuse(record.predictions).values()
    x0, y0 = mean([x for x, _, _ in fused]), mean([y for _, y, _ in fused])
    return shifted(record, lambda _model, _label, x, y: ((by - 1) * (x - x0), (by - 1) * (y - y0)))


def misstated(record: SessionRecord, by: float) -> SessionRecord:
    """A film whose header says a larger spacing than there is."""
    scale = {name: value * by for name, value in record.context.items() if "spacing_mm" in name and is_number(value)}
    return replace(record, context={**record.context, **scale})


def scattered(record: SessionRecord, by: float) -> SessionRecord:
    """Each model further away from what they say together."""
    fused = disagreement.fuse(record.predictions)

    def shift(_model: str, label: int, x: float, y: float) -> tuple[float, float]:
        centre = fused.get(label, (x, y))
        return (by - 1) * (x - centre[0]), (by - 1) * (y - centre[1])

    return shifted(record, shift)


def swapped(record: SessionRecord, share: float) -> SessionRecord:
    """Right and left confused, by all models, in a share of the exams: the same ones at each drill."""
    # By the session, not in turn: the same exams whichever others are in the drill.
    if Random(record.session_id).random() >= share:  # noqa: S311 - no secret
        return record
    labels = [tuple(_SWAPPED.get(label, label) for label in seen.labels) for seen in record.predictions]
    pairs = zip(record.predictions, labels, strict=True)
    return replace(record, predictions=tuple(replace(seen, labels=of_seen) for seen, of_seen in pairs))


def slower(record: SessionRecord, by: float) -> SessionRecord:
    """By a machine that takes longer."""
    models = tuple(
        replace(model, inference_seconds=None if model.inference_seconds is None else model.inference_seconds * by)
        for model in record.models
    )
    stages = {stage: seconds * by for stage, seconds in record.stages_seconds.items()}
    return replace(record, duration_seconds=record.duration_seconds * by, stages_seconds=stages, models=models)


def at_one(record: SessionRecord, where: str, fault: Fault) -> SessionRecord:
    """A fault in one stratum alone."""
    return fault(record) if stratum(record) == where else record


def faults(records: Sequence[SessionRecord]) -> dict[str, Fault]:
    """What is put in, in words."""
    models = sorted({seen.model for record in records for seen in record.predictions})
    strata = Counter(map(stratum, records)).most_common()
    found: dict[str, Fault] = {
        f"{model} places the ankles 5 mm too low": partial(lower, labels=_ANKLES, millimeters=5.0, model=model)
        for model in models
    }
    # In the commonest one: of a rarer stratum there would be too few exams to say anything.
    for where, count in strata[:1] if len(strata) > 1 else ():
        fault = partial(lower, labels=_ANKLES, millimeters=5.0, model=models[0])
        share = f"{100 * count / len(records):.0f} % of them"
        found[f"the same of {models[0]} in one kind of exams alone: {where} ({share})"] = partial(
            at_one, where=where, fault=fault
        )
    return found | {
        "all models place the knees 2 mm too low": partial(lower, labels=_KNEES, millimeters=2.0),
        "films are magnified by 2 %, which no header says": partial(magnified, by=1.02),
        "headers say a spacing that is 2 % too large": partial(misstated, by=1.02),
        "the models scatter 1.5 times as much": partial(scattered, by=1.5),
        "right and left are swapped in 5 % of the exams": partial(swapped, share=0.05),
        "the machine takes 1.5 times as long": partial(slower, by=1.5),
    }


# --- what follows from a fault ------------------------------------------------------------------


def spacing_mm(record: SessionRecord, axis: str = "row") -> float:
    """The spacing of rows or columns, mm; 0 where it isn't known."""
    found = record.context.get(f"{axis}_spacing_mm")
    return found if is_number(found) else 0.0


def lengths_mm(predictions: Sequence[Prediction], row_mm: float) -> dict[str, float]:
    """The plain formula: what the landmarks allow of the six measurements."""
    rows = {label: y for label, (_, y, _) in disagreement.fuse(predictions).items()}
    found: dict[str, float] = {}
    for side in SIDES:
        ends = {FEMUR: HEAD[side], TIBIA: ANKLE[side]}
        if not all(label in rows for label in KNEE[side]):
            continue
        knee = mean([rows[label] for label in KNEE[side]])
        bones = {bone: abs(rows[end] - knee) * row_mm for bone, end in ends.items() if end in rows}
        if len(bones) == len(ends):
            bones[LEG] = bones[FEMUR] + bones[TIBIA]
        found |= {measurement_name(side, bone): length for bone, length in bones.items()}
    return found


def carried(stated: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What the application stated, changed by as much as ours has changed; it comes and goes with ours."""
    going_on = {
        name: value + after.get(name, 0.0) - before.get(name, 0.0)
        # What ours can't compute stays as stated, what it can no longer compute goes.
        for name, value in stated.items()
        if name in after or name not in before
    }
    coming = {name: value for name, value in after.items() if name not in before and name not in stated}
    return going_on | coming


def with_fault(record: SessionRecord, fault: Fault) -> SessionRecord:
    """The record as it would be, with what follows from the fault."""
    now = fault(record)
    # A fault that doesn't concern this exam costs no second derivation.
    if now is record:
        return record
    both = (record, now)
    ours = [
        disagreement.disagreement(each.predictions, spacing_mm(each), spacing_mm(each, "column")).scores()
        for each in both
    ]
    models = []
    for model in record.models:
        alone = [
            lengths_mm([seen for seen in each.predictions if seen.model == model.model], spacing_mm(each))
            for each in both
        ]
        models.append(replace(model, measurements_mm=carried(model.measurements_mm, *alone)))
    lengths = [lengths_mm(each.predictions, spacing_mm(each)) for each in both]
    return replace(
        now,
        measurements_mm=carried(record.measurements_mm, *lengths),
        models=tuple(models),
        ensemble=carried(record.ensemble, *ours) if record.ensemble else {},
    )


def is_usable(record: SessionRecord) -> bool:
    """Whether there is what a fault can be put into."""
    return bool(
        record.status == "completed"
        and min(spacing_mm(record), spacing_mm(record, "column")) > 0
        and disagreement.fuse(record.predictions)
        and all(len(box) == 4 and all(map(isfinite, box)) for seen in record.predictions for box in seen.boxes)
    )


def derived_again(session: Analysed, record: SessionRecord) -> Analysed:
    """The session with another record, and what is derived of it."""
    facts = Facts()
    with suppress(RecordError):
        # Readers' values, earlier runs and the earlier exam are as they were: a fault of images changes none of them.
        if isinstance(session.stored.derived_bytes, bytes):
            facts = DerivedValues.from_bytes(session.stored.derived_bytes).facts
    derived = DerivedValues.of(FORMULA_VERSION, facts, computed(record, facts)[0]).to_bytes()
    text = record.to_json()
    stored = replace(session.stored, record=RecordOutline.from_json(text), derived_bytes=derived, text=text)
    return session._replace(stored=stored)
