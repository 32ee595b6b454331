"""A reader's measurements in a DICOM structured report: lengths of femur, tibia and leg, anywhere in its content.

Templates are those of DICOM PS3.16: measurements by TID 300, their groups by TID 1501, observers by TID 1002 to 1004.
A length counts when its tracking identifier is a measurement's name (``PLL_R_FEM``), or its finding site is a femur, a
tibia or a lower limb with a side. What an algorithm has measured is no reader's, and the same holds for a whole report
whose only observer is a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from monitoring.domain.anatomy import FEMUR, LEG, SIDE_AND_BONE, TIBIA, measurement_name
from monitoring.exceptions import ConfigurationError
from monitoring.privacy.dicom_header import quiet_pydicom, read_header, text_of, value_of
from monitoring.readings.parsing import Parsed, Row, parse_rows
from monitoring.records import coerce

_Code = tuple[str, str]

_REPORT_CLASSES: Final = "1.2.840.10008.5.1.4.1.1.88."
_ATTRIBUTES: Final = (
    "SpecificCharacterSet", "SOPClassUID", "StudyInstanceUID", "AccessionNumber",
    "CurrentRequestedProcedureEvidenceSequence", "VerifyingObserverSequence", "ContentSequence",
)  # fmt: skip
# Codes by SNOMED CT, and by its older form (SRT) as DICOM maps it. SRT's G-A220 is a width.
_LENGTHS: Final = {("SCT", "410668003"), ("SRT", "G-D7FE"), ("DCM", "121206")}
_SITES: Final = {
    ("SCT", "71341001"): FEMUR, ("SRT", "T-12710"): FEMUR,
    ("SCT", "12611008"): TIBIA, ("SRT", "T-12740"): TIBIA,
    ("SCT", "61685007"): LEG, ("SRT", "T-D9000"): LEG,
}  # fmt: skip
_SIDES: Final = {
    ("SCT", "24028007"): "R", ("SRT", "G-A100"): "R",
    ("SCT", "7771000"): "L", ("SRT", "G-A101"): "L",
}  # fmt: skip
_MEANS: Final = {("SCT", "373098007"), ("SRT", "R-00317")}
_UNITS_MM: Final = {("UCUM", "mm"): 1.0, ("UCUM", "cm"): 10.0}
_FINDING_SITE: Final = {("SCT", "363698007"), ("SRT", "G-C0E3")}
_LATERALITY: Final = {("SCT", "272741003"), ("SRT", "G-C171")}
_TRACKING: Final = {("DCM", "112039")}
_DERIVATION: Final = {("DCM", "121401")}
_ALGORITHM: Final = {("DCM", "111001")}
_OBSERVER_TYPE: Final = {("DCM", "121005")}
_PERSON: Final = ("DCM", "121006")
_DEVICE: Final = ("DCM", "121007")
_DEVICE_UID: Final = {("DCM", "121012")}
_PERSON_NAME: Final = {("DCM", "121008")}
_OLDER_DESIGNATORS: Final = {"SNM3": "SRT", "99SDM": "SRT"}
_DEEPEST: Final = 50  # a damaged file may nest without end


class Report(Struct, frozen=True):
    """What a file holds: readings (none, or one), and why it has none; ``left_out`` counts other measurements."""

    parsed: Parsed = Parsed()
    left_out: int = 0
    refusal: str = ""
    is_report: bool = True


def read_report(path: Path, place: str) -> Report:
    """Read a structured report; ``place`` names it in problems. Raises :class:`ConfigurationError` without pydicom."""
    try:
        import pydicom  # noqa: F401 - to see whether it is there
    except ImportError:
        raise ConfigurationError(
            "DICOM structured reports need pydicom: pip install 'leglength-monitoring[dicom]'"
        ) from None
    with quiet_pydicom():
        header = read_header(path, _ATTRIBUTES)
        if header is None or not str(value_of(header, "SOPClassUID") or "").startswith(_REPORT_CLASSES):
            return Report(refusal="no DICOM structured report", is_report=False)
        content = list(_in_context(header, _Context(), 0))
        observer = _observer(header, [item for item, _ in content])
        if observer is None:
            return Report(refusal="made by a device, such as this application: no reader's")
        lengths, left_out = _lengths(content)
        if not lengths:
            refusal = "no length of a femur, a tibia or a leg that a reader has measured"
            return Report(left_out=left_out, refusal=refusal)
        # Two values for one bone are two readers, or a correction: which one counts can't be told from here.
        contradicted = sorted({name for name, mm in lengths if mm != dict(lengths)[name]})
        if contradicted:
            problems = tuple(f"{place}: two values for {name}" for name in contradicted)
            return Report(Parsed(problems=problems), left_out)
        cells = {**_exam(header), "reader": observer, **{f"{name}_mm": mm for name, mm in lengths}}
        return Report(parse_rows([Row(place, ", ", cells)]), left_out)


def _exam(header: Any) -> dict[str, str]:
    """The study, and the series when all evidence lies in one."""
    series = {
        text_of(item, "SeriesInstanceUID")
        for evidence in _items(header, "CurrentRequestedProcedureEvidenceSequence")
        for item in _items(evidence, "ReferencedSeriesSequence")
    }
    return {
        "study_instance_uid": text_of(header, "StudyInstanceUID"),
        "accession_number": text_of(header, "AccessionNumber"),
        "series_instance_uid": series.pop() if len(series) == 1 else "",
    }


def _observer(header: Any, content: Sequence[Any]) -> str | None:
    """Who has measured, "" when that isn't said; None when it was a device and nobody else."""
    names = [str(value_of(item, "PersonName") or "") for item in content if _is(item, _PERSON_NAME)]
    types = {_code(item, "ConceptCodeSequence") for item in content if _is(item, _OBSERVER_TYPE)}
    is_of_a_device = _DEVICE in types or any(_is(item, _DEVICE_UID) for item in content)
    if is_of_a_device and _PERSON not in types and not any(names):
        return None
    verified = [
        str(value_of(item, "VerifyingObserverName") or "") for item in _items(header, "VerifyingObserverSequence")
    ]
    return " & ".join(dict.fromkeys(filter(None, names or verified[:1])))


# A report is a tree, and vendors put site, side and algorithm on the measurement, on its group or above: what holds of
# an item holds of all below it, until something nearer says otherwise.
class _Context(Struct, frozen=True):
    """What the content around a measurement says of it."""

    tracking: str | None = None
    bones: frozenset[str | None] = frozenset()
    sides: frozenset[str | None] = frozenset()
    is_by_algorithm: bool = False

    def within(self, children: Iterable[Any]) -> _Context:
        """The same, as narrowed by the content of an item."""
        children = list(children)
        tracked = [str(value_of(child, "TextValue") or "") for child in children if _is(child, _TRACKING)]
        sites = [child for child in children if _is(child, _FINDING_SITE)]
        sided = [child for site in (*sites, None) for child in (_content(site) if site else children)]
        sides = [_SIDES.get(_code(child, "ConceptCodeSequence")) for child in sided if _is(child, _LATERALITY)]
        return _Context(
            tracked[0].strip().upper() if tracked else self.tracking,
            frozenset(_SITES.get(_code(site, "ConceptCodeSequence")) for site in sites) or self.bones,
            frozenset(sides) or self.sides,
            self.is_by_algorithm or any(_is(child, _ALGORITHM) for child in children),
        )

    def name(self) -> str | None:
        """The measurement's name; None when it is none of ours, not quite told, or told in two ways."""
        if self.is_by_algorithm or len(self.bones) > 1 or len(self.sides) > 1:
            return None
        bone, side = next(iter(self.bones), None), next(iter(self.sides), None)
        told = SIDE_AND_BONE.get(self.tracking or "")
        if told is None:
            return measurement_name(side, bone) if side and bone else None
        is_contradicted = (self.sides and side != told[0]) or (self.bones and bone != told[1])
        return None if is_contradicted else self.tracking


def _lengths(content: Iterable[tuple[Any, _Context]]) -> tuple[list[tuple[str, float]], int]:
    """The reader's lengths by the measurement's name, in mm; and how many other measurements there are."""
    found: list[tuple[str, float]] = []
    left_out = 0
    for item, context in content:
        if str(value_of(item, "ValueType") or "") == "NUM":
            name, millimeters = context.name(), _millimeters(item)
            derived = {_code(child, "ConceptCodeSequence") for child in _content(item) if _is(child, _DERIVATION)}
            # A mean is a measurement; a deviation, or the smallest or largest of several, is none.
            if name is None or millimeters is None or not _is(item, _LENGTHS) or derived - _MEANS:
                left_out += 1
            else:
                found.append((name, millimeters))
    return found, left_out


def _in_context(item: Any, above: _Context, depth: int) -> Iterator[tuple[Any, _Context]]:
    children = _content(item)
    here = above.within(children)
    yield item, here
    if depth < _DEEPEST:
        for child in children:
            yield from _in_context(child, here, depth + 1)


def _millimeters(item: Any) -> float | None:
    for measured in _items(item, "MeasuredValueSequence"):
        number = coerce.finite_float(value_of(measured, "NumericValue"))
        unit_mm = _UNITS_MM.get(_code(measured, "MeasurementUnitsCodeSequence"))
        if number is not None and unit_mm is not None:
            return number * unit_mm
    return None


def _content(item: Any) -> list[Any]:
    return _items(item, "ContentSequence")


def _items(item: Any, keyword: str) -> list[Any]:
    return list(value_of(item, keyword) or ())


def _is(item: Any, concepts: set[_Code]) -> bool:
    return _code(item, "ConceptNameCodeSequence") in concepts


def _code(item: Any, keyword: str) -> _Code:
    """A coded entry's scheme and value; empty where there is none."""
    for entry in _items(item, keyword)[:1]:
        scheme = str(value_of(entry, "CodingSchemeDesignator") or "").strip()
        return _OLDER_DESIGNATORS.get(scheme, scheme), str(value_of(entry, "CodeValue") or "").strip()
    return "", ""
