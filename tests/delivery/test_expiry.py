"""When certificates and tokens end is kept with the backend that was asked with them, and told to both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitoring import MonitorManager
from monitoring.cli.commands import app
from monitoring.delivery.own_state import Taken
from monitoring.metrics import catalogue
from monitoring.metrics_collector import own_lines
from monitoring.store import totals
from monitoring.transport.expiry import certificates
from monitoring.transport.sinks import Delivery
from tests.support.store_bench import Bench
from tests.support.tls_servers import Authority, TlsFaultServer, TlsPushgateway, end_of, jwt

METRIC = catalogue.CERTIFICATE_EXPIRY


def kept(bench: Bench) -> dict[tuple[str, ...], float]:
    with bench.database.read_transaction() as connection:
        return totals.values(connection, METRIC)


def settle(bench: Bench, **fields: Any) -> None:
    bench.log.settle(bench.log.next_batch(1), Delivery(**fields))


def test_the_latest_answer_counts_and_what_has_no_end_any_more_goes(bench: Bench) -> None:
    bench.commit(0)
    settle(bench, error="tls")  # no connection: nothing is known
    assert kept(bench) == {}
    settle(bench, expiry={"server": 5e9, "token": 4e9})
    bench.state.settle_state(bench.state.snapshot(), Delivery(expiry={"server": 3e9}))
    expected = {("influxdb", "server"): 5e9, ("influxdb", "token"): 4e9, ("prometheus", "server"): 3e9}
    assert kept(bench) == expected
    settle(bench, error="timeout")
    assert kept(bench) == expected
    settle(bench, error="unauthorized", expiry={"server": 6e9})  # renewed, and a token of another kind
    assert kept(bench) == {("influxdb", "server"): 6e9, ("prometheus", "server"): 3e9}
    settle(bench, expiry={})  # http:// by now
    assert kept(bench) == {("prometheus", "server"): 3e9}


def test_a_clock_that_was_ahead_and_a_damaged_value_hold_up_no_newer_one(bench: Bench) -> None:
    bench.commit(0)
    later = bench.log._clock_ns() + 1800 * 10**9
    bench.log._clock_ns = lambda: later
    settle(bench, expiry={"server": 5e9})
    bench.log._clock_ns = lambda: later - 1800 * 10**9
    settle(bench, expiry={"server": 6e9})
    assert kept(bench) == {("influxdb", "server"): 6e9}
    with bench.database.transaction() as connection:
        connection.execute("UPDATE totals SET value = 7e9, time_ns = ? WHERE metric = ?", (later, METRIC.name))
    assert kept(bench) == {}
    settle(bench, expiry={"server": 8e9})
    assert kept(bench) == {("influxdb", "server"): 8e9}


def test_it_travels_with_the_next_news_and_is_none_itself(bench: Bench) -> None:
    """Two servers behind one address, with a certificate each, would else be pushed to for ever."""
    bench.commit(0)
    snapshot = bench.state.snapshot()
    bench.state.settle_state(snapshot, Delivery(expiry={"server": 3e9}))
    assert not bench.state.has_news()
    found = {
        dict(total.labels)["kind"]: total.value
        for total in bench.state.snapshot().totals
        if total.metric == METRIC.name
    }
    assert found == {"server": 3e9}
    ((now_ns, samples),) = bench.log.own_state(Taken("influxdb"))
    lines = [line.decode() for line in own_lines(samples, now_ns, {"instance": "w"})]
    own = (
        "leglength_monitoring_certificate,backend=prometheus,instance=w,kind=server expiry_timestamp_seconds=3000000000"
    )
    assert [line for line in lines if line.startswith(own)]


def test_a_backend_that_is_not_in_use_any_more_has_no_dates(bench: Bench, tmp_path: Path) -> None:
    bench.commit(0)
    settle(bench, expiry={"server": 5e9, "token": 4e9})
    bench.state.settle_state(bench.state.snapshot(), Delivery(expiry={"server": 3e9}))
    gateway = {"gateway_url": "http://127.0.0.1:1", "instance": "w"}
    section = {"enabled": True, "store": {"path": str(tmp_path), "min_free_mb": 0}, "prometheus": gateway}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
    machines = json.loads(said(tmp_path, "analyze", "--json"))["machines"]
    assert [(each["backend"], each["ends_ns"]) for each in machines["endings"]] == [("prometheus", 3 * 10**18)]
    status = json.loads(said(tmp_path, "status", "--json"))
    dates = {name: entry["expiry_timestamp_seconds"] for name, entry in status["outbox"].items()}
    assert dates == {"influxdb": {}, "prometheus": {"server": 3e9}}
    bench.state.settle_state(bench.state.snapshot(), Delivery())
    assert not bench.state.has_news()
    with MonitorManager({"monitoring": section}) as monitor:  # nobody listens there, which changes nothing
        monitor.end_session(monitor.start_session("1.2.840.1"), "completed")
        monitor.close(5.0)
    assert kept(bench) == {("prometheus", "server"): 3e9}
    assert bench.state.has_news()


@pytest.mark.servers
def test_from_the_connection_to_the_person_who_renews_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    pair, client = authority.key_pair(valid_for=(-1, 2)), authority.key_pair("client", valid_for=(-1, 3))
    of_ca, secret = certificates(authority.ca_file)[0].ends, jwt({"exp": 4_000_000_000, "sub": "who-it-is"})
    with (
        TlsFaultServer(authority.server_context(pair, demands=authority)) as server,
        TlsPushgateway(authority) as gateway,
    ):
        shared = {"ca_file": str(authority.ca_file)}
        shown = {"client_cert_file": str(client.certificate), "client_key_file": str(client.key)}
        section = {
            "enabled": True, "store": {"path": str(tmp_path), "min_free_mb": 0},
            "influxdb": {"url": server.url, "token": secret, "org": "o", **shared, **shown},
            "prometheus": {"gateway_url": gateway.url, "instance": "w", **shared},
        }  # fmt: skip
        for _ in range(2):
            with MonitorManager({"monitoring": section}) as monitor:
                monitor.end_session(monitor.start_session("1.2.840.1"), "completed")
                monitor.close(20.0)
        (tmp_path / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
        pushed = gateway.ask("/metrics").data.decode()
        checked = said(tmp_path, "check")
    lines = [line for line in pushed.splitlines() if line.startswith(METRIC.name)]
    assert f'{METRIC.name}{{backend="influxdb",instance="w",' in lines[0]
    assert {float(line.rsplit(" ", 1)[1]) for line in lines} >= {end_of(pair), end_of(client), of_ca, 4e9}
    assert b"leglength_monitoring_certificate,backend=influxdb," in b"".join(
        request.body for request in server.requests
    )

    expected = {"server": end_of(pair), "client": end_of(client), "ca": of_ca, "token": 4e9}
    status = json.loads(said(tmp_path, "status", "--json"))
    assert status["outbox"]["influxdb"]["expiry_timestamp_seconds"] == expected
    machines = json.loads(said(tmp_path, "analyze", "--json"))["machines"]
    assert {
        each["kind"]: each["ends_ns"] / 1e9 for each in machines["endings"] if each["backend"] == "influxdb"
    } == expected
    told = [checked, said(tmp_path, "status"), said(tmp_path, "analyze")]
    assert all("the token ends on 2096-10-02" in text for text in told)
    assert all("the client certificate ends on 20" in text for text in told)
    for text in (*told, pushed, json.dumps(status)):
        assert secret not in text
        assert "who-it-is" not in text
        assert "trustme" not in text


def said(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--config", str(folder / "task.json")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout
