"""Numbers, instants, ages and states in a person's words: the same in all commands."""

from __future__ import annotations

from datetime import UTC, datetime

from monitoring.config_validator import Checked
from monitoring.metrics.backends import STATES, WHAT_ENDS, Backend
from monitoring.metrics.samples import NANOSECONDS
from monitoring.records.session_record import SessionRecord

USED, OFF, OFF_BY_MISTAKE, NOT_CONFIGURED = "used", "off", "off_by_mistake", "not_configured"
UNUSED_WORDS = {
    OFF: "is off in the settings",
    OFF_BY_MISTAKE: "is off by a mistake in the settings",
    NOT_CONFIGURED: "is not in the settings",
}
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def use_of(backend: Backend, checked: Checked) -> str:
    """Whether the settings use a backend, and if not, why."""
    if backend.settings(checked.config) is not None:
        return USED
    if backend.section in checked.off_by_mistake:
        return OFF_BY_MISTAKE
    return OFF if backend.section in checked.switched_off else NOT_CONFIGURED


def counted(number: int, unit: str) -> str:
    """``1 point``, ``4,802 points``."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def unit_of(backend: str) -> str:
    """What waits for a backend: a state is told sessions, a log takes points."""
    return "session" if backend in STATES else "point"


def instant(nanoseconds: int) -> str:
    """UTC, to the second."""
    # Whole seconds by integers: a float of today's nanoseconds is off by a hundred of them.
    return f"{datetime.fromtimestamp(nanoseconds // NANOSECONDS, UTC):%Y-%m-%d %H:%M:%S}"


def rfc3339_nano(nanoseconds: int) -> str:
    """UTC with all nanoseconds, as InfluxDB's API wants an instant (RFC 3339)."""
    whole, rest = divmod(nanoseconds, NANOSECONDS)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def age(seconds: float) -> str:
    """The two largest units: ``1 d 2 h``, ``3 min 5 s``, ``0 s``."""
    left = int(seconds)
    first = next((index for index, (_, size) in enumerate(_UNITS) if left >= size), len(_UNITS) - 1)
    parts = []
    for name, size in _UNITS[first : first + 2]:
        amount, left = divmod(left, size)
        parts.append(f"{amount} {name}")
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def ends(kind: str, end_seconds: float, now_seconds: float) -> str:
    """When a certificate or a token ends, or that it did: ``the token ends on 2026-12-01 08:00:00 UTC, in 4 d 2 h``."""
    at = f"{instant(round(end_seconds * NANOSECONDS))} UTC"
    if end_seconds < now_seconds:
        return f"{WHAT_ENDS[kind]} ended on {at}, {age(now_seconds - end_seconds)} ago"
    return f"{WHAT_ENDS[kind]} ends on {at}, in {age(end_seconds - now_seconds)}"


def why_stopped(record: SessionRecord) -> str:
    """Reason, exception type, stage and place of a session that was not completed."""
    failure = record.failure
    # What the status says already is not said twice.
    told = [record.reason] if record.reason not in {None, record.status, "exception"} else []
    if failure is not None and failure.type.lower() != record.status:
        told.append(failure.type)
    stage = record.stopped_in or (failure.stage if failure is not None else None)
    location = failure.location if failure is not None else None
    words = [": ".join(filter(None, told)) or (record.reason if record.reason == "exception" else "")]
    words += [f"in {stage}"] if stage else []
    words += [f"at {location}"] if location else []
    return " ".join(filter(None, words))
