"""The page for the clinical lead: can the measurements be trusted, are the models drifting, do readers agree?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from monitoring.dashboards.aggregation import (
    COUNT,
    DAY,
    LARGEST,
    LOWER_LIMIT,
    MEAN,
    SMALLEST,
    UPPER_LIMIT,
    WEEK,
)
from monitoring.dashboards.charts import charts
from monitoring.dashboards.panels import (
    BAD,
    GOOD,
    IN_WEEKS,
    MUST_ACT,
    NOTE,
    OF_MODELS,
    OF_SCRAPES,
    QUIET,
    Answer,
    Dashboard,
    Images,
    Panel,
    Row,
    Shown,
    Totals,
    Unit,
    asked,
    colored,
    grown,
    grown_in_range,
    latest_told,
    must_act,
    series,
    told,
)
from monitoring.dashboards.questions import EachImage, ImageTable, MovingMean, OverRange, PerPeriod
from monitoring.domain.anatomy import LABELS, MEASUREMENTS
from monitoring.domain.plausibility import RATIO_HARD, RATIO_SOFT, Z_HARD, Z_SOFT
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Metric

# By images and not by time: a week of two images and one of forty are not equally sure.
_MEAN_OF: Final = "mean of 20"
_COLORS_OF_LENGTHS: Final = colored(MEASUREMENTS)
_TOO_FEW: Final = "fewer than 20 images in this range, or nothing reaches the backend."
_NOTHING_MEASURED: Final = "no image of this range was measured, or nothing reaches the backend."
_BY_WEEK: Final = f"Of each week's images the mean, since this backend has no mean of images. {IN_WEEKS}"
_QUALITY: Final = {"quality": catalogue.QUALITY}


def _means_of_20(metrics: Mapping[str, Metric], *by: str) -> tuple[Answer, ...]:
    """The mean of the latest 20 images, or what comes nearest to it where a backend can't tell that."""
    legend = f"{{{{{by[0]}}}}}" if by else "{{column}}"
    return (
        asked(MovingMean(metrics=metrics, by=by), legend),
        asked(PerPeriod(metrics=metrics, by=by, statistic=MEAN, period=WEEK), legend, note=_BY_WEEK),
        latest_told(metrics, *by),
    )


# Of this audience's rules: a full disk is none of the clinical lead's business.
CLINICAL_ALERTS: Final = Panel(
    id=1, title="Must anyone look?", shown=Shown.STAT, unit=Unit.COUNT, width=6, height=4,
    description="What the alert rules for the clinical side say. Now: one fires that pages. Soon: one fires that can"
    " wait for the morning. The page of operation names them.",
    answers=(told(must_act("clinical"), at_end=True),),
    words=MUST_ACT, empty="Unknown", empty_means="Prometheus gives no answer.",
)  # fmt: skip

QUALITY_NOW: Final = Panel(
    id=2, title="Quality, latest 20", shown=Shown.STAT, unit=Unit.SHARE, width=6, height=4, decimals=0,
    description="Mean quality of the latest 20 images of the range, 100 % the best. It orders images for review and"
    " follows drift, and is no probability of an error.",
    answers=(
        asked(MovingMean(metrics=_QUALITY)),
        # MetricsQL counts time, not images, so that it has no mean of the latest 20: the title says what is shown.
        asked(OverRange(metrics=_QUALITY, statistic=MEAN), title="Quality of all images of the range"),
        latest_told(_QUALITY, title="Quality of the latest image"),
    ),
    empty="Too few images", empty_means=_TOO_FEW,
)  # fmt: skip

# Totals first: they count images, once for each rule, where points count findings.
HARD_FINDINGS: Final = Panel(
    id=3, title="Images found wrong", shown=Shown.STAT, unit=Unit.COUNT, width=6, height=4,
    description="Images of the range with a hard finding: they broke a rule whose breach means that a landmark, a label"
    " or the spacing is wrong; one image counts once for each rule.",
    answers=(
        grown_in_range(catalogue.FINDINGS, severity="hard"),
        asked(
            OverRange(metrics={"findings": catalogue.FINDING["value"]}, where={"severity": ("hard",)}, statistic=COUNT),
            title="Hard findings", note="Findings are counted here: one image may have several of one rule.",
        ),
    ),
    thresholds=((0.5, NOTE),), thresholds_from="any one: somebody should look at the image.",
    empty="None", empty_means="no image has a hard finding, or none was processed.",
)  # fmt: skip

VERDICT: Final = Panel(
    id=4, title="Reader criteria", shown=Shown.STAT, unit=Unit.COUNT, width=6, height=4,
    description="Whether the measurements meet the criteria of agreement with readers: bias, mean error, limits and"
    " correlation. The number of criteria that the worst measurement doesn't meet.",
    answers=(told(f"max({series(catalogue.VALIDATION['criteria_failed'])})", at_end=True),),
    # In words, since a number of unmet criteria reads like a score.
    words={0: ("Met", GOOD), 1: ("1 not met", NOTE), **{n: (f"{n} not met", NOTE) for n in range(2, 6)}},
    empty="No verdict", empty_means="it takes 100 images with a reader's measurement.",
)  # fmt: skip

QUALITY_BY_IMAGE: Final = Panel(
    id=10, title="Quality by image", shown=Shown.LINES, unit=Unit.SHARE, width=12, minimum=0, maximum=1,
    description="Each image's quality as a point, and the mean of the latest 20 images as a line.",
    answers=(
        Answer(
            queries=(
                Images(question=EachImage(metrics=_QUALITY), legend="image", drawn=Shown.POINTS),
                Images(question=MovingMean(metrics=_QUALITY), legend=_MEAN_OF),
            )
        ),
        Answer(
            queries=(
                Images(question=EachImage(metrics=_QUALITY), legend="image", drawn=Shown.POINTS),
                Images(question=PerPeriod(metrics=_QUALITY, statistic=MEAN, period=WEEK), legend="mean of the week"),
            ),
            note=_BY_WEEK,
        ),
        latest_told(_QUALITY),
    ),
    colors={"image": QUIET, "quality": GOOD, _MEAN_OF: GOOD, "mean of the week": GOOD}, empty="Nothing measured",
    empty_means=_NOTHING_MEASURED,
)  # fmt: skip

QUALITY_PARTS: Final = Panel(
    id=11, title="What the quality is made of", shown=Shown.LINES, unit=Unit.SHARE, width=12, minimum=0, maximum=1,
    description="Mean of the latest 20 images: agreement of the models, plausibility, completeness, and confidence.",
    answers=_means_of_20(catalogue.QUALITY_COMPONENT),
    colors=colored(catalogue.QUALITY_COMPONENT), empty="Too few images", empty_means=_TOO_FEW,
)  # fmt: skip

TO_LOOK_AT: Final = Panel(
    id=12, title="Images to look at", shown=Shown.TABLE, unit=Unit.SHARE, width=15, decimals=0,
    description="The 10 images of lowest quality, the worst first, with what it is made of. An image is known by its"
    " time only; whoever looks for it finds it in the archive by that.",
    answers=(
        asked(
            ImageTable(metrics={**_QUALITY, **catalogue.QUALITY_COMPONENT}, by=("instance",), count=10, smallest=True)
        ),
        asked(
            PerPeriod(metrics=_QUALITY, statistic=SMALLEST, period=DAY), "lowest of the day", shown=Shown.LINES,
            title="Lowest quality of each day",
        ),
    ),
    empty="Nothing measured", empty_means=_NOTHING_MEASURED,
)  # fmt: skip

FINDINGS: Final = Panel(
    id=20, title="Images with findings, a week", shown=Shown.BARS, unit=Unit.COUNT, width=9, minimum=0,
    description="Images that broke a plausibility rule, by its gravest breach. Hard: something is wrong. Soft:"
    " somebody should look. Info: worth counting, such as legs that differ, for which patients are referred.",
    answers=(
        told(
            f"{grown(catalogue.FINDINGS, 'rule, severity', WEEK.behind)} > 0", "{{severity}}: {{rule}}",
            step=WEEK.window, note=f"{IN_WEEKS} {OF_SCRAPES}",
        ),
        asked(
            PerPeriod(
                metrics={"findings": catalogue.FINDING["value"]}, by=("severity", "rule"), statistic=COUNT, period=WEEK
            ),
            "{{severity}}: {{rule}}", title="Findings a week",
            note="Findings are counted here: one image may have several of one rule.",
        ),
    ),
    colors={"/^hard/": BAD, "/^soft/": NOTE, "/^info/": QUIET},
    empty="None", empty_means="no image broke a rule, or none was processed.",
)  # fmt: skip

LATEST_FINDINGS: Final = Panel(
    id=21, title="Latest findings", shown=Shown.TABLE, unit=Unit.COUNT, width=24, decimals=2,
    description="The latest 20 hard and soft findings: when, which rule, of what, the value, and the limits that it is"
    " outside of, in the rule's own unit (mm, a ratio, or standard deviations).",
    answers=(
        asked(
            ImageTable(
                metrics=catalogue.FINDING, by=("severity", "rule", "subject", "instance"), count=20,
                # Not info: legs that differ are why patients are referred, and would fill the table.
                where={"severity": ("hard", "soft")},
            )
        ),
    ),
    empty="None", empty_means="no image broke a hard or soft rule, or none was processed.",
)  # fmt: skip

_PLACES = {label: str(label) for label in LABELS}
_ODD_IS_RIGHT = "Odd numbers are the right leg's: 1, 2 the femoral heads, 3 to 6 the knees, 7, 8 the ankles."

MISSES: Final = Panel(
    id=30, title="Landmarks that no model found", shown=Shown.GAUGES, unit=Unit.SHARE, width=7, height=9, minimum=0,
    maximum=1, decimals=1, description=f"Share of the range's images, by landmark. {_ODD_IS_RIGHT}",
    answers=(
        asked(
            OverRange(metrics={"missed": catalogue.LANDMARK_MISSES}, by=("landmark",), statistic=MEAN), "{{landmark}}"
        ),
        told(
            f"{grown(catalogue.LANDMARK_MISSES, 'landmark', '[$__range]')}"
            # The misses have a label that images don't: joined on none.
            f" / on () group_left () ({grown(catalogue.SESSIONS, '', '[$__range]', status='completed')} > 0)",
            "{{landmark}}", at_end=True, note="Of all completed images, also those that no model looked at.",
        ),
    ),
    thresholds=(("miss_share", NOTE),), thresholds_from="$miss_share, from which on the alert fires.",
    empty="Nothing measured", empty_means=_NOTHING_MEASURED,
)  # fmt: skip

MODEL_MISSES: Final = Panel(
    id=31, title="Landmarks that a model missed", shown=Shown.TABLE, unit=Unit.SHARE, width=9, height=9, decimals=1,
    description=f"Share of the images that the model saw, by model and landmark. {_ODD_IS_RIGHT}",
    answers=(
        told(
            f"{grown(catalogue.MODEL_LANDMARK_MISSES, 'model, landmark', '[$__range]')}"
            f" / on (model) group_left () ({grown(catalogue.MODEL_INFERENCE, 'model', '[$__range]', 'count')} > 0)",
            "missed", at_end=True,
            note=f"{OF_SCRAPES} A model's very first image is not among them.",
        ),
    ),
    thresholds=(("model_miss_share", NOTE),), thresholds_from="$model_miss_share, from which on the alert fires.",
    empty="Nothing measured", empty_means="no model's predictions or inference times were told in this range.",
)  # fmt: skip


def _of_models(panel_id: int, title: str, description: str, metric: Metric, unit: Unit) -> Panel:
    return Panel(
        id=panel_id, title=title, description=f"{description} Mean of the latest 20 images of each model.",
        shown=Shown.LINES, unit=unit, width=8, height=9, minimum=0,
        answers=_means_of_20({"value": metric}, "model"),
        colors=OF_MODELS, empty="Too few images", empty_means=_TOO_FEW,
    )  # fmt: skip


MODEL_CONFIDENCE: Final = _of_models(
    32, "Confidence by model",
    "How sure each model was of what it detected; it is not calibrated, so watch its course.",
    catalogue.MODEL_CONFIDENCE["average"], Unit.SHARE,
)  # fmt: skip
MODEL_LANDMARKS: Final = _of_models(
    33,
    "Landmarks found by model",
    "How many of the 8 landmarks each model found.",
    catalogue.MODEL_LANDMARKS,
    Unit.COUNT,
)

MODELS: Final = Panel(
    id=34, title="Images by model and version", shown=Shown.TABLE, unit=Unit.COUNT, width=16, height=9,
    description="Which models, of which version and with which weights (the beginning of their checksum), saw this"
    " range's images. Two versions of one model are a change: compare what came before and after it.",
    answers=(
        asked(
            OverRange(metrics={"images": catalogue.MODEL_INFO}, by=("model", "version", "digest"), statistic=COUNT)
        ),
        told(
            f"max by (model, version, digest, instance) ({series(catalogue.MODEL_INFO)})", at_end=True,
            title="Models in use",
        ),
    ),
    empty="Not told", empty_means="the application tells no versions of its models, or no image was processed.",
)  # fmt: skip

_SCORES = {
    "composite": catalogue.ENSEMBLE["cds"], "detection": catalogue.ENSEMBLE["dds"],
    "outlier risk": catalogue.ENSEMBLE["ors"], "localization": catalogue.ENSEMBLE["lds"],
}  # fmt: skip

DISAGREEMENT: Final = Panel(
    id=40, title="Disagreement of the models", shown=Shown.LINES, unit=Unit.SHARE, width=8, minimum=0, maximum=1,
    description="Mean of the latest 20 images, 0 the best: the composite score, and what it is made of. Detection: who"
    " found a landmark at all. Localization: pairs further apart than 2 mm. Outlier risk: how far beyond 10 mm.",
    answers=_means_of_20(_SCORES),
    colors=colored(_SCORES), empty="Too few images", empty_means=_TOO_FEW,
)  # fmt: skip

# In mm, beside scores: 10 and 50 mm are where the outlier risk begins and is full.
_DISTANCE = {"largest": catalogue.ENSEMBLE["max_distance"], "mean": catalogue.ENSEMBLE["mean_distance"]}

DISTANCE: Final = Panel(
    id=41, title="Distance between the models", shown=Shown.POINTS, unit=Unit.MILLIMETERS, width=8,
    minimum=0, decimals=1,
    description="For each image the largest and the mean distance between two models' positions of one landmark.",
    answers=(asked(EachImage(metrics=_DISTANCE)), latest_told(_DISTANCE, shown=Shown.LINES)),
    thresholds=((10, NOTE), (50, BAD)),
    thresholds_from="10 mm, where the outlier risk begins, and 50 mm, where it is full.",
    colors={"largest": NOTE, "mean": QUIET}, empty="Nothing to compare",
    empty_means="no image of this range has two models that found one landmark.",
)  # fmt: skip

DIFFERENCE: Final = Panel(
    id=42, title="The application's own scores beside ours", shown=Shown.TABLE, unit=Unit.COUNT, width=8, decimals=3,
    description="How far the application's own figures lie from those that the monitoring computes of the same"
    " predictions; the largest of the range.",
    answers=(
        asked(OverRange(metrics={"difference": catalogue.DIFFERENCE["ratio"]}, by=("score",), statistic=LARGEST)),
        told(f"max by (score) ({series(catalogue.DIFFERENCE['ratio'])})", "difference", at_end=True),
    ),
    thresholds=(("difference", NOTE),), thresholds_from="$difference, from which on the alert fires.",
    empty="Nothing to compare", empty_means="the application reports no scores of its own.",
)  # fmt: skip

# Not the clamped one: that is exactly 0 in three of ten images, which damps means and hides a shift.
_Z = {"z": catalogue.Z_SCORE_UNCLAMPED}
_Z_FROM = f"{Z_SOFT:g} (soft) and {Z_HARD:g} (hard), the limits of the rule on lengths for age."
_NO_AGE = "no image of this range has an age in the table (1 to 18 years), a sex and a measurement."

Z_SCORES: Final = Panel(
    id=50, title="Lengths for age and sex", shown=Shown.POINTS, unit=Unit.COUNT, width=12, decimals=1,
    description="For each image's femora and tibiae the standard deviations from the mean for age and sex (Anderson,"
    " Messner & Green 1964), by the middle of the completed year of age and without setting small ones to 0.",
    answers=(asked(EachImage(metrics=_Z, by=("measurement",)), "{{measurement}}"), latest_told(_Z, "measurement")),
    base=BAD, thresholds=((-Z_HARD, NOTE), (-Z_SOFT, GOOD), (Z_SOFT, NOTE), (Z_HARD, BAD)), thresholds_from=_Z_FROM,
    colors=_COLORS_OF_LENGTHS, empty="Nothing to compare", empty_means=_NO_AGE,
)  # fmt: skip

# No zero line as a target: patients of such a clinic are not average, so only a change tells.
Z_MEANS: Final = Panel(
    id=51, title="Lengths for age and sex, mean of 20", shown=Shown.LINES, unit=Unit.COUNT, width=12, decimals=1,
    description="The mean of the latest 20 images. A mean that leaves its usual height says that the patients or the"
    " measurements have changed; that it is not 0 says little, since patients of such a clinic are not average.",
    answers=(
        asked(MovingMean(metrics=_Z, by=("measurement",)), "{{measurement}}"),
        asked(
            PerPeriod(metrics=_Z, by=("measurement",), statistic=MEAN, period=WEEK), "{{measurement}}", note=_BY_WEEK,
            title="Lengths for age and sex, mean of the week",
        ),
    ),
    colors=_COLORS_OF_LENGTHS, empty="Too few images", empty_means=f"fewer than 20 images, or {_NO_AGE}",
)  # fmt: skip

_SIDES = {"difference": catalogue.SIDE_DIFFERENCE}

# Without thresholds: a difference of the legs is what patients come for.
SIDE_DIFFERENCES: Final = Panel(
    id=52, title="Right minus left", shown=Shown.POINTS, unit=Unit.MILLIMETERS, width=12, decimals=0,
    description="Each image's difference of the two sides, by bone. A difference alone is no error: patients are"
    " referred for it. A cloud that lies to one side of 0 for long is worth a look.",
    answers=(asked(EachImage(metrics=_SIDES, by=("bone",)), "{{bone}}"), latest_told(_SIDES, "bone")),
    colors=colored(catalogue.BONE.values), empty="Nothing measured", empty_means=_NOTHING_MEASURED,
)  # fmt: skip

_RATIO = {"ratio": catalogue.FEMUR_TIBIA}

FEMUR_TIBIA: Final = Panel(
    id=53, title="Femur to tibia", shown=Shown.POINTS, unit=Unit.COUNT, width=12, decimals=2,
    description="Each image's length of the femur over that of the tibia, by side. It is 1.25 to 1.27 at every age of"
    " the boys' table: far from it, a landmark is likely wrong.",
    answers=(asked(EachImage(metrics=_RATIO, by=("side",)), "{{side}}"), latest_told(_RATIO, "side")),
    base=BAD,
    thresholds=((RATIO_HARD[0], NOTE), (RATIO_SOFT[0], GOOD), (RATIO_SOFT[1], NOTE), (RATIO_HARD[1], BAD)),
    thresholds_from=f"{RATIO_SOFT[0]}-{RATIO_SOFT[1]} (soft) and {RATIO_HARD[0]}-{RATIO_HARD[1]} (hard), the rule's.",
    colors=colored(catalogue.SIDE.values), empty="Nothing measured", empty_means=_NOTHING_MEASURED,
)  # fmt: skip

_ERROR = {"error": catalogue.READING_ERROR}
_NO_READINGS = "no reader's measurement is known of this range's images."

# At the image's time, not the reading's: else an old fault would show on the day on which it was read.
READING_ERRORS: Final = Panel(
    id=60, title="Difference from the readers", shown=Shown.POINTS, unit=Unit.MILLIMETERS, width=24, height=9,
    decimals=1,
    description="For each image that readers measured, the application's length minus the readers' mean. It shows at"
    " the image's time, also where the reading came later.",
    answers=(
        asked(EachImage(metrics=_ERROR, by=("measurement",)), "{{measurement}}"),
        latest_told(_ERROR, "measurement"),
    ),
    base=NOTE, thresholds=((-10, GOOD), (10, NOTE)),
    thresholds_from="10 mm, within which the limits of agreement must lie.",
    colors=_COLORS_OF_LENGTHS, empty="No readings", empty_means=_NO_READINGS,
)  # fmt: skip

_FIGURES = {
    "pairs": "pairs", "bias": "bias", "lower limit": "lower_limit", "upper limit": "upper_limit",
    "mean error": "mae", "ICC": "icc", "beyond 5 mm": "beyond_5_mm", "beyond 10 mm": "beyond_10_mm",
    "criteria not met": "criteria_failed",
}  # fmt: skip
# What InfluxQL can compute of errors; the correlation needs both sides, of which points hold the difference.
_OF_RANGE = {"pairs": COUNT, "bias": MEAN, "lower limit": LOWER_LIMIT, "upper limit": UPPER_LIMIT}

AGREEMENT: Final = Panel(
    id=61, title="Agreement with readers, by measurement", shown=Shown.TABLE, unit=Unit.COUNT, width=24, height=9,
    decimals=2,
    description="Over all images that readers measured: bias, 95 % limits of agreement (Bland and Altman), mean"
    " absolute error, intraclass correlation ICC(2,1), shares beyond 5 and 10 mm. To be judged from 30 pairs, a"
    " verdict from 100.",
    answers=(
        Answer(
            queries=tuple(
                Totals(
                    expression=f"max by (measurement) ({series(catalogue.VALIDATION[key])})", legend=name, at_end=True
                )
                for name, key in _FIGURES.items()
            )
        ),
        Answer(
            queries=tuple(
                Images(
                    question=OverRange(
                        metrics={name: catalogue.READING_ERROR}, by=("measurement",), statistic=statistic
                    )
                )
                for name, statistic in _OF_RANGE.items()
            ),
            note="Of this range's images here, and the store's own figures are of all.",
        ),
    ),
    units={
        "pairs": Unit.COUNT, "beyond 5 mm": Unit.SHARE, "beyond 10 mm": Unit.SHARE, "criteria not met": Unit.COUNT,
        **dict.fromkeys(("bias", "lower limit", "upper limit", "mean error"), Unit.MILLIMETERS),
    },
    empty="No readings", empty_means=_NO_READINGS,
)  # fmt: skip

# What must be answered first, then what explains it; a panel keeps its id for good.
MEASUREMENT_PAGE: Final = Dashboard(
    uid="leglength-measurements",
    title="Leg length: measurements",
    description="Can the measurements be trusted, are the models drifting, and do readers agree?",
    rows=(
        Row("At a glance", (CLINICAL_ALERTS, QUALITY_NOW, HARD_FINDINGS, VERDICT)),
        charts("clinical", "measurements", 70),
        Row("Quality", (QUALITY_BY_IMAGE, QUALITY_PARTS)),
        Row("Findings", (TO_LOOK_AT, FINDINGS, LATEST_FINDINGS)),
        Row("Landmarks and models", (MISSES, MODEL_MISSES, MODEL_CONFIDENCE, MODEL_LANDMARKS, MODELS)),
        Row("Agreement of the models", (DISAGREEMENT, DISTANCE, DIFFERENCE)),
        Row("Plausibility", (Z_SCORES, Z_MEANS, SIDE_DIFFERENCES, FEMUR_TIBIA)),
        Row("Readers", (READING_ERRORS, AGREEMENT)),
    ),
    alarms_of="clinical",
)
