"""How often the log filter had something to remove reaches the store with the sessions; no log line waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring import LogFilter, MonitorManager
from monitoring.exceptions import StoreError
from monitoring.metrics import catalogue
from monitoring.metrics.session_writes import BuildWrites, SessionWrites
from monitoring.privacy.log_filter import HITS
from monitoring.records.session_record import SessionRecord
from monitoring.runtime import failover
from monitoring.store.sessions import Store
from tests.support.hosts import Host
from tests.support.recordings import record, settings_of

NAME = "Canary^Jane"
LOG = logging.getLogger("tests.hits")


@pytest.fixture(autouse=True)
def log_filter() -> Iterator[LogFilter]:
    HITS.take()
    installed = LogFilter()
    installed.install()
    with installed.study([NAME]):
        yield installed
    installed.uninstall()
    HITS.take()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[MonitorManager]:
    made = MonitorManager(settings_of(tmp_path))
    yield made
    made.close()


def counted(folder: Path) -> float:
    host = Host(folder)
    host.store_folder = folder
    return host.totals().get((catalogue.LOG_FILTER_HITS.name, (), ""), 0.0)


def test_a_record_counts_once_whatever_is_removed_from_it_and_one_without_a_name_not_at_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    LOG.warning("read %s and %s", NAME, NAME, extra={"who": NAME}, stack_info=True)
    try:
        raise ValueError(NAME)
    except ValueError:
        LOG.exception("failed")
    LOG.warning("%s", object)
    LOG.warning("nothing to see", extra={"count": 3})
    assert NAME not in caplog.text
    assert HITS.take() == 2
    LOG.warning("hello", extra={"who": NAME})  # found when a handler takes it, since it comes after the factory
    assert (HITS.take(), HITS.take()) == (1, 0)


def test_they_are_kept_with_the_next_session_and_those_behind_the_last_one_at_the_end(
    manager: MonitorManager, tmp_path: Path
) -> None:
    LOG.warning("read %s", NAME)
    with manager.session("series"):
        LOG.warning("read %s", NAME)
        assert counted(tmp_path) == 0
    assert counted(tmp_path) == 2
    record(manager)
    LOG.warning("read %s", NAME)
    assert counted(tmp_path) == 2
    manager.close()
    assert counted(tmp_path) == 3


def test_a_commit_that_fails_loses_none(
    manager: MonitorManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(manager)
    commit, failures = Store.commit, [StoreError("the disk is gone")]

    def failing(store: Store, session: SessionRecord, build: BuildWrites, *more: Any) -> bool:
        def broken(*arguments: Any) -> SessionWrites:
            writes = build(*arguments)
            if store.database.path is not None and failures:
                raise failures.pop()
            return writes

        return commit(store, session, broken, *more)

    monkeypatch.setattr(failover, "REST_SECONDS", 0.0)
    monkeypatch.setattr(Store, "commit", failing)
    LOG.warning("read %s", NAME)
    record(manager)
    assert (failures, counted(tmp_path)) == ([], 0)
    LOG.warning("read %s", NAME)
    record(manager)
    manager.close()
    assert counted(tmp_path) == 2


def test_threads_count_each_of_theirs() -> None:
    def log() -> None:
        for _ in range(200):
            LOG.warning("read %s", NAME)

    threads = [threading.Thread(target=log) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert HITS.take() == 1600


FORKS = """
from monitoring import LogFilter
log_filter = LogFilter()
log_filter.install()
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with log_filter.study(["Canary^Jane"]):
    logging.info("read Canary^Jane")
    child = os.fork()
    for _ in range(1 if child else 3):
        logging.info("read Canary^Jane")
    with manager.session("series"):
        pass
if child:
    os.waitpid(child, 0)
manager.close()
"""


def test_a_forked_child_tells_its_own_and_not_the_parents_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    ended = host.run(FORKS)
    assert ended.code == 0, ended.stderr
    assert "Canary" not in ended.stderr
    assert len(host.records()) == 2
    assert host.totals()[catalogue.LOG_FILTER_HITS.name, (), ""] == 1 + 1 + 3
