"""Says what a host passed and what was not kept as it was: by kind and by the key in the host's code, never the value.

Counting it is the session's part (``refused``); this is for who writes the host, and reads its log.
"""

from __future__ import annotations

import logging

from monitoring.records import coerce

_MOST_SAID = 200  # a host that makes its names from its studies must not fill memory, nor the log


class LeftOutLog:
    """At WARNING the first time of a kind and key, at DEBUG each further time."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._said: set[tuple[str, str]] = set()

    def __call__(self, kind: str, key: str) -> None:
        """``key`` is shown where it is a plain name; any other could be a study's."""
        shown = coerce.metric_name(key) or "(not a plain name)"
        is_new = (kind, shown) not in self._said and len(self._said) < _MOST_SAID
        if is_new:
            self._said.add((kind, shown))
        self._logger.log(logging.WARNING if is_new else logging.DEBUG, "monitoring: left out: %s: %s", kind, shown)

    def renamed(self, name: str) -> None:
        """A name is not plain, and is kept as ``name``."""
        is_new = ("renamed", name) not in self._said and len(self._said) < _MOST_SAID
        if is_new:
            self._said.add(("renamed", name))
        level = logging.WARNING if is_new else logging.DEBUG
        self._logger.log(level, "monitoring: a name that is not plain is kept as %s", name)
