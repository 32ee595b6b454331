"""The page for those who run the application: must anyone act, is it up, is it fast, and why do images fail?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from monitoring.dashboards.aggregation import (
    COUNT,
    DAY,
    FOUR_WEEKS,
    LATEST,
    MEAN,
    SUM,
    WEEK,
    percentile,
)
from monitoring.dashboards.charts import charts
from monitoring.dashboards.panels import (
    BAD,
    GOOD,
    GRAVITY,
    IN_WEEKS,
    MUST_ACT,
    NOTE,
    OF_MODELS,
    OF_SCRAPES,
    QUIET,
    WAITING,
    Dashboard,
    Panel,
    Row,
    Shown,
    Unit,
    asked,
    asked_when,
    colored,
    days_until,
    grown,
    grown_in_range,
    latest_told,
    must_act,
    series,
    told,
)
from monitoring.dashboards.questions import EachImage, ImageTable, OverRange, PerPeriod, ShareWithin
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import SYSTEM, Metric

STATUS_COLORS: Final = {"completed": GOOD, "skipped": QUIET, "failed": NOTE, "crashed": BAD}
DURATION: Final = {"duration": catalogue.SESSION_DURATION}
NO_IMAGES: Final = "no image was processed in this range, or nothing reaches the backend."
# Status by status, each 0 or 1 of an image: sums are counts, and means are shares.
_ENDED: Final[Mapping[str, Metric]] = {str(status): metric for status, metric in catalogue.SESSION_ENDED.items()}
_COMPLETED = {"status": ("completed",)}
WITHIN_30: Final = r"30(\.0)?"
"""The bound as the histogram has it: ``30.0``, but ``30`` where a Pushgateway told it to Prometheus 2."""


MUST_ACT_PANEL: Final = Panel(
    id=1, title="Must anyone act?", shown=Shown.STAT, unit=Unit.COUNT, width=6, height=5,
    description="What the alert rules say. Now: one fires that pages. Soon: one fires that can wait for the morning."
    " Which they are stands beside.",
    # Of Prometheus alone, which evaluates the rules; a site without it reads Grafana's own alerts.
    answers=(told(must_act(), at_end=True),),
    words=MUST_ACT, empty="Unknown", empty_means="Prometheus gives no answer.",
)  # fmt: skip

ALERTS: Final = Panel(
    id=2, title="Alerts that fire", shown=Shown.TABLE, unit=Unit.COUNT, width=9, height=5,
    description="Each alert that fires now, the gravest first, and where. Its runbook says what to do.",
    answers=(told(f"sort_desc(max by (alertname, severity, instance) ({GRAVITY}))", at_end=True),),
    empty="None", empty_means="no alert fires, if the panel beside says No.",
)  # fmt: skip

SINCE_SUCCESS: Final = Panel(
    id=3, title="Last success", shown=Shown.STAT, unit=Unit.SECONDS, width=5, height=5, decimals=1,
    description="How long ago the latest image was completed. A short time means that it works.",
    answers=(
        told(f"time() - max({series(catalogue.LAST_SUCCESS)})", at_end=True),
        # InfluxQL can't take a value from now: the instant is shown as how long ago it is, which no bound can colour.
        asked(ImageTable(metrics=DURATION, where=_COMPLETED, count=1), unit=Unit.AGO, is_judged=False),
    ),
    thresholds=(("silence", NOTE),),
    thresholds_from="$silence: successes lie up to 65 hours apart on ordinary weekends.",
    empty="None", empty_means="no image has been completed, or nothing reaches the backend.",
)  # fmt: skip

SINCE_IMAGE: Final = Panel(
    id=4, title="Last image", shown=Shown.STAT, unit=Unit.SECONDS, width=4, height=5, decimals=1,
    description="How long ago the latest image was processed, however it ended. Long here, too, means: nothing"
    " arrives.",
    answers=(
        told(f"time() - max({series(catalogue.LAST_RUN)})", at_end=True),
        asked(ImageTable(metrics=DURATION, count=1), unit=Unit.AGO, is_judged=False),
    ),
    thresholds=(("silence", NOTE),),
    thresholds_from="$silence: the longest ordinary pause, with room for a holiday beside a weekend.",
    empty="None", empty_means="no image has been processed, or nothing reaches the backend.",
)  # fmt: skip

ENDED: Final = Panel(
    id=5, title="Images by how they ended", shown=Shown.STAT, unit=Unit.COUNT, width=9, height=4,
    description="All images of the range. Skipped: not processed, for a stated reason. Crashed: the process was"
    " killed, or ended without a word.",
    answers=(
        asked(OverRange(metrics=_ENDED, statistic=SUM)),
        grown_in_range(catalogue.SESSIONS, "status", "{{status}}"),
    ),
    colors=STATUS_COLORS, empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

# Skipped images are no attempts: a series of another kind would thin the share out.
FAILED_SHARE: Final = Panel(
    id=6, title="Share that failed", shown=Shown.STAT, unit=Unit.SHARE, width=5, height=4, decimals=1,
    description="Failed and crashed images of all that were not skipped. The number of images beside tells what it is"
    " worth.",
    answers=(
        told(
            f"{grown(catalogue.SESSIONS, '', '[$__range]', status='failed|crashed')}"
            f" / {grown(catalogue.SESSIONS, '', '[$__range]', status='completed|failed|crashed')}",
            at_end=True, note=OF_SCRAPES,
        ),
        asked(
            OverRange(
                metrics={"failed": _ENDED["failed"], "crashed": _ENDED["crashed"]}, statistic=MEAN,
                where={"status": ("completed", "failed", "crashed")},
            )
        ),
    ),
    thresholds=(("failure_share", NOTE),),
    thresholds_from="$failure_share: what the alert on failures allows, beside chance.",
    empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

# On the page of the monitoring, too: here it says whether the panels around it are up to date.
LONGEST_WAIT: Final = Panel(
    id=7, title="Longest wait", shown=Shown.STAT, unit=Unit.SECONDS, width=5, height=4, decimals=1,
    description="How long the oldest session has waited for its delivery to a backend; 0: none waits.",
    answers=(
        told(
            f"max({WAITING}) or 0 * max({series(catalogue.MONITORING_PENDING)})", at_end=True,
            note="The time since the latest push is added, since what waits isn't told meanwhile.",
        ),
        asked(
            OverRange(metrics={"oldest": catalogue.MONITORING_OLDEST}, by=("backend",), statistic=LATEST),
            "{{backend}}",
            note="As it was at the latest delivery: what waits for this very backend isn't told meanwhile.",
        ),
    ),
    thresholds=(("waiting", NOTE),),
    thresholds_from="$waiting: a restart or a night's backup is shorter.",
    empty="Unknown", empty_means="the monitoring has told nothing of itself yet.",
)  # fmt: skip

OLDEST_OPEN: Final = Panel(
    id=8, title="Oldest in work", shown=Shown.STAT, unit=Unit.SECONDS, width=5, height=4, decimals=1,
    description="Since when the oldest image has been in work that has begun and not ended; told by the relay and at"
    " each push. Long: a run hangs. 0: none is in work.",
    answers=(
        told(f"max({series(catalogue.OLDEST_OPEN_SESSION)})", at_end=True),
        asked(OverRange(metrics={"oldest": catalogue.OLDEST_OPEN_SESSION}, by=("instance",), statistic=LATEST)),
    ),
    thresholds=(("hang", NOTE),),
    thresholds_from="$hang: far over the slowest image that was measured.",
    empty="Unknown", empty_means="the monitoring has told nothing of itself yet.",
)  # fmt: skip

DAYS: Final = Panel(
    id=10, title="Images a day", shown=Shown.BARS, unit=Unit.COUNT, width=11,
    description="Each day's images by how they ended, by the calendar of this page's time zone.",
    answers=(
        asked(PerPeriod(metrics=DURATION, by=("status",), statistic=COUNT, period=DAY), "{{status}}"),
        # Second, since after a change of the clocks Prometheus' days begin an hour off.
        told(grown(catalogue.SESSIONS, "status", DAY.behind), "{{status}}", step=DAY.window, note=OF_SCRAPES),
    ),
    colors=STATUS_COLORS, empty="No images", empty_means=NO_IMAGES, minimum=0,
)  # fmt: skip

# For InfluxDB alone: a scrape sees the latest image, of 15 within 45 s four of them.
LATEST_IMAGES: Final = Panel(
    id=11, title="Latest images", shown=Shown.TABLE, unit=Unit.SECONDS, width=13,
    description="The latest 20 images: when they ended and how, how long they took, and how many of the 8 landmarks"
    " were found. An image is known by its time only.",
    answers=(
        asked(
            ImageTable(
                metrics={**DURATION, "landmarks": catalogue.LANDMARKS_FOUND}, count=20,
                by=("status", "instance", "version"),
            )
        ),
    ),
    units={"landmarks": Unit.COUNT}, empty="No images", empty_means=NO_IMAGES, decimals=1,
)  # fmt: skip

STOPS: Final = Panel(
    id=20, title="Images that were not completed, a week", shown=Shown.BARS, unit=Unit.COUNT, width=10,
    description="Skipped, failed and crashed images by the stage that they stopped in and the kind of reason.",
    answers=(
        asked(
            PerPeriod(
                metrics={"images": catalogue.STOPS}, by=("status", "stage", "reason"), statistic=SUM, period=WEEK
            ),
            "{{status}}: {{stage}}, {{reason}}",
        ),
        told(
            f"{grown(catalogue.STOPS, 'status, stage, reason', WEEK.behind)} > 0", "{{status}}: {{stage}}, {{reason}}",
            step=WEEK.window, note=IN_WEEKS,
        ),
    ),
    colors={f"/^{status}/": color for status, color in STATUS_COLORS.items()},
    empty="None", empty_means="every image of this range was completed, or none arrived.", minimum=0,
)  # fmt: skip

# An open label: a code's first event can't be seen by increase, so the totals stand here as they are.
STOP_CODES: Final = Panel(
    id=21, title="Reasons given, in all", shown=Shown.TABLE, unit=Unit.COUNT, width=7,
    description="Images that were not completed by the application's own code for the reason, over all time of the"
    " store: how much a code grew can't be told of its first time.",
    answers=(told(f"sum by (code) ({series(catalogue.STOP_CODES)}) > 0", "images", at_end=True, of_totals=True),),
    empty="None", empty_means="every image was completed so far.",
)  # fmt: skip

HOST_ISSUES: Final = Panel(
    id=22, title="Issues found", shown=Shown.TABLE, unit=Unit.COUNT, width=7,
    description="What the application itself reported, by its own code.",
    answers=(
        asked(OverRange(metrics={"issues": catalogue.HOST_ISSUES}, by=("issue",), statistic=SUM)),
        told(
            f"sum by (issue) ({series(catalogue.HOST_ISSUES)}) > 0", "issues", at_end=True, of_totals=True,
            title="Issues found, in all",
        ),
    ),
    empty="None", empty_means="the application reported no issue.",
)  # fmt: skip

DURATIONS: Final = Panel(
    id=30, title="Duration of each image", shown=Shown.POINTS, unit=Unit.SECONDS, width=12, minimum=0,
    description="How long the processing of each image took in all, by how it ended.",
    answers=(asked(EachImage(metrics=DURATION, by=("status",)), "{{status}}"),),
    thresholds=(("slow_bound", NOTE),),
    thresholds_from="$slow_bound s, a bound of the histogram, where shares are exact.",
    colors=STATUS_COLORS, empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

# Beside percentiles, which buckets tell badly: this share is exact, and the alert's.
WITHIN_30_S: Final = Panel(
    id=31, title="Share done within 30 s, by week", shown=Shown.LINES, unit=Unit.SHARE, width=12, minimum=0, maximum=1,
    description="Images that took 30 s or less, of all of the week's: exact, since 30 s is a bound of the histogram.",
    answers=(
        told(
            f"{grown(catalogue.SESSION_DURATION, '', WEEK.behind, 'bucket', le=WITHIN_30)}"
            f" / ({grown(catalogue.SESSION_DURATION, '', WEEK.behind, 'count')} > 0)",
            "within 30 s", step=WEEK.window, note=IN_WEEKS,
        ),
        asked(ShareWithin(metrics={"within 30 s": DURATION["duration"]}, bound=30, period=WEEK)),
    ),
    base=NOTE, thresholds=(("1-slow_share", GOOD),),
    thresholds_from="all but $slow_share of the images, which the alert allows to take longer.",
    colors={"within 30 s": GOOD}, empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

_OF_BUCKETS = (
    "Read from the histogram's buckets: it can be off by a bucket's width, and showed 26 s for what took 17 s."
)
_TOO_FEW = "no four weeks of this range have 11 images: of fewer, the slowest one would be shown."

SLOW_STAGES: Final = Panel(
    id=32, title="Stages: 95 % took no longer", shown=Shown.LINES, unit=Unit.SECONDS, width=12, minimum=0,
    description="Of each stage's times the 95th percentile, over four weeks each that begin on a Monday.",
    answers=(
        asked(
            PerPeriod(
                metrics={"duration": catalogue.STAGE_DURATION}, by=("stage",), statistic=percentile(95),
                # InfluxQL's percentile is the nearest rank: of 10 and fewer the 95th is the largest.
                period=FOUR_WEEKS, at_least=11,
            ),
            "{{stage}}",
        ),
        told(
            f"histogram_quantile(0.95, {grown(catalogue.STAGE_DURATION, 'le, stage', FOUR_WEEKS.behind, 'bucket')})",
            "{{stage}}", step=FOUR_WEEKS.window, note=_OF_BUCKETS,
        ),
    ),
    colors=colored(catalogue.STAGES), empty="Too few images", empty_means=_TOO_FEW,
)  # fmt: skip

INFERENCE: Final = Panel(
    id=33, title="Inference of each image, by model", shown=Shown.POINTS, unit=Unit.SECONDS, width=12, minimum=0,
    description="How long each model took for an image.",
    answers=(
        asked(EachImage(metrics={"inference": catalogue.MODEL_INFERENCE}, by=("model",)), "{{model}}"),
        told(
            f"histogram_quantile(0.95, {grown(catalogue.MODEL_INFERENCE, 'le, model', FOUR_WEEKS.behind, 'bucket')})",
            "{{model}}", step=FOUR_WEEKS.window, note=_OF_BUCKETS, title="Inference: 95 % took no longer, by model",
            shown=Shown.LINES,
        ),
    ),
    colors=OF_MODELS, empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

_MEMORY = {
    "process": SYSTEM["process_resident_memory_peak_bytes", "maximum"],
    # Beside what is used, so that the lines tell how near the end was.
    "limit": SYSTEM["container_memory_limit_bytes", "maximum"],
    "container": SYSTEM["container_memory_used_bytes", "maximum"],
    # The smallest, as the catalogue keeps it: a mean hides the moment in which it was short.
    "free at least": SYSTEM["system_memory_available_bytes", "minimum"],
}
_PROCESSORS = {
    "process": SYSTEM["process_cpu_ratio", "average"],
    "limit": SYSTEM["container_cpu_limit_processors", "maximum"],
    "container": SYSTEM["container_cpu_ratio", "average"],
}
_OF_MACHINE = "no image was processed, the machine's metrics are switched off, or it lets nothing of this be read."

MEMORY: Final = Panel(
    id=40, title="Memory at each image", shown=Shown.LINES, unit=Unit.BYTES, width=12, minimum=0,
    description="The most that the container took and its limit, the process' own peak, and the least that was free.",
    answers=(asked(EachImage(metrics=_MEMORY)), latest_told(_MEMORY)),
    colors=colored(_MEMORY), empty="Nothing measured", empty_means=_OF_MACHINE,
)  # fmt: skip

PROCESSORS: Final = Panel(
    id=41, title="Processors in use at each image", shown=Shown.LINES, unit=Unit.COUNT, width=12, minimum=0,
    description="Mean over the image's processing, of the process alone and of its container; 1 is one busy processor.",
    answers=(asked(EachImage(metrics=_PROCESSORS)), latest_told(_PROCESSORS)),
    colors=colored(_PROCESSORS), empty="Nothing measured", empty_means=_OF_MACHINE,
)  # fmt: skip

_GPU_MEMORY = {
    # By all processes: what another one holds is missing here, too.
    "in use": SYSTEM["gpu_memory_used_bytes", "maximum"],
    "in all": SYSTEM["gpu_memory_total_bytes", "maximum"],
}

GPU: Final = Panel(
    id=42, title="GPU memory at each image", shown=Shown.LINES, unit=Unit.BYTES, width=6, minimum=0,
    description="The most that was in use during the image, by all processes, and what the GPU has.",
    answers=(
        asked(EachImage(metrics=_GPU_MEMORY, by=("gpu",)), "GPU {{gpu}} {{column}}"),
        latest_told({"in use": _GPU_MEMORY["in use"]}, "gpu"),
    ),
    colors={"/./": GOOD, "/in all$/": NOTE}, empty="No GPU",
    empty_means="no GPU was seen while images were processed.",
)  # fmt: skip

GPU_USE: Final = Panel(
    id=43, title="GPU utilisation at each image", shown=Shown.LINES, unit=Unit.SHARE, width=6, minimum=0, maximum=1,
    description="Mean over the image's processing.",
    answers=(
        asked(EachImage(metrics={"in use": SYSTEM["gpu_utilization_ratio", "average"]}, by=("gpu",)), "GPU {{gpu}}"),
        latest_told({"in use": SYSTEM["gpu_utilization_ratio", "average"]}, "gpu"),
    ),
    colors={"/./": GOOD}, empty="No GPU", empty_means="no GPU was seen while images were processed.",
)  # fmt: skip

_DISK = {"free": SYSTEM["disk_free_bytes", "minimum"]}

DISK: Final = Panel(
    id=44, title="Least free disk at each image", shown=Shown.LINES, unit=Unit.BYTES, width=7, minimum=0,
    description="The least free space during the image, on the volumes of the output and of the store.",
    answers=(asked(EachImage(metrics=_DISK, by=("volume",)), "{{volume}}"), latest_told(_DISK, "volume")),
    # Of free space much is good.
    base=BAD, thresholds=(("disk_free", GOOD),),
    thresholds_from="$disk_free bytes: the store's largest size four times over.",
    colors=colored(catalogue.VOLUME.values), empty="Nothing measured", empty_means=_OF_MACHINE,
)  # fmt: skip

# Beside the space itself: a date is a guess, and is taken back where the trend goes.
DISK_FULL: Final = Panel(
    id=45, title="Until a volume is full", shown=Shown.STAT, unit=Unit.DAYS, width=5, height=5, decimals=0,
    description="Days until a volume is full if it goes on to fill as it did, as the latest analysis foresaw; of"
    " several machines the soonest. 0: that day has come. The free space beside tells whether it has come true.",
    answers=(
        told(days_until(chart_metrics.DISK_FULL, "volume"), "{{volume}}", at_end=True),
        asked_when(
            chart_metrics.DISK_FULL, ("volume", "instance"), "{{volume}} {{instance}}",
            note="The day that an analysis of this range foresaw last: one that later ones foresee no more still stands"
            " here.",
        ),
    ),
    base=NOTE, thresholds=(("disk_full", GOOD),),
    thresholds_from="$disk_full, from which on the alert fires: time to order and mount a larger one.",
    names_beside=True, empty="None foreseen",
    empty_means="no clear trend fills a volume within 60 days, or no analysis has told anything.",
)  # fmt: skip

# From what must be done now to what explains it; ids as on the other pages: a panel keeps its own for good.
OPERATION: Final = Dashboard(
    uid="leglength-operation",
    title="Leg length: operation",
    description="Must anyone act, is the application up, is it fast, and why do images fail?",
    rows=(
        Row(
            "At a glance",
            (
                MUST_ACT_PANEL, ALERTS, SINCE_SUCCESS, SINCE_IMAGE,
                ENDED, FAILED_SHARE, LONGEST_WAIT, OLDEST_OPEN,
            ),
        ),
        Row("Images", (DAYS, LATEST_IMAGES)),
        Row("Why images were not completed", (STOPS, STOP_CODES, HOST_ISSUES)),
        Row("Speed", (DURATIONS, WITHIN_30_S, SLOW_STAGES, INFERENCE)),
        charts("operator", "speed, failures and silence", 50),
        Row("The machine", (MEMORY, PROCESSORS, GPU, GPU_USE, DISK, DISK_FULL)),
    ),
    alarms_of="operator",
)  # fmt: skip
