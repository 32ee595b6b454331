"""What is written with a session, and kept beside it: between the collector, which makes it, and the store.

What was computed of a session is kept with the facts and the formulas' version that it was computed from, so that a
newer formula's values can be compared with what was delivered.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct, field

from monitoring.domain.derivation import Facts
from monitoring.exceptions import RecordError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change, Sample, Vocabulary
from monitoring.records.session_record import SessionRecord

_TOLERANCE = 1e-9  # relative: another order of additions is no other value


class DerivedValues(Struct, frozen=True):
    """``values`` by the metric's name with its labels, as ``leglength_x{label=value}``."""

    formula: int
    facts: Facts = field(default_factory=Facts)
    values: Mapping[str, float] = {}

    @classmethod
    def of(cls, formula: int, facts: Facts, samples: Iterable[Sample]) -> DerivedValues:
        """From the samples that were computed."""
        values = {}
        for metric, value, labels in samples:
            series = "{" + ",".join([f"{name}={text}" for name, text in labels.items()]) + "}" if labels else ""
            values[metric.name + series] = value
        return cls(formula, facts, values)

    def samples(self) -> Iterator[Sample]:
        """What was computed, as far as its metrics are still declared."""
        for series, value in self.values.items():
            name, _, labels = series.removesuffix("}").partition("{")
            if (metric := catalogue.BY_NAME.get(name)) is not None:
                yield Sample(metric, value, dict(pair.split("=", 1) for pair in labels.split(",") if pair))

    def to_bytes(self) -> bytes:
        """Compressed JSON that :meth:`from_bytes` reads back."""
        # Some 200 values under long names: a sixth of their size, at the level that costs least.
        return zlib.compress(msgspec.json.encode(self), level=1)

    @classmethod
    def from_bytes(cls, data: bytes) -> DerivedValues:
        """Read back; raises :class:`RecordError` for what :meth:`to_bytes` did not write."""
        try:
            return _DERIVED_VALUES.decode(zlib.decompress(data))
        except (zlib.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RecordError(f"not a session's derived values: {type(error).__name__}") from None


_DERIVED_VALUES = msgspec.json.Decoder(DerivedValues)


def changed(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    """What differs, as (before, now); None is a value that one side doesn't have."""
    found = {}
    # Sorted, so that a program's output is the same at each call.
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            is_same = old is new
        else:
            is_same = math.isclose(old, new, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        if not is_same:
            found[name] = (old, new)
    return found


class SessionWrites(Struct, frozen=True):
    """What one session adds to the store: ``lines`` (encoded, counted) per log backend, ``changes`` of the totals,
    and what was ``derived`` of it, None where a formula has failed.
    """

    lines: Mapping[str, tuple[bytes, int]]
    changes: Iterable[Change]
    derived: DerivedValues | None = None


class TransactionContext(Struct, frozen=True):
    """What a session's points depend on and only the transaction that writes them knows."""

    timestamp_ns: int
    facts: Facts
    vocabulary: Vocabulary


BuildWrites = Callable[[SessionRecord, TransactionContext], SessionWrites]
