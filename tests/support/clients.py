"""The plainest clients: what a server does with a request, without the module under test."""

from __future__ import annotations

from typing import Any

import urllib3

from tests.support.clocks import HANGS_SECONDS


def send(method: str, url: str, timeout: float = HANGS_SECONDS, **options: Any) -> urllib3.BaseHTTPResponse:
    """A request on a connection of its own, under a time limit per read."""
    with urllib3.PoolManager(retries=False, timeout=timeout) as http:
        return http.request(method, url, redirect=False, **options)


def write_lines(settings: dict[str, Any], lines: str) -> urllib3.BaseHTTPResponse:
    """Line protocol, as a client with these settings would send it."""
    if settings["api"] == "v1":
        user, _, password = settings["token"].partition(":")
        query = f"write?db={settings['bucket']}&precision=ns&u={user}&p={password}"
        return send("POST", f"{settings['url']}/{query}", body=lines)
    query = f"api/v2/write?org={settings['org']}&bucket={settings['bucket']}&precision=ns"
    headers = {"Authorization": f"Token {settings['token']}"}
    return send("POST", f"{settings['url']}/{query}", body=lines, headers=headers)
