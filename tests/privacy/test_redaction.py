"""A value is found in a text in every form that reaches a log, and nothing else is."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.privacy.redaction import SensitiveValues, redact

REPLACEMENT = "[removed]"


def cleaned_of(value: str, text: str) -> str:
    """The text without a study's value."""
    return redact(text, [SensitiveValues([value], are_names=True)], REPLACEMENT)


NAMES = (
    "Müller-Lüdenscheidt^Käthe", "Zzyzxson^Quillaboo", "DOE^JANE", "山田^太郎", "Jürgensen", "Ωμέγα^Ιωάννα",
    "김치^정인", "Un𝔘code^Plane",
)  # fmt: skip


def without_accents(name: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", name) if not unicodedata.combining(letter))


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "small": str.lower,
    "spaced": lambda name: name.replace("^", " "),
    "family first": lambda name: ", ".join(name.split("^")),
    "given first": lambda name: " ".join(reversed(name.split("^"))),
    "in a file's name": lambda name: name.replace("^", "_") + "_left.dcm",
    "in one word": lambda name: name.replace("^", ""),
    "in one word, given first": lambda name: "".join(reversed(name.split("^"))),
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "without accents": without_accents,
    "percent": quote,
    "percent, all of it, small": lambda name: quote(name, safe="").lower(),
    "percent, plus": lambda name: quote_plus(name.replace("^", " ")),
    "percent, each character": lambda name: "".join(f"%{byte:02X}" for byte in name.encode()),
    "percent, twice": lambda name: quote(quote(name)),
    "percent, latin-1": lambda name: quote(name, encoding="latin-1", errors="ignore"),
    "percent, decomposed": lambda name: quote(unicodedata.normalize("NFD", name)),
    "JSON": json.dumps,
    "JSON, not ASCII": lambda name: json.dumps(name, ensure_ascii=False),
    "JSON in JSON": lambda name: json.dumps(json.dumps(name)),
    "JSON, lines": lambda name: json.dumps(name.replace("^", "\n")),
    "JSON, decomposed": lambda name: json.dumps(unicodedata.normalize("NFD", name)),
    "repr": repr,
    "ascii": ascii,
    "ascii in repr": lambda name: repr(ascii(name)),
    "bytes": lambda name: repr(name.encode()),
    "bytes in repr": lambda name: repr(repr(name.encode())),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_name_is_removed_however_it_is_written(form: str) -> None:
    for name in NAMES:
        if form == "percent, latin-1" and name[0] > "\xff":
            continue  # it leaves nothing of another script
        cleaned = cleaned_of(name, f"before {FORMS[form](name)} after")
        assert cleaned.startswith("before ")
        assert cleaned.endswith(" after")
        left = cleaned.removeprefix("before ").removesuffix(" after")
        assert REPLACEMENT in left
        assert not {part for part in name.lower().split("^") if len(part) > 3 and part in left.lower()}
        remnant = left.replace(REPLACEMENT, "").replace("_left.dcm", "")
        assert len(remnant) <= 9, "the quoting at most"


@pytest.mark.parametrize("form", ["{}", "{}.dcm", "x{}y", "7{}8", "/in/{}#4.dcm", "('{}',)", "uid={}&x=1", "%7B{}%7D"])
def test_a_uid_is_removed_wherever_it_stands(form: str) -> None:
    for uid in ("1.2.826.0.1.77.5", "1.2.840.113619.2.55.3.604688119.868"):
        assert cleaned_of(uid, form.format(uid)) == form.format(REPLACEMENT)


@pytest.mark.parametrize("value", ["names", "ud83ding", "Beesley^Ann"])
def test_what_only_looks_like_an_escape_hides_no_value(value: str) -> None:
    word = value.split("^")[0]
    for before in ("C:\\", "50%", "\\\\server\\"):
        assert cleaned_of(value, f"{before}{word} x") == f"{before}{REPLACEMENT} x"


@pytest.mark.parametrize(
    "password",
    ["p%20ss-word", "pä%4Fword!", "pä\\u0041word", "a\\nother-word", "word\\änother", "%41%42%43%44", "!!#?%"],
)
def test_a_value_that_holds_what_looks_like_an_escape_is_removed_in_every_form(password: str) -> None:
    for form in (str, quote, json.dumps, repr, ascii):
        assert form(password).strip("'\"") not in cleaned_of(password, f"the password is {form(password)}.")


def test_escapes_in_a_row_are_removed_together_and_what_stands_beside_them_is_kept() -> None:
    written = "".join(f"%{byte:02x}" for byte in b"(DOE^JANE)")
    assert cleaned_of("DOE^JANE", f"a {written} b%20c") == f"a {REPLACEMENT} b%20c"
    assert cleaned_of("DOE^JANE", "%28DOE%5EJANE%29") == f"%28{REPLACEMENT}%29"


def test_overlapping_values_are_removed_as_one() -> None:
    values = [SensitiveValues(["Anna-Maria", "1.2.826.0.1"]), SensitiveValues(["Maria Muster", "1.2.826.0.1.77.5"])]
    assert redact("Anna Maria Muster, 1.2.826.0.1.77.5", values, REPLACEMENT) == f"{REPLACEMENT}, {REPLACEMENT}"


SOUNDS_ALIKE = [
    ("Mark^Long", "landmarks belong to bookmarks; longer"),
    ("Will^Page", "willing pages"),
    ("1234", "0.1234 mm, 12345, 51234, 1234.5, 1,234"),
    ("2024", "20240 and 12024"),
    ("1.2.3", "11.2.3 and 1.2.34"),
    ("tends", "it ends"),
    ("acc7", "acc77 xacc7"),
    ("####", "### and ##"),
    ("ABC", "ABC"),
    ("DX", "DX%20DX"),
]


@pytest.mark.parametrize(("value", "text"), SOUNDS_ALIKE)
def test_what_only_looks_alike_stays(value: str, text: str) -> None:
    assert cleaned_of(value, text) is text


@pytest.mark.parametrize(
    ("value", "text", "cleaned"),
    [
        ("Mark^Long", "Mark, how long?", "[removed], how [removed]?"),
        ("1234", "ID-1234, x1234y", "ID-[removed], x[removed]y"),
        ("1234", "5\n1234", "5\n[removed]"),
        ("####", "a #### b", "a [removed] b"),
        ("DX-1", "on DX-1.", "on [removed]."),
        ("O'Neil^Pat", "O'NEIL and \"Pat O'Neil\"", '[removed] and "[removed]"'),
        ("Wu^Lian", "Wu and Li; Wu, Lian and Wu^Lian", "Wu and Li; [removed] and [removed]"),
    ],
)
def test_short_values_are_removed_as_whole_words(value: str, text: str, cleaned: str) -> None:
    assert cleaned_of(value, text) == cleaned


TEXTS = st.text(max_size=60) | st.text("aAbB^=.,% \\ux0é'\"&;#12-\0\ud83d\u0301", max_size=60)


@given(st.lists(TEXTS, max_size=5), TEXTS)
def test_cleaning_takes_any_text_and_any_value(values: list[str], text: str) -> None:
    raw = text.encode(errors="replace")
    groups = [SensitiveValues(values), SensitiveValues(values, are_names=True), SensitiveValues([raw])]
    for each in (text, *values, json.dumps(text), repr(values)):
        cleaned = redact(each, groups, REPLACEMENT)
        assert cleaned is each or REPLACEMENT in cleaned


@given(st.text("abcdefghijklmnopqrstuvwxyzäöüß", min_size=9, max_size=20), TEXTS, TEXTS, st.sampled_from(sorted(FORMS)))
def test_no_value_survives_between_any_texts(value: str, before: str, after: str, form: str) -> None:
    written = FORMS[form](value)
    cleaned = cleaned_of(value, f"{before} {written} {after}")
    if form != "percent, latin-1":
        assert written not in cleaned or written in before or written in after


@pytest.mark.parametrize("name", ["王^芳", "王^小明", "王小明", "王芳", "山田^太郎", "علي"])
def test_two_characters_of_a_script_without_letter_case_are_telling(name: str) -> None:
    parts = {"".join(name.split("^")), " ".join(name.split("^")), *(part for part in name.split("^") if len(part) > 1)}
    for part in parts:
        for text in (f"the patient {part} came", f"{part}.dcm", json.dumps(part), quote(part)):
            assert part not in cleaned_of(name, text)
            assert REPLACEMENT in cleaned_of(name, text), (part, text)


@pytest.mark.parametrize("name", ["Li", "Ann", "Li^Bo", "王"])
def test_what_is_too_short_stays(name: str) -> None:
    assert cleaned_of(name, "Ann and Bo say Li to 王") == "Ann and Bo say Li to 王"
