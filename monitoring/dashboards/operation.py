"""The page for those who run the application: is it up, is it fast, does it fail, and must anyone act?"""

from __future__ import annotations

from typing import Final

from monitoring.dashboards.aggregation import COUNT, DAY, FOUR_WEEKS, percentile
from monitoring.dashboards.panels import (
    BAD,
    GOOD,
    NOTE,
    QUIET,
    Answer,
    Dashboard,
    Images,
    Panel,
    Row,
    Shown,
    Totals,
    Unit,
    series,
)
from monitoring.dashboards.questions import EachImage, PerPeriod
from monitoring.metrics import catalogue

STATUS_COLORS: Final = {"completed": GOOD, "skipped": QUIET, "failed": NOTE, "crashed": BAD}

SINCE_SUCCESS: Final = Panel(
    id=1,
    title="Since the latest success",
    description="How long ago the latest image was completed. A short time means: it works.",
    shown=Shown.STAT,
    unit=Unit.SECONDS,
    width=4,
    height=4,
    answers=(
        Answer(
            queries=(Totals(expression=f"time() - max({series(catalogue.LAST_SUCCESS)})", at_end=True),),
        ),
    ),
    thresholds=((345_600, NOTE),),
    thresholds_from="Four days: successes lie up to 65 hours apart on ordinary weekends.",
    empty="Never",
    empty_means="no image has been completed yet, or Prometheus gets nothing.",
)

DAYS: Final = Panel(
    id=10,
    title="Images a day",
    description="Each day's images by how they ended. Skipped ones were not processed for a stated reason.",
    shown=Shown.BARS,
    unit=Unit.COUNT,
    width=12,
    answers=(
        Answer(
            queries=(
                Images(
                    question=PerPeriod(
                        metrics={"images": catalogue.SESSION_DURATION}, by=("status",), statistic=COUNT, period=DAY
                    ),
                    legend="{{status}}",
                ),
            ),
        ),
        Answer(
            queries=(
                Totals(
                    expression=f"round(sum by (status) (increase({series(catalogue.SESSIONS)}[1d] offset -1d)))",
                    legend="{{status}}",
                    step="1d",
                ),
            ),
            note="Where scrapes were missed, a day may show some per cent fewer.",
        ),
    ),
    empty="No images",
    empty_means="no image was processed in this range.",
    colors=STATUS_COLORS,
)

DURATIONS: Final = Panel(
    id=11,
    title="Duration of each image",
    description="How long the processing of each image took in all.",
    shown=Shown.POINTS,
    unit=Unit.SECONDS,
    width=12,
    answers=(
        Answer(
            queries=(
                Images(
                    question=EachImage(metrics={"duration": catalogue.SESSION_DURATION}, by=("status",)),
                    legend="{{status}}",
                ),
            ),
        ),
    ),
    thresholds=((30, NOTE),),
    thresholds_from="30 s, a bound of the histogram, so that the share within it is exact.",
    empty="No images",
    empty_means="no image was processed in this range.",
    colors=STATUS_COLORS,
    minimum=0,
)

SLOWEST_STAGES: Final = Panel(
    id=12,
    title="Stages: 95 % took no longer, by four weeks",
    description="The 95th percentile of each stage's time, over four weeks each that begin on a Monday.",
    shown=Shown.LINES,
    unit=Unit.SECONDS,
    width=12,
    answers=(
        Answer(
            queries=(
                Images(
                    question=PerPeriod(
                        metrics={"duration": catalogue.STAGE_DURATION},
                        by=("stage",),
                        statistic=percentile(95),
                        period=FOUR_WEEKS,
                        at_least=11,
                    ),
                    legend="{{stage}}",
                ),
            ),
        ),
    ),
    empty="Too few images",
    empty_means="no four weeks of this range have 11 images: of fewer, this would be the slowest one.",
    minimum=0,
)

OPERATION: Final = Dashboard(
    uid="leglength-operation",
    title="Leg length: operation",
    description="Is the application up, is it fast, does it fail, and must anyone act?",
    rows=(
        Row("Must anyone act?", (SINCE_SUCCESS,)),
        Row("Images", (DAYS, DURATIONS)),
        Row("Speed", (SLOWEST_STAGES,)),
    ),
)
