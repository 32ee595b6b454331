"""What was computed of a session when it was committed: by which formulas, from which facts, with which values.

It is kept beside the record, so that a newer formula's values can be compared with what was delivered.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monitoring.domain.derivation import Facts
from monitoring.exceptions import RecordError
from monitoring.metrics.samples import Sample

_TOLERANCE = 1e-9  # relative: another order of additions is no other value


@dataclass(frozen=True, slots=True)
class DerivedValues:
    """``values`` by the metric's name with its labels, as ``leglength_x{label=value}``."""

    formula: int
    facts: Facts = field(default_factory=Facts)
    values: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, formula: int, facts: Facts, samples: Iterable[Sample]) -> DerivedValues:
        """From the samples that were computed."""
        return cls(formula, facts, {_series(sample): sample.value for sample in samples})

    def to_bytes(self) -> bytes:
        """Compressed JSON that :meth:`from_bytes` reads back."""
        content = {"formula": self.formula, "facts": self.facts.to_dict(), "values": dict(self.values)}
        return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), level=1)

    @classmethod
    def from_bytes(cls, data: bytes) -> DerivedValues:
        """Read back; raises :class:`RecordError` for what :meth:`to_bytes` did not write."""
        try:
            content = json.loads(zlib.decompress(data))
            return cls(int(content["formula"]), Facts.from_dict(content["facts"]), dict(content["values"]))
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"not a session's derived values: {type(error).__name__}") from None


def changed(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, tuple[float | None, float | None]]:
    """What differs, as (before, now); None is a value that one side doesn't have."""
    return {
        name: (before.get(name), now.get(name))
        for name in sorted({*before, *now})
        if not _is_same(before.get(name), now.get(name))
    }


def _is_same(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _series(sample: Sample) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
    return f"{sample.metric.name}{{{labels}}}" if labels else sample.metric.name
