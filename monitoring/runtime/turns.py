"""One thing at a time: over all threads, and also within one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Runs tasks one after the other.

    A host's signal handler or finalizer may call in while its own thread is in the middle of a task, with a
    transaction open. Waiting for that thread would be for ever, so such a task is done when the one that it
    interrupted ends, however that ends.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_taken = False
        self._postponed: deque[Callable[[], object]] = deque()

    def take(self, task: Callable[[], T]) -> T | None:
        """What ``task`` returns; None when it was postponed."""
        with self._lock:
            if self._is_taken:
                self._postponed.append(task)
                return None
            self._is_taken = True
            try:
                return task()
            finally:
                try:
                    self._catch_up()
                finally:
                    self._is_taken = False

    def _catch_up(self) -> None:
        while self._postponed:
            self._postponed.popleft()()
