"""Who is alive: each process holds a locked file beside the store for as long as it lives.

The kernel drops the lock with the process, however that ends, and shows it to every container that
mounts the folder; process ids do neither, since they are reused, and each container counts its own.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path


class Owner:
    """The sign of life of one process; the token names it in the store."""

    def __init__(self, store: Path) -> None:
        self.token = secrets.token_hex(8)
        self._path = _sign(store, self.token)
        # Close-on-exec is Python's default: a program that the host starts doesn't keep us alive.
        self._descriptor: int | None = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

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
    path = _sign(store, token)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by its owner; or a filesystem without locks, where nobody is declared dead
        return True
    finally:
        os.close(descriptor)
    return False


def forget(store: Path, token: str) -> None:
    """Remove what a dead process left."""
    with suppress(OSError):
        _sign(store, token).unlink()


def _sign(store: Path, token: str) -> Path:
    return store.with_name(f"{store.name}.alive-{token}")
