"""The relay looks at the charts once a UTC day, beside its other duties, and outlives whatever goes wrong there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from monitoring.analytics.analysis import Analysis
from monitoring.config_validator import check_section
from monitoring.exceptions import StoreError
from monitoring.metrics import catalogue, chart_metrics
from monitoring.runtime import relay as module
from monitoring.runtime.relay import Relay
from monitoring.store import totals
from monitoring.store.clock import DAY_NS
from monitoring.store.database import Database
from monitoring.transport.deadline import Deadline
from tests.support.clocks import HANGS_SECONDS
from tests.support.exams import BIAS, NOW_NS, a_store, exam, exams
from tests.support.faults import FaultServer
from tests.support.hosts import base_settings, with_influxdb
from tests.support.servers import wait_until

NOTHING = Analysis((), (), {}, {}, 0, 2.0)
MakeRelay = Callable[..., Relay]


@pytest.fixture
def make_relay(tmp_path: Path) -> Iterator[MakeRelay]:
    """A relay over a store of this test's, given back at the end."""
    made = []

    def make(**settings: Any) -> Relay:
        config = check_section(base_settings(tmp_path) | settings).config
        made.append(Relay(config, logging.getLogger("relay")))
        return made[-1]

    yield make
    for one in made:
        if one.store.active is not None:
            one.store.active.close(Deadline.after(1.0))


def turn(relay: Relay) -> None:
    """One turn, and the look at the charts that it began."""
    relay.take_turn()
    if relay._analysis is not None:
        relay._analysis.join(HANGS_SECONDS)


def last_seen(path: Path) -> float:
    database = Database(path / "monitoring.db")
    with database.read_transaction() as connection:
        seen = totals.values(connection, catalogue.RELAY_LAST_SEEN)
    database.close()
    return seen[()]


def test_it_looks_at_its_first_turn_and_once_after_each_utc_day(
    make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    now_ns = 20_700 * DAY_NS + 7 * DAY_NS // 24
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    monkeypatch.setattr(module, "analyse", lambda _store, _config, then_ns, _build: looks.append(then_ns) or NOTHING)
    relay = make_relay()
    for hour in range(48):
        now_ns = 20_700 * DAY_NS + (7 + hour) * DAY_NS // 24
        turn(relay)
        turn(relay)
    assert looks == [20_700 * DAY_NS + 7 * DAY_NS // 24, 20_701 * DAY_NS, 20_702 * DAY_NS]


def test_a_look_that_was_not_kept_is_told_and_tried_again(
    make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "analyse", lambda *_: replace(NOTHING, not_kept="No space left on device"))
    relay = make_relay()
    turn(relay)
    assert "can't be analysed: No space left on device; trying again each hour" in caplog.text
    assert relay._analysed_day != time.time_ns() // DAY_NS


def test_new_alarms_are_a_warning_and_old_ones_are_none(
    make_relay: MakeRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with a_store(tmp_path, exams()):
        pass
    monkeypatch.setattr(time, "time_ns", lambda: NOW_NS)
    caplog.set_level(logging.INFO)
    turn(make_relay())
    [line] = [record for record in caplog.records if "new alarm" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert BIAS in line.getMessage()
    assert line.getMessage().endswith("the command alarms lists them")
    assert "the charts are computed from the first session: there was no earlier look" in caplog.text
    caplog.clear()
    turn(make_relay())  # as after a restart
    assert "new alarm" not in caplog.text
    assert "computed" not in caplog.text
    database = Database(tmp_path / "monitoring.db")
    with database.read_transaction() as connection:
        assert totals.values(connection, chart_metrics.STATE)[BIAS, "clinical"] == chart_metrics.STATES.index("alarm")
    database.close()


def test_delivery_and_heartbeat_go_on_during_a_look_that_takes_long(
    make_relay: MakeRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_at_work, may_end = threading.Event(), threading.Event()

    def takes_long(*_: object) -> Analysis:
        is_at_work.set()
        may_end.wait(HANGS_SECONDS)
        return NOTHING

    monkeypatch.setattr(module, "analyse", takes_long)
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.0)
    with a_store(tmp_path), FaultServer() as server:
        relay = make_relay(**with_influxdb({}, {"url": server.url, "bucket": "b"}))
        relay.take_turn()
        assert is_at_work.wait(HANGS_SECONDS)
        before = last_seen(tmp_path)
        with a_store(tmp_path, [exam(0)]):
            pass
        relay.take_turn()
        relay.take_turn()
        wait_until(lambda: any(b"leglength_session" in request.body for request in server.requests), "the session")
        assert last_seen(tmp_path) > before
        assert relay._analysis is not None
        assert relay._analysis.is_alive()  # and no second one beside it
        may_end.set()
        relay._analysis.join(HANGS_SECONDS)


def test_a_look_that_fails_is_said_once_without_its_words_and_tried_again(
    make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [ValueError("DOE^JOHN"), ValueError("DOE^JOHN"), StoreError("the disk is gone")]

    def fails(*_: object) -> Analysis:
        if failures:
            raise failures.pop(0)
        return NOTHING

    monkeypatch.setattr(module, "analyse", fails)
    relay = make_relay()
    turn(relay)
    turn(relay)  # not before an hour is over
    assert len(failures) == 2
    monkeypatch.setattr(module, "_ANALYSIS_REST_SECONDS", 0.0)
    relay._next_analysis = 0.0
    for _ in range(4):
        turn(relay)
    said = [record.getMessage() for record in caplog.records if "can't be analysed" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("monitoring: the stored sessions can't be analysed: ValueError at ")
    assert "the disk is gone" in said[1]
    assert "DOE" not in caplog.text
    assert not failures
    assert relay._fault is None


def test_a_relay_that_can_have_no_thread_says_so_and_goes_on(
    make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay = make_relay()

    def none_left(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        relay.take_turn()
    assert "can't start new thread" in caplog.text
    relay._next_analysis = 0.0
    turn(relay)
    assert relay._analysed_day == time.time_ns() // DAY_NS
