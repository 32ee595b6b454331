"""`reference_readings` and the thresholds of a host's settings, as MonitorManager takes them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from monitoring import MonitorManager
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.readings.settings import ReferenceReadings, thresholds_cm

PSEUDONYMS = Pseudonymizer(b"k" * 32)
LOG = logging.getLogger("test")


def references(setting: Any) -> ReferenceReadings:
    return ReferenceReadings(setting, PSEUDONYMS, LOG)


def test_a_session_has_the_readings_of_all_its_names_and_the_narrowest_wins() -> None:
    found = references(
        [
            {"accession_number": "A1", "reader": "Dr A", "PLL_R_FEM": 401, "PLL_R_TIB": 301, "PLL_L_FEM": 405},
            {"study_instance_uid": "1.2", "reader": "Dr A", "PLL_R_FEM": 402, "PLL_R_TIB": 302},
            {"series_instance_uid": "1.2.3", "reader": "Dr A", "PLL_R_FEM": 403},
            {"series_instance_uid": "1.2.3", "reader": "Dr B", "PLL_R_FEM": 404},
        ]
    )
    keys = (PSEUDONYMS.series("1.2.3"), PSEUDONYMS.study("1.2"), PSEUDONYMS.accession("A1"))
    assert found.of(keys) == {
        PSEUDONYMS.reader("dr a"): {"PLL_R_FEM": 403.0, "PLL_R_TIB": 302.0, "PLL_L_FEM": 405.0},
        PSEUDONYMS.reader("dr b"): {"PLL_R_FEM": 404.0},
    }
    assert found.of(("", "", PSEUDONYMS.accession("A2"))) == {}
    assert found.of(keys[:1])[PSEUDONYMS.reader("dr a")] == {"PLL_R_FEM": 403.0}


def test_one_object_alone_is_everybodys_and_a_list_of_one_is_not() -> None:
    assert references({"PLL_R_FEM": 400}).of(("any",)) == {"": {"PLL_R_FEM": 400.0}}
    assert references([{"PLL_R_FEM": 400}]).of(("any",)) == {}
    assert references({"accession": "A1", "PLL_R_FEM": 400}).of(("any",)) == {}


def test_numpy_numbers_are_numbers() -> None:
    assert references({"PLL_R_FEM": np.float32(400)}).of(()) == {"": {"PLL_R_FEM": 400.0}}


def test_of_several_mistakes_the_first_is_said_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    found = references(
        [{"accession": "A1", "PLL_R_FEM": bad} for bad in (1, "x")] + [{"accession": "A1", "PLL_R_FEM": 400}]
    )
    assert found.of((PSEUDONYMS.accession("A1"),)) == {"": {"PLL_R_FEM": 400.0}}
    (record,) = caplog.records
    assert record.getMessage() == (
        "monitoring: process.settings.reference_readings[0].PLL_R_FEM: below 30 mm, is this cm?;"
        " 2 reading(s) of the settings are left out"
    )


def test_names_that_hold_nothing_are_said(caplog: pytest.LogCaptureFixture) -> None:
    references([{"accession": "A1", "PLL_R_FEM": 400, "PLL_R_FIB": 400}])
    assert [record.getMessage() for record in caplog.records] == [
        "monitoring: process.settings.reference_readings: not used: PLL_R_FIB"
    ]


@pytest.mark.parametrize("odd", ["2.0", None, True, -1, float("nan"), float("inf"), [2.0], 10**400])
def test_only_lengths_are_thresholds(odd: Any) -> None:
    settings = {
        "femur_threshold": odd,
        "tibia_threshold": np.float64(1.5),
        "total_threshold": 0,
        "confidence_threshold": 1,
    }
    assert thresholds_cm(settings) == {"tibia_threshold": 1.5, "total_threshold": 0.0}


def test_a_session_that_gets_no_image_is_matched_by_its_series() -> None:
    settings = {
        "monitoring": {"enabled": True},
        "reference_readings": {"series_instance_uid": "1.2.3", "PLL_R_FEM": 400},
        "femur_threshold": 0.5,
    }
    with MonitorManager(settings) as monitor:
        for series in ("1.2.3", "1.2.4"):
            session = monitor.start_session(series)
            monitor.record_measurements(session, {"PLL_R_FEM": 404.0})
            monitor.end_session(session)
        first, second = monitor.session_records()
    assert first["reader_mm"] == {"": {"PLL_R_FEM": 400.0}}
    assert "reader_mm" not in second
    assert first["thresholds_cm"] == second["thresholds_cm"] == {"femur_threshold": 0.5}


@pytest.mark.parametrize("odd", [7, "x", [[[[]]]], {"readings": {"readings": {}}}, object(), [None], {None: 1, 2: {}}])
def test_no_setting_disturbs_the_monitoring(odd: Any) -> None:
    with MonitorManager({"monitoring": {"enabled": True}, "reference_readings": odd}) as monitor:
        monitor.end_session(monitor.start_session("1.2.3"))
        assert len(monitor.session_records()) == 1
