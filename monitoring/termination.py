"""SIGTERM: what is open is committed and delivered in time, and the signal then does what it always did.

A handler that the host installed is never replaced. Ours runs between two instructions of the main
thread, possibly in the middle of our own code with its locks held; it then waits until that code is left.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class Termination:
    """Runs ``finish`` on SIGTERM, then ends the process as the signal would have without us."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish = finish
        self._depth = 0
        self._is_pending = False
        self._is_installed = False

    def install(self) -> None:
        """Take the signal, if nobody has it; only the main thread can."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_signal)
            self._is_installed = True

    def uninstall(self) -> None:
        """Give the signal back, if it is still ours."""
        if self._is_installed and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) == self._on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._is_installed = False

    def enter(self) -> None:
        """Our code begins; on other threads than the main one this means nothing."""
        if threading.current_thread() is threading.main_thread():
            self._depth += 1

    def leave(self) -> None:
        """Our code ends; a signal that came meanwhile takes effect now."""
        if threading.current_thread() is threading.main_thread():
            self._depth -= 1
            if self._depth == 0 and self._is_pending:
                self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's signature
        self._is_pending = True
        if self._depth == 0:
            self._end()

    def _end(self) -> None:
        self._is_pending = False
        self._finish()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
