"""Every HTTP status has a meaning, and Retry-After is understood in both its forms."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.metrics import catalogue
from monitoring.transport.http import basic_authorization, retry_after_seconds
from monitoring.transport.reasons import Action, detail, policy


def test_every_status_has_a_meaning_and_a_reason_that_is_counted() -> None:
    for status in range(1000):
        meaning = policy(status)
        if meaning.action is Action.KEEP:
            assert meaning.reason in catalogue.DELIVERY_FAILURE.values, status
        elif meaning.action is not Action.ACCEPT:
            assert meaning.reason in catalogue.LOSS.values, status


@pytest.mark.parametrize("status", [200, 204])
def test_only_200_and_204_are_success(status: int) -> None:
    assert policy(status).action is Action.ACCEPT
    assert [other for other in range(1000) if policy(other).action is Action.ACCEPT] == [200, 204]


@pytest.mark.parametrize(
    ("status", "action", "reason"),
    [
        (202, Action.KEEP, "bad_answer"),
        (301, Action.KEEP, "redirect"),
        (302, Action.KEEP, "redirect"),
        (304, Action.KEEP, "redirect"),
        (308, Action.KEEP, "redirect"),
        (400, Action.ISOLATE, "rejected"),
        (401, Action.KEEP, "unauthorized"),
        (403, Action.KEEP, "forbidden"),
        (404, Action.KEEP, "not_found"),
        (408, Action.KEEP, "timeout"),
        (413, Action.SPLIT, "rejected"),
        (418, Action.KEEP, "http_4xx"),
        (422, Action.ISOLATE, "rejected"),
        (429, Action.KEEP, "rate_limited"),
        (500, Action.KEEP, "http_5xx"),
        (503, Action.KEEP, "unavailable"),
        (504, Action.KEEP, "http_5xx"),
        (0, Action.KEEP, "bad_answer"),
        (999, Action.KEEP, "bad_answer"),
    ],
)
def test_a_status_means_what_the_servers_documents_say(status: int, action: Action, reason: str) -> None:
    assert (policy(status).action, policy(status).reason) == (action, reason)


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("120", 120.0), (" 7 ", 7.0)])
def test_retry_after_may_be_seconds(value: str, seconds: float) -> None:
    assert retry_after_seconds(value) == seconds


def test_retry_after_may_be_a_date_and_a_past_one_is_now() -> None:
    noon = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's example
    assert retry_after_seconds("Sun, 06 Nov 1994 08:49:37 GMT", lambda: noon - 90) == 90.0
    assert retry_after_seconds("Sunday, 06-Nov-94 08:49:37 GMT", lambda: noon - 90) == 90.0
    assert retry_after_seconds("Sun, 06 Nov 1994 08:49:37 GMT", lambda: noon + 90) == 0.0


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-5", "1.5", "1e3", "9" * 10, "Sun, 99 Nov 1994 08:49:37 GMT", "Sun"]
)
def test_a_retry_after_that_is_neither_is_none(value: str | None) -> None:
    assert retry_after_seconds(value) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [A-Z+-]+\d*", fullmatch=True))
def test_no_retry_after_raises(value: str) -> None:
    seconds = retry_after_seconds(value)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("reason", catalogue.DELIVERY_FAILURE.values)
def test_a_failure_can_be_told_to_a_person(reason: str) -> None:
    assert detail(reason, None).startswith(reason)
    assert detail(reason, 599).startswith("HTTP 599")


def test_basic_credentials_are_utf_8() -> None:
    scheme, _, encoded = basic_authorization("pusher", "päß: wörd").partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", "pusher:päß: wörd")
