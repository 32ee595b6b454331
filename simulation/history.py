"""Months of exams over a clinic's days, by a plan of what happens when; equal plans give equal histories.

The application itself (run.py) processes a dozen small phantoms, once; its records are what the exams vary.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from analysis.landmarks import Side, Spacing
from analysis.phantom import make_phantom
from analysis.phantom.files import dataset_of, write_phantom
from analysis.phantom.radiograph import make_chest
from monitoring.records.session_record import SessionRecord
from simulation.exams import CHANGED_MODEL, NS, Child, Circumstances, Rng, digest, exam, nanoseconds, new_child

ROOT = Path(__file__).resolve().parents[1]
COARSE = Spacing(0.6, 0.6)  # small films: ten times fewer pixels to look at than a real one's
GOOD_SEEDS = range(4)
CLINIC_HOURS = (8.0, 17.0)
FULL_AFTER_DAYS = 45  # after the last day, so that whoever looks at the history sees a date foreseen
HOLIDAYS = {(1, 1), (1, 2), (5, 1), (8, 1), (9, 21), (11, 1), (12, 8), (12, 25), (12, 26)}  # an invented canton's

# How often each kind comes, in a hundred.
KINDS = {
    "good": 84.0, "one_leg": 2.0, "scout": 2.5, "wrong_spacing": 1.0, "no_spacing": 3.0, "zero_spacing": 1.5,
    "chest": 2.5, "truncated": 1.5, "not_dicom": 1.0, "crashed": 1.0,
}  # fmt: skip
FAILURES = ("truncated", "not_dicom")


@dataclass(frozen=True)
class Plan:
    """What is to happen. Days count from the first of ``days``, which end with ``now``'s."""

    now: datetime
    days: int = 90
    zone: str = "Europe/Zurich"
    seed: int = 1
    fewest_a_day: int = 4
    most_a_day: int = 8
    outage: bool = True
    """Two clinic days, about a third on, of which nothing was recorded."""
    changes: bool = True
    """Another application version at 40 %, and another model version half-way."""
    biased_model: str = CHANGED_MODEL
    bias_mm: float = 0.0
    """How much longer the model sees each femur, from ``bias_from_day`` on."""
    bias_from_day: int = 0
    failures_from_day: int | None = None
    """From then on four in ten fail."""

    def local(self, day: date, hour: float) -> datetime:
        """A clinic's wall clock."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.zone))
        return (midnight + timedelta(seconds=round(hour * 3600))).astimezone(UTC)

    @property
    def first_day(self) -> date:
        return self.now.astimezone(ZoneInfo(self.zone)).date() - timedelta(days=self.days - 1)

    def day(self, number: int) -> date:
        return self.first_day + timedelta(days=number)

    def clinic_days(self) -> list[int]:
        """The days on which exams are made."""
        return [number for number in range(self.days) if is_working_day(self.day(number))]

    def outage_days(self) -> list[int]:
        working = self.clinic_days()
        begin = len(working) // 3
        return working[begin : begin + 2] if self.outage and len(working) >= 6 else []

    def events(self) -> dict[str, Any]:
        """What happens when: days as dates, the rest as UTC nanoseconds."""
        at = {
            "application_changes_ns": self.days * 2 // 5, "model_changes_ns": self.days // 2,
            "new_store_ns": self.days // 2, "bias_begins_ns": self.bias_from_day,
            "failures_begin_ns": self.failures_from_day,
        }  # fmt: skip
        if not self.changes:
            del at["application_changes_ns"], at["model_changes_ns"]
        if not self.bias_mm:
            del at["bias_begins_ns"]
        instants = {name: self.begins_ns(number) for name, number in at.items() if number is not None}
        return {**instants, "outage": [self.day(number).isoformat() for number in self.outage_days()]}

    def begins_ns(self, number: int) -> int:
        return nanoseconds(self.local(self.day(number), 0.0))


def is_working_day(day: date) -> bool:
    return day.weekday() < 5 and (day.month, day.day) not in HOLIDAYS


# --- what the application made of a dozen phantoms ----------------------------------------------


def base_records(folder: Path) -> dict[str, list[SessionRecord]]:
    """The application's own records by kind; run.py makes them once, and they are kept in ``folder``."""
    result = folder / "out" / "result.json"
    kinds = folder / "kinds.json"
    if not result.exists():
        kinds.parent.mkdir(parents=True, exist_ok=True)
        kinds.write_text(json.dumps(write_films(folder / "in")))
        process_films(folder)
    kind_of = json.loads(kinds.read_text())
    document = json.loads(result.read_text())
    found: dict[str, list[SessionRecord]] = {}
    for series, record in zip(document["series"], document["monitoring"]["sessions"], strict=True):
        kind = kind_of[series["series"].partition("#")[0]]
        found.setdefault(kind, []).append(SessionRecord.from_dict(record))
    return found


def write_films(folder: Path) -> dict[str, str]:
    """Small phantoms and what inboxes hold beside them; returns each series' kind."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {f"1.2.826.0.1.{number}": kind for number, kind in enumerate(("good",) * len(GOOD_SEEDS), start=1)}
    for seed, series in zip(GOOD_SEEDS, kinds, strict=True):
        write_phantom(folder, make_phantom(np.random.default_rng(seed), COARSE), np.random.default_rng(seed), series)
    write_phantom(
        folder, make_phantom(np.random.default_rng(11), COARSE, Side.LEFT), np.random.default_rng(11), "1.2.826.0.1.20"
    )
    write_phantom(folder, make_chest(np.random.default_rng(0)), np.random.default_rng(12), "1.2.826.0.1.21")
    for series, kind in (("1.2.826.0.1.22", "no_spacing"), ("1.2.826.0.1.23", "zero_spacing")):
        dataset = dataset_of(make_phantom(np.random.default_rng(3), COARSE), np.random.default_rng(13), series)
        dataset.PixelSpacing = dataset.ImagerPixelSpacing = [0, 0]
        if kind == "no_spacing":
            del dataset.PixelSpacing, dataset.ImagerPixelSpacing
        dataset.save_as(folder / f"{series}#1.dcm", enforce_file_format=True)
    whole = write_phantom(
        folder, make_phantom(np.random.default_rng(4), COARSE), np.random.default_rng(14), "1.2.826.0.1.24"
    )
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "1.2.826.0.1.25#1.dcm").write_bytes(b"this is no DICOM file\n" * 20)
    others = ("one_leg", "chest", "no_spacing", "zero_spacing", "truncated", "not_dicom")
    return kinds | {f"1.2.826.0.1.{20 + number}": kind for number, kind in enumerate(others)}


def process_films(folder: Path) -> None:
    """run.py over the films, with a store that nobody looks at again."""
    settings = {"monitoring": {"enabled": True, "store": {"path": str(folder / "state")}}}
    (folder / "in" / "task.json").write_text(json.dumps({"process": {"settings": settings}}))
    (folder / "out").mkdir(exist_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MERCURE_", "MONITORING_"))
    }
    command = [sys.executable, str(ROOT / "run.py"), str(folder / "in"), str(folder / "out")]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode != 1:  # two of them fail, and are meant to
        sys.exit(f"run.py ended with {done.returncode} over the phantoms:\n{done.stderr.decode(errors='replace')}")


# --- days ---------------------------------------------------------------------------------------


def simulate(plan: Plan, base: Mapping[str, Sequence[SessionRecord]]) -> Iterator[SessionRecord]:
    """The sessions of the plan, in the order of their time."""
    children: list[Child] = []
    outage = set(plan.outage_days())
    for number in plan.clinic_days():
        # A stream of its own for each day, so that a fault or an outage changes no other day.
        rng = np.random.default_rng([plan.seed, (plan.day(number) - date(2000, 1, 1)).days])
        last: SessionRecord | None = None
        for order, now in enumerate(exams_of(plan, number, rng)):
            key = f"{plan.seed}/{plan.day(number).isoformat()}/{order}"
            child = children[int(rng.integers(len(children)))] if children and rng.random() < 0.05 else None
            child = child or new_child(key, rng)
            candidates = base["good" if now.kind in ("scout", "wrong_spacing", "crashed") else now.kind]
            source = candidates[int(rng.integers(len(candidates)))]
            if now.kind == "crashed":
                source = without_results(source)
            found = exam(source, child, now, key, rng)
            if last is not None and last.status != "crashed" and rng.random() < 0.015:  # the last film, sent once more
                found = at(last, found.started_ns, digest("session", key))
            if last is not None and found.started_ns < last.ended_ns:  # one at a time
                found = at(found, last.ended_ns + NS // 20, found.session_id)
            children = [*children[-60:], child]
            last = found
            if number not in outage and found.ended_ns <= nanoseconds(plan.now):
                yield found


def at(record: SessionRecord, started_ns: int, session_id: str) -> SessionRecord:
    ended_ns = started_ns + record.ended_ns - record.started_ns
    return msgspec.structs.replace(record, session_id=session_id, started_ns=started_ns, ended_ns=ended_ns)


def exams_of(plan: Plan, number: int, rng: Rng) -> list[Circumstances]:
    count = int(rng.integers(plan.fewest_a_day, plan.most_a_day + 1))
    hours = np.sort(rng.uniform(*CLINIC_HOURS, count))
    weights = dict(KINDS)
    if plan.failures_from_day is not None and number >= plan.failures_from_day:
        weights |= dict.fromkeys(FAILURES, 35.0)
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    load = math.exp(rng.normal(0, 0.1))
    return [
        Circumstances(
            kind=str(rng.choice(names, p=shares / shares.sum())),
            day=number,
            arrived=plan.local(plan.day(number), float(hour)),
            waiting=int(rng.random() < 0.15),
            is_new_model=plan.changes and number >= plan.days // 2,
            is_new_application=plan.changes and number >= plan.days * 2 // 5,
            bias_mm={plan.biased_model: plan.bias_mm} if plan.bias_mm and number >= plan.bias_from_day else {},
            load=load,
            free_share=1 - number / (plan.days + FULL_AFTER_DAYS),
        )
        for hour in hours
    ]


def without_results(record: SessionRecord) -> SessionRecord:
    """What had been recorded before a process died in its second stage."""
    return msgspec.structs.replace(
        record, models=(), predictions=(), measurements_mm={}, landmarks_found=None, ensemble={}, points={}, issues={}
    )


def write_history(folder: Path, plan: Plan, phantoms: Path | None = None) -> list[SessionRecord]:
    """Write OUT/result.json, which `leglength-monitor import` takes, and OUT/plan.json; returns the records."""
    found = list(simulate(plan, base_records(phantoms or folder / "phantoms")))
    sessions = [record.to_dict() for record in found]
    document = {"notice": "Simulated: no patient, no site, no clinical use", "monitoring": {"sessions": sessions}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(document) + "\n")
    planned = {**asdict(plan), "now": plan.now.isoformat(), "events": plan.events(), "sessions": len(found)}
    (folder / "plan.json").write_text(json.dumps(planned, indent=2) + "\n")
    return found
