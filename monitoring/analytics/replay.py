"""The totals as they grew: what a Prometheus state was after each stored session, computed again from the records;
and what the charts would have said each night.

The store keeps the newest totals alone. Whoever asks what an alert rule would have said last month, or gives a
Prometheus its past, needs the earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import nan

from msgspec import Struct

from monitoring.analytics.analysis import Analysis, nightly
from monitoring.analytics.telling import audience_of, for_a_log, said
from monitoring.metrics import chart_metrics
from monitoring.metrics.samples import Change, zero_changes
from monitoring.metrics.session_writes import BuildWrites, TransactionContext
from monitoring.metrics_collector import SessionWritesBuilder, changes, own_lines
from monitoring.settings import AnalyticsConfig
from monitoring.store.sessions import Store
from monitoring.store.vocabulary import stored_vocabulary

_END_NS = 2**62
_BUILD = SessionWritesBuilder()


class Moment(Struct, frozen=True):
    """One instant (UTC nanoseconds) and the totals that changed at it; each replaces its earlier value.

    NaN says that a series is no more.
    """

    at_ns: int
    changed: tuple[Change, ...]


def totals_over_time(
    store: Store,
    since_ns: int = 0,
    until_ns: int = _END_NS,
    zeros: Iterable[Change] | None = None,
    build: BuildWrites = _BUILD,
) -> Iterator[Moment]:
    """The changes by the sessions from ``since_ns`` to before ``until_ns``, in the order of their time.

    It begins at 0 at the first session's start, as a new store's does: with the series of ``zeros``, by default all
    that the catalogue knows beforehand. What the module tells of itself (what waits, what was delivered) isn't in the
    records, and so not in here. Raises :class:`StoreError`.
    """
    with store.database.read_transaction() as connection:
        vocabulary = stored_vocabulary(connection)
    found = []
    for stored in store.sessions(newest_first=False):
        if since_ns <= stored.timestamp_ns < until_ns and (derived := stored.derived):
            writes = build(stored.record, TransactionContext(stored.timestamp_ns, derived.facts, vocabulary))
            # An archive is imported in any order; a state is told in the order of time.
            found.append((stored.timestamp_ns, stored.record.started_ns, tuple(writes.changes)))
    found.sort(key=lambda one: one[0])
    state: dict[tuple[str, frozenset[tuple[str, str]], str], Change] = {}

    def applied(all_changes: Iterable[Change]) -> tuple[Change, ...]:
        touched = {}
        for change in all_changes:
            key = (change.metric, frozenset(change.labels.items()), change.part)
            # Sums, as the store makes them: a session brings what it adds.
            before = 0.0 if change.replaces or key not in state else state[key].value
            touched[key] = state[key] = change._replace(value=before + change.value, replaces=True)
        return tuple(touched.values())

    if found:
        yield Moment(found[0][1], applied(zero_changes() if zeros is None else zeros))
    for at_ns, _, of_session in found:
        yield Moment(at_ns, applied(of_session))


def looks_over_time(store: Store, config: AnalyticsConfig, until_ns: int) -> Iterator[Moment]:
    """What the charts say, and how many alarms were found, at each night's look, by what is stored now: at UTC
    midnights, as if none had been missed. Raises :class:`StoreError`.
    """
    before: dict[tuple[str, frozenset[tuple[str, str]]], Change] = {}
    for at_ns, found, alarms in _nights(store, config, until_ns):
        counted = [
            Change(chart_metrics.ALARMS.name, {"audience": audience}, "", count, replaces=True)
            for audience, count in alarms.items()
        ]
        changed = [*changes([*said(found, at_ns)]), *counted]
        told = {(change.metric, frozenset(change.labels.items())): change for change in changed}
        # As a push replaces its group: a chart that is told no more is gone, and not at its last value.
        gone = [change._replace(value=nan) for key, change in before.items() if key not in told]
        yield Moment(at_ns, (*told.values(), *gone))
        before = told


def lines_over_time(
    store: Store, config: AnalyticsConfig, until_ns: int, tags: Mapping[str, str]
) -> Iterator[tuple[int, list[bytes]]]:
    """The same looks as the lines that a log would have been told, each with its instant (UTC ns).

    Those of alarms are left out: a look tells each alarm that was ever found, whenever that was.
    """
    for at_ns, found, alarms in _nights(store, config, until_ns):
        yield at_ns, own_lines(for_a_log(found, said(found, at_ns), alarms), at_ns, tags)


def _nights(
    store: Store, config: AnalyticsConfig, until_ns: int
) -> Iterator[tuple[int, Analysis, Mapping[str, float]]]:
    """Each night's look, and how many alarms were found until then, by audience."""
    alarms: dict[str, set[str]] = {audience: set() for audience in chart_metrics.AUDIENCE.values}
    for at_ns, found in nightly(store, config, until_ns):
        for alarm in found.alarms:
            alarms[audience_of(alarm.chart)].add(alarm.alarm_id)
        yield at_ns, found, {audience: float(len(ids)) for audience, ids in alarms.items()}
