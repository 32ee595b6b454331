"""No record that passes the filter holds a value that it was told, in any form."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from monitoring.log_filter import REPLACEMENT, LogFilter

NAME = "Canary^Invented Ä"
TOKEN = "tok/en+with=signs"


@pytest.fixture
def log_filter() -> Iterator[LogFilter]:
    found = LogFilter()
    found.install()
    yield found
    found.uninstall()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.DEBUG)
    return logging.getLogger("some.library")


def formatted(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(message)s")
    return "\n".join(formatter.format(record) for record in caplog.records)


@pytest.mark.parametrize(
    "form", [NAME, quote(NAME), json.dumps(NAME), repr(NAME), base64.b64encode(NAME.encode()).decode()]
)
def test_a_studys_value_is_removed_in_every_form(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    with log_filter.study([NAME]):
        log.info("read %s", form)
    assert REPLACEMENT in formatted(caplog)
    assert form.strip("'\"") not in formatted(caplog)


def test_arguments_and_tracebacks_are_cleaned(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study([NAME]):
        try:
            raise ValueError(f"can't parse {NAME}")
        except ValueError:
            log.exception("failed for %(who)s", {"who": NAME})
    text = formatted(caplog)
    assert NAME not in text
    assert "ValueError" in text
    assert all(NAME not in repr(vars(record)) for record in caplog.records)


def test_the_next_study_is_not_cleaned_of_the_last_ones_values_but_secrets_are_for_ever(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    log_filter.add_secrets([TOKEN])
    with log_filter.study([NAME]):
        pass
    log.info("%s and %s", NAME, TOKEN)
    assert formatted(caplog) == f"{NAME} and {REPLACEMENT}"


def test_short_values_stay(log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    with log_filter.study(["M", "DX", ""]):
        log.info("M DX")
    assert formatted(caplog) == "M DX"


def test_a_longer_value_is_removed_whole_though_it_holds_a_shorter_one(
    log_filter: LogFilter, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with log_filter.study(["1.2.826", "1.2.826.0.1.77"]):
        log.info("series 1.2.826.0.1.77")
    assert formatted(caplog) == f"series {REPLACEMENT}"


def test_a_wrong_format_string_does_not_break_the_caller(log_filter: LogFilter) -> None:
    with log_filter.study([NAME]):
        record = logging.getLogRecordFactory()("name", logging.INFO, "path", 1, "%d", (NAME, 2), None)
    assert NAME not in record.getMessage()


def test_uninstalling_gives_the_factory_back() -> None:
    before = logging.getLogRecordFactory()
    found = LogFilter()
    found.install()
    found.uninstall()
    assert logging.getLogRecordFactory() is before
