"""A pseudonym is stable at one site, means nothing elsewhere, and its key is made once and kept private."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import threading
from pathlib import Path

import pytest

from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, KEY_VARIABLE, find_key
from monitoring.settings import PrivacyConfig, Secret
from tests.support.checked_settings import section_of
from tests.support.hostile import Hostile

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


@pytest.mark.parametrize("identifier", [" 1.2\0", "é\ud800", None, 5, b"bytes", "x" * 100_000])
def test_anything_can_be_named(identifier: object) -> None:
    assert len(Pseudonymizer(KEY.encode()).series(identifier)) == 32


KINDS = ("series", "study", "patient", "accession", "reader")


@pytest.mark.parametrize("identifier", [Hostile(), "", "  ", "\0\0", " \t\r\n\0"])
def test_what_is_empty_or_cant_be_shown_has_no_pseudonym(identifier: object) -> None:
    assert [getattr(Pseudonymizer(KEY.encode()), kind)(identifier) for kind in KINDS] == [""] * len(KINDS)


def test_what_the_header_lacks_has_no_pseudonym() -> None:
    assert [getattr(Pseudonymizer(KEY.encode()), kind)(None) for kind in KINDS[1:]] == [""] * len(KINDS[1:])


def test_the_same_text_has_another_pseudonym_as_another_kind_of_thing() -> None:
    names = Pseudonymizer(KEY.encode())
    found = {getattr(names, kind)(UID) for kind in KINDS}
    assert len(found) == len(KINDS)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in found)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_padding_and_unicodes_composition_make_no_difference_but_capitals_do(kind: str) -> None:
    name = getattr(Pseudonymizer(KEY.encode()), kind)
    assert name("Ä c1") == name(" Ä c1 ") == name("Ä c1\0") == name("A\u0308 c1\r\n")
    assert len({name("Ä c1"), name("ä c1"), name("Ä C1"), name("Äc1"), name("0Ä c1")}) == 5


def test_one_number_of_two_hospitals_is_two_patients() -> None:
    patient = Pseudonymizer(KEY.encode()).patient
    assert patient("77", "St. Mary") == patient("77 ", "St. Mary ") != patient("77", "St. Anne")
    assert patient("77") == patient("77", None) == patient("77", " ") != patient("77", "St. Mary")
    assert patient("", "St. Mary") == patient(None, "St. Mary") == ""
    assert patient("7", "St7") != patient("77", "St")


def test_the_pseudonym_of_a_study_is_the_keyed_hash_of_its_kind_and_identifier() -> None:
    expected = hmac.new(KEY.encode(), f"study:{UID}".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonymizer(KEY.encode()).study(f"{UID}\0") == expected


def test_the_settings_key_goes_before_the_environments_and_this_before_the_file(tmp_path: Path) -> None:
    environment = {KEY_VARIABLE: "e" * 16}
    in_settings = PrivacyConfig(key=Secret("s" * 16))
    assert find_key(in_settings, tmp_path, environment) == b"s" * 16
    assert find_key(PrivacyConfig(), tmp_path, environment) == b"e" * 16
    assert not (tmp_path / KEY_FILE_NAME).exists()


def test_a_key_of_the_sites_own_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text(f"{KEY}\n")
    assert find_key(section_of(PrivacyConfig, key_file=tmp_path / "site.key"), tmp_path, {}) == KEY.encode()


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = find_key(PrivacyConfig(), tmp_path, {})
    assert len(first) >= 32
    assert find_key(PrivacyConfig(), tmp_path, {}) == first
    assert stat.S_IMODE((tmp_path / KEY_FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_a_key_that_others_could_read_is_its_owners_again(tmp_path: Path) -> None:
    first = find_key(PrivacyConfig(), tmp_path, {})
    (tmp_path / KEY_FILE_NAME).chmod(0o644)
    assert find_key(PrivacyConfig(), tmp_path, {}) == first
    assert stat.S_IMODE((tmp_path / KEY_FILE_NAME).stat().st_mode) == 0o600


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


def test_no_key_is_made_for_one_run_alone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        find_key(PrivacyConfig(), None, {})
    with pytest.raises(StoreError, match="none is made"):
        find_key(PrivacyConfig(), tmp_path, {}, may_make=False)
    made = find_key(PrivacyConfig(), tmp_path, {})
    assert find_key(PrivacyConfig(), tmp_path, {}, may_make=False) == made


def test_without_a_key_nothing_is_named() -> None:
    nameless = Pseudonymizer(None)
    assert {
        nameless.series("1.2.3"),
        nameless.patient("4711", "there"),
        nameless.reader("R"),
        nameless.fingerprint,
    } == {""}


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


def test_a_process_killed_while_it_made_the_key_leaves_no_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who destroys the key means all of it: the next process clears the draft away, also where no key came of it."""
    real = Path.unlink

    def killed(self: Path, missing_ok: bool = False) -> None:
        if self.name.startswith("."):
            raise KeyboardInterrupt  # between the link and the removal of the draft

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        find_key(PrivacyConfig(), tmp_path)
    monkeypatch.setattr(Path, "unlink", real)
    assert len(list(tmp_path.iterdir())) == 2
    key = find_key(PrivacyConfig(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE_NAME]
    assert (tmp_path / KEY_FILE_NAME).read_bytes() == key


def test_a_draft_that_another_process_cleared_away_costs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(draft: Path, path: Path) -> None:
        path.write_text("another process' key")
        draft.unlink()
        real(draft, path)

    monkeypatch.setattr(os, "link", late)
    assert find_key(PrivacyConfig(), tmp_path) == b"another process' key"
