"""A monotonic deadline that is handed down; each layer gets what remains."""

from __future__ import annotations

import time

from msgspec import Struct


class Deadline(Struct, frozen=True):
    """An instant on the monotonic clock."""

    instant: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.instant - time.monotonic())

    def passed(self) -> bool:
        """Whether nothing is left."""
        return self.remaining() <= 0.0

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this one and ``seconds`` from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.instant)
