"""What the commands print: tables and sentences for a person, JSON for a program.

Each kind of answer has its ``..._as_dict`` and its ``print_...`` here, so that the two say the same; what the answers
are made from is gathered by the commands and the rooms below.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from msgspec.structs import asdict
from rich.console import Console

from monitoring.analytics.rederivation import Summary
from monitoring.analytics.states import DIFFERENCE, look_first
from monitoring.analytics.wording import in_unit, machine_words, noticed, size_of
from monitoring.cli.words import counted, instant, rfc3339_nano, why_stopped
from monitoring.domain import agreement
from monitoring.domain.agreement import SHOWN_FROM_PAIRS, VERDICT_FROM_PAIRS, Verdict
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.metrics import catalogue
from monitoring.readings.importing import ImportedReadings
from monitoring.readings.validation import Validation
from monitoring.store import readings
from monitoring.store.erasure import Erased, NotAttributed
from monitoring.store.rows import StoredSession

if TYPE_CHECKING:
    from monitoring.analytics.analysis import Alarm, Analysis, ChartState
    from monitoring.analytics.drill import Drill


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """End well: a reader such as `head` has seen enough."""
        with suppress(SystemExit):  # with 1
            super().on_broken_pipe()
        raise typer.Exit(0)


# A pipe or a file has no width: lines stay whole there. No markup: in a path, an address (`http://[::1]:8086`) or a
# record's text rich would take brackets for a style, and raise for one that closes what was never opened.
console = _Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000)

_LABEL_WIDTH = 12


def print_json(document: Any) -> None:
    """One document, for a program."""
    # Not by rich, which would wrap it.
    typer.echo(json.dumps(document, indent=2))


def print_entry(label: str, text: str) -> None:
    """A label and what there is to say, whose further lines in a terminal stand below the first."""
    beginning = f"{label:<{_LABEL_WIDTH}}"
    console.print("\n".join(_wrapped(text, beginning, " " * _LABEL_WIDTH)))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], has_notes: bool = False) -> None:
    """Columns where they fit into the terminal, as they always do in a pipe; else a block for each row.

    With ``has_notes`` each row's last cell is a remark: it stands behind its row, or below where it doesn't fit.
    """
    cells = [list(row) for row in rows]
    notes = [row.pop() for row in cells] if has_notes else [""] * len(cells)
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    # A narrower gap where that saves the table.
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= console.width else " "
    if sum(widths) + len(gap) * (len(widths) - 1) > console.width:
        for row, note in zip(cells, notes, strict=True):
            pairs = (f"{title} {cell}" for title, cell in zip(titles[1:], row[1:], strict=True) if cell)
            rest = "; ".join(filter(None, (*pairs, note)))
            console.print("\n".join([*_wrapped(row[0], "", ""), *(_wrapped(rest, "    ", "    ") if rest else ())]))
        return
    for row, note in zip([list(titles), *cells], ["", *notes], strict=True):
        line = gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        is_below = len(line) + 2 + len(note) > console.width
        console.print("\n".join([line, *_wrapped(note, "    ", "    ")]) if is_below else f"{line}  {note}".rstrip())


def _wrapped(text: str, first: str, later: str) -> list[str]:
    """The text in lines as wide as the terminal; a pipe has no width, and gets one line."""
    return textwrap.wrap(
        text, console.width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    ) or [first]


def _number(value: float | None, form: str = ".2f", missing: str = "-") -> str:
    return missing if value is None else format(value, form)


# --- metrics ------------------------------------------------------------------------------------


def metrics_as_list() -> list[dict[str, Any]]:
    """The catalogue."""
    return [
        {
            "name": metric.name,
            "kind": metric.kind.value,
            "unit": metric.unit,
            "help": metric.help,
            "labels": {label.name: list(label.values) for label in metric.labels},
            "measurement": metric.measurement,
            "field": metric.field,
            "source": metric.source,
        }
        for metric in catalogue.METRICS
    ]


def print_metrics() -> None:
    """The same for a person."""
    rows = (
        (
            metric.name, metric.kind.value, metric.unit, " ".join(label.name for label in metric.labels),
            f"{metric.measurement}.{metric.field}" if metric.measurement else "",
        )
        for metric in catalogue.METRICS
    )  # fmt: skip
    print_table(("Prometheus", "kind", "unit", "labels", "InfluxDB"), rows)


# --- sessions -----------------------------------------------------------------------------------


def print_sessions(stored: Iterable[StoredSession]) -> None:
    """One line a session; behind it, of one that was not completed, why and where it stopped."""
    rows = []
    for item in stored:
        record = item.record
        quality = item.derived.values.get(catalogue.QUALITY.name) if item.derived is not None else None
        rows.append(
            (
                # Eight characters are enough to tell it from its neighbours; --json has the whole.
                instant(item.timestamp_ns), record.session_id[:8], record.status, f"{record.duration_seconds:.2f}",
                *(_both_sides(record.measurements_mm, bone) for bone in _BONES), _number(quality, missing=""),
                why_stopped(record) if record.status != "completed" else "",
            )
        )  # fmt: skip
    # The points' time, by which a session is found in InfluxDB, too.
    titles = ("ended (UTC)", "session", "status", "seconds", "femur R/L", "tibia R/L", "quality")
    print_table(titles, rows, has_notes=True)
    if rows:
        console.print("Lengths in mm. `--json` shows the whole records, `export` all of them.")


def _both_sides(measurements_mm: Mapping[str, float], bone: str) -> str:
    right, left = (measurements_mm.get(f"PLL_{side}_{bone}") for side in "RL")
    return "" if right is None and left is None else f"{_number(right, '.1f')}/{_number(left, '.1f')}"


_BONES = ("FEM", "TIB")


def print_rederived(summary: Summary) -> None:
    """How many sessions' metrics differ under the present formulas, and by how much."""
    typer.echo(f"{summary.sessions} sessions computed again by formulas of version {FORMULA_VERSION}")
    typer.echo(f"{summary.differing} differ from what was delivered, which stays as it is")
    if summary.unknown:
        typer.echo(f"{summary.unknown} were stored by a version that didn't keep what it had computed")
    differences = [(name, str(count), f"{largest:.6g}") for name, (count, largest) in sorted(summary.by_metric.items())]
    if differences:
        print_table(("metric", "values that differ", "largest difference"), differences)


def of_another_key(sessions: int) -> str:
    """What is said of sessions that no hash of the present key finds."""
    return (
        f"{counted(sessions, 'session')} recorded under another key of the site: no hash of the present key finds them;"
        " bring that key back, and make the hash with it"
    )


def print_erased(found: Erased, is_rehearsal: bool, others: NotAttributed, put_aside: Sequence[str]) -> None:
    """What was erased, what could not be told to be the patient's or not, and what must be done elsewhere."""
    counts = (
        f"{found.sessions} sessions, {found.open_sessions} open ones, {found.waiting_lines} undelivered points,"
        f" {found.dead_letters} dead letters, {found.readings} readings"
    )
    console.print(f"{'Would erase' if is_rehearsal else 'Erased'}: {counts}")
    if found.points_ns:
        console.print("What InfluxDB has already names nobody; to delete it there, too, these are the points' times,")
        console.print("as the API of InfluxDB 2 wants them, and in nanoseconds:")
        for nanoseconds in found.points_ns:
            console.print(f"  {rfc3339_nano(nanoseconds)}  {nanoseconds}")
    if others.without_patient_key:
        console.print(
            f"Not searched: {counted(others.without_patient_key, 'session')} without a patient's hash: no image was"
            " given, it names no patient, or privacy.patient_key is false"
        )
    if others.under_another_key:
        console.print(f"Not searched: {of_another_key(others.under_another_key)}")
    for name in put_aside:
        console.print(f"Not searched: {name}, a damaged store that was put aside; delete it when it isn't needed")


# --- readings -----------------------------------------------------------------------------------

_KEPT_WORDS = {readings.NEW: "new", readings.CORRECTED: "corrected", readings.KNOWN: "known already"}
_NOT_COMPARED = "the session was not completed or measured something else, or the exam's later one is compared"


def imported_as_dict(
    count: int, left_out: int, passed_over: dict[str, int], imported: ImportedReadings
) -> dict[str, Any]:
    """What became of ``count`` readings; ``left_out`` measurements and ``passed_over`` reports were none."""
    return {
        "readings": count,
        **{state: imported.kept[state] for state in _KEPT_WORDS},
        "sessions_compared": imported.sessions,
        "without_session": imported.without_session,
        "not_compared": imported.not_compared,
        "reports_passed_over": sum(passed_over.values()),
        "measurements_left_out": left_out,
    }


def print_imported(count: int, left_out: int, passed_over: dict[str, int], imported: ImportedReadings) -> None:
    """The same for a person."""
    kept = ", ".join(f"{imported.kept[state]} {words}" for state, words in _KEPT_WORDS.items())
    typer.echo(f"readings: {count} ({kept})")
    typer.echo(f"sessions compared with them: {imported.sessions}")
    if imported.without_session:
        typer.echo(f"without a session: {imported.without_session} (kept, and compared when it comes)")
    if imported.not_compared:
        typer.echo(f"not compared: {imported.not_compared} ({_NOT_COMPARED})")
    if left_out:
        typer.echo(f"measurements left out: {left_out} (no reader's length of a femur, a tibia or a leg)")
    for reason, reports in passed_over.items():
        typer.echo(f"reports left out: {reports} ({reason})")


def agreement_as_dict(counts: readings.Counts, sessions: int, validations: Sequence[Validation]) -> dict[str, Any]:
    """How well ``sessions`` compared ones agree with readers, and by which criteria that is judged."""
    measurements = {}
    for found in validations:
        # Flat: a program asks for "icc_2_1", whatever our structures are.
        numbers = msgspec.to_builtins(found.agreement)
        measurements[found.measurement] = {
            **numbers.pop("icc"),
            **numbers,
            "within_threshold_ratio": found.within_threshold_ratio,
            "verdict": asdict(found.verdict),
        }
    return {
        **asdict(counts),
        "sessions_compared": sessions,
        "newest_sessions": readings.NEWEST_SESSIONS,
        "criteria": {
            "bias_limit_mm": agreement.BIAS_LIMIT_MM,
            "mae_limit_mm": agreement.MAE_LIMIT_MM,
            "agreement_limit_mm": agreement.AGREEMENT_LIMIT_MM,
            "icc_limit": agreement.ICC_LIMIT,
            "shown_from_pairs": SHOWN_FROM_PAIRS,
            "verdict_from_pairs": VERDICT_FROM_PAIRS,
        },
        "measurements": measurements,
    }


def print_agreement(counts: readings.Counts, sessions: int, validations: Sequence[Validation]) -> None:
    """The same for a person; statistics of a few pairs are left out, since they say nothing."""
    console.print(
        f"readings: {counts.readings}, readers: {counts.readers}, sessions compared: {sessions},"
        f" readings without a session: {counts.without_session}"
    )
    if sessions >= readings.NEWEST_SESSIONS:
        console.print(f"Only the newest {readings.NEWEST_SESSIONS} sessions are compared.")
    titles = (
        "measurement", "pairs", "bias (95 % CI)", "SD", "limits of agreement", "MAE", "median", "ICC(2,1)", "CCC",
        "within threshold", "> 5 mm", "> 10 mm", "verdict",
    )  # fmt: skip
    rows = []
    for found in validations:
        pairs = found.agreement.pairs
        # Of fewer pairs the statistics are there in --json, for programs; a person would read them as a result.
        cells = _statistics(found) if pairs >= SHOWN_FROM_PAIRS else [""] * 10
        rows.append((found.measurement, str(pairs), *cells, verdict_in_words(found.verdict, pairs)))
    print_table(titles, rows)
    console.print(
        f"Errors are measurement - readers' mean, in mm. Met: |bias| <= {agreement.BIAS_LIMIT_MM:g}, MAE <="
        f" {agreement.MAE_LIMIT_MM:g}, limits of agreement within +-{agreement.AGREEMENT_LIMIT_MM:g}, ICC(2,1) >="
        f" {agreement.ICC_LIMIT:g}; judged from {VERDICT_FROM_PAIRS} pairs on, shown from {SHOWN_FROM_PAIRS} on."
    )


def _statistics(found: Validation) -> list[str]:
    of = found.agreement
    return [
        f"{_number(of.bias_mm, '+.2f')} ({_number(of.bias_low_mm, '+.2f')} to {_number(of.bias_high_mm, '+.2f')})",
        _number(of.sd_mm),
        f"{_number(of.lower_limit_mm, '+.2f')} to {_number(of.upper_limit_mm, '+.2f')}",
        _number(of.mae_mm),
        _number(of.median_absolute_error_mm),
        _number(of.icc.icc_2_1, ".3f"),
        _number(of.ccc, ".3f"),
        _number(found.within_threshold_ratio, ".1%"),
        _number(of.beyond_5_mm_ratio, ".1%"),
        _number(of.beyond_10_mm_ratio, ".1%"),
    ]


def verdict_in_words(verdict: Verdict, pairs: int) -> str:
    """The verdict for a person, with what is not met, or how many pairs are missing."""
    failed = ", ".join(name.replace("_", " ") for name in verdict.failed)
    if verdict.status == "too_few":
        return f"too few: {pairs} of {SHOWN_FROM_PAIRS}"
    if verdict.status == "provisional":
        so_far = f"not met so far: {failed}" if failed else "met so far"
        return f"provisional ({SHOWN_FROM_PAIRS} to {VERDICT_FROM_PAIRS - 1}), {so_far}"
    return f"not met: {failed}" if failed else "met"


# --- charts and alarms --------------------------------------------------------------------------


def analysis_as_dict(found: Analysis) -> dict[str, Any]:
    """Every chart and alarm. Instants that end in ``_ns`` are UTC nanoseconds."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    plain["alarms"] = [alarm_as_dict(alarm) for alarm in found.alarms]
    return plain


def alarm_as_dict(alarm: Alarm, charts: Sequence[ChartState] = ()) -> dict[str, Any]:
    """The same of one alarm, with what it says in a sentence, and what its chart notices, where it is among these."""
    return {**msgspec.to_builtins(alarm), "sentence": _sentence(alarm), "noticed": _noticed_by(alarm, charts)}


def print_analysis(found: Analysis) -> None:
    """The charts of what is in use now, the alarms, what is known of the machine, and the charts' budget."""
    for reason in filter(None, [found.anew]):
        print_entry("computed", f"from the first session: {reason}")
    current = [state for state in found.charts if state.is_current]
    rows = [
        (
            state.chart, state.state, f"{state.exams:,}",
            f"{in_unit(state.score, '1')} of {'-' if state.limit is None else in_unit(state.limit, '1')}",
            noticed(state),
        )
        for state in current
    ]  # fmt: skip
    if rows:
        print_table(("Chart", "State", "Exams", "Score", "Would have been noticed"), rows)
        console.print()
    print_alarms([alarm for alarm in found.alarms if alarm.status == "open"], found.alarms)
    if machines := machine_words(found.machines):
        console.print("\nMachines (what is foreseen is no alarm)")
        for label, words in machines:
            print_entry("", f"{label}: {words}")
        console.print()
    console.print(
        f"{counted(len(current), 'chart')} of {counted(found.sessions, 'session')};"
        f" {found.false_alarms_per_year:g} false alarms a year are accepted of all together"
    )


def print_drill(found: Drill) -> None:
    """Each fault with the exams until an alarm and its chart, and the rate of false alarms."""
    rows = [
        (
            finding.fault,
            *(
                f"{alarms[0].exams}: {alarms[0].chart}" if alarms else "not noticed"
                for alarms in (finding.alarms, finding.without_readers)
            ),
        )
        for finding in found.findings
    ]
    print_table(("Fault", "Exams to alarm", "Without readers"), rows)
    shuffled = found.shuffled
    console.print(
        f"\neach fault was put into {found.exams_with_fault} exams ({found.read} of them read) after"
        f" {found.exams_before} as they are\n"
        f"{found.unusual + chr(10) if found.unusual else ''}"
        f"{shuffled.alarms_a_year:.1f} false alarms a year (+- {shuffled.two_errors:.1f}), where"
        f" {shuffled.accepted_a_year:g} are accepted: {counted(shuffled.clinic_days, 'clinic day')} in"
        f" {counted(shuffled.shuffles, 'random order')}"
    )
    # Events whose rate is larger than accepted alarm in each order: these charts show it.
    if shuffled.by_chart:
        most = ", ".join(f"{chart} {count}" for chart, count in list(shuffled.by_chart.items())[:5])
        console.print(f"alarms in all {shuffled.shuffles} orders together, of the charts with most: {most}")


def print_alarms(alarms: Sequence[Alarm], among: Sequence[Alarm] = (), charts: Sequence[ChartState] = ()) -> None:
    """One line for each, with what its chart notices, where it is among these; and ``among`` all the alarms of several
    models which one to look at first.
    """
    if not alarms:
        console.print("no alarm is open, which says no more than what each chart would have noticed (analyze)")
    for alarm in alarms:
        words = _noticed_by(alarm, charts)
        told = f"; would have been noticed: {words}" if words else ""
        print_entry(alarm.alarm_id, f"{_sentence(alarm)}; {alarm.status}{_answer(alarm)}{told}")
    leads = (look_first(alarm, among) for alarm in among if alarm.chart.startswith(DIFFERENCE))
    for lead in {lead.alarm_id: lead for lead in leads if lead is not None and lead.status == "open"}.values():
        _, model, bone = lead.chart.split("/")
        print_entry("look first", f"{bone}: at {model}, which differs most; each is held against the others")


def _noticed_by(alarm: Alarm, charts: Sequence[ChartState]) -> str:
    # Where it isn't known, as of few clinic days, "nothing yet" would deny what the alarm has just said.
    its = [state for state in charts if (state.chart, state.segment) == (alarm.chart, alarm.segment)]
    return noticed(its[0]) if its and its[0].detectable is not None else ""


def _answer(alarm: Alarm) -> str:
    return f" by {alarm.person}: {alarm.words}" if alarm.person else ""


def _sentence(alarm: Alarm) -> str:
    if alarm.chart == "silence":
        return f"silence: no session for {alarm.size:g} working days after {instant(alarm.change_ns)}"
    first, last = (instant(when)[:10] for when in (alarm.earliest_ns, alarm.latest_ns))
    where = f" ({'; '.join(alarm.strata)})" if alarm.strata else ""
    between = f" (between {first} and {last})" if first != last else ""
    times = f", and again, {alarm.crossings} times in all" if alarm.crossings > 1 else ""
    return (
        f"{alarm.chart}: {size_of(alarm)}{where} since {instant(alarm.change_ns)[:10]}{between},"
        f" found {instant(alarm.raised_ns)[:10]}{times}"
    )
