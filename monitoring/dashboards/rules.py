"""The alert rules for Prometheus, each declared once: what it asks, of whom it wants something, and in which words.

Expressions and descriptions name thresholds (``$failure_share``), whose values a site gives; the arithmetic of each
rule stands in ``docs/alerts.md``. What all of them heed: totals jump once a push, so they are asked for their
``increase`` over hours or more, rounded, and compared with half numbers (``> 3 - 0.5`` is three or more); a gauge of
the Pushgateway stands still until the next push.
"""

from __future__ import annotations

from monitoring.dashboards.promql import GROUP_LABELS
from monitoring.dashboards.thresholds import Audience, Rule
from monitoring.metrics.chart_metrics import STATES


def _whole(selector: str, window: str, *by: str) -> str:
    """How much a counter grew within a window, for each instance and the labels ``by``: whole, as events are."""
    return f"round(sum by ({', '.join((_ONE, *by))}) (increase({selector}[{window}])))"


def _sessions(status: str, window: str) -> str:
    return _whole(f'leglength_sessions_total{{status=~"{status}"}}', window)


_ONE = ", ".join(GROUP_LABELS)  # two sites, or two applications, may give their instances one name
FAILED = "failed|crashed"
TRIED = "completed|failed|crashed"
_FAILED = _sessions(FAILED, "$failure_window")
_TRIED = _sessions(TRIED, "$failure_window")
_ALL = _whole("leglength_session_duration_seconds_count", "$share_window")
# Not all images: one that was skipped before says nothing of landmarks.
_LOOKED_AT = _whole('leglength_stage_duration_seconds_count{stage="inference"}', "$share_window")
_BY_MODEL = _whole("leglength_model_inference_seconds_count", "$share_window", "model")
_BY_MODEL_BEFORE = _whole("leglength_model_inference_seconds_count", "$failure_window", "model")
_BY_MODEL_LATELY = _whole("leglength_model_inference_seconds_count", "$event_window", "model")
# 30.0 as we tell it, but 30 where a Pushgateway has told it to Prometheus 2.
_WITHIN_BOUND = 'leglength_session_duration_seconds_bucket{le=~"$slow_bound(\\\\.0)?"}'
# A timeout or a 503 passes by itself, or shows as what waits.
_TO_BE_MENDED = 'reason=~"unauthorized|forbidden|not_found|tls|redirect|proxy|dns"'
_REFUSED = _whole(
    f"leglength_monitoring_delivery_failures_total{{{_TO_BE_MENDED}}}", "$event_window", "backend", "reason"
)

_APPLICATION: tuple[Rule, ...] = (
    Rule(
        # A binomial limit over a week: burn rates page for each single failure where there are four images a day.
        name="LegLengthFailureShareHigh", severity="warning", audience="operator",
        expression=f"""
{_FAILED}
  > $failure_share * {_TRIED}
    + $failure_sigmas * sqrt($failure_share * (1 - $failure_share) * {_TRIED})
and {_FAILED} > $failures - 0.5
""",
        summary="More images fail than chance explains.",
        description="On {{ $labels.instance }} {{ $value }} images failed within $failure_window: more than a site "
        "that fails at a share of $failure_share comes to by chance.",
    ),
    Rule(
        # Within a day, since the week's share takes days to show what stopped everything this morning.
        name="LegLengthAllFail", severity="critical", audience="operator",
        expression=f"""
{_sessions(FAILED, "$all_fail_window")} > $failures - 0.5
and {_sessions("completed", "$all_fail_window")} < 0.5
""",
        summary="Every image fails.",
        description="On {{ $labels.instance }} {{ $value }} images failed within $all_fail_window, and none succeeded.",
    ),
    Rule(
        # Between two gauges, which stand still while nothing arrives: a quiet weekend is no failure.
        name="LegLengthNothingSucceeds", severity="critical", audience="operator",
        expression=f"""
leglength_last_run_timestamp_seconds - leglength_last_success_timestamp_seconds > $no_success_seconds
and on ({_ONE}) {_sessions(FAILED, "$no_success_window")} > 2 - 0.5
""",
        summary="Images arrive, and none has succeeded for long.",
        description="On {{ $labels.instance }} the latest image came {{ $value | humanizeDuration }} after the latest "
        "one that succeeded, and at least two failed within $no_success_window.",
    ),
    Rule(
        # It can wait for the morning: nothing is sent on holidays, either.
        name="LegLengthNothingArrives", severity="warning", audience="operator",
        expression="time() - leglength_last_run_timestamp_seconds > $silence_seconds",
        summary="No image arrives any more.",
        description="On {{ $labels.instance }} the latest image was processed {{ $value | humanizeDuration }} ago; "
        "$silence is the longest ordinary pause.",
    ),
    Rule(
        name="LegLengthCrashed", severity="warning", audience="operator",
        expression=f"{_sessions('crashed', '$event_window')} > 0.5",
        summary="A run was killed while it processed an image.",
        description="Images never finished on {{ $labels.instance }} within $event_window: {{ $value }}. Their process "
        "was killed, or ended without a word.",
    ),
    Rule(
        # By stage: where it ran out is where to look.
        name="LegLengthResourcesRanOut", severity="warning", audience="operator",
        expression=f"""
{_whole('leglength_session_stops_total{reason="resource"}', "$event_window", "stage")} > 0.5
""",
        summary="Memory, disk or time ran out while an image was processed.",
        description="Images that stopped on {{ $labels.instance }} within $event_window, in the stage "
        "{{ $labels.stage }}, since memory, disk or time ran out: {{ $value }}.",
    ),
    Rule(
        # The age stands still until the next push, so the time since that is added.
        name="LegLengthHangs", severity="critical", audience="operator",
        expression=f"""
leglength_oldest_open_session_seconds + on ({_ONE}) (time() - push_time_seconds) > $hang_seconds
and on ({_ONE}) leglength_open_sessions > 0.5
""",
        summary="The processing of an image has begun and doesn't end.",
        description="On {{ $labels.instance }} an image has been in processing for {{ $value | humanizeDuration }}, or "
        "its process was killed and no other has run since.",
    ),
    Rule(
        name="LegLengthSkipsHigh", severity="warning", audience="operator",
        expression=f"""
{_sessions("skipped", "$share_window")} / {_ALL} > $skip_share
and {_ALL} > $images - 0.5
""",
        summary="Many images are skipped.",
        description="On {{ $labels.instance }} {{ $value | humanizePercentage }} of the images within $share_window "
        "were skipped for a stated reason.",
    ),
    Rule(
        # A share, and at a bucket's bound, where it is exact: percentiles read from buckets were off by 10 s.
        name="LegLengthSlow", severity="warning", audience="operator",
        expression=f"""
1 - {_whole(_WITHIN_BOUND, "$share_window")} / {_ALL} > $slow_share
and {_ALL} > $images - 0.5
""",
        summary="Many images take long.",
        description="On {{ $labels.instance }} {{ $value | humanizePercentage }} of the images within $share_window "
        "took over $slow_bound s.",
    ),
    Rule(
        # Over a day, since the gauge is the latest image's: a small one hides the large one before it.
        name="LegLengthMemoryLow", severity="warning", audience="operator",
        expression="min_over_time(leglength_system_memory_available_minimum_bytes[$event_window]) < $memory_free",
        summary="Memory was nearly used up.",
        description="On {{ $labels.instance }} {{ $value | humanize1024 }}B of memory were left at the least, within "
        "the container's limit where there is one.",
    ),
    Rule(
        name="LegLengthDiskNearlyFull", severity="warning", audience="operator",
        expression="leglength_disk_free_minimum_bytes < $disk_free",
        summary="A volume is nearly full.",
        description="On {{ $labels.instance }} the volume of the {{ $labels.volume }} has "
        "{{ $value | humanize1024 }}B left.",
    ),
    Rule(
        # Of the date, not of the trend: the analysis tells a date only where the trend is clear.
        name="LegLengthDiskFills", severity="warning", audience="operator",
        expression="leglength_analysis_disk_full_timestamp_seconds - time() < $disk_full_seconds",
        summary="A volume will be full soon, if it goes on to fill as it did.",
        description="On {{ $labels.instance }} {{ $value | humanizeDuration }} are left until the volume of the "
        "{{ $labels.volume }} is full, as the latest analysis foresaw.",
    ),
    Rule(
        # The second line: an instance that tells something for the first time has no other version than before.
        name="LegLengthVersionChanged", severity="info", audience="operator",
        expression=f"""
leglength_build_info unless last_over_time(leglength_build_info[$event_window] offset $event_window)
and on ({_ONE}) last_over_time(leglength_build_info[$event_window] offset $event_window)
""",
        summary="Another version of the application runs.",
        description="On {{ $labels.instance }} version {{ $labels.version }} runs since less than $event_window, with "
        "version {{ $labels.monitoring_version }} of the monitoring.",
    ),
)  # fmt: skip

_MEASUREMENTS: tuple[Rule, ...] = (
    Rule(
        # By rule, so that a second kind of fault is another alert.
        name="LegLengthHardFinding", severity="warning", audience="clinical",
        expression=f"""
{_whole('leglength_findings_total{severity="hard"}', "$event_window", "rule")} > 0.5
""",
        summary="A measurement can't be right.",
        description="Images on {{ $labels.instance }} within $event_window that broke the rule {{ $labels.rule }}: "
        "{{ $value }}. A landmark, a side or the pixel spacing is wrong.",
    ),
    Rule(
        name="LegLengthLandmarkMissed", severity="warning", audience="clinical",
        expression=f"""
{_whole("leglength_landmark_misses_total", "$share_window", "landmark")} / on ({_ONE}) group_left ()
  {_LOOKED_AT} > $miss_share
and on ({_ONE}) {_LOOKED_AT} > $images - 0.5
""",
        summary="A landmark is missed by all models in many images.",
        description="On {{ $labels.instance }} no model found landmark {{ $labels.landmark }} in "
        "{{ $value | humanizePercentage }} of the images within $share_window.",
    ),
    Rule(
        name="LegLengthModelMissesLandmark", severity="warning", audience="clinical",
        expression=f"""
{_whole("leglength_model_landmark_misses_total", "$share_window", "model", "landmark")}
  / on ({_ONE}, model) group_left () {_BY_MODEL} > $model_miss_share
and on ({_ONE}, model) {_BY_MODEL} > $images - 0.5
""",
        summary="One model misses a landmark in many images.",
        description="On {{ $labels.instance }} the model {{ $labels.model }} missed landmark {{ $labels.landmark }} in "
        "{{ $value | humanizePercentage }} of its images within $share_window.",
    ),
    Rule(
        # Only beside models that saw images meanwhile: on a quiet day all are silent.
        name="LegLengthModelSilent", severity="warning", audience="operator",
        expression=f"""
{_BY_MODEL_BEFORE} > 0.5
unless on ({_ONE}, model) {_BY_MODEL_LATELY} > 0.5
and on ({_ONE}) max by ({_ONE}) ({_BY_MODEL_LATELY}) > $other_images - 0.5
""",
        summary="One model of the ensemble takes no part any more.",
        description="On {{ $labels.instance }} the model {{ $labels.model }} saw {{ $value }} images within "
        "$failure_window, and none within $event_window, while others did.",
    ),
    Rule(
        name="LegLengthModelChanged", severity="info", audience="clinical",
        expression=f"""
leglength_model_info unless last_over_time(leglength_model_info[$event_window] offset $event_window)
and on ({_ONE}, model) last_over_time(leglength_model_info[$event_window] offset $event_window)
""",
        summary="A model's version or weights are others than before.",
        description="On {{ $labels.instance }} the model {{ $labels.model }} is version {{ $labels.version }} with the "
        "digest {{ $labels.digest }} since less than $event_window.",
    ),
    Rule(
        # A gauge over all images, so that one image more can't let it jump.
        name="LegLengthBias", severity="warning", audience="clinical",
        expression="""
abs(leglength_validation_bias_millimeters) > $bias_mm
and leglength_validation_pairs > $pairs - 0.5
""",
        summary="Measurements differ from the readers' in one direction.",
        description="On {{ $labels.instance }} {{ $labels.measurement }} lies {{ $value }} mm from the readers' "
        "measurements on average.",
    ),
    Rule(
        name="LegLengthCriteriaNotMet", severity="warning", audience="clinical",
        expression="leglength_validation_criteria_failed > 0.5",
        summary="The agreement with the readers is not as good as asked for.",
        description="Criteria of agreement with the readers that {{ $labels.measurement }} on {{ $labels.instance }} "
        "doesn't meet: {{ $value }}.",
    ),
    Rule(
        # Info: it is about scores, and no length is wrong by it.
        name="LegLengthFiguresDiffer", severity="info", audience="clinical",
        expression="""
max_over_time(leglength_ensemble_host_difference_ratio[$event_window]) > $difference
or max_over_time(leglength_ensemble_host_difference_millimeters[$event_window]) > $difference_mm
""",
        summary="The application computes the models' agreement otherwise than the monitoring.",
        description="On {{ $labels.instance }} the application's {{ $labels.score }} lies {{ $value }} from the one "
        "that is computed here from the same predictions.",
    ),
)  # fmt: skip


def _chart_alarm(name: str, audience: Audience, summary: str) -> Rule:
    """What a chart says stands until the next night's look, and goes with the chart: so nothing is waited for."""
    return Rule(
        name=name, severity="warning", audience=audience,
        expression=f'leglength_analysis_state{{audience="{audience}"}} == {STATES.index("alarm")}',
        summary=summary,
        description="On {{ $labels.instance }} the chart {{ $labels.chart }} has changed, and nobody has answered. "
        "`leglength-monitor alarms` says since when and by how much, and takes the answer.",
    )  # fmt: skip


_CHARTS: tuple[Rule, ...] = (
    _chart_alarm("LegLengthMeasurementsChanged", "clinical", "The measurements are not as they were."),
    _chart_alarm("LegLengthOperationChanged", "operator", "Images take longer, or end otherwise, than they did."),
    Rule(
        # Only where something was recorded since; and not for ever, since a site may give its analysis up.
        name="LegLengthAnalysisStopped", severity="warning", audience="operator",
        expression=f"""
time() - leglength_analysis_last_run_timestamp_seconds > $analysis_silence_seconds
and time() - leglength_analysis_last_run_timestamp_seconds < $analysis_given_up_seconds
and on ({_ONE}) leglength_last_run_timestamp_seconds > leglength_analysis_last_run_timestamp_seconds
""",
        summary="Sessions are recorded, and no chart looks at them any more.",
        description="On {{ $labels.instance }} the stored sessions were last analysed {{ $value | humanizeDuration }} "
        "ago, and further ones were recorded since.",
    ),
)  # fmt: skip

_MONITORING: tuple[Rule, ...] = (
    Rule(
        name="LegLengthHeartbeat", severity="info", audience="operator",
        expression="vector(1)",
        summary="Alerts are evaluated and sent.",
        description="Fires always. Whoever waits for it and doesn't get it knows that alerts no longer arrive.",
    ),
    Rule(
        # Absent, too: a job that is no longer scraped has no sample that could be 0.
        name="LegLengthGatewayDown", severity="warning", audience="operator",
        expression='up{job="$gateway_job"} == 0 or absent(up{job="$gateway_job"})',
        hold="$gateway_hold",
        summary="The Pushgateway can't be read: nothing is known of the application.",
        description="Prometheus has not read the job {{ $labels.job }} for $gateway_hold.",
    ),
    Rule(
        # Of counters, which a first push brings: timestamps are absent before the first image, too.
        name="LegLengthMetricsAbsent", severity="warning", audience="operator",
        expression="absent(leglength_sessions_total)",
        hold="$gateway_hold",
        summary="No instance tells anything.",
        description="Prometheus has no metrics of any instance for $gateway_hold.",
    ),
    Rule(
        # absent() can't tell which instance is gone; what was there within a day can.
        name="LegLengthInstanceGone", severity="warning", audience="operator",
        hold="5m",
        expression=f"""
group by ({_ONE}) (present_over_time(leglength_sessions_total[$event_window]))
unless on ({_ONE}) group by ({_ONE}) (present_over_time(leglength_sessions_total[$gateway_hold]))
""",
        summary="An instance's metrics have vanished.",
        description="{{ $labels.instance }} told its metrics within $event_window, and none for $gateway_hold.",
    ),
    Rule(
        # By the gateway's own instants, which it has of every group, whoever pushed.
        name="LegLengthPushRefused", severity="warning", audience="operator",
        expression="push_failure_time_seconds > push_time_seconds",
        summary="The Pushgateway refuses what an instance tells.",
        description="The latest push of {{ $labels.instance }} was refused as inconsistent.",
    ),
    Rule(
        name="LegLengthDeliveryRefused", severity="warning", audience="operator",
        expression=f'{_REFUSED} > $refusals - 0.5',
        summary="A backend can't be reached or refuses, until somebody mends it.",
        description="On {{ $labels.instance }} {{ $value }} deliveries to {{ $labels.backend }} within $event_window "
        "failed for the reason {{ $labels.reason }}.",
    ),
    Rule(
        # How long stands still as well between pushes: the time since is added, while anything waits.
        name="LegLengthWaiting", severity="warning", audience="operator",
        expression=f"""
leglength_monitoring_oldest_pending_seconds + on ({_ONE}) group_left () (time() - push_time_seconds)
  > $waiting_seconds
and on ({_ONE}, backend) leglength_monitoring_pending_points > 0.5
""",
        summary="What is recorded waits for long to be delivered.",
        description="On {{ $labels.instance }} the oldest session has waited {{ $value | humanizeDuration }} for "
        "{{ $labels.backend }}.",
    ),
    Rule(
        name="LegLengthDeadPoints", severity="warning", audience="operator",
        expression="leglength_monitoring_dead_points > 0.5",
        summary="A backend refused points for good.",
        description="Points of {{ $labels.instance }} that {{ $labels.backend }} refused, kept aside: {{ $value }}.",
    ),
    Rule(
        # Less what was sent once more, and taken.
        name="LegLengthPointsLost", severity="warning", audience="operator",
        expression=f"""
{_whole("leglength_monitoring_dropped_total", "$event_window", "reason")}
  - {_whole("leglength_monitoring_recovered_total", "$event_window", "reason")} > 0.5
""",
        summary="Points or sessions are lost.",
        description="Points or sessions of {{ $labels.instance }} lost within $event_window for the reason "
        "{{ $labels.reason }}: {{ $value }}.",
    ),
    Rule(
        # Whatever ends it: a server's, a client's, an authority's certificate, or a token, each under its kind.
        name="LegLengthCertificateEnds", severity="warning", audience="operator",
        expression="leglength_monitoring_certificate_expiry_timestamp_seconds - time() < $certificate_left_seconds",
        summary="A certificate or a token ends soon, and with it what is told to a backend.",
        description="On {{ $labels.instance }} {{ $value | humanizeDuration }} are left until a certificate or token "
        "ends that deliveries to {{ $labels.backend }} need: {{ $labels.kind }}.",
    ),
    Rule(
        # Not for ever: a relay that hasn't been seen for a week was given up on purpose.
        name="LegLengthRelayStopped", severity="warning", audience="operator",
        expression="""
time() - leglength_monitoring_relay_last_seen_timestamp_seconds > $relay_silence_seconds
and time() - leglength_monitoring_relay_last_seen_timestamp_seconds < $relay_given_up_seconds
""",
        summary="The relay doesn't look after the store any more.",
        description="On {{ $labels.instance }} the relay was last seen {{ $value | humanizeDuration }} ago.",
    ),
    Rule(
        # Beside the gateway's clock, and beside Prometheus', since either may be the wrong one.
        name="LegLengthClockAhead", severity="warning", audience="operator",
        expression=f"""
leglength_last_run_timestamp_seconds - on ({_ONE}) push_time_seconds > $clock_ahead_seconds
or on ({_ONE}) leglength_last_run_timestamp_seconds - time() > $clock_ahead_seconds
""",
        summary="The application's clock is ahead.",
        description="On {{ $labels.instance }} an image ended {{ $value | humanizeDuration }} after its end was told.",
    ),
    Rule(
        # Two stores push in turns, so that totals fall again and again; a new store lets them fall once.
        name="LegLengthTwoStores", severity="warning", audience="operator",
        expression=f"""
max by ({_ONE}) (resets(leglength_session_duration_seconds_count[$event_window])) > $store_resets - 0.5
""",
        summary="Two stores tell their totals under one instance.",
        description="The totals of {{ $labels.instance }} fell {{ $value }} times within $event_window.",
    ),
    Rule(
        name="LegLengthNewStore", severity="info", audience="operator",
        expression=f"max by ({_ONE}) (resets(leglength_session_duration_seconds_count[$event_window])) > 0.5",
        summary="A new store was begun: totals count from 0 again.",
        description="The totals of {{ $labels.instance }} fell within $event_window; how often: {{ $value }}.",
    ),
    Rule(
        name="LegLengthFormulaFailed", severity="warning", audience="operator",
        expression=f"{_whole('leglength_monitoring_formula_failures_total', '$event_window')} > 0.5",
        summary="The monitoring could compute nothing of an image.",
        description="Images on {{ $labels.instance }} for which a formula failed within $event_window: {{ $value }}.",
    ),
    Rule(
        name="LegLengthValuesRefused", severity="warning", audience="operator",
        expression=f"{_whole('leglength_monitoring_refused_values_total', '$event_window', 'value')} > 0.5",
        summary="The application passes values that are not what their name says.",
        description="Values of the kind {{ $labels.value }} left out on {{ $labels.instance }} within $event_window: "
        "{{ $value }}.",
    ),
    Rule(
        # Counted and sent as other: nothing is lost but the name.
        name="LegLengthValuesFolded", severity="info", audience="operator",
        expression=f"{_whole('leglength_monitoring_folded_values_total', '$event_window', 'label')} > 0.5",
        summary="More names are used than a label takes.",
        description="Values of the label {{ $labels.label }} sent as other on {{ $labels.instance }} within "
        "$event_window: {{ $value }}.",
    ),
    Rule(
        name="LegLengthLogFilterHits", severity="info", audience="operator",
        expression=f"{_whole('leglength_monitoring_log_filter_hits_total', '$event_window')} > 0.5",
        summary="The log filter took an identity or a secret out of a log line.",
        description="Log lines on {{ $labels.instance }} within $event_window that held what must not be logged: "
        "{{ $value }}. It was taken out.",
    ),
)  # fmt: skip

RULES: tuple[Rule, ...] = (*_APPLICATION, *_MEASUREMENTS, *_CHARTS, *_MONITORING)
