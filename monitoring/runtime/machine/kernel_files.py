"""Reads the kernel's small text files. What is missing, unreadable or garbage is none: it raises nothing."""

from __future__ import annotations

_MOST_DIGITS = 19  # of 64 bits


def read_text(path: str) -> str:
    """Nothing where nothing can be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - half the time of Path's
            return file.readall().decode("latin-1")
    except OSError:
        return ""


def read_number(path: str) -> float | None:
    """The whole number that a file holds; see :func:`whole_number`."""
    return whole_number(read_text(path).strip())


def line_after(start: str, text: str) -> str:
    """The rest of the line that begins with ``start``, without white space around it; "" without such a line."""
    _, found, rest = f"\n{text}".partition(f"\n{start}")
    return rest.partition("\n")[0].strip() if found else ""


def whole_number(text: str) -> float | None:
    """None for "max", -1 and garbage."""
    is_whole = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return float(text) if is_whole else None
