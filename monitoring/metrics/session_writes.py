"""What is written with a session, and kept beside it: between the collector, which makes it, and the store.

What was computed of a session is kept with the facts and the formulas' version that it was computed from, so that a
newer formula's values can be compared with what was delivered. How it is kept is decided in
``docs/decisions/0014-derived-values-are-kept-as-doubles.md``.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

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
        """What :class:`DerivedReader` reads back, with a checksum."""
        values = struct.pack(f"<{len(self.values)}d", *self.values.values())
        body = msgspec.msgpack.encode(_Body(self.formula, self.facts, _packed(tuple(self.values)), values))
        return msgspec.msgpack.encode((zlib.crc32(body), body))

    @classmethod
    def from_bytes(cls, data: bytes) -> DerivedValues:
        """Read all of them back; raises :class:`RecordError` for what :meth:`to_bytes` did not write."""
        return _READ_ALL(data)


class _Body(Struct, frozen=True, array_like=True):
    formula: int
    facts: Facts
    names: bytes
    values: bytes


_LAYOUTS: Final = 512
"""So many lists of names are remembered: a site's sessions share a few, by the models and what was found."""
_BODY: Final = msgspec.msgpack.Decoder(_Body)
_CHECKED: Final = msgspec.msgpack.Decoder(tuple[int, bytes])
_NAMES: Final = msgspec.json.Decoder(tuple[str, ...])
_COMPRESSED_JSON: Final = msgspec.json.Decoder(DerivedValues)
_ZLIB: Final = 0x78  # how a stream of it begins: no array of two does in MessagePack


@lru_cache(_LAYOUTS)
def _packed(names: tuple[str, ...]) -> bytes:
    # Some 200 long names: a tenth of their size, and the same bytes for the same names, by which they are known again.
    return zlib.compress(msgspec.json.encode(names))


class DerivedReader:
    """Reads stored derived values back: all of them, or those of some names alone, in a fifth of the time."""

    def __init__(self, wanted: Iterable[str] | None = None) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._layouts = lru_cache(_LAYOUTS)(self._layout)

    def __call__(self, data: bytes) -> DerivedValues:
        """Read what :meth:`DerivedValues.to_bytes` made; raises :class:`RecordError` for anything else."""
        try:
            if data[:1] == bytes([_ZLIB]):
                return self._of_compressed_json(data)
            expected, body = _CHECKED.decode(data)
            if zlib.crc32(body) != expected:
                raise RecordError("a session's derived values are damaged")
            kept = _BODY.decode(body)
            layout, picked = self._layouts(kept.names)
            values = layout.unpack(kept.values)
            return DerivedValues(kept.formula, kept.facts, {name: values[place] for name, place in picked})
        except (zlib.error, struct.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RecordError(f"not a session's derived values: {type(error).__name__}") from None

    def _layout(self, packed: bytes) -> tuple[struct.Struct, list[tuple[str, int]]]:
        """What reads all values, and which of them are wanted, by name and place."""
        names = _NAMES.decode(zlib.decompress(packed))
        places = [(name, at) for at, name in enumerate(names) if self._wanted is None or name in self._wanted]
        return struct.Struct(f"<{len(names)}d"), places

    def _of_compressed_json(self, data: bytes) -> DerivedValues:
        """As it was written before decision 0014."""
        found = _COMPRESSED_JSON.decode(zlib.decompress(data))
        if self._wanted is None:
            return found
        values = {name: value for name, value in found.values.items() if name in self._wanted}
        return DerivedValues(found.formula, found.facts, values)


_READ_ALL: Final = DerivedReader()


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
