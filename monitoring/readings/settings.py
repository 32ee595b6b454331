"""The host's settings that compare its measurements with readers': ``reference_readings``, and the thresholds.

``process.settings.reference_readings`` holds what a JSON file of readings holds (see
:mod:`monitoring.readings.parsing`), or one object that names no exam, which then counts for every series of the run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from monitoring.domain.agreement import THRESHOLD_SETTINGS
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.records import coerce

SETTING: Final = "reference_readings"
_PATH: Final = f"process.settings.{SETTING}"

ByReader = dict[str, dict[str, float]]


class ReferenceReadings:
    """A run's readings, by the keyed hash of what they name; "" is every series."""

    def __init__(self, setting: Any, pseudonyms: Pseudonymizer, logger: logging.Logger) -> None:
        """What can't be used is left out, and said in one line without its value; None is none."""
        self._by_key: dict[str, ByReader] = {}
        if setting is None:
            return
        from monitoring.readings.parsing import keyed, parse_document  # most runs have no readings

        # A run must go on whatever its settings hold: a mistake costs the readings, and one line in the log.
        parsed = parse_document(setting, _PATH, needs_exam=False)
        for reading in parsed.readings:
            found = keyed(reading, pseudonyms)
            self._by_key.setdefault(found.key, {}).setdefault(found.reader, {}).update(found.measurements_mm)
        if parsed.problems:
            logger.warning(
                "monitoring: %s; %d reading(s) of the settings are left out", parsed.problems[0], len(parsed.problems)
            )
        elif parsed.warnings:
            logger.warning("monitoring: %s: %s", _PATH, parsed.warnings[0])

    def of(self, keys: Iterable[str]) -> ByReader:
        """What readers have measured of a session with these keys, the narrowest first, by reader."""
        found: ByReader = {}
        for key in ("", *reversed([key for key in keys if key])):
            for reader, measurements_mm in self._by_key.get(key, {}).items():
                found.setdefault(reader, {}).update(measurements_mm)
        return found


def thresholds_cm(settings: Mapping[str, Any]) -> dict[str, float]:
    """``femur_threshold``, ``tibia_threshold`` and ``total_threshold`` of the settings, where they are lengths."""
    found = {name: coerce.finite_float(settings.get(name)) for name in THRESHOLD_SETTINGS.values()}
    return {name: value for name, value in found.items() if value is not None and value >= 0}
