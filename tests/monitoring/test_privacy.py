"""A pseudonym is stable at one site, means nothing elsewhere, and its key is made once and kept private."""

from __future__ import annotations

import hashlib
import hmac
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from monitoring.config_sections import PrivacyConfig
from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.privacy import Pseudonymizer
from monitoring.site_key import KEY_FILE_NAME, KEY_VARIABLE, find_key
from tests.monitoring.test_coerce import Hostile

UID = "1.2.840.113619.2.55.3.604688119.868"
KEY = "0123456789abcdef"


def test_a_pseudonym_is_a_keyed_hash() -> None:
    expected = hmac.new(KEY.encode(), f"series:{UID}".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonymizer(KEY.encode()).series(UID) == expected


def test_a_series_has_one_pseudonym_at_a_site_and_another_elsewhere() -> None:
    here, elsewhere = Pseudonymizer(KEY.encode()), Pseudonymizer(KEY.encode()[::-1])
    assert here.series(UID) == Pseudonymizer(KEY.encode()).series(UID)
    assert here.series(UID) != here.series(UID + "1")
    assert here.series(UID) != elsewhere.series(UID)
    assert UID not in here.series(UID)


@pytest.mark.parametrize("identifier", ["", "é\ud800", None, 5, b"bytes", "x" * 100_000])
def test_anything_can_be_named(identifier: object) -> None:
    assert len(Pseudonymizer(KEY.encode()).series(identifier)) == 32


def test_what_cant_be_shown_has_no_pseudonym() -> None:
    assert Pseudonymizer(KEY.encode()).series(Hostile()) == ""


def test_the_settings_key_goes_before_the_environments_and_this_before_the_file(tmp_path: Path) -> None:
    environment = {KEY_VARIABLE: "e" * 16}
    in_settings = PrivacyConfig(key=SecretStr("s" * 16))
    assert find_key(in_settings, tmp_path, environment) == b"s" * 16
    assert find_key(PrivacyConfig(), tmp_path, environment) == b"e" * 16
    assert not (tmp_path / KEY_FILE_NAME).exists()


def test_a_key_of_the_sites_own_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text(f"{KEY}\n")
    assert find_key(PrivacyConfig(key_file=tmp_path / "site.key"), tmp_path, {}) == KEY.encode()


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = find_key(PrivacyConfig(), tmp_path, {})
    assert len(first) >= 32
    assert find_key(PrivacyConfig(), tmp_path, {}) == first
    assert stat.S_IMODE((tmp_path / KEY_FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_of_several_that_make_a_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        found.append(find_key(PrivacyConfig(), tmp_path, {}))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_without_a_folder_the_key_lives_as_long_as_the_process() -> None:
    assert find_key(PrivacyConfig(), None, {}) != find_key(PrivacyConfig(), None, {})


def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=KEY_VARIABLE) as refused:
        find_key(PrivacyConfig(), tmp_path, {KEY_VARIABLE: "hunter2"})
    assert "hunter2" not in str(refused.value)
    (tmp_path / KEY_FILE_NAME).write_text("")
    with pytest.raises(ConfigurationError, match=KEY_FILE_NAME):
        find_key(PrivacyConfig(), tmp_path, {})


def test_where_no_key_can_be_made_the_store_is_to_blame(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        find_key(PrivacyConfig(), tmp_path / "missing", {})
