"""A host's names become plain, distinct and stable ones, and none that identifies somebody becomes one."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.records import coerce
from monitoring.records.names import chart_name, digest_code, plain_name, short_digest, version_code
from tests.support import REPOSITORY

HASH = "0123456789abcdef" * 2


@pytest.mark.parametrize("name", ["inference", "PLL_R_FEM", "resnet-101", "model_2.1", "_x"])
def test_a_plain_name_is_itself(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("Bone Age (months)", "Bone_Age_months"),
        ("DenseNet-121 (v2.1)", "DenseNet-121_v2.1"),
        ("3D U-Net", "name_3D_U-Net"),
        ("Score (%)", "Score_percent"),
        ("angle [°]", "angle_degrees"),
        ("a/b", "a_b"),
        ("fold 3 / model 2", "fold_3_model_2"),
        ("mean " * 20, "mean_" * 11 + "mean"),
    ],
)
def test_words_that_tell_nothing_of_anybody_are_left(name: str, left: str) -> None:
    found = plain_name(name)
    assert re.fullmatch(re.escape(left) + "-[a-p]{4}", str(found))
    assert coerce.metric_name(found) == found
    assert plain_name(found) == found


@pytest.mark.parametrize(
    "name",
    [
        "Jane Doe", "knee of Jane", "Doe, Jane", "DOE JANE 7 years", "Müller", "Li 7", "/data/Doe/model.pt",
        "мodel", "Jane7 model", "骨 age",
    ],
)  # fmt: skip
def test_any_other_word_may_be_a_person_s_and_is_a_keyed_hash_or_nothing(name: str) -> None:
    assert plain_name(name) is None
    assert plain_name(name, lambda _: "") is None
    assert plain_name(name, lambda _: HASH) == "name_abcdefghij"


@pytest.mark.parametrize(
    "name",
    [
        "1.2.840.10008.5.1", "model (1.2.840.10008)", "Doe^Jane", "MRN0012345", "MRN 001 2345", "2016-01-31",
        "born 2016-01-31", "model 31.01.2016", "12 34 56", "length 12/34/56", "", " ", "7", "(%)", "a\nb", "a\x1b[2Jb",
        "angle " * 30, None, 5, b"x", True,
    ],
)  # fmt: skip
def test_what_looks_like_an_identity_or_is_no_text_names_nothing(name: Any) -> None:
    assert plain_name(name, lambda _: HASH) is None


def test_names_are_distinct() -> None:
    names = ["Bone Age (months)", "Bone Age [months]", "Bone Age months", "bone age (months)", "Bone-Age (months)"]
    assert len({plain_name(name) for name in [*names, "Bone_Age_months"]}) == len(names) + 1


def test_a_name_is_the_same_in_every_process() -> None:
    code = "from monitoring.records.names import plain_name; print(plain_name('Bone Age (months)'))"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == plain_name("Bone Age (months)") == "Bone_Age_months-aike"


@given(st.text())
def test_whatever_is_given_what_comes_is_plain(name: str) -> None:
    found = plain_name(name, lambda _: HASH)
    assert found is None or coerce.metric_name(found) == found


# --- versions and checksums -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    [
        "2.1.0", "v3", "0.1.0.dev1", "2.0b1", "1.4.0-rc1+g3f2a91c", "2024.1", "3f2a91c", "a123456b", "stable",
        "unknown", "resnet-v2", "1.2.3-post2",
    ],
)  # fmt: skip
def test_a_version_is_kept_as_it_is(version: str) -> None:
    assert version_code(version) == version_code(np.array(version)) == version


@pytest.mark.parametrize(
    "version",
    [
        "1.2.840.113619.2.55", "1.2.3.4.5", "1_2_3_4_5", "Jane", "1.2-Doe", "Doe^Jane", "MRN0012345", "20101105",
        "2010.11.05", "5-11-2010", "1.0.123456", "a b", "../../etc", "\x1b[2J", "", "x" * 49, "1" * 49, None, 2.1, b"1",
    ],
)  # fmt: skip
def test_what_could_be_somebody_s_is_no_version(version: Any) -> None:
    assert version_code(version) is None


def test_a_checksum_is_hexadecimal_and_shown_by_its_beginning() -> None:
    digest = "0123456789ab" + "Cd" * 26
    assert digest_code(digest) == digest_code(f"sha256:{digest}") == digest.lower()
    assert short_digest(digest_code(digest)) == "0123456789ab"
    for text in ("201011051234", "1" * 32, "abc", "Jane", "a" * 129, "xyz" * 8, None, 5, b"ab" * 16):
        assert digest_code(text) is None
    assert short_digest(None) is short_digest("Jane") is None


@given(st.text())
def test_whatever_is_given_a_version_and_a_checksum_are_codes(text: str) -> None:
    for code in (version_code(text), digest_code(text)):
        assert code is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,127}", code)
        assert code is None or version_code(code) in (None, code)


def test_a_charts_name_is_of_names_and_a_gpus_number() -> None:
    for name in ("failed", "model_difference/alpha/right_femur", "gpu_memory/0", "gpu_memory/15"):
        assert chart_name(name) == name
    for name in ("", "a//b", "model_seconds/Doe^Jane", "gpu_memory/123456", "1.2.840.10008/a", "a/b c"):
        assert chart_name(name) is None
