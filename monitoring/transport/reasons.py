"""Why a delivery fails: what each HTTP status means, and words for a person.

Both sinks read one table; its reasons are those of :data:`monitoring.exceptions.DELIVERY_FAILURES`. Nothing that a
server said is ever quoted: it may hold a part of the request. Sources: the write API references of InfluxDB OSS 1.8,
2.7 and 3; the Pushgateway's README; RFC 9110.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

_WORDS = {
    "dns": "the host's name is unknown",
    "forbidden": "the credentials don't allow writing there",
    "not_found": "the address, organisation, bucket or database does not exist",
    "proxy": "the proxy wants a user and password that it accepts",
    "redirect": "the address answers with a redirect; set the address that it points to",
    "refused": "nothing listens at this address",
    "timeout": "no answer in time",
    "tls": "no TLS connection comes about",
    "unauthorized": "the token or password is not accepted",
}
"""What a person is told, for each reason that doesn't say it by its name and the status."""


class Action(StrEnum):
    """What an answer means for the lines that were sent."""

    ACCEPT = "accept"
    ISOLATE = "isolate"  # some line is bad: halve the batch until it stands alone
    SPLIT = "split"  # too large: halve it
    KEEP = "keep"  # try again later


class Policy(Struct, frozen=True):
    """An answer's meaning: the action, and the reason under which a failure, or a refused line, is counted."""

    action: Action
    reason: str = ""


# 422 (and 400 on versions 1 and 3) say that some lines were refused and the rest written: sending the
# halves again overwrites what is there with the same values.
STATUS_POLICY: dict[int, Policy] = {
    200: Policy(Action.ACCEPT),
    204: Policy(Action.ACCEPT),
    400: Policy(Action.ISOLATE, "rejected"),
    401: Policy(Action.KEEP, "unauthorized"),
    403: Policy(Action.KEEP, "forbidden"),
    404: Policy(Action.KEEP, "not_found"),
    407: Policy(Action.KEEP, "proxy"),
    408: Policy(Action.KEEP, "timeout"),
    413: Policy(Action.SPLIT, "rejected"),
    422: Policy(Action.ISOLATE, "rejected"),
    429: Policy(Action.KEEP, "rate_limited"),
    503: Policy(Action.KEEP, "unavailable"),
}
CLASS_POLICY: dict[int, Policy] = {
    2: Policy(Action.KEEP, "bad_answer"),  # e.g. 202 of a proxy's: not the promise that 204 is
    3: Policy(Action.KEEP, "redirect"),  # a POST that follows it can become a GET: a 200, and the data is lost
    4: Policy(Action.KEEP, "http_4xx"),
    5: Policy(Action.KEEP, "http_5xx"),
}


def policy(status: int) -> Policy:
    """What a status means."""
    return STATUS_POLICY.get(status) or CLASS_POLICY.get(status // 100, Policy(Action.KEEP, "bad_answer"))


def detail(reason: str, status: int | None, hint: str = "") -> str:
    """A failure in a person's words.

    ``hint`` is what the transport knows: more exact than the reason's own words, and beside a status a remark.
    """
    usual = _WORDS.get(reason, "")
    said = "; ".join(filter(None, (usual, hint))) if status is not None else hint or usual
    number = f"HTTP {status}" if status is not None else reason
    return f"{number}: {said}" if said else number
