"""Whatever a host passes becomes a plain value or None, and never an exception."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.records import coerce
from tests.support.hostile import Column, Hostile, Word

NUMBERS = [
    (412.5, 412.5),
    (7, 7.0),
    (np.float32(0.5), 0.5),
    (np.float64(412.5), 412.5),
    (np.float16(0.5), 0.5),
    (np.int64(-3), -3.0),
    (np.uint8(255), 255.0),
    (np.array(2.5), 2.5),
    (np.array([2.5]), 2.5),
    (np.array([[2.5]]), 2.5),
    (Decimal("1.25"), 1.25),
    (Fraction(1, 4), 0.25),
    (Column([3.5]), 3.5),
    (-0.0, 0.0),
]
NOT_NUMBERS = [
    None,
    True,
    False,
    np.True_,
    "412.5",
    "",
    b"412.5",
    bytearray(b"1"),
    memoryview(b"1"),
    math.nan,
    math.inf,
    -math.inf,
    np.float32("nan"),
    np.float32("inf"),
    np.array(np.nan),
    np.array([1.0, 2.0]),
    np.array([]),
    np.array("text"),
    np.array([b"1"]),
    np.datetime64("2024-01-31"),
    10**400,
    -(10**400),
    1 + 2j,
    [1.0],
    (1.0,),
    {1: 2},
    {1.0},
    object(),
    Hostile(),
    Column([1.0, 2.0]),
    Column([]),
    iter([1.0]),
    np.array([None]),
]


@pytest.mark.parametrize(("given_value", "expected"), NUMBERS)
def test_a_number_of_any_kind_becomes_a_float(given_value: Any, expected: float) -> None:
    found = coerce.finite_float(given_value)
    assert (type(found), found) == (float, expected)


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_not_one_finite_number_is_missing_and_never_0(value: Any) -> None:
    assert coerce.finite_float(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(8, 8), (8.0, 8), ("8", 8), (" 8 ", 8), ("-1", -1), (np.int64(8), 8), (np.float32(8), 8), (np.str_("8"), 8)],
)
def test_a_label_is_whole_whether_it_comes_as_a_number_or_as_a_json_key(value: Any, expected: int) -> None:
    found = coerce.whole_number(value)
    assert (type(found), found) == (int, expected)


@pytest.mark.parametrize(
    "value", [7.5, "7.5", "", "seven", "1" * 10, None, True, math.nan, b"7", [7], 1e300, 2**54, Hostile()]
)
def test_what_is_not_whole_is_no_label(value: Any) -> None:
    assert coerce.whole_number(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (np.array(5.0), [5.0]),
        (np.float32(0.5), [0.5]),
        (Column([1, 2]), [1, 2]),
        ((number for number in (1, 2)), [1, 2]),
        (range(2), [0, 1]),
        (3.5, [3.5]),
        (None, []),
        ("text", []),
        (b"text", []),
        ({"a": 1}, []),
        (Hostile(), []),
    ],
)
def test_a_sequence_of_any_kind_becomes_a_list(value: Any, expected: list[Any]) -> None:
    assert coerce.plain_list(value) == expected


def test_a_generator_that_raises_half_way_and_one_without_end_come_to_an_end() -> None:
    def breaks() -> Iterator[float]:
        yield 0.5
        raise RuntimeError("device lost")

    assert coerce.plain_list(breaks()) == []
    assert 0 < len(coerce.plain_list(itertools.repeat(0.5))) <= 1_000_000


@pytest.mark.parametrize("name", ["inference", "PLL_R_FEM", "resnet-101", "model_2.1", "a", "_x", "x" * 64])
def test_a_short_identifier_is_a_name(name: str) -> None:
    assert coerce.metric_name(name) == name
    assert coerce.metric_name(np.str_(name)) == coerce.metric_name(np.array(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "1.2.840.10008.5.1.4.1.1.7",
        "x1.2.840.10008",
        "series_1.2.3",
        "Doe^Jane",
        "Doe, Jane",
        "Jane Doe",
        "Müller",
        "12345678",
        "MRN0012345",
        "MRN-123456",
        "p20160131",
        "2016-01-31",
        "born_31.01.2016",
        "",
        " ",
        "x" * 65,
        "a/b",
        "a\nb",
        "7",
        7,
        7.5,
        None,
        True,
        b"inference",
        ["inference"],
        {"inference"},
        math.nan,
        Hostile(),
        np.array(["a", "b"]),
    ],
)
def test_identifiers_and_free_text_are_no_names(name: Any) -> None:
    assert coerce.metric_name(name) is None


def test_an_enums_member_is_the_text_that_it_stands_for() -> None:
    assert coerce.plain_text(Word.DONE) == "completed"
    assert coerce.metric_name(Word.DONE) == "completed"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.decimals()
        | st.complex_numbers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    )
)
def test_nothing_that_is_passed_raises(value: Any) -> None:
    number = coerce.finite_float(value)
    assert number is None or math.isfinite(number)
    assert all(map(math.isfinite, coerce.finite_floats(value)))
    coerce.whole_number(value)
    coerce.metric_name(value)
    assert coerce.plain_mapping(value) == (value if isinstance(value, dict) else {})
