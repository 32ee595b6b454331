"""Names that a host gives: plain ones as they are, others made plain, what looks like an identity refused.

Two names never become one, and a name becomes the same one at each call: what is left of it is followed by a hash of
it. Which words may be left is a list, since any other could be a person's: a name with one of those is a keyed hash
alone, or none without a key. Codes (reasons, issues) are not made plain: hosts write sentences there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from monitoring.records import coerce

Pseudonym = Callable[[str], str]
"""A text's keyed hash, in hexadecimal digits; "" without a key."""

_LONGEST = 128
_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[^A-Za-z0-9.\-]+")
_DIGITS = re.compile(r"\d{6}")
_SIGNS = {"%": " percent ", "°": " degrees ", "µ": " micro ", "²": "2", "³": "3"}
_LETTERS = str.maketrans(
    "0123456789abcdef", "abcdefghijklmnop"
)  # digits of a hash would look like a number of somebody's

_WORDS = """
age angle area axis bone bones cartilage cobb contrast density depth deviation diameter difference discrepancy distance
duration exposure height hip knee ankle femur fibula foot growth hand humerus joint landmark landmarks leg length limb
maturity mechanical mineral offset pelvis plate position quality radius ratio rotation scale size skeletal spacing spine
stage thickness tibia ulna vertebra volume weight width wrist tilt slope torsion

left right anterior posterior lateral medial proximal distal upper lower total mean median average minimum maximum min
max std sd sum count number index score error residual loss confidence probability uncertainty accuracy overlap
agreement dice iou noise signal sharpness blur brightness saturation entropy absolute relative raw corrected
calibrated estimated expected reference image images pixel pixels point points box boxes label labels class classes
batch queue cache memory predicted time rate threshold level grade percentile of per and or to in by the vs

mm cm um millimeter millimeters millimetre millimetres centimeter centimeters centimetre centimetres inch inches year
years month months week weeks day days hour hours minute minutes second seconds ms ns percent degree degrees deg radian
radians rad kg mg gram grams kilogram kilograms hu hounsfield unit units byte bytes kb mb gb hz khz micro volt kv kvp ma
mas dose gy mgy sv msv

model models ensemble fold net network densenet resnet resnext hrnet unet vnet segnet efficientnet mobilenet inception
xception vgg alexnet vit swin transformer mask rcnn faster fast retinanet yolo detr convnext deeplab fpn backbone
encoder decoder head small medium large tiny base version load loading preprocessing preprocess inference
postprocessing postprocess measurement segmentation detection classification regression registration normalization
resize crop export import save report dicom generation training test validation
"""
WORDS = frozenset(_WORDS.split())
"""What is measured, which and how, in which unit, by which model and in which stage."""


_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,47}\Z")
# A UID has more numbers than a version, a birth date eight digits, however they are parted.
_NO_VERSION = re.compile(
    r"\d+([._+\-]\d+){4}|\d{6}|(19|20)\d\d[._+\-][01]?\d[._+\-][0-3]?\d|[0-3]?\d[._+\-][01]?\d[._+\-](19|20)\d\d"
)
_COMMIT = re.compile(r"g?(?=[0-9]*[a-f])[0-9a-f]{7,40}\Z")
_VERSION_WORDS = frozenset(
    {
        "alpha", "beta", "build", "commit", "dev", "final", "git", "latest", "post", "pre", "release", "rev", "stable",
        "unknown",
    }
)  # fmt: skip
_DIGEST = re.compile(r"(?:sha(?:1|256|512):)?((?=[0-9]*[a-f])[0-9a-f]{12,128})\Z", re.IGNORECASE)
_SHORT_DIGEST = re.compile(r"[0-9a-f]{12}")


def version_code(value: Any) -> str | None:
    """``value`` when it can be a software's version: ``2.1.0``, ``v3``, ``1.4.0-rc1+g3f2a91c``; None otherwise.

    Parts that are words must be known ones, since any other could be a person's name.
    """
    text = coerce.plain_text(value)
    if not _VERSION.match(text):
        return None
    # A commit's digits are nobody's number.
    plain = _WORD.sub(lambda word: "g" if _COMMIT.match(word[0]) else word[0], text)
    words = re.findall(r"[A-Za-z0-9]+", plain)
    is_version = all(word.lower().rstrip("0123456789") in _VERSION_WORDS or _is_technical(word) for word in words)
    return text if is_version and not _NO_VERSION.search(plain) else None


def digest_code(value: Any) -> str | None:
    """``value`` when it can be a file's checksum, as 12 to 128 hexadecimal digits in lower case; None otherwise."""
    found = _DIGEST.match(coerce.plain_text(value))
    return found[1].lower() if found else None


def short_digest(value: Any) -> str | None:
    """A checksum's first 12 digits, which tell a site's models apart where people read them."""
    found = _SHORT_DIGEST.match(coerce.plain_text(value))
    return found[0] if found else None


def chart_name(value: Any) -> str | None:
    """``value`` when it can be a chart's: plain names (:func:`coerce.metric_name`) or a GPU's number, ``/`` between."""
    text = coerce.plain_text(value)
    parts = (part for part in text.split("/") if not re.fullmatch("[0-9]{1,2}", part))
    return text if all(map(coerce.metric_name, parts)) else None


def plain_name(value: Any, pseudonym: Pseudonym | None = None) -> str | None:
    """``value`` as a plain name (:func:`coerce.metric_name`), itself where it is one; None when it can't name anything.

    ``"Bone Age (months)"`` becomes ``Bone_Age_months-`` and four letters; a name of other words ``name_`` and ten.
    """
    name = coerce.metric_name(value)
    text = coerce.plain_text(value)
    if name is not None or not text or len(text) > _LONGEST or not text.isprintable() or "^" in text:
        return name
    joined = "".join(_WORD.findall(text))
    # Dates and numbers of patients, however their digits are parted.
    if _DIGITS.search(joined) or coerce.looks_like_an_id(text) or not any(map(str.isalpha, joined)):
        return None
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    if all(map(_is_technical, _WORD.findall(text))):
        left = _BETWEEN.sub("_", text).strip("_.-")
        left = (f"name_{left}" if left[0].isdigit() else left)[:59]
        digest = hashlib.sha256(coerce.plain_text(value).encode(errors="surrogatepass")).hexdigest()
        return coerce.metric_name(f"{left}-{digest[:4].translate(_LETTERS)}")
    keyed = pseudonym(text) if pseudonym is not None else ""
    return f"name_{keyed[:10].translate(_LETTERS)}" if keyed else None


def _is_technical(word: str) -> bool:
    letters = "".join(filter(str.isalpha, word)).lower()
    longest = 1 if len(letters) == len(word) else 2  # "x", "v2", "3D"; but "Li" may be a person
    return word.isascii() and (len(letters) <= longest or letters in WORDS)
