"""Monitoring that is switched on: the store, the sampler and the delivery threads of one process.

Raises what goes wrong; :mod:`monitoring.monitor_manager` is where errors end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from monitoring import coerce
from monitoring.backends import is_used, routes
from monitoring.config_validator import Checked, MonitoringConfig
from monitoring.deadline import Deadline
from monitoring.events import SessionRecord
from monitoring.line_protocol import line
from monitoring.metrics_collector import Sample, changes, points, samples, zero_changes
from monitoring.outbox.delivery import DeliveryThreads, Guard
from monitoring.outbox.store import CommitContext, Commitment, Store
from monitoring.privacy import Pseudonymizer, find_key
from monitoring.session import Session
from monitoring.store_location import instance_name, open_database
from monitoring.system_resources import Recording, Sampler, output_folder


@dataclass(slots=True)
class _Open:
    session: Session
    recording: Recording | None


class Runtime:
    """One process' monitoring."""

    def __init__(self, checked: Checked, settings: Mapping[str, Any], logger: logging.Logger, guard: Guard) -> None:
        self.config = checked.config
        self._logger = logger
        self._guard = guard
        self.database, self.path = open_database(self.config.store, logger)
        self.store = Store(self.database)
        self.instance = instance_name(self.config, self.store)
        self.pseudonyms = Pseudonymizer(find_key(self.config.privacy, self.path and self.path.parent))
        self.store.initialise(zero_changes(_configured_models(settings)))
        self._sampler = self._make_sampler()
        self._sessions: dict[str, _Open] = {}
        self._lock = threading.Lock()
        self.committed: list[SessionRecord] = []
        backends = routes(self.config, self.database, self.instance)
        names = " and ".join(route.name for route in backends) or "no backend"
        logger.info("monitoring: on; store %s, %s", self.path or "in memory", names)
        self._threads = DeliveryThreads(backends, guard, logger)
        self._threads.start()

    def begin(self, series_id: object) -> Session:
        """Open a session for one image."""
        session = Session(self.pseudonyms.series(series_id))
        recording = self._sampler.begin() if self._sampler else None
        with self._lock:
            self._sessions[session.session_id] = _Open(session, recording)
        return session

    def open_session(self, session_id: object) -> Session | None:
        """The open session of this id."""
        found = self._sessions.get(str(session_id))
        return found.session if found else None

    def end(self, session_id: object, status: object = None) -> SessionRecord | None:
        """Freeze, commit and hand over to delivery; None when the session isn't open."""
        with self._lock:
            found = self._sessions.pop(str(session_id), None)
        if found is None:
            return None
        usages = self._sampler.finish(found.recording) if self._sampler and found.recording else {}
        record = found.session.freeze(status, usages)
        if not self.config.metrics.include_model_metrics:
            record = replace(record, models=(), predictions=())
        self.store.commit(record, partial(_commitment, record, self.config, self.instance))
        self.committed.append(record)
        self._threads.wake()
        return record

    def close(self, deadline: Deadline) -> None:
        """End open sessions as failed, deliver until the deadline, close the store."""
        for session_id in list(self._sessions):
            self._sessions[session_id].session.fail("not_ended")
            self.end(session_id)
        if self._sampler:
            self._sampler.close()
        self._threads.close(deadline)
        if self.path is not None:
            self.database.close()

    def _make_sampler(self) -> Sampler | None:
        if not self.config.metrics.include_system_metrics:
            return None
        volumes = {"output": output_folder()} | ({"store": self.path.parent} if self.path else {})
        return Sampler(self.config.metrics.collection_interval, volumes, self._guard)


def _configured_models(settings: Mapping[str, Any]) -> tuple[str, ...]:
    names = map(coerce.metric_name, coerce.plain_list(settings.get("models")))
    return tuple(name for name in names if name)


def _commitment(record: SessionRecord, config: MonitoringConfig, instance: str, context: CommitContext) -> Commitment:
    """What a session's commit writes: exact line-protocol bytes, and the changes of the totals."""
    derived = [_admitted(sample, context) for sample in samples(record, context.sessions_last_hour)]
    lines: dict[str, tuple[bytes, int]] = {}
    if is_used(config.influxdb):
        encoded = [line(point, context.timestamp_ns) for point in points(derived, record, instance)]
        lines["influxdb"] = ("\n".join(encoded).encode(), len(encoded))
    return Commitment(lines, changes(derived))


def _admitted(sample: Sample, context: CommitContext) -> Sample:
    if not sample.labels:
        return sample
    labels = {label.name: context.admit(label, sample.labels[label.name]) for label in sample.metric.labels}
    return replace(sample, labels=labels)
