"""What a stored row says, and whether it still says what was written: the one place where sessions are decoded.

SQLite notices a damaged structure but not a damaged value; so a row whose values leave the store ends with a CRC-32
of the others, and a row that doesn't hold it is as if it weren't there. Which rows these are, and why, is told in
``docs/decisions/0012-a-checksum-on-what-leaves-the-store.md``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from monitoring.exceptions import RecordError
from monitoring.metrics.session_writes import DerivedValues
from monitoring.records.session_record import RecordOutline, SessionRecord

# The record as its bytes, which both the checksum and the reading of it are of.
SESSION_COLUMNS = "sequence, routed, derived, timestamp_ns, CAST(record AS BLOB), checksum"


class StoredSession(Struct, frozen=True):
    """A session as it was committed. ``timestamp_ns`` is its points' time, UTC and unique in the store."""

    sequence: int
    timestamp_ns: int
    record: SessionRecord
    is_routed: bool
    """Whether its lines were made for a log backend."""
    derived_bytes: object = None

    @property
    def derived(self) -> DerivedValues | None:
        """What was derived of it; None where a version before they were kept committed it, or where it is damaged."""
        with suppress(RecordError):
            return DerivedValues.from_bytes(self.derived_bytes) if isinstance(self.derived_bytes, bytes) else None
        return None


class OutlinedSession(Struct, frozen=True):
    """The same with an outline of its record; ``text`` is the whole of it."""

    timestamp_ns: int
    record: RecordOutline
    derived_bytes: object
    text: str | bytes


def as_bytes(value: object) -> bytes:
    """A value as it reads back from SQLite, damaged text included."""
    # As the connection's text_factory made text of it: damaged text gives the bytes that are in the file.
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def checksum(*values: object) -> int:
    """CRC-32 over values as they read back from SQLite."""
    # With a separator, since "a", "bc" and "ab", "c" are not the same row.
    return zlib.crc32(b"\x1f".join(map(as_bytes, values)))


def is_intact(row: Sequence[Any]) -> bool:
    """Whether a row's last value is the checksum of those before it."""
    return bool(checksum(*row[:-1]) == row[-1])


def stored_session(row: Sequence[Any]) -> StoredSession | None:
    """A row of :data:`SESSION_COLUMNS`; None when its record is damaged, or of a newer version."""
    # What was derived stands outside: it may be replaced later, and zlib has a checksum of its own.
    sequence, routed, derived, *checked = row
    record = stored_record(checked[1]) if is_intact(checked) else None
    return None if record is None else StoredSession(sequence, checked[0], record, bool(routed), derived)


def outlined_session(row: Sequence[Any]) -> OutlinedSession | None:
    """The same as :func:`stored_session`, in two thirds of the time."""
    _, _, derived, *checked = row
    with suppress(RecordError):
        if is_intact(checked):
            return OutlinedSession(checked[0], RecordOutline.from_json(checked[1]), derived, checked[1])
    return None


def stored_record(text: str | bytes) -> SessionRecord | None:
    """A record's text; None when it is none."""
    with suppress(RecordError):
        return SessionRecord.from_json(text)
    return None
