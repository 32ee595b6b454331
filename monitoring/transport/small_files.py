"""Reads files that settings, hosts and commands name: regular ones only, and never more of one than its reader expects.

Opening a pipe could wait for a writer for ever, and reading a device, or a file of the kernel's, never end. What the
bytes mean is the callers' business.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_SECRET_BYTES = 64 * 1024
MOST_CERTIFICATE_BYTES = 4 * 1024 * 1024
MOST_DOCUMENT_BYTES = 64 * 1024 * 1024


def open_file(path: Path) -> BinaryIO:
    """A regular file, or what a link leads to if it is one; raises OSError for anything else, and never blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, most_bytes: int) -> bytes:
    """The whole of a regular file; raises OSError, also for one of more than ``most_bytes``."""
    with open_file(path) as file:
        return read_from(file, most_bytes)


def read_from(file: BinaryIO, most_bytes: int) -> bytes:
    """What is left in an open file; raises OSError where that is more than ``most_bytes``."""
    content = file.read(most_bytes + 1)  # not by its size, which a file of the kernel's states as 0
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes} bytes")
    return content
