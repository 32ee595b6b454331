"""Reading and writing files in folders that others can write to: regular files only, bounded, and never through a link.

An orchestrator's IN may hold a pipe, a device or a link to either; opening one of these could block for ever, and
reading it never end. OUT may hold links that somebody else has placed. What a file's bytes mean is the callers'
business.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

_PART_BYTES: Final = 1 << 24
_LONGEST_STEM: Final = 200
"""Bytes of a name, of the 255 that a file system takes: endings and marks of unfinished files come on top."""
_KEPT_OF_STEM: Final = 160


class NotAPlainFile(OSError):  # noqa: N818 - reads as what happened
    """A pipe, a device, or what claims to be a file and gives more than its size."""


class FileTooLarge(OSError):  # noqa: N818 - as above
    """The file has more bytes than its reader takes."""


def read_file(path: Path, most_bytes: int) -> bytes:
    """The whole of a regular file; raises `FileTooLarge`, `NotAPlainFile` or another OSError, and never blocks.

    A link is followed: orchestrators place them. What counts is what it leads to.
    """
    # Without O_NONBLOCK the opening of a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAPlainFile(errno.EINVAL, "not a regular file")
        if status.st_size > most_bytes:
            raise FileTooLarge(errno.EFBIG, f"larger than {most_bytes} bytes")
        # A file of the kernel's states a size of 0 and may have no end: the stated size is the bound.
        content = _read_up_to(descriptor, status.st_size + 1)
    finally:
        os.close(descriptor)
    if len(content) > status.st_size:
        raise NotAPlainFile(errno.EINVAL, "not a regular file, or one that is still being written")
    return content


def _read_up_to(descriptor: int, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    while most_bytes and (part := os.read(descriptor, min(most_bytes, _PART_BYTES))):
        parts.append(part)
        most_bytes -= len(part)
    return b"".join(parts)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a link of its name, or of its draft's, is replaced and not followed.

    Raises OSError.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        write_new(draft, content)
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_new(path: Path, content: bytes) -> None:
    """Write a file of the process' own making in place of whatever lay there; raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def output_stem(stem: str) -> str:
    """The stem that a file's outputs are named by: its own, shortened where the endings would make it too long.

    What was cut off is stood for by a hash, so that two long names don't become one.
    """
    name = os.fsencode(stem)
    if len(name) <= _LONGEST_STEM:
        return stem
    kept = name[:_KEPT_OF_STEM].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(name).hexdigest()[:16]}"
