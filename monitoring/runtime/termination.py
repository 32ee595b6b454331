"""SIGTERM: what is open is committed and delivered in time, and the signal then does what it always did.

A handler that the host installed is never replaced. Ours runs between two instructions of the main
thread, possibly in the middle of our own code with its locks held; it then waits until that code is left.
Whether that is so is read from the stack: a count of entries and exits would be wrong for ever once a
host's own handler has raised between the two.

Without us the signal would end the process at once, whatever its main thread waits for. Python only notes it until
that thread comes back to its instructions, which a signal doesn't bring about that comes while the thread gives up the
interpreter's lock just before it waits, or that another thread takes. So a thread of ours hears of each signal by
Python's wake-up descriptor, and sends it to the main thread again until it is heard. A forked child is as it would be
without us until it uses the monitoring itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import CodeType, FrameType
from typing import NamedTuple

_INIT_PROCESS = 1
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 1.0


class _Pipe(NamedTuple):
    """What Python writes the number of each signal to, and a thread reads it from."""

    reader: int
    writer: int


class Termination:
    """Runs ``finish`` on SIGTERM, then ends the process as the signal would have without us.

    ``ours`` is the function that all our code runs under, and that calls :meth:`leave` at its end.
    """

    def __init__(self, finish: Callable[[], None], ours: CodeType) -> None:
        self._finish = finish
        self._ours = ours
        self._is_pending = False
        self._is_installed = False
        self._is_ending = False
        self._is_forked = False
        self._pipe: _Pipe | None = None
        _TERMINATIONS.add(self)

    def install(self) -> None:
        """Take the signal, if nobody has it and it would end the process; only the main thread can.

        It doesn't end a container's first process, which goes on working until it is killed.
        """
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a host's own handler is never replaced
            and os.getpid() != _INIT_PROCESS
        ):
            signal.signal(signal.SIGTERM, self._on_signal)
            self._is_installed = True
            # Where no descriptor or thread can be had, a signal may wait until the main thread goes on.
            with suppress(OSError, RuntimeError, MemoryError):
                self._watch()

    def uninstall(self) -> None:
        """Give the signal back, if it is still ours."""
        self._is_forked = False
        if self._is_installed and threading.current_thread() is threading.main_thread():
            self._give_back()

    def after_fork(self) -> None:
        """In a forked child: SIGTERM ends it at once, until it uses the monitoring."""
        if self._is_installed:
            self._is_forked, self._is_pending = True, False
            reader = self._pipe.reader if self._pipe is not None else None
            self._give_back()
            if reader is not None:
                os.close(reader)  # its thread is the parent's

    def leave(self) -> None:
        """Our code ends; a signal that came meanwhile takes effect now, unless more of our code is around it."""
        if self._is_forked:
            self._is_forked = False
            self.install()
        if (
            self._is_pending
            and threading.current_thread() is threading.main_thread()
            and not self._is_inside(sys._getframe(2))
        ):
            self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's signature
        self._is_pending = True
        if not self._is_inside(frame):
            self._end()

    def _is_inside(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code is self._ours:
                return True
            frame = frame.f_back
        return False

    def _give_back(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._is_installed = False
        if self._pipe is not None:
            writer = signal.set_wakeup_fd(-1)
            if writer not in (-1, self._pipe.writer):
                signal.set_wakeup_fd(writer)  # the host's, since
            os.close(self._pipe.writer)  # which ends the thread
            self._pipe = None

    def _watch(self) -> None:
        pipe = _Pipe(*os.pipe())
        os.set_blocking(pipe.writer, False)
        before = signal.set_wakeup_fd(pipe.writer, warn_on_full_buffer=False)
        thread = threading.Thread(
            target=self._insist, args=(pipe.reader,), name="leglength-monitoring-sigterm", daemon=True
        )
        try:
            if before == -1:
                thread.start()
                self._pipe = pipe
        finally:
            if self._pipe is None:  # the host has one of its own, or there is no room for a thread
                signal.set_wakeup_fd(before)
                os.close(pipe.reader)
                os.close(pipe.writer)

    def _insist(self, reader: int) -> None:
        """Send SIGTERM to the main thread again, until it has left what it waits for, or our code."""
        main = threading.main_thread().ident
        while number := os.read(reader, 1):
            seconds = _FIRST_WAIT_SECONDS
            while number[0] == signal.SIGTERM and main is not None:
                time.sleep(seconds)
                if self._is_ending or signal.getsignal(signal.SIGTERM) != self._on_signal:
                    break
                signal.pthread_kill(main, signal.SIGTERM)
                seconds = min(2 * seconds, _LONGEST_WAIT_SECONDS)
        os.close(reader)

    def _end(self) -> None:
        self._is_ending, self._is_pending = True, False
        self._finish()
        # By the signal itself, so that whoever started the process sees what ended it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


_TERMINATIONS: weakref.WeakSet[Termination] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for termination in list(_TERMINATIONS):
        termination.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
