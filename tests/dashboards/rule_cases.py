"""What each alert rule says of made-up series: when it fires and in which words, and what is just not enough.

A series' values are told by one of three: a number that stays, hours at which a counter grows by one, or the values
from an hour on (None: it isn't told any more). Unless they are named, `job` and `instance` are those of one site.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from monitoring.metrics.chart_metrics import STATES

Values = float | list[float] | dict[float, float | None]

SITE = {"job": "pediatric-leglength", "instance": "site"}
SESSIONS = "leglength_sessions_total"
COUNT = "leglength_session_duration_seconds_count"
WITHIN = "leglength_session_duration_seconds_bucket"
INFERENCE = 'leglength_stage_duration_seconds_count{stage="inference"}'
MODEL = "leglength_model_inference_seconds_count"
LAST_RUN = "leglength_last_run_timestamp_seconds"
STATE = "leglength_analysis_state"
ANALYSED = "leglength_analysis_last_run_timestamp_seconds"
LAST_SUCCESS = "leglength_last_success_timestamp_seconds"
EXPIRY = 'leglength_monitoring_certificate_expiry_timestamp_seconds{backend="influxdb",kind="%s"}'
HOUR = 3600.0
DAY = 24.0


@dataclass(frozen=True)
class Case:
    """Series, and the alerts of one rule at an hour: none, or one with these labels and this description."""

    what: str
    at: float
    series: dict[str, Values]
    says: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    of: dict[str, str] = field(default_factory=lambda: SITE)


def spread(count: int, first: float, last: float) -> list[float]:
    """So many events, evenly from one hour to another."""
    return [first + (last - first) * number / max(1, count - 1) for number in range(count)]


def status(**events: Values) -> dict[str, Values]:
    """Sessions by how they ended, all that are not named at 0."""
    return {
        f'{SESSIONS}{{status="{name}"}}': events.get(name, 0.0)
        for name in ("completed", "failed", "skipped", "crashed")
    }


def event(name: str, says: str, other: str | None = None, **labels: str) -> list[Case]:
    """The cases of a rule that tells of a single event for a day; `other` is a series that it must not tell of."""
    others: dict[str, Values] = {other: [30.0]} if other else {}
    return [
        Case("once within the day", 36.0, {name: [30.0], **others}, says, labels),
        Case("not at all", 36.0, {name: 0.0, **others}),
        Case("the day before", 36.0, {name: [10.0], **others}),
    ]


def share(parts: dict[str, int], whole: str, says: str, labels: dict[str, str], most: int) -> list[Case]:
    """The cases of a rule of a share of 20 images in 28 days; `parts` is what tells the part, `most` what is allowed.

    A part is a series and how many it grows by, which may be negative: so many fewer than the images.
    """

    def told(change: int, images: int, first: float, last: float) -> dict[str, Values]:
        grown = {name: (by + change if by > 0 else images + by - change) for name, by in parts.items()}
        return {
            **{name: spread(by, first, last) for name, by in grown.items()},
            whole: spread(images, first, last),
        }

    by = abs(next(iter(parts.values())))
    at, first, last = 30 * DAY, 3 * DAY, 20 * DAY
    return [
        Case("too large", at, told(0, 20, first, last), says, labels),
        Case("just as large as may be", at, told(most - by, 20, first, last)),
        Case("of too few images", at, told(0, 19, first, last)),
        Case("more than 28 days ago", at, told(0, 20, 2.0, 1.5 * DAY)),
    ]


def chart_alarm(audience: str, other: str) -> list[Case]:
    """The cases of the rule on the charts of an audience: which of several alarms, and what ends it."""

    def states(**of_charts: Values) -> dict[str, Values]:
        of_other = {f'{STATE}{{chart="other",audience="{other}"}}': float(STATES.index("alarm"))}
        return of_other | {f'{STATE}{{chart="{name}",audience="{audience}"}}': told for name, told in of_charts.items()}

    alarm, acknowledged = float(STATES.index("alarm")), float(STATES.index("acknowledged"))
    says = (
        "On site the chart b has changed, and nobody has answered. `leglength-monitor alarms` says since when and by "
        "how much, and takes the answer."
    )
    return [
        Case("one of two", 36.0, states(a=2.0, b={0: 2.0, 30: alarm}), says, {"chart": "b"}),
        Case("learning, limited, watching", 36.0, states(a=0.0, b=1.0, c=2.0)),
        Case("acknowledged", 36.0, states(b={0: alarm, 30: acknowledged})),
        Case("the chart is no more", 36.0, states(b={0: alarm, 30: None})),
    ]


INFO = 'leglength_build_info{version="%s",monitoring_version="0.2.0"}'
MODEL_INFO = 'leglength_model_info{model="a",version="1.0",digest="%s"}'
REASONS = 'leglength_monitoring_delivery_failures_total{backend="influxdb",reason="%s"}'
ON_SITE = "On site "
LEFT_FOR = " are left until a certificate or token ends that deliveries to influxdb need: "

CASES: dict[str, list[Case]] = {
    "LegLengthFailureShareHigh": [
        Case(
            "4 of 20, skipped ones aside", 8 * DAY,
            status(
                completed=spread(16, 30, 150), failed=[40, 80, 120], crashed=[160], skipped=spread(40, 26, 170)
            ),
            ON_SITE + "4 images failed within 7d: more than a site that fails at a share of 0.05 comes to by chance.",
        ),
        Case("3 of 20", 8 * DAY, status(completed=spread(17, 30, 150), failed=[40, 80, 120])),
        Case("2 of 3", 8 * DAY, status(completed=[30], failed=[40, 80])),
        Case("4 of 20, more than 7 days ago", 8 * DAY, status(completed=spread(16, 1, 20), failed=spread(4, 3, 19))),
    ],
    "LegLengthAllFail": [
        Case(
            "three fail, and the latest success is over a day ago", 36.0,
            status(completed=[10], failed=[27, 28], crashed=[29]),
            ON_SITE + "3 images failed within 1d, and none succeeded.",
        ),
        Case("two fail", 36.0, status(failed=[27, 28])),
        Case("one of four succeeds", 36.0, status(completed=[30], failed=[27, 28, 29])),
        Case(
            "another application's images of an instance of that name succeed", 36.0,
            {**status(failed=[27, 28, 29]), f'{SESSIONS}{{status="completed",application="b"}}': spread(6, 25, 35)},
            ON_SITE + "3 images failed within 1d, and none succeeded.",
        ),
        Case("all is well", 36.0, status(completed=spread(6, 25, 35))),
    ],
    "LegLengthNothingSucceeds": [
        Case(
            "two fail, 30 h after the latest success", 101.0,
            {LAST_RUN: 100 * HOUR, LAST_SUCCESS: 70 * HOUR, **status(failed=[80, 100])},
            ON_SITE + "the latest image came 1d 6h 0m 0s after the latest one that succeeded, and at least two failed "
            "within 2d.",
        ),
        Case(
            "two fail, 23.5 h after the latest success", 101.0,
            {LAST_RUN: 100 * HOUR, LAST_SUCCESS: 76.5 * HOUR, **status(failed=[80, 100])},
        ),
        Case(
            "one fails after the weekend, and another did the week before", 101.0,
            {LAST_RUN: 100 * HOUR, LAST_SUCCESS: 36 * HOUR, **status(failed=[2, 100])},
        ),
    ],
    "LegLengthNothingArrives": [
        Case(
            "97 h ago", 100.0, {LAST_RUN: 3 * HOUR},
            ON_SITE + "the latest image was processed 4d 1h 0m 0s ago; 96h is the longest ordinary pause.",
        ),
        Case("95.5 h ago", 98.5, {LAST_RUN: 3 * HOUR}),
    ],
    "LegLengthCrashed": event(
        f'{SESSIONS}{{status="crashed"}}',
        "Images never finished on site within 1d: 1. Their process was killed, or ended without a word.",
        f'{SESSIONS}{{status="failed"}}',
    ),
    "LegLengthResourcesRanOut": event(
        'leglength_session_stops_total{status="failed",stage="inference",reason="resource"}',
        "Images that stopped on site within 1d, in the stage inference, since memory, disk or time ran out: 1.",
        'leglength_session_stops_total{status="failed",stage="inference",reason="error"}',
        stage="inference",
    ),
    "LegLengthHangs": [
        Case(
            "open for 10 min at a push an hour ago, and another application's instance has the same name", 3.0,
            {
                "leglength_oldest_open_session_seconds": 600.0, "leglength_open_sessions": 1.0,
                "push_time_seconds": 2 * HOUR, 'push_time_seconds{application="b"}': 2 * HOUR,
                'leglength_oldest_open_session_seconds{application="b"}': 0.0,
                'leglength_open_sessions{application="b"}': 0.0,
            },
            ON_SITE + "an image has been in processing for 1h 10m 0s, or its process was killed and no other has run "
            "since.",
        ),
        Case(
            "open for 55 min", 2.75,
            {
                "leglength_oldest_open_session_seconds": 600.0, "leglength_open_sessions": 1.0,
                "push_time_seconds": 2 * HOUR,
            },
        ),
        Case(
            "none is open", 5.0,
            {
                "leglength_oldest_open_session_seconds": 0.0, "leglength_open_sessions": 0.0,
                "push_time_seconds": 2 * HOUR,
            },
        ),
    ],
    "LegLengthSkipsHigh": share(
        {f'{SESSIONS}{{status="skipped"}}': 7}, COUNT,
        ON_SITE + "35% of the images within 28d were skipped for a stated reason.", {}, most=6,
    ),
    "LegLengthSlow": [
        *share(
            {f'{WITHIN}{{le="30"}}': -3, f'{WITHIN}{{le="300"}}': -1}, COUNT,
            ON_SITE + "15% of the images within 28d took over 30 s.", {}, most=2,
        ),
        *share(
            {f'{WITHIN}{{le="30.0"}}': -3, f'{WITHIN}{{le="300.0"}}': -1}, COUNT,
            ON_SITE + "15% of the images within 28d took over 30 s.", {}, most=2,
        )[:1],
    ],
    "LegLengthMemoryLow": [
        Case(
            "for a moment within the day", 36.0,
            {"leglength_system_memory_available_minimum_bytes": {0: 3e9, 30: 3e8, 31: 3e9}},
            ON_SITE + "286.1MiB of memory were left at the least, within the container's limit where there is one.",
        ),
        Case("just enough", 36.0, {"leglength_system_memory_available_minimum_bytes": {0: 3e9, 30: 4.1e8, 31: 3e9}}),
        Case("the day before", 36.0, {"leglength_system_memory_available_minimum_bytes": {0: 3e9, 9: 3e8, 10: 3e9}}),
    ],
    "LegLengthDiskNearlyFull": [
        Case(
            "1.5 GB", 3.0, {'leglength_disk_free_minimum_bytes{volume="store"}': 1.5e9},
            ON_SITE + "the volume of the store has 1.397GiB left.", {"volume": "store"},
        ),
        Case("2.1 GB", 3.0, {'leglength_disk_free_minimum_bytes{volume="store"}': 2.1e9}),
    ],
    "LegLengthDiskFills": [
        Case(
            "in 13 days", 24.0, {'leglength_analysis_disk_full_timestamp_seconds{volume="output"}': 14 * DAY * HOUR},
            ON_SITE + "13d 0h 0m 0s are left until the volume of the output is full, as the latest analysis foresaw.",
            {"volume": "output"},
        ),
        Case("in 15 days", 24.0, {'leglength_analysis_disk_full_timestamp_seconds{volume="output"}': 16 * DAY * HOUR}),
        Case(
            "foreseen no more", 24.0,
            {'leglength_analysis_disk_full_timestamp_seconds{volume="output"}': {0: 14 * DAY * HOUR, 20: None}},
        ),
    ],
    "LegLengthVersionChanged": [
        Case(
            "six hours ago", 36.0, {INFO % "1.0": {0: 1.0, 30: None}, INFO % "1.1": {30: 1.0}},
            ON_SITE + "version 1.1 runs since less than 1d, with version 0.2.0 of the monitoring.",
            {"version": "1.1", "monitoring_version": "0.2.0"},
        ),
        Case("30 hours ago", 60.0, {INFO % "1.0": {0: 1.0, 30: None}, INFO % "1.1": {30: 1.0}}),
        Case("the first version that tells", 36.0, {INFO % "1.1": {30: 1.0}}),
    ],
    "LegLengthHardFinding": event(
        'leglength_findings_total{rule="sides_swapped",severity="hard"}',
        "Images on site within 1d that broke the rule sides_swapped: 1. A landmark, a side or the pixel spacing is "
        "wrong.",
        'leglength_findings_total{rule="length_for_age",severity="soft"}',
        rule="sides_swapped",
    ),
    "LegLengthLandmarkMissed": share(
        {'leglength_landmark_misses_total{landmark="7"}': 3}, INFERENCE,
        ON_SITE + "no model found landmark 7 in 15% of the images within 28d.", {"landmark": "7"}, most=2,
    ),
    "LegLengthModelMissesLandmark": share(
        {'leglength_model_landmark_misses_total{model="a",landmark="7"}': 5}, f'{MODEL}{{model="a"}}',
        ON_SITE + "the model a missed landmark 7 in 25% of its images within 28d.", {"model": "a", "landmark": "7"},
        most=4,
    ),
    "LegLengthModelSilent": [
        Case(
            "none of five images", 16 * DAY,
            {f'{MODEL}{{model="a"}}': spread(3, 230, 300), f'{MODEL}{{model="b"}}': [230, *spread(5, 362, 380)]},
            ON_SITE + "the model a saw 3 images within 7d, and none within 1d, while others did.", {"model": "a"},
        ),
        Case(
            "none of four images", 16 * DAY,
            {f'{MODEL}{{model="a"}}': spread(3, 230, 300), f'{MODEL}{{model="b"}}': [230, *spread(4, 362, 380)]},
        ),
        Case(
            "one of five images", 16 * DAY,
            {f'{MODEL}{{model="a"}}': [230, 370], f'{MODEL}{{model="b"}}': [230, *spread(5, 362, 380)]},
        ),
        Case(
            "retired for more than 7 days", 16 * DAY,
            {f'{MODEL}{{model="a"}}': spread(3, 10, 30), f'{MODEL}{{model="b"}}': [230, *spread(5, 362, 380)]},
        ),
    ],
    "LegLengthModelChanged": [
        Case(
            "six hours ago", 36.0, {MODEL_INFO % "0011aabb": {0: 1.0, 30: None}, MODEL_INFO % "2233ccdd": {30: 1.0}},
            ON_SITE + "the model a is version 1.0 with the digest 2233ccdd since less than 1d.",
            {"model": "a", "version": "1.0", "digest": "2233ccdd"},
        ),
        Case(
            "30 hours ago", 60.0, {MODEL_INFO % "0011aabb": {0: 1.0, 30: None}, MODEL_INFO % "2233ccdd": {30: 1.0}},
        ),
        Case("a model that was not there before", 36.0, {MODEL_INFO % "2233ccdd": {30: 1.0}}),
    ],
    "LegLengthBias": [
        Case(
            "2.5 mm too short", 3.0,
            {
                'leglength_validation_bias_millimeters{measurement="PLL_R_FEM"}': -2.5,
                'leglength_validation_pairs{measurement="PLL_R_FEM"}': 30.0,
            },
            ON_SITE + "PLL_R_FEM lies 2.5 mm from the readers' measurements on average.", {"measurement": "PLL_R_FEM"},
        ),
        Case(
            "1.9 mm", 3.0,
            {
                'leglength_validation_bias_millimeters{measurement="PLL_R_FEM"}': 1.9,
                'leglength_validation_pairs{measurement="PLL_R_FEM"}': 300.0,
            },
        ),
        Case(
            "of 29 images", 3.0,
            {
                'leglength_validation_bias_millimeters{measurement="PLL_R_FEM"}': 2.5,
                'leglength_validation_pairs{measurement="PLL_R_FEM"}': 29.0,
            },
        ),
    ],
    "LegLengthCriteriaNotMet": [
        Case(
            "one", 3.0, {'leglength_validation_criteria_failed{measurement="PLL_R_TIB"}': 1.0},
            "Criteria of agreement with the readers that PLL_R_TIB on site doesn't meet: 1.",
            {"measurement": "PLL_R_TIB"},
        ),
        Case("none", 3.0, {'leglength_validation_criteria_failed{measurement="PLL_R_TIB"}': 0.0}),
    ],
    "LegLengthFiguresDiffer": [
        Case(
            "a score in one image", 36.0,
            {'leglength_ensemble_host_difference_ratio{score="dds"}': {0: 0.0, 30: 0.02, 31: 0.0}},
            ON_SITE + "the application's dds lies 0.02 from the one that is computed here from the same predictions.",
            {"score": "dds"},
        ),
        Case(
            "a distance in one image", 36.0,
            {'leglength_ensemble_host_difference_millimeters{score="max_distance"}': {0: 0.0, 30: 0.2, 31: 0.0}},
            ON_SITE + "the application's max_distance lies 0.2 from the one that is computed here from the same "
            "predictions.",
            {"score": "max_distance"},
        ),
        Case(
            "by little", 36.0,
            {
                'leglength_ensemble_host_difference_ratio{score="dds"}': 0.009,
                'leglength_ensemble_host_difference_millimeters{score="max_distance"}': 0.09,
            },
        ),
        Case(
            "the day before", 36.0,
            {'leglength_ensemble_host_difference_ratio{score="dds"}': {0: 0.0, 9: 0.02, 10: 0.0}},
        ),
    ],
    "LegLengthMeasurementsChanged": chart_alarm("clinical", "operator"),
    "LegLengthOperationChanged": chart_alarm("operator", "clinical"),
    "LegLengthAnalysisStopped": [
        Case(
            "four days ago, and a session yesterday", 6 * DAY, {ANALYSED: 48 * HOUR, LAST_RUN: 120 * HOUR},
            ON_SITE + "the stored sessions were last analysed 4d 0h 0m 0s ago, and further ones were recorded since.",
        ),
        Case("four days ago, and no session since", 6 * DAY, {ANALYSED: 48 * HOUR, LAST_RUN: 47 * HOUR}),
        Case("two days ago", 4 * DAY, {ANALYSED: 48 * HOUR, LAST_RUN: 90 * HOUR}),
        Case(
            "40 days ago", 42 * DAY, {ANALYSED: 48 * HOUR, LAST_RUN: 120 * HOUR},
            ON_SITE + "the stored sessions were last analysed 40d 0h 0m 0s ago, and further ones were recorded since.",
        ),
        Case("over 60 days ago", 63 * DAY, {ANALYSED: 48 * HOUR, LAST_RUN: 62 * DAY * HOUR}),
        Case("never", 6 * DAY, {LAST_RUN: 120 * HOUR}),
    ],
    "LegLengthHeartbeat": [
        Case(
            "always", 1.0, {},
            "Fires always. Whoever waits for it and doesn't get it knows that alerts no longer arrive.", of={},
        ),
    ],
    "LegLengthGatewayDown": [
        Case(
            "for 20 min", 1 + 20 / 60, {'up{job="pushgateway",instance="gateway:9091"}': {0: 1.0, 1: 0.0}},
            "Prometheus has not read the job pushgateway for 15m.",
            of={"job": "pushgateway", "instance": "gateway:9091"},
        ),
        Case("for 10 min", 1 + 10 / 60, {'up{job="pushgateway",instance="gateway:9091"}': {0: 1.0, 1: 0.0}}),
        Case("up", 2.0, {'up{job="pushgateway",instance="gateway:9091"}': 1.0}),
        Case(
            "not scraped at all", 1.0, {'up{job="node",instance="gateway:9100"}': 1.0},
            "Prometheus has not read the job pushgateway for 15m.", of={"job": "pushgateway"},
        ),
    ],
    "LegLengthMetricsAbsent": [
        Case(
            "for 25 min", 1 + 25 / 60, {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 1: None}},
            "Prometheus has no metrics of any instance for 15m.", of={},
        ),
        Case("for 10 min", 1 + 10 / 60, {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 1: None}}),
        Case("there", 2.0, {f'{SESSIONS}{{status="failed"}}': 0.0}),
    ],
    "LegLengthInstanceGone": [
        Case(
            "for 30 min", 10 + 30 / 60,
            {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 10: None}, f'{SESSIONS}{{status="failed",instance="b"}}': 0.0},
            "site told its metrics within 1d, and none for 15m.",
        ),
        Case(
            "for four hours", 14.0, {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 10: None}},
            "site told its metrics within 1d, and none for 15m.",
        ),
        Case("for 10 min", 10 + 10 / 60, {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 10: None}}),
        Case("for more than a day", 36.0, {f'{SESSIONS}{{status="failed"}}': {0: 0.0, 10: None}}),
    ],
    "LegLengthPushRefused": [
        Case(
            "after the latest that was taken", 3.0,
            {"push_time_seconds": 1 * HOUR, "push_failure_time_seconds": 2 * HOUR},
            "The latest push of site was refused as inconsistent.",
        ),
        Case("before", 3.0, {"push_time_seconds": 2 * HOUR, "push_failure_time_seconds": 1 * HOUR}),
    ],
    "LegLengthDeliveryRefused": [
        Case(
            "twice", 36.0, {REASONS % "unauthorized": [30, 31], REASONS % "timeout": [30, 31, 32]},
            ON_SITE + "2 deliveries to influxdb within 1d failed for the reason unauthorized.",
            {"backend": "influxdb", "reason": "unauthorized"},
        ),
        Case("once", 36.0, {REASONS % "unauthorized": [30], REASONS % "dns": 0.0}),
        Case("the day before", 36.0, {REASONS % "tls": [9, 10]}),
    ],
    "LegLengthWaiting": [
        Case(
            "7 h", 8.0,
            {
                'leglength_monitoring_oldest_pending_seconds{backend="influxdb"}': 1 * HOUR,
                'leglength_monitoring_pending_points{backend="influxdb"}': 3.0, "push_time_seconds": 2 * HOUR,
                'push_time_seconds{site="other"}': 7 * HOUR,
            },
            ON_SITE + "the oldest session has waited 7h 0m 0s for influxdb.", {"backend": "influxdb"},
        ),
        Case(
            "5.5 h", 6.5,
            {
                'leglength_monitoring_oldest_pending_seconds{backend="influxdb"}': 1 * HOUR,
                'leglength_monitoring_pending_points{backend="influxdb"}': 3.0, "push_time_seconds": 2 * HOUR,
            },
        ),
        Case(
            "nothing waits", 10.0,
            {
                'leglength_monitoring_oldest_pending_seconds{backend="influxdb"}': 0.0,
                'leglength_monitoring_pending_points{backend="influxdb"}': 0.0, "push_time_seconds": 2 * HOUR,
            },
        ),
    ],
    "LegLengthDeadPoints": [
        Case(
            "three", 3.0, {'leglength_monitoring_dead_points{backend="influxdb"}': 3.0},
            "Points of site that influxdb refused, kept aside: 3.", {"backend": "influxdb"},
        ),
        Case("none", 3.0, {'leglength_monitoring_dead_points{backend="influxdb"}': 0.0}),
    ],
    "LegLengthPointsLost": [
        Case(
            "four, of which one was recovered", 36.0,
            {
                'leglength_monitoring_dropped_total{reason="expired"}': [30, 30, 30, 30],
                'leglength_monitoring_recovered_total{reason="expired"}': [31],
            },
            "Points or sessions of site lost within 1d for the reason expired: 3.", {"reason": "expired"},
        ),
        Case(
            "all were recovered", 36.0,
            {
                'leglength_monitoring_dropped_total{reason="rejected"}': [30, 30],
                'leglength_monitoring_recovered_total{reason="rejected"}': [31, 31],
            },
        ),
        Case(
            "the day before", 36.0,
            {
                'leglength_monitoring_dropped_total{reason="expired"}': [9, 10],
                'leglength_monitoring_recovered_total{reason="expired"}': 0.0,
            },
        ),
    ],
    "LegLengthCertificateEnds": [
        Case(
            "in 13 days", 24.0, {EXPIRY % "server": 14 * DAY * HOUR, EXPIRY % "ca": 400 * DAY * HOUR},
            ON_SITE + "13d 0h 0m 0s" + LEFT_FOR + "server.",
            {"backend": "influxdb", "kind": "server"},
        ),
        Case(
            "an hour ago", 24.0, {EXPIRY % "token": 23 * HOUR},
            ON_SITE + "-1h 0m 0s" + LEFT_FOR + "token.",
            {"backend": "influxdb", "kind": "token"},
        ),
        Case("in 15 days", 24.0, {EXPIRY % "server": 16 * DAY * HOUR}),
        Case("renewed", 24.0, {EXPIRY % "server": {0: 14 * DAY * HOUR, 20: 300 * DAY * HOUR}}),
    ],
    "LegLengthRelayStopped": [
        Case(
            "15 min ago", 1.25, {"leglength_monitoring_relay_last_seen_timestamp_seconds": 1 * HOUR},
            ON_SITE + "the relay was last seen 15m 0s ago.",
        ),
        Case(
            "19 h ago", 20.0, {"leglength_monitoring_relay_last_seen_timestamp_seconds": 1 * HOUR},
            ON_SITE + "the relay was last seen 19h 0m 0s ago.",
        ),
        Case("3 min ago", 1.25, {"leglength_monitoring_relay_last_seen_timestamp_seconds": 1.2 * HOUR}),
        Case("over a week ago", 170.0, {"leglength_monitoring_relay_last_seen_timestamp_seconds": 1 * HOUR}),
    ],
    "LegLengthClockAhead": [
        Case(
            "10 min after the push", 3.0, {LAST_RUN: 2 * HOUR + 600, "push_time_seconds": 2 * HOUR},
            ON_SITE + "an image ended 10m 0s after its end was told.",
        ),
        Case("4 min after the push", 3.0, {LAST_RUN: 2 * HOUR + 240, "push_time_seconds": 2 * HOUR}),
        Case(
            "an hour from now, by a textfile", 3.0, {LAST_RUN: 4 * HOUR},
            ON_SITE + "an image ended 1h 0m 0s after its end was told.",
        ),
        Case("4 min from now, by a textfile", 3.0, {LAST_RUN: 3 * HOUR + 240}),
    ],
    "LegLengthTwoStores": [
        Case(
            "by turns", 36.0, {COUNT: {0: 100, 30: 3, 31: 101, 32: 4}},
            "The totals of site fell 2 times within 1d.",
        ),
        Case("a new store", 36.0, {COUNT: {0: 100, 30: 3, 31: 4}}),
        Case("by turns, the day before", 36.0, {COUNT: {0: 100, 5: 3, 6: 101, 7: 4}}),
    ],
    "LegLengthNewStore": [
        Case(
            "within the day", 36.0, {COUNT: {0: 100, 30: 3, 31: 4}},
            "The totals of site fell within 1d; how often: 1.",
        ),
        Case("none", 36.0, {COUNT: {0: 100, 30: 101}}),
        Case("the day before", 36.0, {COUNT: {0: 100, 9: 3, 10: 4}}),
    ],
    "LegLengthFormulaFailed": event(
        "leglength_monitoring_formula_failures_total", "Images on site for which a formula failed within 1d: 1."
    ),
    "LegLengthValuesRefused": event(
        'leglength_monitoring_refused_values_total{value="points"}',
        "Values of the kind points left out on site within 1d: 1.", value="points",
    ),
    "LegLengthValuesFolded": event(
        'leglength_monitoring_folded_values_total{label="code"}',
        "Values of the label code sent as other on site within 1d: 1.", label="code",
    ),
    "LegLengthLogFilterHits": event(
        "leglength_monitoring_log_filter_hits_total",
        "Log lines on site within 1d that held what must not be logged: 1. It was taken out.",
    ),
}  # fmt: skip
