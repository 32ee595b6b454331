"""Reads session records back from result.json files, such as the ones that Mercure archives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.cli.settings import read_json
from monitoring.exceptions import RecordError
from monitoring.metrics.samples import zero_changes
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.readings import validation
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store.location import instance_name, store_path
from monitoring.store.recovery import open_or_recover
from monitoring.store.sessions import Store


@dataclass(slots=True)
class Imported:
    """What became of the records that were found."""

    new: int = 0
    known: int = 0
    unreadable: int = 0


def import_files(config: MonitoringConfig, paths: list[Path]) -> Imported:
    """Commit the files' session records, each once however often it is imported; the store is made if need be.

    Raises :class:`ConfigurationError` for a file that is no JSON, before anything is committed.
    """
    found = [record for path in paths for record in _records(read_json(path))]
    database, _ = open_or_recover(store_path(config.store))
    try:
        store = Store(database)
        store.initialise(zero_changes())
        return _commit(store, session_writes_builder(config, instance_name(config, store)), found)
    finally:
        database.close()


def _commit(store: Store, build: SessionWritesBuilder, found: list[Any]) -> Imported:
    counts = Imported()
    records: list[SessionRecord] = []
    for data in found:
        try:
            record = SessionRecord.from_dict(data)
        except RecordError:
            counts.unreadable += 1
            continue
        if store.commit(record, build):
            counts.new += 1
            records.append(record)
        else:
            counts.known += 1
    validation.refresh_after(store.database, records, is_in_a_hurry=False)
    return counts


def _records(document: Any) -> Iterator[Any]:
    """The records under any ``{"monitoring": {"sessions": [...]}}``, however an archive wraps the file."""
    if isinstance(document, list):
        for item in document:
            yield from _records(item)
    elif isinstance(document, dict):
        section = document.get("monitoring")
        if isinstance(section, dict) and isinstance(section.get("sessions"), list):
            yield from section["sessions"]
        else:
            for item in document.values():
                yield from _records(item)
