"""A file system that never answers: what a network share is whose server is gone. Needs root and /dev/fuse."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_DETACH = 2


@contextlib.contextmanager
def silent_mount(folder: Path) -> Iterator[Path]:
    """Mounts it on ``folder``: whoever asks anything of it waits until this is left. OSError where that can't be."""
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0"
        if _LIBC.mount(b"silent", os.fsencode(folder), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "can't mount")
        try:
            yield folder
        finally:
            _LIBC.umount2(os.fsencode(folder), _DETACH)
    finally:
        os.close(descriptor)  # nobody will ever answer: those who wait get an error
