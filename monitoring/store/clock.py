"""The store's own clock, by which sessions grow old: what the wall clock says is believed slowly.

A wall clock may be a year ahead, or stand at 1970 until the network sets it. So the store counts the time that it knows
has passed, and follows the wall clock by at most a day for each start of the machine and a tenth of that time: a wrong
clock makes nothing old, and the right one is reached again. While the machine runs, the time since its start is exact,
however long nobody uses the store; what is not delivered ages by at most a day between two looks all the same.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from monitoring.metrics.samples import NANOSECONDS
from monitoring.store.rows import checksum, is_intact

DAY_NS = 86_400 * NANOSECONDS
EARLIEST_NS = 1_577_836_800 * NANOSECONDS
"""The year 2020: what is earlier was told by a clock that had not been set, as in 1970 or 2000."""

_KEY = "clock"
_HOUR_NS = 3600 * NANOSECONDS
_SHARE = 10  # of the time that has passed, the part by which the wall clock is followed beside it


class Sight(NamedTuple):
    """What the machine's clocks show: UTC, and the time since its start with the start's name ("" if unknown)."""

    wall_ns: int
    running_ns: int
    boot: str


class StoreTime(NamedTuple):
    """Instants of the store's clock, in UTC nanoseconds as far as it believes.

    ``patient_ns`` lags behind ``now_ns`` after a long pause: what is not delivered is held to it.
    """

    now_ns: int
    patient_ns: int


Look = Callable[[], Sight]


def look() -> Sight:
    """The machine's clocks as they are."""
    # BOOTTIME goes on while the machine sleeps, which the monotonic clock doesn't.
    return Sight(time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), _boot())


@lru_cache(maxsize=1)
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return ""


def read(connection: sqlite3.Connection, sight: Sight) -> StoreTime:
    """The store's time; nothing is written, so that looking often moves it no further."""
    last = _last(connection)
    if last is None:
        # A store of an older version's begins where its latest session was kept, and one that is new where we are.
        newest_ns = connection.execute("SELECT kept_ns FROM sessions ORDER BY sequence DESC LIMIT 1").fetchone()
        begin_ns = newest_ns[0] if newest_ns and isinstance(newest_ns[0], int) else sight.wall_ns
        last = StoreTime(begin_ns, begin_ns), Sight(sight.wall_ns, 0, "")
    return _advanced(*last, sight)


def advance(connection: sqlite3.Connection, sight: Sight) -> StoreTime:
    """The store's time, kept within the transaction that is open."""
    now = read(connection, sight)
    if now.now_ns < EARLIEST_NS <= sight.wall_ns:
        # The store was begun under a clock that had not been set: its sessions keep their age under the right one.
        shift_ns = sight.wall_ns - now.now_ns
        connection.execute("UPDATE sessions SET kept_ns = kept_ns + ?", (shift_ns,))
        connection.execute("UPDATE vocabulary_seen SET seen_ns = seen_ns + ?", (shift_ns,))
        now = StoreTime(now.now_ns + shift_ns, now.patient_ns + shift_ns)
    value = " ".join(map(str, (*now, sight.running_ns, sight.boot)))
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (_KEY, value, checksum(_KEY, value)))
    return now


def is_late(connection: sqlite3.Connection, now: StoreTime) -> bool:
    """Whether the time is to be kept again: nothing was committed for an hour, and what waits grows old, too."""
    last = _last(connection)
    return last is not None and now.now_ns - last[0].now_ns > _HOUR_NS


def _last(connection: sqlite3.Connection) -> tuple[StoreTime, Sight] | None:
    row = connection.execute("SELECT key, value, checksum FROM state WHERE key = ?", (_KEY,)).fetchone()
    if row is None or not is_intact(row):
        return None
    now_ns, patient_ns, running_ns, boot = row[1].split(" ", 3)
    return StoreTime(int(now_ns), int(patient_ns)), Sight(0, int(running_ns), boot)


def _advanced(then: StoreTime, seen: Sight, sight: Sight) -> StoreTime:
    is_same_start = bool(sight.boot) and seen.boot == sight.boot and sight.running_ns >= seen.running_ns
    passed_ns = sight.running_ns - seen.running_ns if is_same_start else 0
    leeway_ns = passed_ns // _SHARE + (0 if is_same_start else DAY_NS)
    followed_ns = min(max(sight.wall_ns - then.now_ns - passed_ns, -leeway_ns), leeway_ns)
    now_ns = then.now_ns + passed_ns + followed_ns
    # A pause counts as a day, since nobody could deliver in it; what it is behind by is made good as slowly.
    step_ns = min(now_ns - then.now_ns, DAY_NS) + min(passed_ns, DAY_NS) // _SHARE
    return StoreTime(now_ns, min(now_ns, then.patient_ns + step_ns))
