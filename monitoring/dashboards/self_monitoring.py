"""The page of the monitoring itself: is all of it told, what waits or was lost, and does anything endanger privacy?"""

from __future__ import annotations

from typing import Final

from monitoring.dashboards.aggregation import DAY, LATEST
from monitoring.dashboards.charts import NO_ANALYSIS
from monitoring.dashboards.operation import LONGEST_WAIT
from monitoring.dashboards.panels import (
    BAD,
    GOOD,
    NOTE,
    OF_SCRAPES,
    SINCE_PUSH,
    WAITING,
    Answer,
    Dashboard,
    Images,
    Panel,
    Row,
    Shown,
    Totals,
    Unit,
    asked,
    asked_when,
    colored,
    days_until,
    grown,
    grown_in_range,
    series,
    told,
)
from monitoring.dashboards.questions import EachImage, Growth, ImageTable, OverRange
from monitoring.metrics import catalogue, chart_metrics

_TOLD_NOTHING: Final = "the monitoring has told nothing of itself in this range."
_BACKENDS: Final = {f"/^{name}/": color for name, color in colored(catalogue.BACKEND.values).items()}
_PENDING: Final = {"waiting": catalogue.MONITORING_PENDING}
# InfluxDB hears of what waits with the first request that is answered again: until then it stands still there.
_FROZEN: Final = "As it was at each delivery, since a store tells of itself when it delivers."

# Without a gateway's push_time, as of a textfile, the latest delivery stands in for it.
LATEST_PUSH: Final = Panel(
    id=1, title="Last push", shown=Shown.STAT, unit=Unit.SECONDS, width=5, height=4, decimals=0,
    description="How long ago the totals were last told. Between images only a relay tells them.",
    answers=(
        # The soonest: with several instances one that is silent has an alert of its own.
        told(f"min({SINCE_PUSH}) or time() - max({series(catalogue.MONITORING_LAST_DELIVERY)})", at_end=True),
        # Points of the monitoring itself have the time of sending.
        asked(ImageTable(metrics=_PENDING, count=1), unit=Unit.AGO, is_judged=False),
    ),
    thresholds=(("silence", NOTE),), thresholds_from="$silence: the longest ordinary pause between two images.",
    empty="Never", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Neither good nor bad where there is none: modules that reach their backends need no relay.
RELAY: Final = Panel(
    id=2, title="Relay last seen", shown=Shown.STAT, unit=Unit.SECONDS, width=5, height=4, decimals=0,
    description="How long ago a relay looked after the store, which it does every few seconds.",
    answers=(
        told(f"time() - max({series(catalogue.RELAY_LAST_SEEN)})", at_end=True),
        asked_when(catalogue.RELAY_LAST_SEEN, ("instance",), "{{instance}}"),
    ),
    thresholds=(("relay_silence", NOTE),), thresholds_from="$relay_silence, from which on the alert fires.",
    empty="No relay", empty_means="no relay has looked after the store; sites whose modules deliver need none.",
)  # fmt: skip

WAITING_NOW: Final = Panel(
    id=4, title="Waiting now", shown=Shown.STAT, unit=Unit.COUNT, width=12, height=4,
    description="What is stored and not delivered: points for InfluxDB, sessions for Prometheus.",
    answers=(
        told(f"sum by (backend) ({series(catalogue.MONITORING_PENDING)})", "{{backend}}", at_end=True),
        asked(OverRange(metrics=_PENDING, by=("backend",), statistic=LATEST), "{{backend}}", note=_FROZEN),
    ),
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

DEAD: Final = Panel(
    id=5, title="Refused for good", shown=Shown.STAT, unit=Unit.COUNT, width=12, height=4,
    description="Points that a backend refused for good; they are kept aside, and `leglength-monitor status` says why.",
    answers=(
        told(f"sum by (backend) ({series(catalogue.MONITORING_DEAD)})", "{{backend}}", at_end=True),
        asked(
            OverRange(metrics={"dead": catalogue.MONITORING_DEAD}, by=("backend",), statistic=LATEST), "{{backend}}",
            note=_FROZEN,
        ),
    ),
    # Counts are whole: half of one lies between none and one, whatever extrapolation adds.
    thresholds=((0.5, NOTE),), thresholds_from="any one.",
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

LOST: Final = Panel(
    id=6, title="Lost in this range", shown=Shown.STAT, unit=Unit.COUNT, width=5, height=4,
    description="Points that will never be delivered, and sessions lost with the store, less what was sent once more.",
    answers=(
        grown_in_range(
            catalogue.MONITORING_DROPPED, more=f" - {grown(catalogue.MONITORING_RECOVERED, '', '[$__range]')}"
        ),
        asked(
            Growth(metrics={"lost": catalogue.MONITORING_DROPPED, "sent again": catalogue.MONITORING_RECOVERED}),
            is_judged=False,
        ),
    ),
    thresholds=((0.5, BAD),), thresholds_from="any one.",
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Two titles: a log has the sum since the store began, which would tower over bars of a day.
DELIVERED: Final = Panel(
    id=10, title="Delivered a day", shown=Shown.BARS, unit=Unit.COUNT, width=12, minimum=0,
    description="Points delivered to InfluxDB, sessions told to Prometheus.",
    answers=(
        told(
            grown(catalogue.MONITORING_DELIVERED, "backend", DAY.behind), "{{backend}}", step=DAY.window,
            note=OF_SCRAPES,
        ),
        asked(
            EachImage(metrics={"delivered": catalogue.MONITORING_DELIVERED}, by=("backend", "instance")),
            "{{backend}} {{instance}}", title="Delivered in all", shown=Shown.LINES, note="Since the store began.",
        ),
    ),
    colors=_BACKENDS, empty="Nothing", empty_means=_TOLD_NOTHING,
)  # fmt: skip

WAITING_OVER_TIME: Final = Panel(
    id=11, title="Waiting", shown=Shown.LINES, unit=Unit.COUNT, width=12, minimum=0,
    description="What was stored and not delivered, by backend. A line that climbs says that a backend is away.",
    answers=(
        told(f"sum by (backend) ({series(catalogue.MONITORING_PENDING)})", "{{backend}}"),
        asked(EachImage(metrics=_PENDING, by=("backend",)), "{{backend}}", note=_FROZEN),
    ),
    colors=_BACKENDS, empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Beside how much waits, which says nothing of how long.
OLDEST: Final = Panel(
    id=12, title="How long the oldest waits", shown=Shown.LINES, unit=Unit.SECONDS, width=12, minimum=0,
    description="The wait of the oldest session, by backend.",
    answers=(
        told(WAITING, "{{backend}} {{instance}}", note="The time since the latest push is added."),
        asked(
            EachImage(metrics={"oldest": catalogue.MONITORING_OLDEST}, by=("backend",)), "{{backend}}", note=_FROZEN
        ),
    ),
    thresholds=(("waiting", NOTE),), thresholds_from="$waiting: a restart or a night's backup is shorter.",
    colors=_BACKENDS, empty="Nothing waits", empty_means="nothing waited in this range, or nothing was told.",
)  # fmt: skip

FAILURES: Final = Panel(
    id=13, title="Failed deliveries a day", shown=Shown.BARS, unit=Unit.COUNT, width=12, minimum=0,
    description="Attempts that failed, by backend and reason. Each is tried again; what lasts shows as waiting.",
    answers=(
        told(
            f"{grown(catalogue.MONITORING_FAILURES, 'backend, reason', DAY.behind)} > 0", "{{backend}}: {{reason}}",
            step=DAY.window, note=OF_SCRAPES,
        ),
        asked(
            Growth(metrics={"failed": catalogue.MONITORING_FAILURES}, by=("backend", "reason")), shown=Shown.TABLE,
            title="Failed deliveries in this range",
        ),
    ),
    colors=_BACKENDS, empty="None", empty_means="no attempt failed, or nothing was told.",
)  # fmt: skip

EXPIRY: Final = Panel(
    id=14, title="Certificates and tokens", shown=Shown.STAT, unit=Unit.DAYS, width=24, height=4, decimals=0,
    description="Days until a certificate, or the token, ends that deliveries depend on, as the latest answer of each"
    " backend showed: the server's, the client's, the authority's (ca). 0: it has ended. Of several instances the"
    " soonest. Renewed ones show from the next delivery on.",
    answers=(
        told(days_until(catalogue.CERTIFICATE_EXPIRY, "backend", "kind"), "{{backend}}: {{kind}}", at_end=True),
        asked_when(
            catalogue.CERTIFICATE_EXPIRY, ("backend", "kind", "instance"), "{{backend}}: {{kind}} {{instance}}",
            note=f"{_FROZEN} What is used no more stands here as long as the range reaches back to it.",
        ),
    ),
    # The other way round than elsewhere: much is good, so what lies under the bound has the base's colour.
    base=NOTE, thresholds=(("certificate_left", GOOD),),
    thresholds_from="$certificate_left, from which on the alert fires: a holiday, and time to renew it.",
    names_beside=True, empty="None known",
    empty_means="no delivery went over https, and the token, if there is one, says no end; or nothing was told.",
)  # fmt: skip

LOSSES: Final = Panel(
    id=20, title="Losses by reason", shown=Shown.TABLE, unit=Unit.COUNT, width=8,
    description="What was lost in this range, by reason; docs/operations.md says what to do about each.",
    answers=(
        grown_in_range(catalogue.MONITORING_DROPPED, "reason", "lost", more=" > 0"),
        asked(Growth(metrics={"lost": catalogue.MONITORING_DROPPED}, by=("reason",))),
    ),
    empty="None", empty_means="nothing was lost, or nothing was told.",
)  # fmt: skip

# Of the totals alone: what was left out of an image is counted, and no point of its says so.
REFUSED: Final = Panel(
    id=21, title="Values that were left out", shown=Shown.TABLE, unit=Unit.COUNT, width=8,
    description="What the application passed and what is not what its name says, by kind. It was left out.",
    answers=(grown_in_range(catalogue.REFUSED, "value", "left out", more=" > 0"),),
    empty="None", empty_means="all values were taken, or nothing was told.",
)  # fmt: skip

FOLDED: Final = Panel(
    id=22, title="Names that became \u201cother\u201d", shown=Shown.TABLE, unit=Unit.COUNT, width=8,
    description="Values beyond what a label takes, by label: models, codes, names of metrics that no series is made"
    " for.",
    answers=(grown_in_range(catalogue.FOLDED, "label", "folded", more=" > 0"),),
    empty="None", empty_means="every name has its series, or nothing was told.",
)  # fmt: skip

FORMULAS: Final = Panel(
    id=23, title="Sessions that no formula could take", shown=Shown.STAT, unit=Unit.COUNT, width=12, height=4,
    description="Sessions of which nothing could be computed: a fault of this package, please report it.",
    answers=(grown_in_range(catalogue.FORMULA_FAILURES),),
    thresholds=((0.5, NOTE),), thresholds_from="any one.", empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Of one status: a new store begins all its totals at 0, so that one series tells it.
STORES: Final = Panel(
    id=24, title="Totals that began anew", shown=Shown.STAT, unit=Unit.COUNT, width=12, height=4,
    description="How often the totals of the instance that did so most fell within a day. Once is a new store; more"
    " often are two stores that report under one instance, and every number of theirs is wrong.",
    answers=(told(f"max(resets({series(catalogue.SESSIONS, status='completed')}[1d]))", at_end=True),),
    thresholds=((0.5, NOTE), ("store_resets", BAD)), thresholds_from="once, and $store_resets times.",
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Reasons that don't pass by themselves, and may mean that somebody else answers.
_SECURITY = ("tls", "unauthorized", "forbidden", "redirect")
_NAMES = ("name", "metric_tags")

REJECTED: Final = Panel(
    id=30, title="Deliveries that failed for security", shown=Shown.STAT, unit=Unit.COUNT, width=12, height=5,
    description="tls: a certificate isn't trusted. unauthorized, forbidden: the token is wrong, or may not write."
    " redirect: the address leads elsewhere, which is never followed.",
    answers=(
        grown_in_range(catalogue.MONITORING_FAILURES, "reason", "{{reason}}", reason="|".join(_SECURITY)),
        asked(
            Growth(metrics={"failed": catalogue.MONITORING_FAILURES}, by=("reason",), where={"reason": _SECURITY}),
            "{{reason}}",
        ),
    ),
    thresholds=((0.5, NOTE),), thresholds_from="any one: it doesn't pass by itself.",
    empty="None", empty_means="no delivery failed for such a reason, or nothing was told.",
)  # fmt: skip

REFUSED_NAMES: Final = Panel(
    id=31, title="Names refused", shown=Shown.STAT, unit=Unit.COUNT, width=4, height=5,
    description="Names of metrics and tags that the application passed and that may hold an identity: they were not"
    " kept.",
    answers=(grown_in_range(catalogue.REFUSED, value="|".join(_NAMES)),),
    thresholds=((0.5, NOTE),), thresholds_from="any one: the application should be mended.",
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

LOG_FILTER: Final = Panel(
    id=32, title="Log lines cleaned", shown=Shown.STAT, unit=Unit.COUNT, width=4, height=5,
    description="Log records that the log filter removed an identity or a secret from. It did its work; better is a"
    " code that doesn't log them.",
    answers=(
        grown_in_range(catalogue.LOG_FILTER_HITS),
        asked(Growth(metrics={"lines": catalogue.LOG_FILTER_HITS})),
    ),
    thresholds=((0.5, NOTE),), thresholds_from="any one.", empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

# Shown to whoever has to prove them: a count of erasures, of nobody in particular.
ERASURES: Final = Panel(
    id=33, title="Patients erased", shown=Shown.STAT, unit=Unit.COUNT, width=4, height=5,
    description="Erasures that found sessions of a patient. The backends keep what they were sent: it names nobody.",
    answers=(
        grown_in_range(catalogue.ERASURES),
        asked(Growth(metrics={"erasures": catalogue.ERASURES})),
    ),
    empty="Unknown", empty_means=_TOLD_NOTHING,
)  # fmt: skip

LATEST_LOOK: Final = Panel(
    id=40, title="Last analysis", shown=Shown.STAT, unit=Unit.SECONDS, width=8, height=4, decimals=1,
    description="How long ago the charts last looked at the stored sessions, which they do each night. Long: what they"
    " say is old, and what has changed since is unseen.",
    answers=(
        told(f"time() - max({series(chart_metrics.LAST_RUN)})", at_end=True),
        asked_when(chart_metrics.LAST_RUN, ("instance",), "{{instance}}"),
    ),
    thresholds=(("analysis_silence", NOTE),), thresholds_from="$analysis_silence, from which on the alert fires.",
    empty="Never", empty_means=NO_ANALYSIS,
)  # fmt: skip

OPEN_ALARMS: Final = Panel(
    id=41, title="Open alarms of charts", shown=Shown.STAT, unit=Unit.COUNT, width=8, height=4,
    description="Alarms that nobody has acknowledged, nor answered by re-basing the chart, by whom they are for."
    " `leglength-monitor alarms` lists them. None open says only that nothing larger than what each chart would have"
    " noticed has changed.",
    answers=(
        told(f"sum by (audience) ({series(chart_metrics.OPEN_ALARMS)})", "{{audience}}", at_end=True),
        asked(
            OverRange(metrics={"open": chart_metrics.OPEN_ALARMS}, by=("audience", "instance"), statistic=LATEST),
            "{{audience}} {{instance}}",
        ),
    ),
    thresholds=((0.5, NOTE),), thresholds_from="any one.", empty="No analysis", empty_means=NO_ANALYSIS,
)  # fmt: skip

_FOUND, _ACCEPTED = "found in this range", "accepted a year"

# Side by side, since alarms say something only beside how many were to be expected for nothing.
ALARMS_FOUND: Final = Panel(
    id=42, title="Alarms found, false ones accepted", shown=Shown.STAT, unit=Unit.COUNT, width=8, height=4,
    description="Alarms that the charts found in the range, answered or not; and how many false ones a year all charts"
    " together may give, by the settings (`analytics.false_alarms_per_year`).",
    answers=(
        Answer(
            queries=(
                Totals(expression=grown(chart_metrics.ALARMS, "", "[$__range]"), legend=_FOUND, at_end=True),
                Totals(expression=f"max({series(chart_metrics.BUDGET)})", legend=_ACCEPTED, at_end=True),
            ),
            note=OF_SCRAPES,
        ),
        Answer(
            queries=(
                Images(question=Growth(metrics={_FOUND: chart_metrics.ALARMS})),
                Images(question=OverRange(metrics={_ACCEPTED: chart_metrics.BUDGET}, statistic=LATEST)),
            )
        ),
    ),
    empty="No analysis", empty_means=NO_ANALYSIS,
)  # fmt: skip

# Ids are Grafana's addresses of panels (links, silenced views): a panel keeps its own, a row begins at a ten.
SELF_MONITORING: Final = Dashboard(
    uid="leglength-monitoring",
    title="Leg length: the monitoring itself",
    description="Is all of it told, what waits or was lost, and does anything endanger privacy?",
    rows=(
        Row("At a glance", (LATEST_PUSH, RELAY, LONGEST_WAIT, LOST, WAITING_NOW, DEAD)),
        Row("Delivery", (DELIVERED, WAITING_OVER_TIME, OLDEST, FAILURES, EXPIRY)),
        Row("Charts", (LATEST_LOOK, OPEN_ALARMS, ALARMS_FOUND)),
        Row("What could not be taken", (LOSSES, REFUSED, FOLDED, FORMULAS, STORES)),
        Row("Privacy and security", (REJECTED, REFUSED_NAMES, LOG_FILTER, ERASURES)),
    ),
)
