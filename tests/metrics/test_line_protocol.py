"""What goes into a point comes back equal from real servers, or is refused: never something else.

Hypothesis writes the points, a batch a request. InfluxDB keeps every float exactly; VictoriaMetrics keeps 12
significant digits, whole milliseconds and no text.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import urllib3
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from monitoring.exceptions import EncodingError
from monitoring.metrics.line_protocol import MAX_STRING_BYTES, Point, encode, line
from tests.support.clients import write_lines
from tests.support.servers import InfluxDB1, VictoriaMetrics

NOW_NS = 1_700_000_000_000_000_000
# What the grammar gives a meaning to, in every order and beside each other.
SPECIAL = " ,=\"'\\#_-:;.i0tTfFeE+é€😀\u00a0\u3000{}[]$%&/()*"
NAMES = (
    st.text(SPECIAL, min_size=1, max_size=3)
    | st.text(" ,='#_-:;.i0tTfFeE+é€😀{}[]$%&/()*", min_size=1, max_size=8)
    | st.text(min_size=1, max_size=12)
    | st.sampled_from(
        ["time", "_field", "db", "value", "name", "job", "le", "true", "1i", "a,b", "a\nb", "a\\", " ", "#"]
    )
)
TEXTS = st.text(SPECIAL + "\t\n\r\0", max_size=8) | st.text(max_size=40)
FLOATS = st.floats() | st.integers() | st.booleans()
POINTS = st.builds(
    Point,
    measurement=NAMES,
    tags=st.dictionaries(NAMES, NAMES, max_size=3),
    fields=st.dictionaries(NAMES, FLOATS | TEXTS, min_size=1, max_size=3),
)
# Without shrinking: a server remembers what it was sent, so that a smaller example would be another one.
REAL = settings(max_examples=25, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))


def encodable(points: list[Point]) -> list[Point]:
    """The points that are not refused."""
    kept = []
    for point in points:
        try:
            encode(point)
        except EncodingError:
            continue
        kept.append(point)
    return kept


# --- against InfluxDB 1 -------------------------------------------------------------------------


def test_influxdb_gives_back_every_point_as_it_was_or_it_was_refused(influxdb1: InfluxDB1) -> None:
    times = itertools.count(NOW_NS)
    written = 0

    @REAL
    @given(st.lists(POINTS, min_size=20, max_size=60))
    def check(drawn: list[Point]) -> None:
        nonlocal written
        points = dict(zip(times, encodable([_typed(point) for point in drawn]), strict=False))
        if points:
            _write(influxdb1, [line(point, time_ns) for time_ns, point in points.items()])
            written += len(points)
            assert _read(influxdb1, points) == {time_ns: _as_read(point) for time_ns, point in points.items()}

    check()
    assert written > 100


def _typed(point: Point) -> Point:
    """The same with text under keys of its own: a field has one type in all measurements that one query reads."""
    return Point(point.measurement, point.tags, {_typed_key(key, value): value for key, value in point.fields.items()})


def _typed_key(key: str, value: float | str) -> str:
    if isinstance(value, str):
        return f"{key}t"
    return f"{key}n" if key.endswith("t") else key


def _write(server: InfluxDB1 | VictoriaMetrics, lines: list[str]) -> urllib3.BaseHTTPResponse:
    answer = write_lines(server.write_settings(), "\n".join(lines))
    assert answer.status == 204, answer.data
    return answer


def _read(server: InfluxDB1, points: dict[int, Point]) -> dict[int, Any]:
    low, high = min(points), max(points)
    found: dict[int, Any] = {}
    for series in server._series(f"SELECT * FROM /.*/ WHERE time >= {low} AND time <= {high} GROUP BY *", None, "ns"):
        tags = {key: value for key, value in series.get("tags", {}).items() if value}
        for values in series["values"]:
            row = dict(zip(series["columns"], values, strict=True))
            time_ns = row.pop("time")
            fields = {key: float(v) if isinstance(v, int) else v for key, v in row.items() if v is not None}
            found[time_ns] = (series["name"], tags, fields)
    return found


def _as_read(point: Point) -> Any:
    fields = {key: value if isinstance(value, str) else float(value) for key, value in point.fields.items()}
    return (point.measurement, dict(point.tags), fields)


def test_influxdb_gives_back_every_float_exactly(influxdb1: InfluxDB1) -> None:
    numbers = [
        0.1,
        1 / 3,
        math.pi * 1e300,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        1e16,
        1.0000000000000002,
        2.0**63,
        -1e-310,
    ]
    _write(influxdb1, [line(Point("m", {}, {"v": value}), NOW_NS + i) for i, value in enumerate(numbers)])
    rows = influxdb1.query("SELECT v FROM m")
    assert [float(row["v"]) for row in rows] == numbers


def test_influxdb_takes_the_earliest_and_the_latest_instant(influxdb1: InfluxDB1) -> None:
    times = [-(2**63) + 2, -1, 0, 2**63 - 2]
    _write(influxdb1, [line(Point("m", {}, {"v": 1.0}), time_ns) for time_ns in times])
    assert [point.time_ns for point in influxdb1.read_points("m")] == times


# --- against VictoriaMetrics --------------------------------------------------------------------


def test_victoria_metrics_gives_back_every_number_to_12_digits_or_it_was_refused(
    victoria_metrics: VictoriaMetrics,
) -> None:
    numbers_only = st.builds(
        Point,
        measurement=NAMES,
        tags=st.dictionaries(NAMES, NAMES, max_size=3),
        fields=st.dictionaries(NAMES, FLOATS, min_size=1, max_size=2),
    )
    times, numbers = itertools.count(NOW_NS, 1_000_000), itertools.count()
    written: dict[Any, float] = {}

    @REAL
    @given(st.lists(numbers_only, min_size=20, max_size=60))
    def check(drawn: list[Point]) -> None:
        lines = []
        # A series of its own for each: values side by side share a decimal exponent, and 1e100 makes 0 of 1e16.
        alone = [
            Point(point.measurement, {**point.tags, "sample": f"{next(numbers)}"}, point.fields) for point in drawn
        ]
        for point, time_ns in zip(encodable(alone), times, strict=False):
            lines.append(line(point, time_ns))
            for key, value in point.fields.items():
                labels = frozenset(point.tags.items())
                written[f"{point.measurement}_{key}", labels, time_ns // 1_000_000] = float(value)
        if lines:
            _write(victoria_metrics, lines)

    check()
    found = {
        (name, frozenset(labels), time_ms): value
        for (name, labels), samples in victoria_metrics.values().items()
        for time_ms, value in samples
    }
    assert len(written) > 100
    assert found.keys() == written.keys()
    for key, value in written.items():
        # Near the smallest floats its decimal exponent runs out.
        assert math.isclose(found[key], value, rel_tol=2e-12, abs_tol=1e-290), key


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [
        Point("", {}, {"v": 1.0}),
        Point("m", {}, {}),
        Point("m", {"": "x"}, {"v": 1.0}),
        Point("m", {"t": ""}, {"v": 1.0}),
        Point("m", {}, {"": 1.0}),
        Point("_m", {}, {"v": 1.0}),
        Point("#m", {}, {"v": 1.0}),
        Point("m\n", {}, {"v": 1.0}),
        Point("m", {"t": "a\nb 1"}, {"v": 1.0}),
        Point("m", {"t": "a\\"}, {"v": 1.0}),
        Point("m", {"_t": "x"}, {"v": 1.0}),
        Point("m", {"time": "x"}, {"v": 1.0}),
        Point("m", {}, {"time": 1.0}),
        Point("m", {}, {"_v": 1.0}),
        Point("m", {"v": "x"}, {"v": 1.0}),
        Point("m", {"t": "x" * 257}, {"v": 1.0}),
        Point("m", {"t": "\ud800"}, {"v": 1.0}),
        Point("m", {}, {"v": math.nan}),
        Point("m", {}, {"v": math.inf}),
        Point("m", {}, {"v": -math.inf}),
        Point("m", {}, {"v": 10**400}),
        Point("m", {}, {"v": None}),  # type: ignore[dict-item]
        Point("m", {}, {"v": "a\nb"}),
        Point("m", {}, {"v": "a\rb"}),
        Point("m", {}, {"v": "\0"}),
        Point("m", {}, {"v": "\ud800"}),
        Point("m", {}, {"v": "é" * (MAX_STRING_BYTES // 2 + 1)}),
    ],
    ids=repr,
)
def test_what_a_server_would_change_is_refused(point: Point) -> None:
    with pytest.raises(EncodingError):
        encode(point)


@pytest.mark.parametrize("time_ns", [2**63 - 1, 2**63, -(2**63), 10**30])
def test_an_instant_beyond_the_servers_range_is_refused(time_ns: int) -> None:
    with pytest.raises(EncodingError):
        line(Point("m", {}, {"v": 1.0}), time_ns)


def test_a_refusal_doesnt_quote_what_was_refused() -> None:
    with pytest.raises(EncodingError) as refused:
        encode(Point("m", {"t": "Jane\\Doe"}, {"v": 1.0}))
    assert "Jane" not in str(refused.value)


def test_tags_are_sorted_and_what_separates_is_escaped() -> None:
    point = Point("my m", {"b": "x=1,y", "a": "two words"}, {"say": 'so "x" \\', "n": 3})
    assert line(point, 5) == r'my\ m,a=two\ words,b=x\=1\,y say="so \"x\" \\",n=3.0 5'


def test_a_number_is_written_as_a_float_always() -> None:
    fields: dict[str, Any] = {"a": 1, "b": True, "c": 1e16, "d": 5e-324}
    assert encode(Point("m", {}, fields)) == "m a=1.0,b=1.0,c=1e+16,d=5e-324"


@given(POINTS)
def test_a_point_is_one_line_or_refused(point: Point) -> None:
    for kept in encodable([point]):
        assert len(line(kept, 1).encode().split(b"\n")) == 1
