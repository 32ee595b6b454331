"""Settings of privacy can only tighten, and what can't be understood is taken for the wish to."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.config_validator import Checked
from monitoring.settings import PrivacyConfig
from tests.support.checked_settings import checked, in_section, the_problem

STRICT = ("none", False, False)


def told(found: Checked) -> tuple[str, bool, bool]:
    privacy = found.config.privacy
    return (privacy.age, privacy.device, privacy.patient_key)


def test_lengths_and_times_are_exact_unless_they_are_to_be_coarse() -> None:
    assert in_section("privacy").config.privacy.precision == "exact"
    assert in_section("privacy", precision="coarse").config.privacy.precision == "coarse"
    wrong = in_section("privacy", precision="coarce")
    assert wrong.config.privacy.precision == "coarse"
    assert the_problem(wrong).endswith("(the strictest choice is used)")
    assert checked({"enabled": True, "privacy": 5}).config.privacy.precision == "coarse"


def test_by_default_age_device_and_the_patients_pseudonym_are_kept_and_no_site_is_named() -> None:
    assert told(in_section("privacy")) == ("years", True, True)
    assert in_section("privacy").config.privacy.site is None


def test_privacy_can_be_tightened_and_a_site_can_be_named() -> None:
    found = in_section("privacy", age="band", device=False, patient_key="no", site=" Children's Hospital, Köln ")
    assert found.problems == ()
    assert told(found) == ("band", False, False)
    assert found.config.privacy.site == "Children's Hospital, Köln"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"age": "bnad"}, ("none", True, True)),
        ({"age": "BAND", "device": False}, ("none", False, True)),
        ({"age": "${NOT_SET}", "patient_key": False}, ("none", True, False)),
        ({"device": "nein"}, ("years", False, True)),
        ({"patient_key": "nein", "age": "band"}, ("band", True, False)),
        ({"site": "a\\b", "age": "band"}, ("band", True, True)),
        ({"key_file": "/nowhere/key", "age": "none", "device": False}, ("none", False, True)),
        ({"key": "short", "patient_key": False}, ("years", True, False)),
    ],
)
def test_a_privacy_setting_that_cant_be_understood_has_its_strictest_value_and_the_others_their_own(
    settings: dict[str, Any], expected: tuple[str, bool, bool]
) -> None:
    found = in_section("privacy", **settings)
    (wrong, *_) = settings
    assert told(found) == expected
    strictest = wrong in PrivacyConfig.strictest
    assert the_problem(found).endswith("(the strictest choice is used)" if strictest else "(the default is used)")


@pytest.mark.parametrize("section", [5, "strict", [], True, False])
def test_a_privacy_section_that_is_no_object_is_the_strictest(section: Any) -> None:
    found = checked({"enabled": True, "privacy": section})
    assert told(found) == STRICT
    assert the_problem(found).endswith("(the strictest choice is used)")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"patient_kye": False}, ("years", True, False)),
        ({"aeg": "none"}, ("none", True, True)),
        ({"Device": False}, ("years", False, True)),
        ({"Device": False, "device": True}, ("years", True, True)),
        ({"colour": "blue"}, ("years", True, True)),
    ],
)
def test_a_misspelt_privacy_setting_is_taken_for_the_wish_to_tighten(
    settings: dict[str, Any], expected: tuple[str, bool, bool]
) -> None:
    found = in_section("privacy", **settings)
    assert told(found) == expected
    effect = "ignored" if expected == ("years", True, True) else "ignored, and the strictest choice is used"
    assert found.problems[0].effect == effect


@pytest.mark.parametrize("site", ["", "  ", "a\\b", "a\nb", "x" * 65, "\ud800", 5, ["x"]])
def test_a_site_that_cant_be_a_label_is_none_and_is_not_shown(site: Any) -> None:
    found = in_section("privacy", site=site)
    assert found.config.privacy.site is None
    assert the_problem(found).startswith("process.settings.monitoring.privacy.site: ")
    assert the_problem(found).isprintable()


def test_a_site_from_an_unset_variable_is_no_site() -> None:
    assert in_section("privacy", site="${NOT_SET}").config.privacy.site is None
