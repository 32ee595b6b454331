"""A value is found in a text however it was written there, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.privacy.disguises import Values, without

REPLACEMENT = "[removed]"


def cleaned_of(value: str, text: str) -> str:
    """The text without a study's value."""
    return without(text, [Values([value], are_names=True)], REPLACEMENT)


NAMES = ("Müller-Lüdenscheidt^Käthe", "Zzyzxson^Quillaboo", "DOE^JANE", "山田^太郎", "Jürgensen", "Ωμέγα^Ιωάννα")
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "small": str.lower,
    "spaced": lambda name: name.replace("^", " "),
    "family first": lambda name: ", ".join(name.split("^")),
    "given first": lambda name: " ".join(reversed(name.split("^"))),
    "in a file's name": lambda name: name.replace("^", "_") + "_left.dcm",
    "in one word": lambda name: name.replace("^", ""),
    "percent": quote,
    "percent, all of it, small": lambda name: quote(name, safe="").lower(),
    "percent, plus": lambda name: quote_plus(name.replace("^", " ")),
    "percent, twice": lambda name: quote(quote(name)),
    "percent, latin-1": lambda name: quote(name, encoding="latin-1", errors="ignore"),
    "JSON": json.dumps,
    "JSON, not ASCII": lambda name: json.dumps(name, ensure_ascii=False),
    "JSON in JSON": lambda name: json.dumps(json.dumps(name)),
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda name: repr(name.encode()),
    "octal": lambda name: "".join(f"\\{byte:03o}" if byte > 127 else chr(byte) for byte in name.encode()),
    "UTF-8 read as latin-1": lambda name: name.encode().decode("latin-1"),
    "UTF-8 read as Windows'": lambda name: name.encode().decode("cp1252", "replace"),
    "UTF-16": lambda name: repr(name.encode("utf-16-le")),
    "markup": html.escape,
    "markup, ASCII": lambda name: name.encode("ascii", "xmlcharrefreplace").decode(),
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "hexadecimal": lambda name: name.encode().hex(),
    "hexadecimal, capitals": lambda name: name.encode().hex().upper(),
    "base64": lambda name: base64.b64encode(name.encode()).decode(),
    "base64, one before": lambda name: base64.b64encode(b"x" + name.encode() + b"yz").decode(),
    "base64, two before": lambda name: base64.b64encode(b"xy" + name.encode() + b"z").decode(),
    "base64, for addresses": lambda name: base64.urlsafe_b64encode(b"\xff\xfe\xfb" + name.encode()).decode(),
    "base64 in an address": lambda name: quote(base64.b64encode(b"??>" + name.encode()).decode(), safe=""),
}
LATIN_ONLY = {"percent, latin-1", "UTF-8 read as Windows'", "UTF-16"}
"""Of another script these leave nothing, or nothing that anybody could read."""
WRITTEN = [(name, form) for name in NAMES for form in FORMS if name[0] < "\xff" or form not in LATIN_ONLY]


@pytest.mark.parametrize(("name", "form"), WRITTEN)
def test_a_name_is_removed_however_it_is_written(name: str, form: str) -> None:
    cleaned = cleaned_of(name, f"before {FORMS[form](name)} after")
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    left = cleaned.removeprefix("before ").removesuffix(" after")
    assert REPLACEMENT in left
    assert not {part for part in name.lower().split("^") if len(part) > 3 and part in left.lower()}
    assert len(left.replace(REPLACEMENT, "").replace("_left.dcm", "")) <= 7, "a remnant of the quoting at most"


@pytest.mark.parametrize("lost", ["ignore", "replace"])
def test_a_name_is_removed_when_its_accents_were_lost(lost: str) -> None:
    cleaned = cleaned_of("Müller-Lüdenscheidt^Käthe", "Müller-Lüdenscheidt^Käthe".encode("ascii", lost).decode())
    assert cleaned == REPLACEMENT


def test_base64_for_addresses_may_have_other_characters_within_the_value() -> None:
    encoded = base64.urlsafe_b64encode("name?>?>~~~ÿÿÿ".encode()).decode()
    assert "-" in encoded or "_" in encoded
    assert cleaned_of("?>?>~~~ÿÿÿ", f"a {encoded} b") == "a [removed] b"


@pytest.mark.parametrize("uid", ["1.2.826.0.1.77.5", "1.2.840.113619.2.55.3.604688119.868"])
@pytest.mark.parametrize("form", ["{}", "{}.dcm", "x{}y", "/in/{}#4.dcm", "('{}',)", "uid={}&x=1"])
def test_a_uid_is_removed_wherever_it_stands(uid: str, form: str) -> None:
    assert cleaned_of(uid, form.format(uid)) == form.format(REPLACEMENT)


SOUNDS_ALIKE = [
    ("Mark^Long", "landmarks belong to bookmarks; longer"),
    ("Will^Page", "willing pages"),
    ("1234", "0.1234 mm, 12345, 51234, 1234.5, 1,234"),
    ("2024", "20240 and 12024"),
    ("1.2.3", "11.2.3 and 1.2.34"),
    ("tends", "it ends"),
    ("acc7", "acc77 xacc7"),
    ("####", "### and ##"),
]


@pytest.mark.parametrize(("value", "text"), SOUNDS_ALIKE)
def test_what_only_looks_alike_stays(value: str, text: str) -> None:
    assert cleaned_of(value, text) is text


@pytest.mark.parametrize(
    ("value", "text", "cleaned"),
    [
        ("Mark^Long", "Mark, how long?", "[removed], how [removed]?"),
        ("1234", "ID-1234, x1234y", "ID-[removed], x[removed]y"),
        ("####", "a #### b", "a [removed] b"),
        ("DX-1", "on DX-1.", "on [removed]."),
        ("O'Neil^Pat", "O'NEIL and \"Pat O'Neil\"", '[removed] and "[removed]"'),
    ],
)
def test_short_values_are_removed_as_whole_words(value: str, text: str, cleaned: str) -> None:
    assert cleaned_of(value, text) == cleaned


TEXTS = st.text(max_size=60) | st.text("aAbB^=.,% \\ux0é'\"&;#12-\0\ud83d", max_size=60)


@given(st.lists(TEXTS, max_size=5), TEXTS)
def test_cleaning_takes_any_text_and_any_value(values: list[str], text: str) -> None:
    groups = [Values(values), Values(values, are_names=True), Values([text.encode(errors="replace")])]
    for each in (text, *values, json.dumps(text), repr(values)):
        cleaned = without(each, groups, REPLACEMENT)
        assert cleaned is each or REPLACEMENT in cleaned


@given(st.text("abcdefghijklmnopqrstuvwxyzäöüß", min_size=9, max_size=20), TEXTS, TEXTS, st.sampled_from(sorted(FORMS)))
def test_no_value_survives_between_any_texts(value: str, before: str, after: str, form: str) -> None:
    written = FORMS[form](value)
    cleaned = cleaned_of(value, f"{before} {written} {after}")
    if form not in LATIN_ONLY:
        assert written not in cleaned or written in before or written in after
