"""How far a measurement, or a whole image's measurements, can be trusted: one score in 0 (not at all) to 1.

The score is a weighted geometric mean of up to four components, each 0..1 and 1 at best::

    score = product of component ** (weight / sum of the weights of the known components)

Geometric, because the components are not interchangeable: a swapped side can't be made good by confident models,
so that one component at 0 makes the score 0. A component that is not known takes no part; None when none is.

- **agreement** between the models. Of a landmark: (1 - detection_disagreement) (1 - min(spatial uncertainty / 10 mm,
  1)), 10 mm being the limits of agreement that the validation demands, the second factor only where it is known. Of a
  measurement: that of its worst landmark. Of an image: the mean over its six measurements. Unknown with fewer than
  two models, which have nobody to agree with.
- **confidence** of the fused landmarks: of a measurement the lowest among its landmarks, 0 for one that no model
  found (whatever was measured then rests on nothing), of an image the mean.
- **completeness** of an image: found landmarks of 8, or measurements of 6, whichever share is lower. A measurement
  by itself either exists or has no score.
- **plausibility**: 0 with a hard finding, else 0.5 to the power of the number of different soft rules broken.
  ``info`` doesn't count. A finding concerns a measurement that it names, that holds its landmark, or that shares a
  bone with it (a leg with its femur and tibia), and every one when it names nothing.

The formula is the module's own and its weights are choices; it orders images for review and follows drift, and is no
probability of an error. A change of formula or weights raises :data:`QUALITY_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, fsum, log
from typing import Final

from msgspec import Struct

from monitoring.domain.anatomy import LABELS, LEG, MEASUREMENTS, SIDE_AND_BONE, landmarks_of
from monitoring.domain.disagreement import Disagreement, PointDisagreement
from monitoring.domain.plausibility import Finding
from monitoring.domain.statistics import is_number, mean

QUALITY_VERSION: Final = 1

WEIGHTS: Final[Mapping[str, float]] = {
    "agreement": 0.35,  # independent models that agree are the best evidence there is without a reader
    "plausibility": 0.30,  # independent of the models altogether, but wide: silent about errors of a few mm
    "completeness": 0.20,  # certain, but says nothing of what was measured
    "confidence": 0.15,  # detectors' scores aren't calibrated
}
FULL_DISAGREEMENT_MM: Final = 10.0
SOFT_FACTOR: Final = 0.5


class Components(Struct, frozen=True):
    """What a score is made of, each 0..1 with 1 the best; None is not known."""

    agreement: float | None = None
    plausibility: float | None = None
    completeness: float | None = None
    confidence: float | None = None


class Quality(Struct, frozen=True):
    """The image's score with its components, and a score for each measurement that there is."""

    image: float | None
    components: Components
    measurements: Mapping[str, float] = {}
    version: int = QUALITY_VERSION


_COMPONENTS: Final = Components.__struct_fields__


def score(components: Components) -> float | None:
    """The weighted geometric mean of the known components; never falls when one of them rises. None when none is known.

    Components outside 0..1 are taken to the nearer end, those that aren't numbers are unknown.
    """
    values = ((name, getattr(components, name)) for name in _COMPONENTS)
    known = {name: min(max(value, 0.0), 1.0) for name, value in values if is_number(value)}
    if not known:
        return None
    if min(known.values()) <= 0.0:
        return 0.0
    total = fsum([WEIGHTS[name] for name in known])
    return min(exp(fsum([WEIGHTS[name] / total * log(value) for name, value in known.items()])), 1.0)


def assess(
    ensemble: Disagreement | None,
    fused: Mapping[int, tuple[float, float, float]] | None,
    measurements_mm: Mapping[str, float],
    findings: Sequence[Finding] | None,
) -> Quality:
    """Score an image and its measurements (mm).

    ``ensemble`` and ``fused`` come from :mod:`monitoring.domain.disagreement`, both None when no model's predictions
    are known; ``findings`` from :func:`monitoring.domain.plausibility.check`, None when nothing was checked. An image
    of which neither predictions nor a measurement are known has no score.
    """
    names = [name for name in MEASUREMENTS if is_number(measurements_mm.get(name))]
    # No model at all is not known, and not bad; models that found nothing have fused nothing, and score 0.
    if ensemble is not None and ensemble.models == 0:
        ensemble = fused = None
    if fused is None and not names:
        return Quality(None, Components())
    agreements: dict[str, float] = {}
    if ensemble is not None and ensemble.models > 1:
        of_points = {label: point_agreement(point) for label, point in ensemble.points.items()}
        agreements = {name: min([of_points[label] for label in landmarks_of(name)]) for name in MEASUREMENTS}
    completeness = len(names) / len(MEASUREMENTS)
    components = Components(
        agreement=mean(list(agreements.values())) if agreements else None,
        plausibility=_plausibility(findings),
        completeness=completeness if fused is None else min(completeness, len(fused) / len(LABELS)),
        confidence=mean([confidence for _, _, confidence in fused.values()]) if fused else None,
    )
    scores: dict[str, float] = {}
    for name in names:
        of_landmarks = [] if fused is None else [fused[i][2] if i in fused else 0.0 for i in landmarks_of(name)]
        own = Components(
            agreement=agreements.get(name),
            plausibility=_plausibility(None if findings is None else [it for it in findings if concerns(it, name)]),
            confidence=min(of_landmarks, default=None),
        )
        if (value := score(own)) is not None:
            scores[name] = value
    return Quality(score(components), components, scores)


def concerns(finding: Finding, measurement: str) -> bool:
    """Whether a finding casts doubt on a measurement; see the module's docstring."""
    if finding.landmark is not None:
        labels = landmarks_of(measurement)
        both_sides = finding.rule == "sides_crossed"
        return finding.landmark in labels or (both_sides and finding.landmark + 1 in labels)
    named, parts = SIDE_AND_BONE.get(finding.measurement or ""), SIDE_AND_BONE.get(measurement)
    if named is None or parts is None:
        return finding.measurement in (None, measurement)
    return named[0] == parts[0] and (named[1] == parts[1] or LEG in (named[1], parts[1]))


def point_agreement(point: PointDisagreement) -> float:
    """How far the models agree about one landmark, 0..1."""
    detected = 1.0 - point.detection_disagreement
    if point.spatial_uncertainty_mm is None:
        return detected
    return detected * (1.0 - min(point.spatial_uncertainty_mm / FULL_DISAGREEMENT_MM, 1.0))


def _plausibility(findings: Sequence[Finding] | None) -> float | None:
    if findings is None:
        return None
    if any(finding.severity == "hard" for finding in findings):
        return 0.0
    return SOFT_FACTOR ** len({finding.rule for finding in findings if finding.severity == "soft"})
