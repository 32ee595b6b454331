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
from dataclasses import dataclass, field, fields
from math import exp, fsum, log
from typing import Final

from monitoring.domain.anatomy import LABELS, LEG, MEASUREMENTS, is_number, landmarks_of, side_and_bone
from monitoring.domain.disagreement import Disagreement, PointDisagreement
from monitoring.domain.plausibility import Finding

QUALITY_VERSION: Final = 1

WEIGHTS: Final[Mapping[str, float]] = {
    "agreement": 0.35,  # independent models that agree are the best evidence there is without a reader
    "plausibility": 0.30,  # independent of the models altogether, but wide: silent about errors of a few mm
    "completeness": 0.20,  # certain, but says nothing of what was measured
    "confidence": 0.15,  # detectors' scores aren't calibrated
}
FULL_DISAGREEMENT_MM: Final = 10.0
SOFT_FACTOR: Final = 0.5


@dataclass(frozen=True, slots=True)
class Components:
    """What a score is made of, each 0..1 with 1 the best; None is not known."""

    agreement: float | None = None
    plausibility: float | None = None
    completeness: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """The image's score with its components, and a score for each measurement that there is."""

    image: float | None
    components: Components
    measurements: Mapping[str, float] = field(default_factory=dict)
    version: int = QUALITY_VERSION


def score(components: Components) -> float | None:
    """The weighted geometric mean of the known components; never falls when one of them rises. None when none is known.

    Components outside 0..1 are taken to the nearer end, those that aren't numbers are unknown.
    """
    values = {item.name: getattr(components, item.name) for item in fields(components)}
    known = {name: min(max(value, 0.0), 1.0) for name, value in values.items() if is_number(value)}
    if not known:
        return None
    if min(known.values()) <= 0.0:
        return 0.0
    total = fsum(WEIGHTS[name] for name in known)
    return min(exp(fsum(WEIGHTS[name] / total * log(value) for name, value in known.items())), 1.0)


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
    if ensemble is not None and ensemble.models == 0:
        ensemble = fused = None
    if fused is None and not names:
        return Quality(None, Components())
    components = Components(
        agreement=_image_agreement(ensemble),
        plausibility=None if findings is None else _plausibility(findings),
        completeness=_completeness(fused, names),
        confidence=_mean([confidence for _, _, confidence in (fused or {}).values()]),
    )
    scores = ((name, score(_of_measurement(name, ensemble, fused, findings))) for name in names)
    return Quality(score(components), components, {name: value for name, value in scores if value is not None})


def _of_measurement(
    name: str,
    ensemble: Disagreement | None,
    fused: Mapping[int, tuple[float, float, float]] | None,
    findings: Sequence[Finding] | None,
) -> Components:
    confidences = [] if fused is None else [fused[label][2] if label in fused else 0.0 for label in landmarks_of(name)]
    return Components(
        agreement=_agreement(name, ensemble),
        plausibility=None if findings is None else _plausibility([item for item in findings if concerns(item, name)]),
        confidence=min(confidences, default=None),
    )


def concerns(finding: Finding, measurement: str) -> bool:
    """Whether a finding casts doubt on a measurement; see the module's docstring."""
    if finding.landmark is not None:
        labels = landmarks_of(measurement)
        both_sides = finding.rule == "sides_crossed"
        return finding.landmark in labels or (both_sides and finding.landmark + 1 in labels)
    named = side_and_bone(finding.measurement or "")
    parts = side_and_bone(measurement)
    if finding.measurement is None or named is None or parts is None:
        return finding.measurement in (None, measurement)
    return named[0] == parts[0] and (named[1] == parts[1] or LEG in (named[1], parts[1]))


def point_agreement(point: PointDisagreement) -> float:
    """How far the models agree about one landmark, 0..1."""
    detected = 1.0 - point.detection_disagreement
    if point.spatial_uncertainty_mm is None:
        return detected
    return detected * (1.0 - min(point.spatial_uncertainty_mm / FULL_DISAGREEMENT_MM, 1.0))


def _agreement(measurement: str, ensemble: Disagreement | None) -> float | None:
    if ensemble is None or ensemble.models < 2:
        return None
    return min(point_agreement(ensemble.points[label]) for label in landmarks_of(measurement))


def _image_agreement(ensemble: Disagreement | None) -> float | None:
    known = (_agreement(name, ensemble) for name in MEASUREMENTS)
    return _mean([value for value in known if value is not None])


def _completeness(fused: Mapping[int, object] | None, measured: Sequence[str]) -> float:
    of_measurements = len(measured) / len(MEASUREMENTS)
    return of_measurements if fused is None else min(of_measurements, len(fused) / len(LABELS))


def _plausibility(findings: Sequence[Finding]) -> float:
    if any(finding.severity == "hard" for finding in findings):
        return 0.0
    return SOFT_FACTOR ** len({finding.rule for finding in findings if finding.severity == "soft"})


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None
