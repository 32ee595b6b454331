"""What is ranked among lies apart from the checkpoint: it goes with it, and what is lost of it is computed again."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from monitoring.analytics import ranks
from monitoring.analytics.analysis import Analysis, analyse
from monitoring.analytics.charting import Charting
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store.analysis import Analysed
from monitoring.store.erasure import erase
from monitoring.store.sessions import Store
from tests.support.exams import NOW_NS, a_store, exam, writes

CONFIG = AnalyticsConfig()
COUNT = 46


def of_two_devices(number: int) -> SessionRecord:
    """Exams of one device, and of another each fifth time."""
    spacing = 0.2 if number % 5 == 4 else 0.143
    return replace(exam(number), context={**exam(number).context, "row_spacing_mm": spacing})


def rows(store: Store) -> dict[str, bytes]:
    with store.database.read_transaction() as connection:
        return dict(connection.execute("SELECT name, value FROM analysis WHERE name GLOB 'reference *'").fetchall())


def look(store: Store, number: int) -> Analysis:
    """At the store once this exam has come."""
    store.commit(of_two_devices(number), writes)
    return analyse(store, CONFIG, of_two_devices(number).ended_ns)


def said(found: Analysis) -> tuple[object, ...]:
    return found.charts, found.alarms, found.strata, found.machines


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    with a_store(tmp_path_factory.mktemp("once"), map(of_two_devices, range(COUNT))) as store:
        return analyse(store, CONFIG, of_two_devices(COUNT - 1).ended_ns)


def test_a_look_reads_and_writes_those_of_its_exams(once: Analysis, tmp_path: Path) -> None:
    with a_store(tmp_path, map(of_two_devices, range(COUNT - 2))) as store:
        analyse(store, CONFIG, of_two_devices(COUNT - 3).ended_ns)
        before = rows(store)
        others = {name for name in before if name.endswith("0.143 mm per pixel")}
        assert others < before.keys()
        with store.database.transaction() as connection:
            connection.executemany("UPDATE analysis SET value = x'00' WHERE name = ?", [(name,) for name in others])
        found = look(store, COUNT - 2)
        assert not found.anew
        after = rows(store)
        assert {after[name] for name in others} == {b"\0"}
        assert all(after[name] != value for name, value in before.items() if name not in others)
        # The next exam is of the device whose rows are damaged.
        found = look(store, COUNT - 1)
        assert found.anew == "values that charts rank among were damaged"
        assert said(found) == said(once)
        assert not analyse(store, CONFIG, of_two_devices(COUNT - 1).ended_ns).anew


def test_what_is_full_is_read_and_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "REFERENCE", 20)
    monkeypatch.setattr(ranks, "_scores_of_full", ranks._scores_of_full.__wrapped__)
    written: list[str] = []
    keep: Any = kept.keep_checkpoint

    def noted(connection: Any, *arguments: Any) -> bool:
        written[:] = [row.name for row in arguments[3]]
        return bool(keep(connection, *arguments))

    monkeypatch.setattr(kept, "keep_checkpoint", noted)
    with a_store(tmp_path, map(of_two_devices, range(COUNT - 2))) as store:
        analyse(store, CONFIG, of_two_devices(COUNT - 3).ended_ns)
        assert sorted(written) == sorted(rows(store))
        look(store, COUNT - 2)
        assert written
        assert all(name.endswith(" 0.2 mm per pixel") for name in written)  # it isn't full yet
        found = look(store, COUNT - 1)
        assert not found.anew
        assert not written
        with store.database.transaction() as connection:
            kept.forget_checkpoint(connection)
        assert said(analyse(store, CONFIG, of_two_devices(COUNT - 1).ended_ns)) == said(found)


def test_a_look_that_another_one_overtakes_goes_on_from_it(
    once: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take: Any = Charting.take
    with a_store(tmp_path, map(of_two_devices, range(COUNT - 2))) as store:
        analyse(store, CONFIG, of_two_devices(COUNT - 3).ended_ns)

        def overtaken(charting: Charting, sessions: Iterable[Analysed]) -> None:
            monkeypatch.undo()
            look(store, COUNT - 1)
            take(charting, sessions)

        monkeypatch.setattr(Charting, "take", overtaken)
        store.commit(of_two_devices(COUNT - 2), writes)
        found = analyse(store, CONFIG, of_two_devices(COUNT - 1).ended_ns)
    assert not found.anew
    assert said(found) == said(once)


def test_an_erasure_leaves_none_of_them_behind(tmp_path: Path) -> None:
    someone = replace(of_two_devices(7), duration_seconds=97.40625)
    with a_store(tmp_path, [*map(of_two_devices, range(7)), someone]) as store:
        analyse(store, CONFIG, NOW_NS)
        ranked = struct.pack(">d", someone.duration_seconds)

        def is_there() -> bool:
            return any(ranked in file.read_bytes() for file in tmp_path.iterdir())

        assert is_there()
        erase(store.database, someone.patient_key or "")
        assert not rows(store)
        assert not is_there()
        assert analyse(store, CONFIG, NOW_NS).anew
        assert rows(store)
        with store.database.transaction() as connection:
            kept.forget_checkpoint(connection)
        assert not rows(store)
