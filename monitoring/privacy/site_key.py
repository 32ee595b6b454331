"""The site's key for pseudonyms: given, or made once beside the store.

There is one key at a time, and none is made while there is one: with another, no earlier session could be matched or
erased by its patient. What is named with it is pseudonyms.py's.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.privacy.secret_values import KEY_VARIABLE
from monitoring.settings import PrivacyConfig
from monitoring.transport.small_files import MOST_SECRET_BYTES, read_file

__all__ = ["KEY_FILE_NAME", "KEY_VARIABLE", "find_key"]

KEY_FILE_NAME = "monitoring.key"
_SHORTEST_KEY = 16  # characters; a shorter one can be found by trying


def find_key(
    config: PrivacyConfig,
    folder: Path | None,
    environment: Mapping[str, str] | None = None,
    may_make: bool = True,
) -> bytes:
    """The site's key: from settings, environment or the file in ``folder``, else one made there once (mode 0600).

    Raises :class:`ConfigurationError` for a key file that can't be used, :class:`StoreError` where there is none and
    none can or ``may_make`` be made: a key for one run would name sessions so that nobody ever finds them again.
    """
    environment = os.environ if environment is None else environment
    if config.key is not None:  # from the settings or their key_file
        return config.key.get_secret_value().encode()
    if environment.get(KEY_VARIABLE):
        return _long_enough(environment[KEY_VARIABLE].encode(errors="surrogateescape"), KEY_VARIABLE)
    if folder is None:
        raise StoreError("there is no folder to keep the site's key in")
    path = folder / KEY_FILE_NAME
    if not may_make and not _is_there(path):
        raise StoreError(f"there is no {KEY_FILE_NAME} yet, and none is made while the store can't be used")
    return _made_once(path)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)  # what can't be looked at may be there
    return True


def _read_key(path: Path) -> bytes:
    with suppress(OSError):  # another user's, or a volume that can't be written
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # it was copied without its rights
    try:
        key = read_file(path, MOST_SECRET_BYTES).strip()
    except OSError as error:
        raise ConfigurationError(f"{KEY_FILE_NAME} beside the store can't be read: {error.strerror}") from None
    return _long_enough(key, f"{KEY_FILE_NAME} beside the store")


def _long_enough(key: bytes, what: str) -> bytes:
    if len(key) < _SHORTEST_KEY:
        raise ConfigurationError(f"{what} holds less than {_SHORTEST_KEY} characters")
    return key


def _made_once(path: Path) -> bytes:
    """The key in ``path``, made there if there is none; of several processes the first one's key counts."""
    try:
        if not path.exists():
            # Written aside and linked, so that a process killed here leaves no half a key to all that come after it.
            draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, secrets.token_hex(32).encode())
                os.fsync(descriptor)
                with suppress(FileExistsError, FileNotFoundError):  # another's key is there, who clears drafts away
                    os.link(draft, path)  # whole or not at all, and never over another's key
            finally:
                os.close(descriptor)
                draft.unlink(missing_ok=True)
            _keep_name(path.parent)
        _clear_drafts(path)
        return _read_key(path)
    except OSError as error:
        raise StoreError(f"can't make the key file: {error.strerror}") from None


def _clear_drafts(path: Path) -> None:
    """Remove what processes have left that were killed while they made the key: it may be a copy of it.

    Who destroys the key means all of it.
    """
    with suppress(OSError):  # a volume that can't be written
        for draft in path.parent.glob(f".{path.name}.*"):
            draft.unlink(missing_ok=True)


def _keep_name(folder: Path) -> None:
    """See to it that a power cut leaves the key: sessions that were named with it are committed to disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
