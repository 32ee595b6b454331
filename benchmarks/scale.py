"""How much of everything a run does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts, and bounds in seconds."""

    rounds: int  # of what is repeated, the contenders in turn
    sessions: int  # per process
    work_seconds: float  # the host's own, between two sessions
    situation_seconds: float  # for the sessions of one process; no new one begins after it
    exit_limit_seconds: float  # an exit that takes longer is ended
    encoding_seconds: float
    backlog_points: int
    stored_sessions: tuple[int, ...]
    processes: int
    sessions_each: int
    analysed_sessions: int
    drift_sites: int  # of each kind of data, so many years
    drift_years: int
    drift_evidently_sites: int  # it takes a second a month
    drift_shifts: int


FULL = Scale(3, 30, 0.05, 8.0, 320.0, 15.0, 1_000_000, (1, 10_000, 1_000_000), 8, 60, 100_000, 30, 3, 2, 40)
QUICK = Scale(1, 10, 0.05, 4.0, 15.0, 3.0, 50_000, (1, 500, 50_000), 8, 10, 5_000, 4, 1, 1, 5)
