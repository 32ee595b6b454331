"""From stored sessions to the state of every chart: the same however often, and in whatever pieces, it is asked for.

What a chart says is a function of the stored sessions in the order of time, of the settings, of what people did about
alarms, and of today's date. So all of it can be computed anew, and is, whenever something changes before the last look:
a session that came late, a reading, an erasure, new formulas or settings, a chart that people re-based. Else the
charts go on from the checkpoint, which holds ranks and sums and no session. Sessions that age out of the store stay in
the ranks as long as nothing else asks for a computation from the start.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import groupby
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from monitoring.analytics import telling
from monitoring.analytics.alarms import ACKNOWLEDGE as ACKNOWLEDGE
from monitoring.analytics.alarms import NEVER_NS, alarms_of, chart_state, state_of, with_answer, without_repeats
from monitoring.analytics.alarms import REBASE as REBASE
from monitoring.analytics.changes import WINDOW
from monitoring.analytics.charting import Charting, Progress, Where
from monitoring.analytics.charts import DAY_NS, Chart, SilenceChart
from monitoring.analytics.machines import Ending, Machines, disk, memory
from monitoring.analytics.ranks import ENCODER, Values, decoder
from monitoring.analytics.series import MEMORY, series_of
from monitoring.analytics.states import Alarm as Alarm
from monitoring.analytics.states import Analysis as Analysis
from monitoring.analytics.states import ChartState as ChartState
from monitoring.analytics.states import each_once
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.exceptions import ConfigurationError, StoreCorruptError, StoreError, StoreReadError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store import totals
from monitoring.store.analysis import Action, Analysed, Reference, Seen
from monitoring.store.database import Database
from monitoring.store.sessions import Store

CHECKPOINT_VERSION: Final = 11
"""Raised when a chart says another thing of the same sessions, or its fields change."""
NO_BACKENDS: Final = SessionWritesBuilder()
_PAGE: Final = 500
_IDENTITY: Final = re.compile(r"\^|\d{6}|(\d+\.){4}")  # a DICOM name, a number or compact date, a UID; no version


# --- a look at the store ------------------------------------------------------------------------


def analyse(store: Store, config: AnalyticsConfig, now_ns: int, build: SessionWritesBuilder = NO_BACKENDS) -> Analysis:
    """Look at the store, and keep what was found in it and what the backends are told of it.

    ``build`` knows the log backends and the tags. What can't be written, such as on a full disk, is found all the same,
    and :attr:`Analysis.not_kept` says why. Raises :class:`StoreError` where it can't be read.
    """
    try:
        return _look(store, config, now_ns, build)
    except _ReferenceLostError as lost:
        # Once more from the start: a second look can't lose the same checkpoint.
        return _look(store, config, now_ns, build, lost.which)


def _look(
    store: Store, config: AnalyticsConfig, now_ns: int, build: SessionWritesBuilder, useless: int | None = None
) -> Analysis:
    database, today = store.database, now_ns // DAY_NS
    not_kept: list[str] = []
    with _unless_unwritable(not_kept), database.transaction(durable=False) as connection:
        # Before the look: readings that come while it lasts are noted, for the next one.
        kept.expect_readings(connection)
    with database.read_transaction() as connection:
        before, anew, which = _last(connection, config, today, useless)
        seen, actions, readings = kept.seen(connection), kept.actions(connection), kept.changed_readings(connection)
        expiry = totals.values(connection, catalogue.CERTIFICATE_EXPIRY)
        listed = {alarm_id: alarm.found_ns for alarm_id, alarm in kept.kept_alarms(connection).items()}
    references = _References(database, before.references, which)
    charting = Charting(before.progress, config, rebasings(actions), references.read)
    charting.take(_sessions(store, before.seen.until_ns, seen.until_ns))
    # A day counts once it is over: today's exams may still become more.
    charting.end_day(today)
    found = _analysis(charting, config, actions, now_ns, listed)
    made, grown = references.left_out(Checkpoint(before.made_by, seen, today, charting.progress), actions)
    endings = tuple(
        Ending(name, kind, round(end * NANOSECONDS))
        for (name, kind), end in sorted(expiry.items())
        if build.backends is None or name in build.backends
    )
    found = replace(found, machines=replace(found.machines, endings=endings))
    found = replace(found, anew=anew)
    if not not_kept:
        with _unless_unwritable(not_kept), database.transaction(durable=False) as connection:
            # Of two looks at once the first is kept; an erasure meanwhile has taken what this one went on from.
            is_first = kept.keep_checkpoint(connection, ENCODER.encode(made), which, readings, grown, bool(anew))
            return _keep(connection, found, now_ns, build) if is_first else found
    with database.read_transaction() as connection:
        return replace(_beside_earlier(connection, found), not_kept=not_kept[0])


@contextmanager
def _unless_unwritable(reasons: list[str]) -> Iterator[None]:
    """Go on where the store can't be written, and add why to ``reasons``."""
    try:
        yield
    # What can't be read is no look at all.
    except (StoreCorruptError, StoreReadError):
        raise
    except StoreError as error:
        reasons.append(str(error))


def nightly(store: Store, config: AnalyticsConfig, until_ns: int) -> Iterator[tuple[int, Analysis]]:
    """What the look at each UTC midnight up to ``until_ns`` would have found of what is stored now; keeps nothing.

    What people answered counts from that instant on, save that a chart which was re-based is so from the beginning.
    Raises :class:`StoreError`.
    """
    with store.database.read_transaction() as connection:
        actions = kept.actions(connection)
    charting, night = Charting(Progress(), config, rebasings(actions)), 0

    def looks(first: int, last: int) -> Iterator[tuple[int, Analysis]]:
        for day in range(first, last + 1):
            charting.end_day(day)
            answered = [action for action in actions if action.instant_ns <= day * DAY_NS]
            yield day * DAY_NS, _analysis(charting, config, answered, day * DAY_NS)

    for day, sessions in groupby(_sessions(store), lambda session: session.stored.timestamp_ns // DAY_NS):
        if night:
            yield from looks(night, day)
        charting.take(sessions)
        night = day + 1
    if night:
        yield from looks(night, until_ns // DAY_NS)


def _sessions(store: Store, after_ns: int | None = Seen().until_ns, until_ns: int = NEVER_NS) -> Iterator[Analysed]:
    """Those after an instant until another, in the order of time; no view of the store is held while they are used."""
    while after_ns is not None and after_ns < until_ns:
        with store.database.read_transaction() as connection:
            page, after_ns = kept.sessions_after(connection, after_ns, _PAGE)
        yield from (session for session in page if session.stored.timestamp_ns <= until_ns)


def rebasings(actions: Iterable[Action]) -> list[tuple[str, int]]:
    """The charts' keys that people re-based, and the instants (UTC ns) from which they begin anew."""
    return [
        (action.chart, msgspec.json.decode(action.document, type=Alarm).change_ns)
        for action in actions
        if action.kind == REBASE
    ]


def _beside_earlier(connection: sqlite3.Connection, found: Analysis) -> Analysis:
    """With what is new and what is gone; alarms that can't be computed again, since exams left the store, stay."""
    earlier, oldest_ns = kept.kept_alarms(connection), kept.oldest_session(connection)
    computed = {alarm.alarm_id for alarm in found.alarms}
    stood = {alarm_id: alarm.document for alarm_id, alarm in earlier.items() if alarm.withdrawn_ns is None}
    # An alarm that is gone though all of its exams are there is withdrawn: a late exam or reading took it back.
    answers = kept.actions(connection)
    lost = (
        with_answer(
            msgspec.json.decode(stood[alarm_id], type=Alarm), [each for each in answers if each.alarm_id == alarm_id]
        )
        for alarm_id in stood
        if alarm_id not in computed
    )
    staying = (alarm for alarm in lost if oldest_ns is None or alarm.since_ns < oldest_ns)
    alarms = sorted(each_once((*found.alarms, *staying)), key=_newest_last)
    there = [alarm.alarm_id for alarm in alarms]
    withdrawn = [alarm_id for alarm_id in stood if alarm_id not in there]
    appeared = [alarm_id for alarm_id in there if alarm_id not in stood]
    opened = {(alarm.chart, alarm.segment) for alarm in alarms if alarm.status == "open"}
    states = [
        replace(one, state="alarm") if (one.chart, one.segment) in opened
        # What its alarm was found instead of is answered.
        else replace(one, state=ACKNOWLEDGE + "d") if one.state == "alarm"
        else one
        for one in found.charts
    ]  # fmt: skip
    return replace(
        found, charts=tuple(states), alarms=tuple(alarms), appeared=tuple(appeared), withdrawn=tuple(withdrawn)
    )


def _keep(connection: sqlite3.Connection, found: Analysis, now_ns: int, build: SessionWritesBuilder) -> Analysis:
    """Keep new alarms, withdraw others, and tell of it."""
    found = _beside_earlier(connection, found)
    there = {alarm.alarm_id: alarm for alarm in found.alarms}
    documents = ((alarm_id, msgspec.json.encode(there[alarm_id]).decode()) for alarm_id in found.appeared)
    new = [there[alarm_id] for alarm_id in kept.keep_alarms(connection, documents, now_ns)]
    kept.withdraw_alarms(connection, found.withdrawn, now_ns)
    every = (
        (msgspec.json.decode(alarm.document, type=Alarm), alarm.withdrawn_ns is not None)
        for alarm in kept.kept_alarms(connection).values()
        if alarm.document
    )
    telling.tell(connection, found, every, new, build, now_ns)
    return found


def _analysis(
    charting: Charting,
    config: AnalyticsConfig,
    actions: Sequence[Action],
    now_ns: int,
    listed: Mapping[str, int] = MappingProxyType({}),
) -> Analysis:
    progress = charting.progress
    states, alarms = [], []
    # By name and segment: an old segment's charts stay as they were, and can still be answered.
    everything: dict[str, Chart] = {**progress.numbers, **progress.events, **progress.silence}
    for key, chart in everything.items():
        name, _, code = key.partition("@")
        series = charting.by_name[series_of(name)]
        # Silence is of today's date, so it isn't kept but asked each time.
        crossings = [*progress.crossings[key], *(chart.until(now_ns) if isinstance(chart, SilenceChart) else ())]
        done = [action for action in actions if action.chart == key]
        its_alarms = alarms_of(key, series, chart, crossings, done, listed)
        alarms += its_alarms
        state = state_of(chart, its_alarms, done)
        states.append(chart_state(name, code, series, chart, state, now_ns, code in ("", progress.segment)))
    # Those that people did something about and that aren't computed any more, as after a re-basing.
    computed_ids = {alarm.alarm_id for alarm in alarms}
    answered = {action.alarm_id for action in actions}
    # An alarm that is found at another exam, since its own was erased, has taken the answer over.
    taken = {
        (f"{alarm.chart}@{alarm.segment}", ACKNOWLEDGE, alarm.person, alarm.words)
        for alarm in alarms
        if alarm.alarm_id not in answered
    }
    for alarm_id in answered - computed_ids:
        done = [action for action in actions if action.alarm_id == alarm_id]
        if any((action.chart, action.kind, action.person, action.words) not in taken for action in done):
            alarms.append(with_answer(msgspec.json.decode(done[0].document, type=Alarm), done))
    order = {name: number for number, name in enumerate(charting.by_name)}
    states.sort(key=lambda state: (not state.is_current, order[state.series], state.chart, state.segment))
    return Analysis(
        charts=tuple(states),
        alarms=tuple(sorted(alarms, key=_newest_last)),
        segments=progress.segments,
        strata=progress.strata,
        sessions=progress.sessions,
        false_alarms_per_year=config.false_alarms_per_year,
        machines=_machines(charting, now_ns // DAY_NS),
    )


def _machines(charting: Charting, today: int) -> Machines:
    progress = charting.progress
    in_order = sorted(progress.segments, key=lambda code: progress.segments[code].last_ns)
    names = [key.partition("@")[0] for key in sorted(progress.numbers) if key.endswith(f"@{progress.segment}")]
    names = [name for name in names if series_of(name) in MEMORY]
    present = [(f"{name}@{progress.segment}", progress.numbers[f"{name}@{progress.segment}"]) for name in names]
    charting.bring((key, stratum) for key, chart in present for stratum in chart.strata)
    of_memory = [
        memory(name, [(code, each) for code in in_order if (each := progress.numbers.get(f"{name}@{code}"))])
        for name in names
    ]
    return Machines(tuple(disk(*each, today) for each in sorted(progress.disks.items())), tuple(of_memory))


def _newest_last(alarm: Alarm) -> tuple[int, str]:
    return alarm.raised_ns, alarm.alarm_id


# --- the checkpoint -----------------------------------------------------------------------------


class Checkpoint(Struct):
    """The progress, and what it was made of: it holds as long as that is so.

    ``references`` are the checksums of what the charts rank among, which the progress leaves out, by row.
    """

    made_by: str
    seen: Seen
    today: int
    progress: Progress = field(default_factory=Progress)
    references: dict[str, int] = {}


_DECODE: Final = decoder(Checkpoint)
_DECODE_VALUES: Final = decoder(Values)


def _last(
    connection: sqlite3.Connection, config: AnalyticsConfig, today: int, useless: int | None
) -> tuple[Checkpoint, str, int]:
    """The last look's checkpoint where it still holds, and isn't the one that is ``useless``; else an empty one, and
    why. And which the last look's was.
    """
    made_by = sha256(
        msgspec.json.encode((CHECKPOINT_VERSION, FORMULA_VERSION, config), order="deterministic")
    ).hexdigest()
    encoded, which = kept.checkpoint(connection)
    found, reason = Checkpoint("", Seen(), 0), ""
    if which == useless:
        reason = "values that charts rank among were damaged"
    elif encoded is None:
        reason = "there was no earlier look, or a chart's past was changed"
    else:
        with suppress(msgspec.MsgspecError):
            found = _DECODE.decode(encoded)
        earliest_ns = kept.earliest_new(connection, found.seen)
        if found.made_by != made_by:
            reason = "the formulas, the settings or the version have changed"
        elif found.today > today:
            # What counted as over by then is not over any more.
            reason = "the clock was set back"
        elif earliest_ns is not None and (earliest_ns <= found.seen.until_ns or earliest_ns // DAY_NS < found.today):
            reason = "a session came late"
        elif kept.has_new_readings(connection, found.seen):
            reason = "a reading came late"
    return (Checkpoint(made_by, Seen(), 0) if reason else found), reason, which


class _ReferenceLostError(StoreReadError):
    """What values were ranked among is damaged, or another look has gone on from the checkpoint ``which``."""

    def __init__(self, which: int) -> None:
        super().__init__("another look at the store was faster")
        self.which = which


class _References:
    """What charts rank among, a row of the store for each chart and stratum: a look at one more exam needs those of its
    own stratum, and has to write those that are not full yet.
    """

    def __init__(self, database: Database, checksums: Mapping[str, int], which: int) -> None:
        self._database = database
        self._checksums = checksums
        self._which = which
        self._read: dict[str, tuple[Values, int]] = {}

    def read(self, wanted: Iterable[Where]) -> list[Values]:
        """As the checkpoint left them; raises :class:`StoreReadError` where one is lost."""
        found = []
        with self._database.read_transaction() as connection:
            for where in wanted:
                name = " ".join(where)
                value = kept.reference(connection, name, self._checksums.get(name, -1))
                if value is None:
                    raise _ReferenceLostError(self._which)
                values = _DECODE_VALUES.decode(value)
                self._read[name] = values, len(values)
                found.append(values)
        return found

    def left_out(self, made: Checkpoint, actions: Sequence[Action]) -> tuple[Checkpoint, list[Reference]]:
        """A checkpoint without them, and those that are to be kept beside it."""
        grown, numbers = [], {}
        for key, chart in made.progress.numbers.items():
            numbers[key] = replace(chart, earlier={}, past=chart.past[-WINDOW:])
            for stratum in chart.strata:
                name, values = f"{key} {stratum}", chart.earlier.get(stratum)
                before, length = self._read.get(name, (None, 0))
                if values is None or (values is before and len(values) == length):
                    made.references[name] = self._checksums[name]
                else:
                    grown.append(Reference.of(name, ENCODER.encode(values)))
                    made.references[name] = grown[-1].checksum
        crossings = {
            key: without_repeats(its, [action for action in actions if action.chart == key])
            for key, its in made.progress.crossings.items()
        }
        return replace(made, progress=replace(made.progress, numbers=numbers, crossings=crossings)), grown


# --- what people do -----------------------------------------------------------------------------


def answerable(found: Analysis, alarm_id: str, kind: str, person: str, words: str) -> Alarm:
    """The alarm that an answer is to, as it is before.

    Raises :class:`ConfigurationError` for an alarm that isn't there, for an answer without a name or words or with what
    looks like a patient's identity, and for the re-basing of what has no baseline.
    """
    if not person.strip() or not words.strip():
        raise ConfigurationError("an answer needs who gave it, and words")
    if _IDENTITY.search(person) or _IDENTITY.search(words):
        raise ConfigurationError("an answer stands in reports: no patient's name (A^B), no UID, no six digits in a row")
    alarm = next((each for each in found.alarms if each.alarm_id == alarm_id), None)
    if alarm is None or alarm.status == "rebased" or (alarm.status == "acknowledged" and kind == ACKNOWLEDGE):
        raise ConfigurationError(f"there is no {'alarm' if alarm is None else 'open alarm'} {alarm_id}")
    # Events and silence have no ranks that could begin anew.
    if kind == REBASE and not alarm.segment:
        raise ConfigurationError(
            f"{alarm.chart} has no baseline: what is accepted is set in analytics.accepted_rates; acknowledge the alarm"
        )
    return alarm


def act(
    store: Store,
    config: AnalyticsConfig,
    alarm_id: str,
    kind: str,
    person: str,
    words: str,
    now_ns: int,
    build: SessionWritesBuilder = NO_BACKENDS,
) -> Alarm:
    """Acknowledge an open alarm, or start its chart anew at the estimated change; returns it as it is then.

    Raises :class:`ConfigurationError` as :func:`answerable` does.
    """
    alarm = answerable(analyse(store, config, now_ns, build), alarm_id, kind, person, words)
    document = msgspec.json.encode(replace(alarm, status="open", person="", words="")).decode()
    key = f"{alarm.chart}@{alarm.segment}"
    with store.database.transaction() as connection:
        kept.keep_action(connection, Action(alarm_id, key, kind, now_ns, person, words, document))
        if kind == REBASE:
            kept.forget_checkpoint(connection)
    return next(each for each in analyse(store, config, now_ns, build).alarms if each.alarm_id == alarm_id)
