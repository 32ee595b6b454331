"""The legs of a phantom: bones, soft tissue and the true landmarks, all in mm.

Proportions follow the femur: 1.0 is an adult's of 450 mm. Landmarks are the centre of the femoral
head, the lowest point of each condyle and the middle of the tibia's joint surface at the ankle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.landmarks import LABEL, Joint, Side
from analysis.phantom.canvas import Knot, Layer

_ADULT_FEMUR_MM: Final = 450.0
_GROWN_AGE: Final = 16
_KNEE_GAP: Final = 5.5
_ANKLE_GAP: Final = 4.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Leg:
    """One leg: where its hip is, how long its bones are, and how it stands."""

    side: Side
    head: Point
    femur_mm: float
    tibia_mm: float
    age_years: int
    lean: float
    """How far the knee and ankle move medially per mm down."""
    joint_tilt: float
    """Rise of the knee's joint line per mm, medially."""

    @property
    def size(self) -> float:
        """1.0 for an adult's leg."""
        return self.femur_mm / _ADULT_FEMUR_MM

    @property
    def medial(self) -> int:
        """+1 where medial is to the right of the image: the patient's right leg."""
        return 1 if self.side is Side.RIGHT else -1

    @property
    def knee(self) -> Point:
        """The middle of the condyles' lowest points."""
        return self.head[0] + self.medial * self.lean * self.femur_mm, self.head[1] + self.femur_mm

    @property
    def ankle(self) -> Point:
        """The middle of the tibia's lower joint surface."""
        return self.knee[0] + self.medial * self.lean * self.tibia_mm * 0.6, self.knee[1] + self.tibia_mm

    def condyle(self, medially: int) -> Point:
        """The lowest point of the medial (+1) or lateral (-1) condyle."""
        offset = 20.0 * self.size * medially
        return self.knee[0] + self.medial * offset, self.knee[1] - self.joint_tilt * offset

    def landmarks(self) -> dict[int, Point]:
        """The four true landmarks by label, (x, y) in mm."""
        places = {
            Joint.HEAD: self.head,
            Joint.LATERAL_CONDYLE: self.condyle(-1),
            Joint.MEDIAL_CONDYLE: self.condyle(+1),
            Joint.ANKLE: self.ankle,
        }
        return {LABEL[self.side, joint]: place for joint, place in places.items()}


def new_legs(
    centre_x: float, head_y: float, femur_mm: float, tibia_mm: float, age: int, rng: np.random.Generator
) -> list[Leg]:
    """Both legs of one child, slightly unlike each other as real ones are."""
    half_width = 0.19 * femur_mm + 8
    legs = []
    for side, sign in ((Side.RIGHT, -1), (Side.LEFT, 1)):
        scale = 1 + rng.normal(0, 0.008)
        head = (centre_x + sign * half_width, head_y + rng.normal(0, 4))
        lean, tilt = float(rng.uniform(-0.01, 0.03)), float(rng.uniform(-0.04, 0.04))
        legs.append(Leg(side, head, femur_mm * scale, tibia_mm * (1 + rng.normal(0, 0.008)), age, lean, tilt))
    return legs


def draw_leg(leg: Leg, bone: Layer, behind: Layer, soft: Layer) -> None:
    """Draw all of one leg; `behind` holds the bones that overlap others on the film."""
    _draw_femur(leg, bone)
    _draw_tibia(leg, bone)
    _draw_foot(leg, bone)
    _draw_fibula(leg, behind)
    _draw_growth_plates(leg, bone)
    _draw_leg_soft_tissue(leg, soft)


def _draw_femur(leg: Leg, bone: Layer) -> None:
    (hx, hy), (kx, ky), s, m = leg.head, leg.knee, leg.size, leg.medial
    bone.ball(hx, hy, 23 * s, 23 * s, 0.9)
    trochanter = (hx - m * 46 * s, hy + 22 * s)
    bone.rod((hx, hy), (hx - m * 38 * s, hy + 34 * s), 14 * s, 0.8)
    bone.ball(*trochanter, 16 * s, 24 * s, 0.85)
    bone.tube(
        [
            Knot(hx - m * 42 * s, hy + 18 * s, 16 * s, 0.85),
            Knot(hx - m * 42 * s, hy + 70 * s, 18 * s, 0.75),
            Knot(hx - m * 38 * s, hy + 120 * s, 14 * s, 0.55),
            Knot((hx - m * 30 * s + kx) / 2, (hy + ky) / 2, 13 * s, 0.5),
            Knot(kx, ky - 95 * s, 17 * s, 0.7),
            Knot(kx, ky - 45 * s, 33 * s, 0.88),
            Knot(kx, ky - 20 * s, 40 * s, 0.92),
        ]
    )
    for medially in (-1, 1):
        x, y = leg.condyle(medially)
        bone.ball(x, y - 20 * s, 21 * s, 20 * s, 0.9)


def _draw_tibia(leg: Leg, bone: Layer) -> None:
    (kx, ky), (ax, ay), s = leg.knee, leg.ankle, leg.size
    top = ky + _KNEE_GAP
    bone.tube(
        [
            Knot(kx, top, 38 * s, 0.92),
            Knot(kx, top + 20 * s, 36 * s, 0.92),
            Knot(kx, top + 55 * s, 21 * s, 0.8),
            Knot(kx * 0.7 + ax * 0.3, ky + 0.33 * leg.tibia_mm, 14 * s, 0.5),
            Knot(kx * 0.3 + ax * 0.7, ky + 0.7 * leg.tibia_mm, 11 * s, 0.5),
            Knot(ax, ay - 40 * s, 14 * s, 0.7),
            Knot(ax, ay - 8 * s, 21 * s, 0.9),
            Knot(ax, ay, 21 * s, 0.9),
        ]
    )
    # The hard plate under the cartilage is what makes joint lines so clear on film.
    for knee_x in (kx - 19 * s, kx + 19 * s):
        bone.ball(knee_x, top + 2 * s, 18 * s, 2.5 * s, 0)
    bone.ball(ax, ay - 2 * s, 17 * s, 2.2 * s, 0)
    medial_malleolus = (ax + leg.medial * 19 * s, ay + 6 * s)
    bone.ball(*medial_malleolus, 6 * s, 11 * s, 0.8)


def _draw_foot(leg: Leg, bone: Layer) -> None:
    (ax, ay), s = leg.ankle, leg.size
    bone.ball(ax, ay + _ANKLE_GAP + 13 * s, 19 * s, 13 * s, 0.85)
    bone.ball(ax - leg.medial * 2 * s, ay + _ANKLE_GAP + 36 * s, 22 * s, 17 * s, 0.85)
    bone.ball(ax - leg.medial * 14 * s, ay + _ANKLE_GAP + 46 * s, 30 * s, 12 * s, 0.85)


def _draw_fibula(leg: Leg, behind: Layer) -> None:
    (kx, ky), (ax, ay), s, lateral = leg.knee, leg.ankle, leg.size, -leg.medial
    behind.tube(
        [
            Knot(kx + lateral * 34 * s, ky + 18 * s, 9 * s, 0.8),
            Knot(kx + lateral * 33 * s, ky + 40 * s, 6 * s, 0.5),
            Knot((kx + ax) / 2 + lateral * 29 * s, (ky + ay) / 2, 6 * s, 0.5),
            Knot(ax + lateral * 24 * s, ay - 20 * s, 7 * s, 0.6),
            Knot(ax + lateral * 24 * s, ay + 14 * s, 8 * s, 0.8),
        ]
    )


def _draw_growth_plates(leg: Leg, bone: Layer) -> None:
    """Open physes: dark slits that a careless detector takes for joint lines."""
    if leg.age_years >= _GROWN_AGE:
        return
    (kx, ky), (ax, ay), s = leg.knee, leg.ankle, leg.size
    bone.cut(kx, ky - 27 * s, 42 * s, 1.8, 0.45)
    bone.cut(kx, ky + _KNEE_GAP + 17 * s, 40 * s, 1.6, 0.5)
    bone.cut(ax, ay - 11 * s, 24 * s, 1.5, 0.5)


def _draw_leg_soft_tissue(leg: Leg, soft: Layer) -> None:
    (hx, hy), (kx, ky), (ax, ay), s, m = leg.head, leg.knee, leg.ankle, leg.size, leg.medial
    soft.tube(
        [
            Knot(hx - m * 10 * s, hy - 95 * s, 15 * s, 0),
            Knot(hx - m * 14 * s, hy - 20 * s, 82 * s, 0),
            Knot(hx - m * 12 * s, hy + 90 * s, 80 * s, 0),
            Knot((hx + kx) / 2, (hy + ky) / 2, 68 * s, 0),
            Knot(kx, ky - 20 * s, 56 * s, 0),
            Knot(kx, ky + 30 * s, 54 * s, 0),
            Knot(kx * 0.7 + ax * 0.3, ky + 0.3 * leg.tibia_mm, 58 * s, 0),
            Knot(ax, ay - 60 * s, 34 * s, 0),
            Knot(ax, ay, 37 * s, 0),
            Knot(ax, ay + 68 * s, 42 * s, 0),
        ]
    )


def draw_pelvis(legs: list[Leg], behind: Layer, soft: Layer) -> None:
    """Both hip bones, the sacrum and the trunk around them."""
    right, left = legs[0].head, legs[1].head
    s, middle = legs[0].size, (right[0] + left[0]) / 2
    for leg in legs:
        _draw_hip_bone(leg, middle, behind)
    top = min(right[1], left[1])
    behind.ball(middle, top - 55 * s, 38 * s, 50 * s, 0.9, 0.4)
    soft.ball(middle, top - 20 * s, 1.15 * (left[0] - middle) + 95 * s, 150 * s, 0, 0.7)


def _draw_hip_bone(leg: Leg, middle: float, behind: Layer) -> None:
    (x, y), s, m = leg.head, leg.size, leg.medial
    behind.arc((x, y), (23 * s + 4, 23 * s + 4 + 9 * s), 16 * s, y + 6 * s)
    behind.ball(x + m * 6 * s, y - 75 * s, 48 * s, 52 * s, 0.96, 0.35)
    behind.rod((x + m * 22 * s, y + 14 * s), (middle - m * 6 * s, y + 32 * s), 9 * s)
    behind.rod((x + m * 26 * s, y + 26 * s), (x + m * 34 * s, y + 62 * s), 10 * s)
    behind.rod((x + m * 34 * s, y + 64 * s), (middle - m * 8 * s, y + 40 * s), 7 * s)
