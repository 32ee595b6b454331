"""What a report holds: its charts, alarms, tables and counts, with their words. No code but these."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from monitoring.analytics.control_limits import Limits
from monitoring.analytics.months import Gap, Month
from monitoring.domain.agreement import Agreement, Verdict
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.version import __version__

SIMULATED: Final = {"simulated": "Simulated, of no patient"}
"""What is said of an application's name: nobody may take what was made up for a site's."""
NOT_MEASURED: Final = "not measured; leglength-monitor drill does"


class ReportedAlarm(Struct, frozen=True):
    """An alarm in words; dates are UTC days. ``status`` is ``open``, ``acknowledged`` or ``rebased``.

    ``look_first`` is the ID of the alarm that may be of the same fault and says more of it, or "".
    """

    alarm_id: str
    chart: str
    title: str
    icon: str
    letter: str
    size: float
    size_exams: int
    unit: str
    strata: tuple[str, ...]
    what: str
    since: str
    between: str
    found: str
    sure: str
    status: str
    answer: str
    segment: str
    audience: str
    look_first: str = ""


class AlarmGroup(Struct, frozen=True):
    """Alarms of one series and segment with one answer: the largest of them, and how many there are."""

    lead: ReportedAlarm
    count: int


class ReportedChart(Struct, frozen=True):
    """One chart of what is in use now.

    ``icon`` is ``common``, ``concern``, ``improvement``, ``neither`` or ``learning``, ``letter`` H, L or "".
    ``value`` and ``interval`` are of the period's points: a mean, or a share with an interval that survives daily
    looks.
    ``p`` compares the last whole month with those before, ``is_discovery`` by Benjamini-Hochberg at 5 %.
    """

    chart: str
    series: str
    title: str
    unit: str
    kind: str
    audience: str
    state: str
    icon: str
    letter: str
    what: str
    since: str
    sure: str
    looked_at: str
    to_do: str
    noticed: str
    notices: str
    misses: str
    exams: int
    count: int
    value: float | None = None
    interval: tuple[float, float] | None = None
    events: int | None = None
    accepted: float | None = None
    limit: float | None = None
    score: float | None = None
    once_in: float | None = None
    by_days: bool = False
    detectable: float | None = None
    first: str = ""
    months: tuple[Month, ...] = ()
    limits: Limits | None = None
    gaps: tuple[Gap, ...] = ()
    """Of rare events, which are shown by these and not by months; in ``gap_unit``: exams, sessions or days."""
    gap_unit: str = ""
    gap_limits: Limits | None = None
    p: float | None = None
    is_discovery: bool = False


class Group(Struct, frozen=True):
    """A series' charts at a glance: icons of those that changed, how many are in which state, what they notice."""

    series: str
    title: str
    icons: tuple[tuple[str, str], ...]
    states: str
    noticed: str
    charts: int


class ReportedAgreement(Struct, frozen=True):
    """One measurement against readers: Bland-Altman, ICC, and the bias' interval that survives daily looks (mm)."""

    measurement: str
    title: str
    agreement: Agreement
    verdict: Verdict
    interval: tuple[float, float] | None


class Counted(Struct, frozen=True):
    """Sessions of a month (``2026-06``), by how they ended."""

    month: str
    by_status: dict[str, int]


class Year(Struct, frozen=True):
    """A calendar year of the period: sessions by how they ended, exams, alarms raised and how many of them are open."""

    year: int
    by_status: dict[str, int]
    exams: int
    alarms: int
    open_alarms: int


class Segment(Struct, frozen=True):
    """What measured, since when until when, and what was found of it. ``exams`` are the period's."""

    code: str
    words: str
    first: str
    last: str
    is_current: bool
    exams: int
    alarms: int
    verdict: str
    noticed: str


class Strange(Struct, frozen=True):
    """An exam worth a second look: its session's ID, its day, and why."""

    session_id: str
    day: str
    reasons: tuple[str, ...]


class DrilledFault(Struct, frozen=True):
    """A fault of a drill, and in words the first alarm that it gave: of any chart, and of those that need no reader.

    "" is "not noticed".
    """

    fault: str
    noticed: str
    without_readers: str


class ReportedDrill(Struct, frozen=True):
    """A fire drill that was kept: its UTC day, the package's version, and whether it was of what measures now.

    ``unusual`` says what was left out of it, and which alarms lie in its exams.
    """

    day: str
    version: str
    is_of_present: bool
    exams_before: int
    exams_with_fault: int
    read: int
    faults: tuple[DrilledFault, ...]
    false_alarms_a_year: float
    two_errors: float
    accepted_a_year: float
    clinic_days: int
    shuffles: int
    unusual: str = ""


class Report(Struct, frozen=True):
    """All that a report shows. ``digest`` is the SHA-256 of everything else in it, as canonical JSON.

    ``verdict`` is of all charts, ``verdict_for`` of a clinician's or an operator's alone.
    """

    verdict: str
    verdict_for: dict[str, str]
    first: str
    last: str
    made: str
    sessions: int
    by_status: dict[str, int]
    failure_interval: tuple[float, float] | None
    exams: int
    exams_read: int
    readings: int
    readers: int
    charts: tuple[ReportedChart, ...]
    alarms: tuple[ReportedAlarm, ...]
    agreements: tuple[ReportedAgreement, ...]
    months: tuple[Counted, ...]
    years: tuple[Year, ...]
    strange: tuple[Strange, ...]
    segments: tuple[Segment, ...]
    strata: tuple[tuple[int, str, int], ...]
    losses: dict[str, int]
    false_alarms_per_year: float
    compared_month: str | None
    application: str = ""
    version: str = __version__
    formulas: int = FORMULA_VERSION
    machines: tuple[tuple[str, str], ...] = ()
    """What is known of disks and memory, each by its name, in words: none of it is an alarm."""
    drills: tuple[ReportedDrill, ...] = ()
    """The newest first."""
    measured_false_alarms: str = NOT_MEASURED
    digest: str = ""
