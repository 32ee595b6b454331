"""The site's key for commands: the one that sessions were recorded under, and never a new one."""

from __future__ import annotations

import os

from monitoring.exceptions import ConfigurationError
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, KEY_VARIABLE, find_key
from monitoring.settings import MonitoringConfig
from monitoring.store.location import store_path


def existing_pseudonyms(config: MonitoringConfig) -> Pseudonymizer:
    """Pseudonyms under the site's key; raises :class:`ConfigurationError` when there is none yet."""
    folder = store_path(config.store).parent
    if not has_key(config):
        raise ConfigurationError(f"there is no key {KEY_FILE_NAME} in {folder} yet: nothing was recorded under one")
    return Pseudonymizer(find_key(config.privacy, folder))


def has_key(config: MonitoringConfig) -> bool:
    """Whether the site has a key already, given or made beside the store."""
    is_given = config.privacy.key is not None or bool(os.environ.get(KEY_VARIABLE))
    return is_given or (store_path(config.store).parent / KEY_FILE_NAME).exists()
