"""SIGTERM: what is open is committed and delivered in time, and the signal then does what it always did.

A handler that the host installed is never replaced. Ours runs between two instructions of the main
thread, possibly in the middle of our own code with its locks held; it then waits until that code is left.
Whether that is so is read from the stack: a count of entries and exits would be wrong for ever once a
host's own handler has raised between the two.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

_INIT_PROCESS = 1


class Termination:
    """Runs ``finish`` on SIGTERM, then ends the process as the signal would have without us.

    ``ours`` is the function that all our code runs under, and that calls :meth:`leave` at its end.
    """

    def __init__(self, finish: Callable[[], None], ours: CodeType) -> None:
        self._finish = finish
        self._ours = ours
        self._is_pending = False
        self._is_installed = False

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

    def uninstall(self) -> None:
        """Give the signal back, if it is still ours."""
        if self._is_installed and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) == self._on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._is_installed = False

    def leave(self) -> None:
        """Our code ends; a signal that came meanwhile takes effect now, unless more of our code is around it."""
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

    def _end(self) -> None:
        self._is_pending = False
        self._finish()
        # By the signal itself, so that whoever started the process sees what ended it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
