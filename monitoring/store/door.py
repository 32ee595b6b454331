"""The door of a store: many may open its file at once, but not while one puts it aside or begins it.

A file that is renamed while another process opens it would leave that process with half of the old
store (its journal) and half of the new one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.exceptions import StoreError

_LOOK_EVERY_SECONDS = 0.01


@contextmanager
def passing(path: Path, patience_seconds: float) -> Iterator[None]:
    """Open the file that is there; raises :class:`StoreError` when another process stays in the door."""
    with _door(path, fcntl.LOCK_SH, patience_seconds):
        yield


@contextmanager
def alone(path: Path, patience_seconds: float) -> Iterator[None]:
    """Replace the file or begin it; raises :class:`StoreError` when others stay in the door, or there can't be one."""
    with _door(path, fcntl.LOCK_EX, patience_seconds):
        yield


@contextmanager
def _door(path: Path, operation: int, patience_seconds: float) -> Iterator[None]:
    try:
        descriptor = os.open(path.with_name(f"{path.name}.door"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(f"can't use the store {path}: {error.strerror}") from error
    try:
        _lock(descriptor, operation, path, time.monotonic() + patience_seconds)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int, path: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreError(f"can't use the store {path}: another process is busy opening it") from None
            time.sleep(_LOOK_EVERY_SECONDS)
        except OSError:  # a filesystem without locks
            return None
