"""The whole state of an instance goes out in one piece, and what a gateway then shows is what the store said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from monitoring.domain.derivation import Facts
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind
from monitoring.metrics.samples import zero_changes
from monitoring.metrics_collector import changes, samples
from monitoring.prometheus_client import PrometheusClient, TextfileClient
from monitoring.settings import PrometheusConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport
from monitoring.transport.sinks import Delivery, Snapshot, Total
from tests.support import faults
from tests.support.checked_settings import section_of
from tests.support.clients import send
from tests.support.clocks import assert_took_at_most
from tests.support.faults import FaultServer, respond
from tests.support.records import realistic
from tests.support.servers import Pushgateway, promtool, wait_until

Connect = Callable[..., PrometheusClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients for a gateway."""
    made: list[PrometheusClient] = []

    def make(url: str, instance: str = "ward3", **changed: Any) -> PrometheusClient:
        config = section_of(PrometheusConfig, **{"gateway_url": url, "job_name": "leglength", **changed})
        made.append(PrometheusClient(config, HttpTransport(), {"instance": instance}))
        return made[-1]

    yield make
    for client in made:
        client.close()


def exposition(sessions: int = 1, **changed: Any) -> Snapshot:
    """The state after so many sessions alike, zeros included."""
    totals: dict[tuple[str, tuple[tuple[str, str], ...], str], float] = {}
    of_one = changes(samples(realistic(**changed), Facts(sessions_last_hour=12)))
    for change in [*zero_changes(("resnet",)), *of_one * sessions]:
        key = (change.metric, tuple(sorted(change.labels.items())), change.part)
        totals[key] = change.value if change.replaces else totals.get(key, 0.0) + change.value
    return Snapshot(tuple(Total(*key, value) for key, value in totals.items()), revision=1, sequence=sessions)


def deliver(
    client: PrometheusClient | TextfileClient, state: Snapshot | None = None, seconds: float = 20.0
) -> Delivery:
    delivery = client.send(state or exposition(), Deadline.after(seconds))
    assert not delivery.expiry  # nothing ends of an address without TLS
    return replace(delivery, expiry=None)


def shown(gateway: Pushgateway, instance: str = "ward3") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """One instance's samples by name and labels."""
    found = {}
    for sample in (sample for family in gateway.families() for sample in family.samples):
        labels = dict(sample.labels)
        if labels.pop("instance") == instance and labels.pop("job"):
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


# --- a real Pushgateway -------------------------------------------------------------------------


def test_a_gateway_shows_every_value_as_the_store_has_it(pushgateway: Pushgateway, connect: Connect) -> None:
    state = exposition(sessions=3)
    assert deliver(connect(pushgateway.url), state) == Delivery()
    told = {
        (row.metric, frozenset(row.labels)): row.value
        for row in state.totals
        if catalogue.BY_NAME[row.metric].kind is not Kind.HISTOGRAM
    }
    found = shown(pushgateway)
    assert {key: found[key] for key in told} == told
    assert pushgateway.groups() == [{"job": "leglength", "instance": "ward3"}]


def test_all_statuses_are_there_at_0_from_the_first_push(pushgateway: Pushgateway, connect: Connect) -> None:
    deliver(connect(pushgateway.url))
    shown = {sample.labels["status"]: sample.value for sample in pushgateway.samples("leglength_sessions_total")}
    assert shown == {"completed": 1.0, "failed": 0.0, "skipped": 0.0, "crashed": 0.0}


def test_a_histogram_is_cumulative_and_whole(pushgateway: Pushgateway, connect: Connect) -> None:
    deliver(connect(pushgateway.url), exposition(sessions=3))
    buckets = pushgateway.samples("leglength_stage_duration_seconds_bucket", stage="inference")
    counts = {sample.labels["le"]: sample.value for sample in buckets}
    assert (counts["1"], counts["2.5"], counts["5"], counts["+Inf"]) == (0.0, 3.0, 3.0, 3.0)
    assert len(counts) == len(catalogue.STAGE_BUCKETS) + 1
    assert pushgateway.value("leglength_stage_duration_seconds_sum", stage="inference") == 7.5
    assert pushgateway.value("leglength_stage_duration_seconds_count", stage="inference") == 3.0


def test_a_histogram_of_nothing_is_there_at_0(pushgateway: Pushgateway, connect: Connect) -> None:
    deliver(
        connect(pushgateway.url),
        Snapshot(tuple(Total(c.metric, tuple(c.labels.items()), c.part, c.value) for c in zero_changes()), 1, 0),
    )
    assert pushgateway.value("leglength_stage_duration_seconds_count", stage="load") == 0.0
    assert pushgateway.value("leglength_session_duration_seconds_count") == 0.0


def test_a_push_replaces_the_group_and_leaves_the_others(pushgateway: Pushgateway, connect: Connect) -> None:
    client = connect(pushgateway.url)
    deliver(client, exposition(custom={"contrast": 1.0}))
    deliver(connect(pushgateway.url, instance="ward4"))
    deliver(client, exposition(custom={"noise": 2.0}))
    contrast, noise = (("leglength_custom", frozenset({("name", name)})) for name in ("contrast", "noise"))
    assert contrast not in shown(pushgateway)
    assert shown(pushgateway)[noise] == 2.0
    assert shown(pushgateway, "ward4")[contrast] == 0.4


def test_a_state_that_doesnt_count_all_runs_sets_no_counter_back(pushgateway: Pushgateway, connect: Connect) -> None:
    client = connect(pushgateway.url)
    deliver(client, exposition(sessions=5))
    one = exposition(sessions=1, queue_depth=9.0)
    deliver(client, Snapshot(one.totals, 1, 1, counts_all_runs=False))
    assert pushgateway.value("leglength_sessions_total", status="completed") == 5.0
    assert pushgateway.value("leglength_queue_depth") == 9.0


@pytest.mark.parametrize(
    ("job", "instance"),
    [
        ("a/b", "ward/3"),
        ("leg length", "ward 3"),
        ("läng", "Zürich: 3"),
        ("a", "x=1,y"),
        ("a", '"quoted"'),
        ("a", "50%"),
    ],
)
def test_any_job_and_instance_arrive_as_they_are(
    pushgateway: Pushgateway, connect: Connect, job: str, instance: str
) -> None:
    assert deliver(connect(pushgateway.url, instance, job_name=job)) == Delivery()
    assert pushgateway.groups() == [{"job": job, "instance": instance}]


def test_a_gateway_under_a_path_and_behind_a_password_is_reached(
    pushgateway_factory: Callable[..., Pushgateway], connect: Connect
) -> None:
    gateway = pushgateway_factory(route_prefix="/push", auth=True)
    client = connect(f"{gateway.url}/", username=gateway.username, password=gateway.password)
    assert deliver(client) == Delivery()
    assert gateway.value("leglength_sessions_total", status="completed") == 1.0


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_wrong_password_is_a_failure_that_doesnt_show_it(
    pushgateway_factory: Callable[..., Pushgateway], connect: Connect, password: str | None
) -> None:
    gateway = pushgateway_factory(auth=True)
    delivery = deliver(connect(gateway.url, username=gateway.username, password=password))
    assert delivery.error == "unauthorized"
    assert "wrong" not in delivery.detail


def test_a_metric_of_another_release_is_passed_over(pushgateway: Pushgateway, connect: Connect) -> None:
    state = exposition()
    rows = (*state.totals, Total("leglength_of_another_release", (), "", 1.0))
    assert deliver(connect(pushgateway.url), Snapshot(rows, 1, 1)) == Delivery()
    assert pushgateway.value("leglength_of_another_release") is None


def test_another_application_that_has_taken_one_of_our_names_is_a_failure_and_costs_no_totals(
    pushgateway: Pushgateway, connect: Connect
) -> None:
    deliver(connect(pushgateway.url))
    taken = "# TYPE leglength_custom counter\nleglength_custom 1\n"
    send("DELETE", f"{pushgateway.url}/metrics/job/leglength/instance/ward3")
    wait_until(lambda: not pushgateway.groups(), "the group to go")
    assert send("PUT", f"{pushgateway.url}/metrics/job/other", body=taken).status == 200
    delivery = deliver(connect(pushgateway.url))
    assert (delivery.error, delivery.detail) == ("http_4xx", "HTTP 400")


# --- a server of faults -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, "redirect"),
        (400, "http_4xx"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (413, "http_4xx"),
        (422, "http_4xx"),
        (429, "rate_limited"),
        (500, "http_5xx"),
        (503, "unavailable"),
        (299, "bad_answer"),
    ],
)
def test_every_refusal_is_a_reason_that_is_counted(
    fault_server: FaultServer, connect: Connect, status: int, error: str
) -> None:
    fault_server.then = respond(status, b"Jane Doe", {"Location": "/"})
    delivery = deliver(connect(fault_server.url))
    assert delivery.error == error
    assert error in catalogue.DELIVERY_FAILURE.values
    assert "Jane" not in delivery.detail
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("status", [200, 202, 204])
def test_every_success_is_one(fault_server: FaultServer, connect: Connect, status: int) -> None:
    fault_server.then = respond(status)
    assert deliver(connect(fault_server.url)) == Delivery()
    assert fault_server.requests[0].method == "PUT"
    assert fault_server.requests[0].path == "/metrics/job/leglength/instance/ward3"


def test_a_gateway_says_when_to_come_back(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = faults.retry_later(503, 7)
    assert deliver(connect(fault_server.url)).retry_after_seconds == 7.0


def test_a_silent_gateway_is_left_at_the_deadline_and_at_its_own_timeout(
    fault_server: FaultServer, connect: Connect
) -> None:
    fault_server.then = faults.silence()
    for client, seconds in ((connect(fault_server.url), 0.5), (connect(fault_server.url, timeout=0.5), 60.0)):
        began = time.monotonic()
        assert deliver(client, seconds=seconds).error == "timeout"
        assert_took_at_most(time.monotonic() - began, 3.0)


def test_nobody_there_is_refused(connect: Connect) -> None:
    with faults.refused_port() as url:
        assert deliver(connect(url)).error == "refused"


def test_no_timestamp_and_no_identity_is_pushed(fault_server: FaultServer, connect: Connect) -> None:
    deliver(connect(fault_server.url))
    text = fault_server.requests[0].text
    assert all(sample.timestamp is None for family in text_string_to_metric_families(text) for sample in family.samples)
    assert realistic().series_key not in text
    assert realistic().session_id not in text


# --- a textfile ---------------------------------------------------------------------------------


def test_a_textfile_is_read_by_promtool_and_by_prometheus_own_parser(tmp_path: Path) -> None:
    path = tmp_path / "new" / "leglength.prom"
    assert deliver(TextfileClient(path), exposition(2)) == Delivery()
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    assert {s.labels["status"]: s.value for s in families["leglength_sessions"].samples}["completed"] == 2.0
    assert [entry.name for entry in path.parent.iterdir()] == ["leglength.prom"]


@pytest.mark.servers
def test_promtool_reads_the_textfile(tmp_path: Path) -> None:
    deliver(TextfileClient(tmp_path / "leglength.prom"))
    rules = tmp_path / "rules.yml"
    rules.write_text('groups: [{name: g, rules: [{record: "a:b", expr: "leglength_sessions_total"}]}]')
    assert "1 rules found" in promtool("check", "rules", str(rules))
    text = (tmp_path / "leglength.prom").read_text()
    assert text.endswith("\n")
    assert text.count("# TYPE leglength_sessions_total counter") == 1


def test_a_reader_of_the_textfile_never_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "leglength.prom"
    deliver(TextfileClient(path), exposition(1))
    whole = path.read_text()
    with path.open() as reader:
        deliver(TextfileClient(path), exposition(2, custom={}))
        assert reader.read() == whole, "the old file is replaced, not written over"
    assert path.read_text() != whole


def test_a_textfile_that_cant_be_written_is_a_failure_and_the_old_one_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    delivery = deliver(TextfileClient(tmp_path / "file" / "leglength.prom"))
    assert delivery.error in catalogue.DELIVERY_FAILURE.values
    assert str(tmp_path) not in delivery.detail
    (tmp_path / "folder.prom").mkdir()
    assert deliver(TextfileClient(tmp_path / "folder.prom")).error in catalogue.DELIVERY_FAILURE.values
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.prom"]


def test_a_sites_name_is_a_label_of_every_series_in_the_textfile(tmp_path: Path) -> None:
    path = tmp_path / "leglength.prom"
    deliver(TextfileClient(path, {"site": "Invented Hospital"}), exposition(2))
    families = list(text_string_to_metric_families(path.read_text()))
    found = [sample for family in families for sample in family.samples]
    assert {sample.labels.get("site") for sample in found} == {"Invented Hospital"}
    deliver(TextfileClient(path), exposition(2))
    plain = [sample for family in text_string_to_metric_families(path.read_text()) for sample in family.samples]
    assert [(s.name, {**s.labels, "site": "Invented Hospital"}, s.value) for s in plain] == [
        (s.name, s.labels, s.value) for s in found
    ]


def test_totals_that_dont_count_all_runs_leave_the_textfile_as_it_is(tmp_path: Path) -> None:
    client = TextfileClient(tmp_path / "leglength.prom")
    deliver(client, exposition(5))
    before = (tmp_path / "leglength.prom").read_text()
    one = exposition(1)
    assert deliver(client, Snapshot(one.totals, 1, 1, counts_all_runs=False)) == Delivery()
    assert (tmp_path / "leglength.prom").read_text() == before
