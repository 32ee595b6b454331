"""What is to be kept, and what users had before: the one place where these numbers stand.

Targets come from the design ("Speed and size it must keep"); anchors were measured with the clients
that a user would otherwise pick, before this package existed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure."""

    words: str
    holds: Callable[[float], bool]


def below(bound: float, unit: str) -> Target:
    """Kept when the figure is smaller."""
    return Target(f"< {bound:g} {unit}", lambda figure: figure < bound)


def at_most(bound: float, unit: str) -> Target:
    """Kept when the figure is not larger."""
    return Target(f"<= {bound:g} {unit}", lambda figure: figure <= bound)


def at_least(bound: float, unit: str) -> Target:
    """Kept when the figure is not smaller."""
    return Target(f">= {bound:,g} {unit}".strip(), lambda figure: figure >= bound)


def none_of(what: str) -> Target:
    """Kept when there is none."""
    return Target(f"no {what}", lambda figure: figure == 0)


SHUTDOWN_TIMEOUT_SECONDS = 5.0
# The exit is timed to the end of the process: what the interpreter itself takes is measured and taken off, and
# this much may remain of its noise on a busy machine.
EXIT_NOISE_SECONDS = 0.25

SESSION = below(6, "ms")
EXIT = at_most(SHUTDOWN_TIMEOUT_SECONDS + EXIT_NOISE_SECONDS, "s")
EXIT_HEALTHY = below(0.06, "s")
LOST = none_of("session lost")
LOST_POINTS = none_of("value missing")
DUPLICATES = none_of("duplicate")
START_OFF = below(5, "ms")
MODULES_OFF = none_of("third-party module")
START_ON = below(130, "ms")
ENCODING = at_least(200_000, "points/s")
DRAIN_RATIO = at_least(4, "times")
# "Does not grow": a backlog ten times as large may take this much more memory, or time a session.
MEMORY_GROWTH = at_most(1.1, "times")
COMMIT_GROWTH = at_most(1.5, "times")
ANALYSIS = below(20, "s")
ANALYSIS_MEMORY = below(300, "MiB")
INCREMENT = below(100, "ms")
YEARS_REPORT = below(5, "s")
# The budget that the charts are set to, and what a run of so many years scatters.
FALSE_ALARMS = at_most(2.5, "a year")

ANCHORS: tuple[tuple[str, str], ...] = (
    ("a session on the processing thread, healthy backend", "12.1 ms (influxdb-client, synchronous)"),
    ("a session on the processing thread, silent backend", "10 s (influxdb-client, synchronous)"),
    ("encoding", "38,000 points/s a core (influxdb-client)"),
    ("end to end into a server", "28,000 points/s (influxdb-client, batching)"),
    ("peak memory of delivering", "84 MiB (influxdb-client, batching)"),
)
