"""A site with a store, for tests of readers' measurements: sessions under known keys, and the commands."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from monitoring.cli.commands import app
from monitoring.config_validator import check_section
from monitoring.metrics.session_writes import DerivedValues
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.backends import session_writes_builder
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.location import instance_name
from monitoring.store.sessions import Store

KEY = "the key of an invented site, of 32"
STARTED_NS = 1_700_000_000_000_000_000
NOWHERE = {"url": "http://127.0.0.1:9", "token": "t", "org": "o", "bucket": "b"}


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


@dataclass
class Site:
    """`settings` are the monitoring's; sessions are committed as a host with these settings commits them."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.store_path = self.folder / "site" / "monitoring.db"
        self.pseudonyms = Pseudonymizer(KEY.encode())

    @property
    def task(self) -> Path:
        """The settings' file."""
        section = {"enabled": True, "store": {"path": str(self.store_path)}, "privacy": {"key": KEY}, **self.settings}
        path = self.folder / "task.json"
        path.write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
        return path

    def database(self) -> Database:
        """The store's file."""
        return Database(self.store_path)

    def session(
        self,
        measurements_mm: dict[str, float],
        series: str = "",
        study: str = "",
        accession: str = "",
        **changed: Any,
    ) -> SessionRecord:
        """Commit one, a second after the one before."""
        self.count += 1
        ended_ns = STARTED_NS + self.count * 1_000_000_000
        record = SessionRecord(
            session_id=f"session{self.count}", ended_ns=ended_ns, started_ns=ended_ns - 500_000_000,
            duration_seconds=0.5, series_key=self.pseudonyms.series(series), study_key=self.pseudonyms.study(study),
            accession_key=self.pseudonyms.accession(accession), measurements_mm=measurements_mm,
            **{"status": "completed", **changed},
        )  # fmt: skip
        config = check_section(json.loads(self.task.read_text())["process"]["settings"]["monitoring"]).config
        database = self.database()
        try:
            store = Store(database)
            store.commit(record, session_writes_builder(config, instance_name(config, store)))
        finally:
            database.close()
        return record

    def run(self, *arguments: object) -> Done:
        """`leglength-monitor ARGUMENTS --config task.json`."""
        result = CliRunner().invoke(app, [*map(str, arguments), "--config", str(self.task)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def file(self, *lines: str, name: str = "r.csv") -> Path:
        """A file of readings."""
        path = self.folder / name
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def read(self, *lines: str) -> dict[str, Any]:
        """Import a table of readings, and what the command says of it."""
        done = self.run("readings", "import", self.file(*lines), "--json")
        assert (done.code, done.err) == (0, ""), done.err
        found: dict[str, Any] = done.json
        return found

    def report(self) -> dict[str, Any]:
        """`leglength-monitor readings --json`."""
        done = self.run("readings", "--json")
        assert (done.code, done.err) == (0, "")
        found: dict[str, Any] = done.json
        return found

    def pairs(self) -> dict[str, int]:
        """How many pairs there are of each measurement that has any."""
        return {name: found["pairs"] for name, found in self.report()["measurements"].items() if found["pairs"]}

    def query(self, sql: str) -> list[Any]:
        """Rows of the store's file."""
        connection = sqlite3.connect(self.store_path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def lines(self) -> list[str]:
        """The lines of readings that wait for InfluxDB."""
        found = [line for (lines,) in self.query("SELECT lines FROM outbox ORDER BY id") for line in lines.split(b"\n")]
        return [line.decode() for line in found if line.startswith(b"leglength_reading,")]

    def gauges(self, prefix: str) -> dict[tuple[str, str], float]:
        """Pushed values by metric and measurement."""
        database = self.database()
        try:
            with database.read_transaction() as connection:
                rows = totals.read(connection)
        finally:
            database.close()
        return {
            (row.metric, dict(row.labels)["measurement"]): row.value for row in rows if row.metric.startswith(prefix)
        }

    def derived(self, session_id: str) -> DerivedValues:
        """What the store has derived of a session."""
        (row,) = self.query(f"SELECT derived FROM sessions WHERE session_id = '{session_id}'")
        return DerivedValues.from_bytes(row[0])

    def revision(self) -> int:
        """Grows whenever something is to be pushed."""
        return int(self.query("SELECT value FROM state WHERE key = 'revision'")[0][0])
