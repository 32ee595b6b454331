"""The fire drill: faults put into a copy of the site's own last exams, and how many exams the charts need to notice.

Each fault moves what the models saw, in memory: the boxes, or the film's scale; or it slows the machine. What
monitoring derives is derived again by its own formulas; what the application had computed itself (lengths of the fused
landmarks and of each model, its ensemble's scores) changes by as much as a plain formula of the same boxes does, so
that the application's own way of measuring stays in it. A length is |row of the femoral head or ankle - row of the
knee's centre| x row spacing, a leg the sum of its bones. The last third of the exams, 120 at most, gets the fault; the
others come before it as they are.

Exams in which something has already changed can't show what a fault would do: charts that stand near their limits then
cross them by chance. So the drilled exams end before the change of the earliest alarm that lies in them, where enough
are left; and a chart that alarms over them as they are is never said to notice.

Beside it the rate of false alarms that the site really has: its clinic days in random order, so that no change
is left that lasts, but all that exams of one day have in common. A drill reads the store alone; what it found is kept
there afterwards, for the report, with no session in it.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import isfinite, sqrt
from random import Random
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from monitoring.analytics.analysis import rebasings
from monitoring.analytics.charting import Charting, Point, Progress
from monitoring.analytics.charts import DAY_NS, Crossing
from monitoring.analytics.ranks import ENCODER, decoder
from monitoring.analytics.series import Kind, Measuring, segment, stratum
from monitoring.analytics.wording import counted
from monitoring.domain import disagreement
from monitoring.domain.anatomy import ANKLE, FEMUR, HEAD, KNEE, LEG, SIDES, TIBIA, measurement_name
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.domain.statistics import is_number, mean
from monitoring.exceptions import RecordError, StoreError
from monitoring.metrics.session_writes import DerivedValues
from monitoring.metrics_collector import computed
from monitoring.records.session_record import Prediction, RecordOutline, SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store.analysis import Analysed
from monitoring.store.sessions import Store
from monitoring.version import __version__

FEWEST_EXAMS: Final = 150
MOST_EXAMS: Final = 5_000
"""So many sessions at most are looked at: all of a busy site's year would take minutes."""
# Some months: what takes longer than that to notice is "not noticed".
MOST_WITH_FAULT: Final = 120
SHUFFLES: Final = 20
_YEAR_NS: Final = round(365.25 * DAY_NS)
_PAGE: Final = 500
_ANKLES, _KNEES = frozenset(ANKLE.values()), frozenset(label for pair in KNEE.values() for label in pair)
# Odd labels are the right leg's, even ones the left's, in pairs.
_SWAPPED: Final = {label: label + (1 if label % 2 else -1) for label in range(1, 9)}


class Alarmed(Struct, frozen=True):
    """A chart and the exam with the fault, counted from 1, at which it raised an alarm."""

    chart: str
    exams: int


class Finding(Struct, frozen=True):
    """What came of one fault: each chart that raised an alarm, the fastest first; none is "not noticed".

    ``without_readers`` are those charts that need no reader. A chart that alarms without the fault is in neither.
    """

    fault: str
    alarms: tuple[Alarmed, ...]
    without_readers: tuple[Alarmed, ...]


class Shuffled(Struct, frozen=True):
    """The alarms with the clinic days in random order: of ``shuffles`` times ``years``, by chart and a year.

    ``two_errors`` is 2 standard errors of ``alarms_a_year`` as if the shuffles had nothing in common (none: as one).
    """

    shuffles: int
    clinic_days: int
    years: float
    alarms_a_year: float
    two_errors: float
    accepted_a_year: float
    by_chart: Mapping[str, int]


class Drill(Struct, frozen=True):
    """A drill: so many exams as they are, then so many with each fault, of which readers measured ``read``.

    ``segment`` is the code of what measured them. ``left_out`` newer exams are not in it, since an alarm says that
    something changed before them; ``alarms`` are the charts that alarm over its exams as they are.
    """

    segment: str
    exams_before: int
    exams_with_fault: int
    read: int
    findings: tuple[Finding, ...]
    shuffled: Shuffled
    left_out: int = 0
    alarms: tuple[str, ...] = ()

    @property
    def unusual(self) -> str:
        """In words, what was left out of it, and the alarms that lie in it; "" where there is neither."""
        exams, alarms = counted(self.left_out, "exam"), counted(len(self.alarms), "alarm")
        found = {
            f"without the newest {exams}, after a change that raised an alarm": self.left_out,
            f"{alarms} in these exams as they are: charts not counted": self.alarms,
        }
        return "; ".join(words for words, is_so in found.items() if is_so)


class KeptDrill(Struct, frozen=True):
    """A drill as the store keeps it: when it was (UTC ns), and by which version of this package and its formulas."""

    made_ns: int
    version: str
    formulas: int
    found: Drill


_DECODE: Final = msgspec.json.Decoder(KeptDrill)
_DECODE_PROGRESS: Final = decoder(Progress)

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


# --- the drill ----------------------------------------------------------------------------------


def drill(store: Store, config: AnalyticsConfig, exams: int = 360, shuffles: int = SHUFFLES) -> Drill:
    """Put the faults into the last ``exams``; raises :class:`StoreError` where there are too few of them."""
    sessions = present_sessions(store)
    with store.database.read_transaction() as connection:
        rebased = rebasings(kept.actions(connection))
    # Sessions in between stay where they are, since events and silence are of these.
    every = [number for number, session in enumerate(sessions) if session.is_first_of_exam]
    changed = alarms_of(charted(Charting(Progress(), config, rebased), sessions))
    of_exams = unchanged(sessions, every, [one.change_ns for found in changed.values() for one in found], exams)
    usable = usable_records(sessions, of_exams)
    if len(usable) < FEWEST_EXAMS:
        raise StoreError(
            f"a drill needs {FEWEST_EXAMS} exams of the last year with each model's boxes and their spacing, by the"
            f" models and the application's version in use now; there are {len(usable)}"
        )
    left_out = [number for number in every if number > of_exams[-1]]
    sessions = sessions[: left_out[0] if left_out else None]
    # Two thirds before it: charts must have learnt from what is usual.
    onset = list(usable)[-min(MOST_WITH_FAULT, len(usable) // 3)]
    before, after = sessions[of_exams[0] : onset], sessions[onset:]
    charting = Charting(Progress(), config, rebased)
    charting.take(before)
    # Encoded, so that each fault begins with a copy of its own.
    progress = ENCODER.encode(charting.progress)

    def alarms_with(exams: Sequence[Analysed]) -> dict[str, list[Crossing]]:
        return alarms_of(charted(Charting(_DECODE_PROGRESS.decode(progress), config, rebased), exams))

    instants, findings = [session.stored.timestamp_ns for session in after if session.is_first_of_exam], []
    # By charts that began with the drill's first exam, and by those that had begun before it.
    as_they_are = alarms_with(after).keys() | {
        chart
        for chart, found in changed.items()
        if any(before[0].stored.timestamp_ns < one.change_ns <= instants[-1] for one in found)
    }
    for name, fault in faults(list(usable.values())).items():
        faulty = [
            derived_again(session, with_fault(usable[number], fault)) if number in usable else session
            for number, session in enumerate(after, onset)
        ]
        noticed = [
            Alarmed(chart, bisect_right(instants, crossings[0].time_ns))
            for chart, crossings in alarms_with(faulty).items()
            # What alarms without the fault, though it be later, is near its limit: chance decides when it crosses it.
            if chart not in as_they_are
        ]
        noticed.sort(key=lambda one: (one.exams, one.chart))
        without = (alarm for alarm in noticed if not alarm.chart.startswith("reader_"))
        findings.append(Finding(name, tuple(noticed), tuple(without)))
    count_before, count = (sum(session.is_first_of_exam for session in part) for part in (before, after))
    read = sum(session.is_first_of_exam and bool(session.reader_mm) for session in after)
    code, rate = exams_segments(sessions)[-1][1], shuffled(sessions, config, shuffles)
    alarms = tuple(sorted(as_they_are))
    return Drill(code, count_before, count, read, tuple(findings), rate, len(left_out), alarms)


def unchanged(sessions: Sequence[Analysed], every: list[int], changes_ns: Sequence[int], exams: int) -> list[int]:
    """The places of the last ``exams`` of ``every`` one without a change in them; where these are too few, of all."""
    left = every
    while left:
        found = left[-exams:]
        first_ns, last_ns = (sessions[number].stored.timestamp_ns for number in (found[0], found[-1]))
        # A change before all of them is part of what is usual there.
        inside = [at for at in changes_ns if first_ns < at <= last_ns]
        if not inside:
            return found
        left = [number for number in left if sessions[number].stored.timestamp_ns < min(inside)]
        if len(usable_records(sessions, left[-exams:])) < FEWEST_EXAMS:
            break
    return every[-exams:]


def usable_records(sessions: Sequence[Analysed], places: Sequence[int]) -> dict[int, SessionRecord]:
    """By place, the records that a fault can be put into."""
    records = ((number, SessionRecord.from_json(sessions[number].stored.text)) for number in places)
    return {number: record for number, record in records if is_usable(record)}


def keep(store: Store, found: Drill, now_ns: int) -> None:
    """Keep what a drill found; raises :class:`StoreError`."""
    made = KeptDrill(now_ns, __version__, FORMULA_VERSION, found)
    with store.database.transaction() as connection:
        kept.keep_drill(connection, msgspec.json.encode(made), now_ns)


def kept_drills(connection: sqlite3.Connection) -> list[KeptDrill]:
    """The drills that are kept, the newest first, without those of a form that this version doesn't know."""
    found = []
    for value in kept.drills(connection):
        with suppress(msgspec.MsgspecError):
            found.append(_DECODE.decode(value))
    return found


def charted(charting: Charting, sessions: Sequence[Analysed]) -> Charting:
    """With these sessions, whose last day is over."""
    charting.take(sessions)
    # For charts that count days.
    charting.end_day(sessions[-1].stored.timestamp_ns // DAY_NS + 1 if sessions else 0)
    return charting


def alarms_of(charting: Charting) -> dict[str, list[Crossing]]:
    """By chart; without silence, which says nothing of the exams that there are."""
    found = charting.progress.crossings.items()
    return {key.partition("@")[0]: each for key, each in found if each and key not in charting.progress.silence}


def present_sessions(store: Store) -> list[Analysed]:
    """The last year's, 5,000 at most, since what measures now was first seen."""
    found: deque[Analysed] = deque(maxlen=MOST_EXAMS)
    with store.database.read_transaction() as connection:
        until_ns = kept.seen(connection).until_ns
    after_ns: int | None = until_ns - _YEAR_NS
    while after_ns is not None and after_ns < until_ns:
        with store.database.read_transaction() as connection:
            page, after_ns = kept.sessions_after(connection, after_ns, _PAGE)
        found.extend(page)
    sessions = list(found)
    codes = exams_segments(sessions)
    # Only what measures now: a drill over a change of version would be of two applications.
    others = [number for number, code in codes if code != codes[-1][1]]
    return sessions[others[-1] + 1 if others else 0 :]


def exams_segments(sessions: Sequence[Analysed]) -> list[tuple[int, str]]:
    """Each exam's place among the sessions, and its segment's code."""
    known: Measuring = {}
    return [
        (number, segment(one.stored.record, known)[0]) for number, one in enumerate(sessions) if one.is_first_of_exam
    ]


def shuffled(sessions: Sequence[Analysed], config: AnalyticsConfig, shuffles: int) -> Shuffled:
    """The charts over the sessions' clinic days in random order, so many times, each by a seed of its own.

    Instants stay, so silences do too: their chart is left out.
    """
    sorting = Charting(Progress(), config)
    found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for session in sessions:
        sorting.sort(session, found)
    days = sorted({session.stored.timestamp_ns // DAY_NS for session in sessions})
    counts: Counter[str] = Counter()
    for seed in range(shuffles):
        # Whole days, so that what the exams of a day have in common stays together: that is what is measured.
        order = days.copy()
        Random(seed).shuffle(order)  # noqa: S311 - no secret
        goes_to = dict(zip(days, order, strict=True))
        moved = {
            code: {
                name: sorted((goes_to[at // DAY_NS] * DAY_NS + at % DAY_NS, *rest) for at, *rest in points)
                for name, points in by_name.items()
                if sorting.by_name[name.partition("/")[0]].kind is not Kind.SILENCE
            }
            for code, by_name in found.items()
        }
        charting = Charting(Progress(), config)
        charting.put(moved)  # type: ignore[arg-type]
        charting.end_day(days[-1] + 1)
        counts.update(
            {key.partition("@")[0]: len(times) for key, times in charting.progress.crossings.items() if times}
        )
    years = (days[-1] + 1 - days[0]) * DAY_NS / _YEAR_NS
    return Shuffled(
        shuffles=shuffles, clinic_days=len(days), years=years, alarms_a_year=counts.total() / (shuffles * years),
        two_errors=2 * sqrt(max(counts.total(), 1)) / (shuffles * years), accepted_a_year=config.false_alarms_per_year,
        by_chart=dict(counts.most_common()),
    )  # fmt: skip
