"""Which texts are secrets: those of the settings, of the files that these name, and of the environment.

Better one too many than one too few: a secret under a wrong or misspelt name is one too, since it is the wrong settings
that get talked about. The settings' own checks are config_validator.py's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from monitoring.transport.small_files import MOST_SECRET_BYTES, read_file

if TYPE_CHECKING:
    from monitoring.settings import MonitoringConfig

KEY_VARIABLE = "MONITORING_PRIVACY_KEY"
_SECRET_NAME = re.compile(r"tok|pass|secret|key|pwd|cred|auth", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CREDENTIALS = re.compile(r"://([^/\s@]*)@|^([^/\s@:]+:[^/\s@]*)@")


def secrets_of(config: MonitoringConfig) -> list[str]:
    """The secrets of settings that were found right: what the environment and the named files gave is in them."""
    from monitoring.settings import SECTIONS, Secret  # a log filter without monitoring loads this module too

    sections = [section for name in SECTIONS if (section := getattr(config, name)) is not None]
    values = [getattr(section, name) for section in sections for name in section.__struct_fields__]
    return [value.get_secret_value() for value in values if isinstance(value, Secret)]


def secrets_in(section: Any, environment: Mapping[str, str] | None = None) -> list[str]:
    """The secrets of a section as a user wrote it, also of what is wrong in it, misspelt or switched off."""
    return list(_in_section(section, os.environ if environment is None else environment))


def environment_secrets(environment: Mapping[str, str] | None = None) -> list[str]:
    """The secrets that libraries take from the environment by themselves: proxies' credentials, and the site's key."""
    environment = os.environ if environment is None else environment
    proxies = [value for name, value in environment.items() if name.lower().endswith("_proxy")]
    return [secret for value in proxies for secret in _credentials(value)] + [environment.get(KEY_VARIABLE, "")]


def _in_section(section: Any, environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in section.items() if isinstance(section, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _in_section(value, environment)
        elif isinstance(value, str):
            text = _VARIABLE.sub(lambda found: environment.get(found[1], ""), value)
            yield from _credentials(text)
            if _SECRET_NAME.search(str(name)):
                yield from _content(text) if str(name).endswith("_file") else [text]


def _credentials(address: str) -> list[str]:
    """User and password of an address; the user's name alone is no secret, where it has a password."""
    found = _CREDENTIALS.search(address)
    if found is None:
        return []
    user, _, password = (found[1] or found[2] or "").partition(":")
    secret = password or user
    return [secret, unquote(secret)]


def _content(path: str) -> list[str]:
    try:
        text = read_file(Path(path), MOST_SECRET_BYTES).decode(errors="replace").strip()
    except (OSError, ValueError):
        return []
    return [text, *text.splitlines()]  # what is logged of a file may be a line of it
