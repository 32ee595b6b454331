"""Some months of exams for the analysis: records alone, which no host has made."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from monitoring.analytics.charts import DAY_NS
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.metrics.session_writes import DerivedValues, SessionWrites, TransactionContext
from monitoring.metrics_collector import computed
from monitoring.records.session_record import ModelPerformance, SessionRecord
from monitoring.store.database import Database
from monitoring.store.sessions import Store

HOUR_NS = DAY_NS // 24
MONDAY_NS = 20_605 * DAY_NS  # 2026-06-01
BIASED, BONE, SINCE = "middle", "PLL_L_TIB", 110
MODELS = ("first", BIASED, "third")
EXAMS = 150
NOW_NS = MONDAY_NS + 106 * DAY_NS
BIAS = f"model_difference/{BIASED}/{BONE}"


@cache
def exam(number: int, is_biased: bool = True) -> SessionRecord:
    """Two a working day; one model is 8 mm off in one bone from exam 110 on."""
    generator = random.Random(number)
    day = number // 2 // 5 * 7 + number // 2 % 5
    ended_ns = MONDAY_NS + day * DAY_NS + (9 + number % 2 * 3) * HOUR_NS
    lengths = {name: 300.0 + 40 * generator.random() for name in MEASUREMENTS}
    models = []
    for model in MODELS:
        mm = {name: length + generator.gauss(0, 2) for name, length in lengths.items()}
        if is_biased and model == BIASED and number >= SINCE:
            mm[BONE] += 8.0
        models.append(ModelPerformance(model, 0.5 + generator.random(), 8, measurements_mm=mm, version="1.0"))
    return SessionRecord(
        session_id=f"{number:032x}", status="completed", started_ns=ended_ns - 10**9, ended_ns=ended_ns,
        duration_seconds=1.0 + generator.random(), series_key=f"{number:032x}", study_key=f"{number + 4096:032x}",
        patient_key=f"{number + 8192:032x}", measurements_mm=lengths, models=tuple(models),
        stages_seconds={"inference": generator.random()}, custom={"dose": generator.random()},
        context={"age_years": 9.0, "sex": "F", "row_spacing_mm": 0.143, "column_spacing_mm": 0.143},
        application_version="1.4.0",
    )  # fmt: skip


_DERIVED: dict[str, DerivedValues] = {}


def writes(record: SessionRecord, context: TransactionContext) -> SessionWrites:
    """What is derived of each record, once: the stores here hold the same ones."""
    text = record.to_json()
    if text not in _DERIVED:
        _DERIVED[text] = DerivedValues.of(FORMULA_VERSION, Facts(), computed(record, Facts())[0])
    return SessionWrites({}, (), _DERIVED[text])


@contextmanager
def a_store(path: Path, records: Iterable[SessionRecord] = ()) -> Iterator[Store]:
    store = Store(Database(path / "monitoring.db"))
    for record in records:
        store.commit(record, writes)
    yield store
    store.database.close()


def exams(numbers: Iterable[int] = range(EXAMS)) -> list[SessionRecord]:
    return [exam(number) for number in numbers]


def a_site(folder: Path, records: Iterable[SessionRecord] = ()) -> Path:
    """A folder with a store, and task.json beside it."""
    with a_store(folder, records):
        pass
    section = {"enabled": True, "store": {"path": str(folder), "min_free_mb": 0}}
    (folder / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
    return folder
