"""The values that a chart ranks each new one among, by stratum, and the normal score that a rank becomes. Pure.

Source: Conover WJ, Tercero-Gomez VG, Cordero-Franco AE. The sequential normal scores transformation. arXiv:1705.03496.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import MutableSequence, Sequence
from functools import lru_cache
from math import fsum
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from monitoring.domain.statistics import mean

REFERENCE: Final = 5_000
"""So many earlier values of a stratum are ranked against; then they stay as they are. It bounds memory and time."""
_SPREAD: Final = 200  # so many earlier values, evenly spread, stand for all
_QUANTILE: Final = NormalDist().inv_cdf


# Numbers side by side: a list's lie all over the memory, and a million of them take four times the room.
if TYPE_CHECKING:
    Values = array[float]
else:
    Values = array  # which takes no parameter before Python 3.12

ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=Values.tolist)
_T = TypeVar("_T")


def decoder(of: type[_T]) -> msgspec.msgpack.Decoder[_T]:
    """Of what :data:`ENCODER` has encoded with values in it."""

    def values(_: object, numbers: Any) -> Values:
        return Values("d", numbers)

    return msgspec.msgpack.Decoder(of, dec_hook=values)


def score_among(earlier: MutableSequence[float], value: float) -> float:
    """A value's sequential normal score, N((smaller + equal / 2 + 1 / 2) / n); it is then one of ``earlier``."""
    low, count = bisect_left(earlier, value), len(earlier) + 1
    high = bisect_right(earlier, value, low) if low < count - 1 and earlier[low] == value else low
    if count > REFERENCE:
        return _scores_of_full()[low + high]
    earlier.insert(high, value)
    return _QUANTILE((low + high + 1) / (2 * count))


def score_beside(earlier: Sequence[float], value: float) -> float:
    """The same of a value that doesn't become one of them."""
    return _QUANTILE((bisect_left(earlier, value) + bisect_right(earlier, value) + 1) / (2 * len(earlier) + 2))


@lru_cache
def _scores_of_full() -> list[float]:
    """Every score that there is among a full reference: busy sites would compute each of them for ever."""
    return [_QUANTILE((ranks + 1) / (2 * REFERENCE + 2)) for ranks in range(2 * REFERENCE + 1)]


class Summary(Struct, frozen=True):
    """What is asked of a stratum's values when none is ranked among them: so they needn't be at hand."""

    count: int
    squares: float
    """Their sum about the mean."""
    median: float
    spread: list[float]
    """A few hundred of them, evenly spread."""


def summary(values: Sequence[float]) -> Summary:
    """Of at least one value, sorted."""
    count, centre = len(values), mean(values)
    squares = fsum([(value - centre) ** 2 for value in values])
    middle = (values[(count - 1) // 2] + values[count // 2]) / 2
    return Summary(count, squares, middle, list(values[:: count // _SPREAD + 1]))
