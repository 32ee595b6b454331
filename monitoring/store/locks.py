"""Locked files beside the store: one that tells a process alive, and one that orders the opening of the store.

The kernel drops a lock with its process, however that ends, and shows it to every container that mounts the
folder; process ids do neither, since they are reused, and each container counts its own. SQLite's own locks guard
what is inside the file; these guard what SQLite can't: the file as a whole, and whose open sessions are whose.
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

_LOOK_EVERY_SECONDS = 0.01


class LivenessLock:
    """Held for as long as a process lives; the token names it in the store. Raises :class:`StoreError`."""

    def __init__(self, store: Path) -> None:
        self.token = secrets.token_hex(8)
        self._path = _liveness_file(store, self.token)
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
        descriptor = os.open(_liveness_file(store, token), os.O_RDWR)
    except (FileNotFoundError, ValueError):  # ValueError: a damaged token, with a NUL in it
        return False
    except OSError:
        return True
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(store: Path) -> None:
    """Remove the liveness files of dead processes."""
    for path in store.parent.glob(f"{_liveness_file(store, '').name}*"):
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
        os.close(descriptor)  # another process has removed it as stale, before it was locked


def _try_lock(descriptor: int) -> bool:
    """False when its owner holds it, or on a filesystem without locks."""
    try:
        # Not POSIX's lock: that would end with any descriptor of the file that this process closes, as we do here.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _liveness_file(store: Path, token: str) -> Path:
    return store.with_name(f"{store.name}.alive-{token}")


def mark_ended(store: Path, session_id: str) -> None:
    """Say of an open session that it has ended, where the store can't be written.

    By an empty file, since a full volume still takes one; so that it isn't reported as crashed when this process is
    gone.
    """
    with suppress(OSError):
        _ended_file(store, session_id).touch(mode=0o600)


def is_marked_ended(store: Path, session_id: str) -> bool:
    """Whether the session has ended, though the store says that it is open."""
    return _ended_file(store, session_id).exists()


def unmark_ended(store: Path, session_id: str) -> None:
    """The store knows by now."""
    with suppress(OSError):
        _ended_file(store, session_id).unlink()


def _ended_file(store: Path, session_id: str) -> Path:
    return store.with_name(f"{store.name}.ended-{session_id}")


@contextmanager
def opening(path: Path, patience_seconds: float, exclusive: bool) -> Iterator[None]:
    """Hold the store's opening lock: shared to open the file that is there, exclusive to begin or to replace it.

    Raises :class:`StoreError` when another process holds it for longer than our patience, or the folder can't be
    written.
    """
    try:
        # The name is on every site's disk: under another, two versions of this package would not see each other.
        descriptor = os.open(path.with_name(f"{path.name}.door"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(f"can't use the store {path}: {error.strerror}") from error
    operation, deadline = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, time.monotonic() + patience_seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(f"can't use the store {path}: another process is busy opening it") from None
                time.sleep(_LOOK_EVERY_SECONDS)
            except OSError:  # a filesystem without locks
                break
        yield
    finally:
        os.close(descriptor)
