"""Says each kind of loss once, when it happens; the store counts them all."""

from __future__ import annotations

import logging

from monitoring.metrics import catalogue
from monitoring.store import totals
from monitoring.store.database import Database


class LossLog:
    """Looks at the store's counts of losses; what was lost before this process is not news."""

    def __init__(self, database: Database, logger: logging.Logger) -> None:
        self._database = database
        self._logger = logger
        self._said: set[str] = set()
        self._before = self._counts()

    def say_new(self) -> None:
        """Log the kinds of loss that have happened since; raises :class:`StoreError`."""
        for reason, count in self._counts().items():
            news = count - self._before.get(reason, 0)
            if news > 0 and reason not in self._said:
                self._said.add(reason)
                self._logger.warning(
                    "monitoring: %d lost, reason %s; the command status counts what is lost", news, reason
                )

    def _counts(self) -> dict[str, int]:
        with self._database.reading() as connection:
            found = totals.values(connection, catalogue.MONITORING_DROPPED)
        return {reason: int(count) for (reason,), count in found.items()}
