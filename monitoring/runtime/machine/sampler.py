"""Samples the machine while sessions are open: at a session's start and end, and at an interval in between.

The host's thread reads only what the kernel has at hand. What may hang (a volume whose server is gone, a GPU's
driver) has a thread of its own for each, and a session's end waits for these no longer than a moment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from monitoring.delivery.threads import ErrorGuard
from monitoring.records.session_record import Usage
from monitoring.runtime.machine.gpu import open_gpus, torch_figures
from monitoring.runtime.machine.probes import SystemProbe, VolumeProbe
from monitoring.runtime.machine.usage import Figure, Figures, Latest, Level, Recording

_RESIDENT = "process_resident_memory_bytes"
PATIENCE_SECONDS = 0.008
"""What a session's end waits at most for the figures of other threads, all together."""


class Probe(Protocol):
    """Reads one source; is made, used and closed in one thread."""

    def read(self) -> Figures:
        """What can be read now."""

    def close(self) -> None:
        """Give back what is open."""


class _QuickProbe:
    """What never hangs: the system, and torch where the host has loaded it. For any thread."""

    def __init__(self, guard: ErrorGuard) -> None:
        self._system, self._guard = SystemProbe(), guard
        self.read_process = self._system.read_process

    def read(self) -> Figures:
        # Each by itself: a torch that fails in an unheard-of way must not cost the system's figures.
        figures: dict[str, Figure] = {}
        for read in (self._system.read, torch_figures):
            figures |= self._guard({}, read)
        return figures

    def close(self) -> None:
        pass


class _Lane:
    """One thread's probe, and what the thread has been asked for; all of it under the sampler's lock.

    ``is_prompt``: whether it is waited for. Not once it was waited for in vain, until a sample has come soon enough.
    """

    def __init__(self, name: str, open_probe: Callable[[], Probe | None], is_prompt: bool = True) -> None:
        self.name = name
        self.open_probe = open_probe
        self.is_prompt = is_prompt
        self.is_running = False
        self.asked = self.answered = 0
        self.due_at = 0.0


class Sampler:
    """Samples for each open session. Nothing here raises: what goes wrong ends in ``guard``."""

    def __init__(self, interval_seconds: float, volumes: Mapping[str, Path], guard: ErrorGuard) -> None:
        self._interval = interval_seconds
        self._guard = guard
        self._quick = _QuickProbe(guard)
        self._quick_lane = _Lane("system", lambda: self._quick)
        self._slow_lanes = [_Lane(name, partial(VolumeProbe, name, folder)) for name, folder in volumes.items()]
        self._slow_lanes.append(_Lane("gpus", open_gpus, is_prompt=False))  # opening alone can take a second
        self._recordings: set[Recording] = set()
        self._is_closed = False
        self._resident_at_end: tuple[int, Figure | None] = (0, None)
        lock = threading.RLock()  # a signal's handler may come in between, and end a session
        self._question, self._answer = threading.Condition(lock), threading.Condition(lock)

    def begin(self) -> Recording:
        """Sample for a session from now on."""
        recording = Recording()
        self._guard(None, self._begin, recording)
        return recording

    def finish(self, recording: Recording) -> dict[str, Usage]:
        """A last sample, and the session's figures."""
        self._guard(None, self._finish, recording)
        with self._question:
            self._recordings.discard(recording)
        return self._guard({}, recording.usages)

    def close(self) -> None:
        """Let the threads end; they are not waited for."""
        with self._question:
            self._is_closed = True
            self._question.notify_all()

    def _begin(self, recording: Recording) -> None:
        # Of this process at once, on the host's thread: what it uses from its very first line on is the session's.
        recording.add(self._quick.read_process(), time.monotonic())
        self._ask(recording, [self._quick_lane, *self._slow_lanes])
        self._guard(None, self._start, self._quick_lane)
        if not self._quick_lane.is_running:  # no thread can be had
            recording.add(self._quick.read(), time.monotonic())

    def _finish(self, recording: Recording) -> None:
        # Asked before the own reading, so that they are at it meanwhile.
        tickets = self._ask(recording, self._slow_lanes)
        figures = self._quick.read()
        recording.add({**figures, **self._growth(figures)}, time.monotonic())
        with self._answer:
            can_answer = self._quick_lane.is_running  # it starts the others
            waited_for = {lane: ticket for lane, ticket in tickets.items() if can_answer and lane.is_prompt}
            self._answer.wait_for(
                lambda: all(lane.answered >= ticket for lane, ticket in waited_for.items()), PATIENCE_SECONDS
            )
            # What has hung once would cost each further session the whole wait.
            for lane, ticket in waited_for.items():
                lane.is_prompt = lane.answered >= ticket

    def _growth(self, figures: Figures) -> Figures:
        """What a session left behind in memory, with what the host did since the one before it in this process."""
        now, process = figures.get(_RESIDENT), os.getpid()
        with self._question:
            before, self._resident_at_end = self._resident_at_end, (process, now)
        if isinstance(now, Level) and isinstance(before[1], Level) and before[0] == process:  # a fork begins anew
            return {"process_resident_memory_growth_bytes": Latest(now.value - before[1].value)}
        return {}

    def _ask(self, recording: Recording, lanes: Iterable[_Lane]) -> dict[_Lane, int]:
        """For a sample of each; it is there once ``answered`` is what is returned."""
        with self._question:
            self._recordings.add(recording)
            for lane in lanes:
                lane.asked += 1
            self._question.notify_all()
            return {lane: lane.asked for lane in lanes}

    def _start(self, lane: _Lane) -> None:
        with self._question:
            if lane.is_running:
                return
            lane.is_running = True
            try:
                name = f"leglength-monitoring-{lane.name}"
                threading.Thread(target=self._run, args=(lane,), name=name, daemon=True).start()
            except (RuntimeError, MemoryError):
                lane.is_running = lane.is_prompt = False
                raise

    def _run(self, lane: _Lane) -> None:
        if lane is self._quick_lane:  # spares the host's thread their start
            for other in self._slow_lanes:
                self._guard(None, self._start, other)
        probe: Probe | None = self._guard(None, lane.open_probe)
        if probe is None:
            return
        while self._await_turn(lane):
            self._guard(None, self._sample, lane, probe)
        self._guard(None, probe.close)

    def _await_turn(self, lane: _Lane) -> bool:
        """Until a sample is asked for or due; False when all is over."""
        with self._question:
            while not self._is_closed:
                # Between sessions nothing is read: a host that idles for a night must not touch a disk each interval.
                left = lane.due_at - time.monotonic() if self._recordings else None
                if left is not None and (left <= 0 or lane.asked > lane.answered):
                    return True
                self._question.wait(left)
            return False

    def _sample(self, lane: _Lane, probe: Probe) -> None:
        with self._question:
            asked, recordings = lane.asked, list(self._recordings)
        # Without the lock, since this may hang; a session that began meanwhile has asked for a sample of its own.
        started = time.monotonic()
        figures = self._guard({}, probe.read)
        with self._answer:
            lane.answered = asked
            lane.is_prompt |= time.monotonic() - started < PATIENCE_SECONDS
            lane.due_at = started + self._interval
            self._answer.notify_all()
            for recording in recordings:
                recording.add(figures, started)
