"""A phantom's picture: tissue thickness to pixel values, with the film's faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from analysis.landmarks import LABEL, Joint, Side, Spacing
from analysis.phantom.anatomy import Leg, draw_leg, draw_pelvis, new_legs
from analysis.phantom.canvas import Grid, Layer
from analysis.phantom.growth import draw_lengths_mm

Pixels = npt.NDArray[np.uint16]
_SPACINGS_MM: Final = (0.143, 0.16, 0.175, 0.2, 0.23, 0.25)
_WANTED_ROWS: Final = 3400
_BONE: Final = np.float32(0.026)
_SOFT: Final = np.float32(0.0075)
_FULL_SCALE: Final = 4095
_BLUR_MM: Final = 0.35
_MARGIN_MM: Final = 20.0


@dataclass(frozen=True)
class Phantom:
    """A radiograph with its truth."""

    pixels: Pixels
    spacing: Spacing
    inverted: bool
    """Stored as MONOCHROME1: bone is dark in the stored values."""
    sex: str
    age_years: int
    landmarks: dict[int, tuple[float, float]]
    """(x, y) in pixels by label."""
    lengths_mm: dict[str, float]


def make_phantom(rng: np.random.Generator, spacing: Spacing | None = None, missing: Side | None = None) -> Phantom:
    """A bilateral long-leg radiograph of a child of 2 to 17.

    `spacing` None picks one that gives about 3400 rows; `missing` leaves out one leg.
    """
    sex, age = str(rng.choice(["M", "F"])), int(rng.integers(2, 18))
    femur, tibia = draw_lengths_mm(sex, age, rng)
    height, width = 1.36 * femur + tibia + 0.16 * femur + 2 * _MARGIN_MM, 0.8 * femur + 70  # of the exposed field
    grid = spacing or _pick_spacing(height, rng)
    legs = new_legs(width / 2 + rng.normal(0, 4), 0.36 * femur + _MARGIN_MM, femur, tibia, age, rng)
    shown = [leg for leg in legs if leg.side is not missing]
    rows, columns = round(height / grid.row_mm), round(width / grid.column_mm)
    density = _density(legs, shown, rows, columns, grid)
    inverted = bool(rng.random() < 0.25)
    pixels = _expose(density, inverted, grid, rng)
    return Phantom(pixels, grid, inverted, sex, age, _pixel_landmarks(shown, grid), _lengths(shown))


def _pick_spacing(height_mm: float, rng: np.random.Generator) -> Spacing:
    row_mm = min(_SPACINGS_MM, key=lambda spacing: abs(height_mm / spacing - _WANTED_ROWS))
    # Some scanners resample along one axis; reading the two values the wrong way round then shows.
    return Spacing(row_mm, row_mm * float(rng.choice([1.0, 1.0, 1.0, 0.9, 1.15])))


def _density(legs: list[Leg], shown: list[Leg], rows: int, columns: int, spacing: Spacing) -> Grid:
    """Attenuation along each ray; the pelvis is whole even where a leg is missing."""
    bone, behind, soft = (Layer(rows, columns, spacing) for _ in range(3))
    draw_pelvis(legs, behind, soft)
    for leg in shown:
        draw_leg(leg, bone, behind, soft)
    bones = bone.thickness + np.float32(0.7) * behind.thickness
    density: Grid = _BONE * bones + _SOFT * soft.thickness
    return density


def _expose(density: Grid, inverted: bool, spacing: Spacing, rng: np.random.Generator) -> Pixels:
    """Blur, an uneven beam, contrast, markers and noise, as 12 bit values."""
    image = ndimage.gaussian_filter(density, (_BLUR_MM / spacing.row_mm, _BLUR_MM / spacing.column_mm))
    heel = rng.uniform(-0.12, 0.12)  # the beam is weaker at the anode's side
    image *= np.linspace(1 - heel, 1 + heel, image.shape[0], dtype=np.float32)[:, None]
    image /= np.percentile(image[::8, ::8], 99.8)
    gain, offset = rng.uniform(0.55, 0.8), rng.uniform(0.05, 0.15)
    image = np.float32(gain) * image ** np.float32(rng.uniform(0.75, 1.05)) + np.float32(offset)
    _stamp_markers(image, spacing)
    grain = rng.uniform(0.006, 0.02)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(grain)
    values = np.clip(image, 0, 1) * _FULL_SCALE
    stored: Pixels = (_FULL_SCALE - values if inverted else values).astype(np.uint16)
    return stored


def _stamp_markers(image: Grid, spacing: Spacing) -> None:
    """Lead letters: R at the image's left, L at its right, as the convention has it."""
    height = round(14 / spacing.row_mm)
    font = ImageFont.load_default(height)
    for letter, share in (("R", 0.05), ("L", 0.95)):
        sign = Image.new("L", (height, round(height * 1.3)))
        ImageDraw.Draw(sign).text((height / 2, height * 0.65), letter, fill=255, font=font, anchor="mm")
        top, left = round(0.22 * image.shape[0]), round(share * (image.shape[1] - height))
        block = image[top : top + sign.height, left : left + sign.width]
        lead = np.asarray(sign, dtype=np.float32)[: block.shape[0], : block.shape[1]] / 255
        np.maximum(block, lead, out=block)


def _pixel_landmarks(legs: list[Leg], spacing: Spacing) -> dict[int, tuple[float, float]]:
    return {
        label: (x / spacing.column_mm - 0.5, y / spacing.row_mm - 0.5)
        for leg in legs
        for label, (x, y) in sorted(leg.landmarks().items())
    }


def _lengths(legs: list[Leg]) -> dict[str, float]:
    """The true lengths in mm: vertical distances between the landmarks."""
    lengths: dict[str, float] = {}
    for leg in legs:
        places = {joint: leg.landmarks()[LABEL[leg.side, joint]][1] for joint in Joint}
        knee = (places[Joint.LATERAL_CONDYLE] + places[Joint.MEDIAL_CONDYLE]) / 2
        femur, tibia = knee - places[Joint.HEAD], places[Joint.ANKLE] - knee
        lengths |= {f"PLL_{leg.side}_FEM": femur, f"PLL_{leg.side}_TIB": tibia}
        lengths[f"PLL_{leg.side}_LGL"] = femur + tibia
    return lengths


def make_chest(rng: np.random.Generator) -> Phantom:
    """A chest-like picture with a good spacing and no leg in it."""
    spacing = Spacing(0.2, 0.2)
    rows, columns = 1800, 1800
    bone, soft = Layer(rows, columns, spacing), Layer(rows, columns, spacing)
    soft.ball(180, 200, 170, 230, 0)
    lungs = Layer(rows, columns, spacing)
    for x in (110, 250):
        lungs.ball(x, 160, 60, 120, 0)
    soft.thickness = np.maximum(soft.thickness - np.float32(2.2) * lungs.thickness, 0)
    soft.ball(200, 230, 62, 60, 0)
    for row in range(9):
        for sign in (-1, 1):
            y = 60 + 26 * row
            bone.rod((180 + sign * 16, y), (180 + sign * 125, y + 34), 5.5)
    bone.rod((180, 0), (180, 340), 15)
    density = _BONE * bone.thickness + _SOFT * soft.thickness
    return Phantom(_expose(density, False, spacing, rng), spacing, False, "M", 9, {}, {})
