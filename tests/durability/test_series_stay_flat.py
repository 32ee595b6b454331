"""However many studies run, and whatever their hosts call things, both backends keep the same number of series."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from monitoring import MonitorManager
from tests.support.hosts import base_settings
from tests.support.processes import wait_until
from tests.support.servers import InfluxDB1, Pushgateway, VictoriaMetrics

SESSIONS = 600
SETTLED_AFTER = 200
LENGTHS = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")


def _series_of(server: Any) -> int:
    if isinstance(server, VictoriaMetrics):
        return server.series_count('{__name__=~"leglength_.+"}')
    return len(server.query("SHOW SERIES", db=server.write_settings()["bucket"]))


def _predictions(chance: random.Random) -> dict[str, Any]:
    """Three models that miss landmarks now and then, and are off by this and that."""
    found = {}
    for model in ("resnet", "hrnet", "vit"):
        labels = [label for label in range(1, 9) if chance.random() > 0.1]
        boxes = [[100.0 * label + chance.gauss(0, 8), 300.0 * label, 0.0, 0.0] for label in labels]
        found[model] = {"predictions": {"boxes": boxes, "labels": labels, "scores": [chance.random() for _ in labels]}}
    return found


def _record(manager: MonitorManager, number: int, chance: random.Random) -> None:
    """One study: names of models, stages, metrics and issues that a careless host makes from its studies."""
    try:
        with manager.session(f"1.2.840.{number}") as session:
            with session.stage("inference"):
                pass
            session.record_stage(f"stage_{number}", 0.1)
            session.record_measurements({name: chance.gauss(400, 150) for name in LENGTHS} | {f"own_{number}": 1.0})
            issues = [f"issue_{number}", {"code": "asymmetry"}]
            session.record_performance_data({"individual_model_predictions": _predictions(chance), "issues": issues})
            session.record_model_performance(f"model_{number}", {"inference_seconds": 0.1, "landmarks_detected": 8})
            session.record_metric(f"metric_{number}", number)
            if number % 7 == 0:
                session.skip(f"reason_{number}")
            if number % 11 == 0:
                raise ValueError(number)
    except ValueError:
        pass


@pytest.mark.parametrize("kind", ["influxdb1", "victoria_metrics"])
def test_six_hundred_studies_make_no_more_series_than_two_hundred(
    kind: str, request: pytest.FixtureRequest, pushgateway: Pushgateway, tmp_path: Path
) -> None:
    server: InfluxDB1 | VictoriaMetrics = request.getfixturevalue(kind)
    settings = base_settings(
        tmp_path, influxdb=server.write_settings(), prometheus={"gateway_url": pushgateway.url}, shutdown_timeout=60
    )
    manager = MonitorManager({"monitoring": settings, "models": ["resnet", "hrnet", "vit"]})
    chance = random.Random(7)
    counts = []
    for number in range(SESSIONS):
        _record(manager, number, chance)
        if number + 1 in (SETTLED_AFTER, SESSIONS):
            counts.append(_when_delivered(manager, server, pushgateway))
    manager.close()
    # Findings that are rare may come late: each of a bounded set, so a few more are no growth.
    (log_before, state_before), (log_after, state_after) = counts
    assert log_before > 100
    assert state_before > 400
    assert log_after - log_before <= 0.05 * log_before
    assert state_after - state_before <= 0.02 * state_before


def _when_delivered(manager: MonitorManager, server: Any, gateway: Pushgateway) -> tuple[int, int]:
    runtime = manager._runtime
    assert runtime is not None
    active = runtime.store.active
    assert active is not None
    wait_until(lambda: not active.has_undelivered_lines(), "everything to be delivered", interval=0.2)
    total = sum(active.store.counts_by_status().values())
    wait_until(lambda: _pushed(gateway) == total, "the state to be pushed", interval=0.2)
    return _series_of(server), sum(len(family.samples) for family in gateway.families())


def _pushed(gateway: Pushgateway) -> float:
    return sum(sample.value for sample in gateway.samples("leglength_sessions_total"))
