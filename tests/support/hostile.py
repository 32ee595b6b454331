"""Values as hosts pass them that are no plain numbers or text: hostile ones, columns, enums."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Hostile:
    """An object that raises whatever it is asked, as a tensor on a lost device does."""

    size = 1
    dtype = "float32"

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("device lost")

    __float__ = __str__ = __int__ = __iter__ = __len__ = __eq__ = __bool__ = item = tolist = _raise
    __hash__ = object.__hash__


class Column:
    """As pandas' Series and torch's tensors answer, without either of them."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self.size = len(values)

    def tolist(self) -> list[Any]:
        return list(self._values)

    def item(self) -> Any:
        (value,) = self._values
        return value


class Word(str, Enum):  # noqa: UP042 - the kind that StrEnum replaces
    """A text enum as hosts write it, whose str() is "Word.DONE"."""

    DONE = "completed"
