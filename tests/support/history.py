"""A simulated history for tests: `simulation/`, and the application's records that it varies.

The phantoms are processed once a test run, whichever worker comes first, and a history of 90 days then takes a second
or two. `simulation` is imported where it is used: it loads the application's libraries, which most tests don't need.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.analytics.analysis import analyse
from monitoring.analytics.charts import DAY_NS
from monitoring.config_validator import check_section
from monitoring.metrics.samples import zero_changes
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.backends import session_writes_builder
from monitoring.store.database import Database
from monitoring.store.sessions import Store, open_store
from tests.support.prometheus_servers import Prometheus, promtool

if TYPE_CHECKING:
    from simulation.history import Plan

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
"""A Friday evening; summer time ended on 25 October."""
INSTANCE = "simulated-1"


@dataclass(frozen=True)
class History:
    """Simulated sessions in the order of their time; `plan.events()` says what happens when."""

    plan: Plan
    records: Sequence[SessionRecord]

    def settings(self, folder: Path, **sections: Any) -> dict[str, Any]:
        """The `monitoring` section under which it is stored in `folder`, with backends if given."""
        prometheus = {"instance": INSTANCE, **sections.pop("prometheus", {"textfile": str(folder / "totals.prom")})}
        store = {"path": str(folder), "min_free_mb": 0}
        return {"enabled": True, "application": "simulated", "store": store, "prometheus": prometheus, **sections}

    @contextmanager
    def store(
        self, folder: Path, records: Sequence[SessionRecord] | None = None, nightly: bool = False, **sections: Any
    ) -> Iterator[Store]:
        """A store in `folder` that holds it (or `records`), as after an import.

        `nightly`: the charts were looked at each night, and half a second after the last session.
        """
        config = check_section(self.settings(folder, **sections)).config
        folder.mkdir(parents=True, exist_ok=True)
        with open_store(Database(folder / "monitoring.db")) as store:
            store.initialise(zero_changes(declared=config.metrics.declared))
            build = session_writes_builder(config, INSTANCE)
            night_ns = 0
            for record in self.records if records is None else records:
                for at_ns in range(night_ns, record.ended_ns, DAY_NS) if nightly and night_ns else ():
                    analyse(store, config.analytics, at_ns, build)
                night_ns = (record.ended_ns // DAY_NS + 1) * DAY_NS
                store.commit(record, build)
            if nightly:
                analyse(store, config.analytics, record.ended_ns + 500_000_000, build)
            yield store

    def prometheus(self, folder: Path, store: Store, new_store: bool = False, **options: Any) -> Prometheus:
        """A Prometheus in `folder` that has scraped all of it, every hour; to be used with `with`.

        With `new_store` the totals began at 0 once more, when `plan.events()` says so.
        """
        from simulation.exams import nanoseconds
        from simulation.prometheus_past import PROMTOOL_PAST, group_of, write_openmetrics

        began_anew_ns = self.plan.events()["new_store_ns"] if new_store else None
        labels = group_of(check_section(self.settings(folder)).config)
        until_ns = nanoseconds(self.plan.now)
        folder.mkdir(parents=True, exist_ok=True)
        write_openmetrics(folder / "past.txt", store, labels, until_ns, began_anew_ns)
        promtool(*PROMTOOL_PAST, str(folder / "past.txt"), str(folder / "data"))
        return Prometheus(folder=folder, **options)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a dozen small phantoms lie with what run.py made of them."""
    from simulation.history import base_records

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "processed-phantoms"
    with folder.with_suffix(".lock").open("w") as lock:  # one worker makes them, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        base_records(folder)
    return folder


@pytest.fixture(scope="session")
def processed_phantoms(phantom_folder: Path) -> Mapping[str, Sequence[SessionRecord]]:
    """What run.py recorded of them, by kind."""
    from simulation.history import base_records

    return base_records(phantom_folder)


@pytest.fixture(scope="session")
def simulated(processed_phantoms: Mapping[str, Sequence[SessionRecord]]) -> Callable[..., History]:
    """`simulated(days=60, bias_mm=5.0, ...)`: a history to NOW; the fields are those of `Plan`."""
    from simulation.history import Plan, simulate

    def make(**fields: Any) -> History:
        plan = Plan(**{"now": NOW, **fields})
        return History(plan, list(simulate(plan, processed_phantoms)))

    return make


@pytest.fixture(scope="session")
def history(simulated: Callable[..., History]) -> History:
    """60 days with weekends, an outage, the end of summer time, and new versions of the application and of a model."""
    return simulated(days=60)
