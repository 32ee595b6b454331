"""Who is alive: each process holds a locked file beside the store for as long as it lives.

The kernel drops the lock with the process, however that ends, and shows it to every container that
mounts the folder; process ids do neither, since they are reused, and each container counts its own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.exceptions import StoreError


class Owner:
    """The sign of life of one process; the token names it in the store. Raises :class:`StoreError`."""

    def __init__(self, store: Path) -> None:
        self.token = secrets.token_hex(8)
        self._path = _sign(store, self.token)
        try:
            self._descriptor: int | None = _open_locked(self._path)
        except OSError as error:
            raise StoreError(f"can't write beside the store {store}: {error.strerror}") from error

    def close(self) -> None:
        """A clean end."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def after_fork(self) -> None:
        """In a child process: the lock is the parent's, and must end with it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_alive(store: Path, token: str) -> bool:
    """Whether the process of this token lives, or can't be told to be dead."""
    try:
        descriptor = os.open(_sign(store, token), os.O_RDWR)
    except (FileNotFoundError, ValueError):
        return False
    except OSError:
        return True
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def sweep(store: Path) -> None:
    """Remove the signs of dead processes."""
    for path in store.parent.glob(f"{_sign(store, '').name}*"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                if _try_lock(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


def _open_locked(path: Path) -> int:
    """The file, held from now on. Where files can't be locked, nobody is ever declared dead."""
    while True:
        # Close-on-exec is Python's default: a program that the host starts doesn't keep us alive.
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process has swept it away before it was locked


def _try_lock(descriptor: int) -> bool:
    """False when its owner holds it, or on a filesystem without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sign(store: Path, token: str) -> Path:
    return store.with_name(f"{store.name}.alive-{token}")


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
