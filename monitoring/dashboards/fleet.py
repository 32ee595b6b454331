"""The page of several sites and instances: which of them differs from the others?"""

from __future__ import annotations

from typing import Final

from monitoring.dashboards.aggregation import COUNT, DAY, FOUR_WEEKS, MEAN, SUM, WEEK, percentile
from monitoring.dashboards.operation import DURATION, NO_IMAGES
from monitoring.dashboards.panels import (
    FIRING,
    GOOD,
    IN_WEEKS,
    NOTE,
    OF_SCRAPES,
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
    grown,
    latest_told,
    series,
    told,
)
from monitoring.dashboards.questions import OverRange, PerPeriod
from monitoring.metrics import catalogue

# Two jobs may give their instances one name.
_BY: Final = "job, instance"
_OF_INSTANCE: Final = "{{instance}}"
_COLUMNS: Final = {
    "images": grown(catalogue.SESSIONS, _BY, "[$__range]"),
    "failed": grown(catalogue.SESSIONS, _BY, "[$__range]", status="failed|crashed"),
    # max, since a gauge may stand there twice for minutes when an instance's other labels change.
    "since success": f"time() - max by ({_BY}) ({series(catalogue.LAST_SUCCESS)})",
    "since image": f"time() - max by ({_BY}) ({series(catalogue.LAST_RUN)})",
    # "or 0 *" gives every instance a row: without it what is well would be missing from the table.
    "wait": f"max by ({_BY}) ({WAITING}) or 0 * max by ({_BY}) ({series(catalogue.LAST_RUN)})",
    "alerts": f"count by ({_BY}) ({FIRING}) or 0 * max by ({_BY}) ({series(catalogue.LAST_RUN)})",
    # Of versions, the one that was told last: Prometheus knows the one before for some minutes more.
    "": f"topk by ({_BY}) (1, max by ({_BY}, site, version) (timestamp({series(catalogue.BUILD_INFO)})))",
}
# A question has one statistic: a query for each column.
_FROM_IMAGES: Final = {
    "images": (DURATION["duration"], COUNT),
    "failed": (catalogue.SESSION_ENDED["failed"], SUM),
    "crashed": (catalogue.SESSION_ENDED["crashed"], SUM),
}

INSTANCES: Final = Panel(
    id=1, title="Instances", shown=Shown.TABLE, unit=Unit.COUNT, width=24, height=9,
    description="A row for each instance: its images of the range and how many of them failed or crashed, how long ago"
    " its latest success and its latest image were, how long its oldest session has waited for a backend, its alerts,"
    " its site and the application's version.",
    answers=(
        Answer(
            queries=tuple(Totals(expression=text, legend=name, at_end=True) for name, text in _COLUMNS.items()),
            note=OF_SCRAPES,
        ),
        Answer(
            queries=tuple(
                Images(question=OverRange(metrics={name: metric}, by=("instance",), statistic=statistic))
                for name, (metric, statistic) in _FROM_IMAGES.items()
            )
        ),
    ),
    units={"since success": Unit.SECONDS, "since image": Unit.SECONDS, "wait": Unit.SECONDS},
    empty="No instance", empty_means="no instance has told anything.",
)  # fmt: skip

# Beside the instances, whose rows have one version each: during a rollout there are two.
VERSIONS: Final = Panel(
    id=6, title="Images by version", shown=Shown.TABLE, unit=Unit.COUNT, width=24, height=6,
    description="Which version of the application processed how many of this range's images, and how long they took.",
    answers=(
        Answer(
            queries=tuple(
                Images(question=OverRange(metrics={name: metric}, by=("instance", "version"), statistic=statistic))
                for name, metric, statistic in (
                    ("images", DURATION["duration"], COUNT),
                    ("mean duration", DURATION["duration"], MEAN),
                )
            )
        ),
        told(f"max by ({_BY}, site, version) ({series(catalogue.BUILD_INFO)})", at_end=True, title="Versions in use"),
    ),
    units={"mean duration": Unit.SECONDS},
    empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

DAYS: Final = Panel(
    id=2, title="Images a day", shown=Shown.BARS, unit=Unit.COUNT, width=12, minimum=0,
    description="Each day's images by instance, however they ended.",
    answers=(
        asked(PerPeriod(metrics=DURATION, by=("instance",), statistic=COUNT, period=DAY), _OF_INSTANCE),
        told(grown(catalogue.SESSIONS, "instance", DAY.behind), _OF_INSTANCE, step=DAY.window, note=OF_SCRAPES),
    ),
    colors={"/./": GOOD}, empty="No images", empty_means=NO_IMAGES,
)  # fmt: skip

FAILED: Final = Panel(
    id=3, title="Failed or crashed, a week", shown=Shown.BARS, unit=Unit.COUNT, width=12, minimum=0,
    description="Each week's images that failed or crashed, by instance.",
    answers=(
        asked(
            PerPeriod(
                metrics={"images": DURATION["duration"]}, by=("instance",), statistic=COUNT, period=WEEK,
                where={"status": ("failed", "crashed")},
            ),
            _OF_INSTANCE,
        ),
        told(
            f"{grown(catalogue.SESSIONS, 'instance', WEEK.behind, status='failed|crashed')} > 0", _OF_INSTANCE,
            step=WEEK.window, note=f"{IN_WEEKS} {OF_SCRAPES}",
        ),
    ),
    colors={"/./": NOTE}, empty="None", empty_means="no image failed, or none was processed.",
)  # fmt: skip

SPEED: Final = Panel(
    id=4, title="95 % took no longer", shown=Shown.LINES, unit=Unit.SECONDS, width=12, minimum=0,
    description="The 95th percentile of the images' durations, over four weeks each that begin on a Monday, by"
    " instance.",
    answers=(
        asked(
            PerPeriod(
                metrics=DURATION, by=("instance",), statistic=percentile(95), period=FOUR_WEEKS, at_least=11
            ),
            _OF_INSTANCE,
        ),
        told(
            "histogram_quantile(0.95, "
            f"{grown(catalogue.SESSION_DURATION, 'le, instance', FOUR_WEEKS.behind, 'bucket')})",
            _OF_INSTANCE, step=FOUR_WEEKS.window, note="Read from the histogram's buckets: off by a bucket's width.",
        ),
    ),
    thresholds=(("slow_bound", NOTE),), thresholds_from="$slow_bound s, of the alert on slow images.",
    empty="Too few images", empty_means="no four weeks of this range have 11 images of one instance.",
)  # fmt: skip

# Without a threshold: sites differ by patients and films, so each is to be compared with itself.
QUALITY: Final = Panel(
    id=5, title="Quality, mean of the week", shown=Shown.LINES, unit=Unit.SHARE, width=12, minimum=0, maximum=1,
    description="The mean quality of each week's images, by instance. Sites differ by their patients and films; a site"
    " that leaves its own course is worth a look.",
    answers=(
        asked(
            PerPeriod(metrics={"quality": catalogue.QUALITY}, by=("instance",), statistic=MEAN, period=WEEK),
            _OF_INSTANCE,
        ),
        latest_told({"quality": catalogue.QUALITY}, "instance", title="Quality of the latest image"),
    ),
    empty="Nothing measured", empty_means="no image of this range was measured, or nothing reaches the backend.",
)  # fmt: skip

FLEET: Final = Dashboard(
    uid="leglength-fleet",
    title="Leg length: fleet",
    description="Which site or instance differs from the others? Of use only with more than one.",
    rows=(
        Row("Sites and instances", (INSTANCES, VERSIONS)),
        Row("Side by side", (DAYS, FAILED, SPEED, QUALITY)),
    ),
)
