"""PromQL evaluated without a server, as Prometheus 2 does it: over samples that are known beforehand, at many instants.

A range holds the samples at both of its ends, an instant's sample is at most five minutes old: Prometheus 3 leaves the
earlier end out of both. What alert rules don't need is left out, and refused by name.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial, reduce, singledispatchmethod
from typing import Any

import promql_parser
from msgspec import Struct
from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    Call,
    LabelModifierType,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    UnaryExpr,
    VectorMatchCardinality,
    VectorSelector,
)

from monitoring.dashboards.scraped_series import OVER_TIME, Column, Grid, OverTime, Samples, over_time
from monitoring.exceptions import MonitoringError

# Prometheus' default (query.lookback-delta).
LOOKBACK_MS = 300_000
"""How old an instant's sample may be, where nothing said that its series has ended."""

Labels = tuple[tuple[str, str], ...]
"""A series' labels in the order of their names, ``__name__`` among them."""

NAME = "__name__"


class EvaluationError(MonitoringError):
    """An expression can't be evaluated: it is none, needs what isn't done here, or Prometheus would fail at it, too."""


Vector = dict[Labels, Column]


def combined(columns: Sequence[Column], make: Callable[[list[float | None]], float | None]) -> Column:
    """What ``make`` says of the columns' values, at all instants; it mustn't keep the list."""
    current: list[float | None] = [None] * len(columns)
    # The usual case, and sorted as it is.
    if len(columns) == 1:
        events = [(start, 0, value) for start, value in zip(*columns[0], strict=True)]
    else:
        events = [(start, n, value) for n, column in enumerate(columns) for start, value in zip(*column, strict=True)]
        events.sort()  # what is sorted already, as each column is, is merged
    found = Column([], [])
    edge = 0
    for start, number, value in events:
        if start != edge:
            found.append(edge, make(current))
            edge = start
        current[number] = value
    found.append(edge, make(current))
    return found


def put(vector: Vector, labels: Labels, column: Column) -> None:
    """Add a series; raises :class:`EvaluationError` where one of the same labels is there at the same instant."""
    if labels in vector:
        column = combined((vector[labels], column), _either)
    vector[labels] = column


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _either(values: list[float | None]) -> float | None:
    present = _present(values)
    # Prometheus fails the whole expression there, so this does, too.
    if len(present) > 1:
        raise EvaluationError("two series with the same labels at one instant")
    return present[0] if present else None


def without(labels: Labels, names: Iterable[str]) -> Labels:
    """The labels that don't have these names."""
    return tuple(pair for pair in labels if pair[0] not in names)


def _only(labels: Labels, names: Iterable[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


# --- functions of single values -----------------------------------------------------------------


def _rounded(value: float, to: float = 1.0) -> float:
    # Halves go up, as Prometheus' do: Python's own rounding goes to the even number.
    inverse = _divided(1.0, to)
    scaled = value * inverse + 0.5
    return _divided(float(math.floor(scaled)) if math.isfinite(scaled) else scaled, inverse)


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda value: float(function(value)) if math.isfinite(value) else value


def _defined(function: Callable[..., float]) -> Callable[..., float]:
    """NaN where a function has no value."""

    def of(*values: float) -> float:
        try:
            return function(*values)
        except ValueError:
            return math.nan

    return of


def _divided(value: float, by: float) -> float:
    # Python raises where IEEE 754 has an answer.
    if by:
        return value / by
    return math.nan if not value or math.isnan(value) else math.copysign(math.inf, value) * math.copysign(1.0, by)


def _clamped(value: float, least: float, most: float) -> float | None:
    # Of a turned range Prometheus gives no value.
    return None if most < least else max(least, min(most, value))


ELEMENTWISE: Mapping[str, Callable[..., float | None]] = {
    "abs": abs,
    "ceil": _whole(math.ceil),
    "clamp": _clamped,
    "clamp_max": lambda value, most: min(most, value),
    "clamp_min": lambda value, least: max(least, value),
    "floor": _whole(math.floor),
    "round": _rounded,
    "sqrt": _defined(math.sqrt),
}

ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
    "%": _defined(math.fmod),
}
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _average(values: list[float]) -> float:
    mean = values[0]
    for number, value in enumerate(values[1:], 2):
        # Prometheus' own way of adding up, so that the last digit is the same.
        mean += value / number - mean / number
    return mean


AGGREGATIONS: Mapping[str, Callable[[list[float]], float]] = {
    "avg": _average,
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
    "max": max,
    "min": min,
    "sum": lambda values: reduce(operator.add, values),  # the builtin one compensates from Python 3.12 on
}


# --- expressions --------------------------------------------------------------------------------


class Evaluator:
    """Evaluates expressions over ``series`` at the instants of ``grid``; what they have in common is computed once."""

    def __init__(self, series: Mapping[Labels, Samples], grid: Grid) -> None:
        self._grid = grid
        self._found: dict[str, Vector | Column] = {}
        # In the order of their labels, in which Prometheus' blocks have them: floats are added up in that order.
        self._series = sorted(series.items(), key=lambda one: one[0])

    def vector(self, expression: str) -> Vector:
        """What it gives at all instants, series by series, a scalar as one without labels.

        Raises :class:`EvaluationError`.
        """
        try:
            found = self._value(promql_parser.parse(expression))
        except ValueError as error:
            raise EvaluationError(f"not PromQL: {error}") from None
        return {(): found} if isinstance(found, Column) else found

    def _value(self, node: Any) -> Vector | Column:
        # By its text: rules repeat their parts, as the number of images in a share and in its condition.
        text = node.prettify()
        if text not in self._found:
            self._found[text] = self._of(node)
        return self._found[text]

    def _vector(self, node: Any) -> Vector:
        found = self._value(node)
        if isinstance(found, Column):
            raise EvaluationError(f"not a vector: {node.prettify()}")
        return found

    def _scalar(self, node: Any) -> Column:
        found = self._value(node)
        if isinstance(found, Column):
            return found
        raise EvaluationError(f"not a scalar: {node.prettify()}")

    @singledispatchmethod
    def _of(self, node: Any) -> Vector | Column:
        raise EvaluationError(f"{type(node).__name__} isn't evaluated here: {node.prettify()}")

    @_of.register
    def _(self, node: NumberLiteral) -> Column:
        return Column([0], [node.val])

    @_of.register
    def _(self, node: ParenExpr) -> Vector | Column:
        return self._value(node.expr)

    @_of.register
    def _(self, node: UnaryExpr) -> Vector | Column:
        return self._elementwise(operator.neg, node.expr)

    @_of.register
    def _(self, node: VectorSelector) -> Vector:
        offset_ms, grid, vector = _milliseconds(node.offset), self._grid, {}
        for labels, samples in self._selected(node):
            # None until the first sample, and between one that is too old and the next.
            column = vector[labels] = Column([0], [None])
            ends = [*samples.firsts[1:], *(last + LOOKBACK_MS + 1 for last in samples.lasts[-1:])]
            for first, last, following, value in zip(samples.firsts, samples.lasts, ends, samples.values, strict=True):
                begin = grid.first_from(first + offset_ms)
                # A value lasts until the next sample, five minutes after its own at the most.
                end = grid.first_from(min(following, last + LOOKBACK_MS + 1) + offset_ms)
                if begin < end:
                    column.append(begin, value)
                    if end < grid.count:
                        column.append(end, None)
        return vector

    @_of.register
    def _(self, node: AggregateExpr) -> Vector:
        aggregate = AGGREGATIONS.get(str(node.op))
        if aggregate is None or node.param is not None:
            raise EvaluationError(f"the aggregation {node.op} isn't evaluated here: {node.prettify()}")
        names = tuple(node.modifier.labels) if node.modifier else ()
        excludes = node.modifier is not None and node.modifier.type == AggModifierType.Without
        groups: dict[Labels, list[Column]] = {}
        for labels, column in self._vector(node.expr).items():
            # No aggregate bears a metric's name: it is of none any more.
            group = without(labels, (*names, NAME)) if excludes else _only(labels, names)
            groups.setdefault(group, []).append(column)

        def of_present(values: list[float | None]) -> float | None:
            present = _present(values)
            return aggregate(present) if present else None

        return {labels: combined(columns, of_present) for labels, columns in groups.items()}

    @_of.register
    def _(self, node: Call) -> Vector | Column:
        name, arguments = node.func.name, node.args
        if name in ELEMENTWISE:
            return self._elementwise(ELEMENTWISE[name], *arguments)
        if name in OVER_TIME:
            return self._over_time(OVER_TIME[name], arguments[0])
        if name == "time":
            # Alone in that it differs at each instant: its column has as many values.
            instants = range(self._grid.count)
            return Column(list(instants), [self._grid.at(index) / 1000 for index in instants])
        if name == "vector":
            return {(): self._scalar(arguments[0])}
        if name == "scalar":
            # A column that is never there stands for a vector that is empty.
            columns = [Column([0], [None]), *self._vector(arguments[0]).values()]
            return combined(columns, lambda values: _present(values)[0] if len(_present(values)) == 1 else math.nan)
        # Refused by name, so that a rule can't be judged by half of what it asks.
        if name not in ("absent", "absent_over_time"):
            raise EvaluationError(f"the function {name} isn't evaluated here: {node.prettify()}")
        if name == "absent":
            found = self._vector(arguments[0])
        else:
            found = self._over_time(OVER_TIME["present_over_time"], arguments[0])
        columns = [Column([0], [None]), *found.values()]
        return {_asked_for(arguments[0]): combined(columns, lambda values: None if _present(values) else 1.0)}

    @_of.register
    def _(self, node: BinaryExpr) -> Vector | Column:
        left, right = self._value(node.lhs), self._value(node.rhs)
        if isinstance(left, Column) and isinstance(right, Column):
            return combined((left, right), _where_both_are(_operation(node)))
        matching = Matching.of(node)
        if not isinstance(left, Column) and not isinstance(right, Column):
            return matching.sets(left, right) if str(node.op) in _SETS else matching.pairs(left, right)
        vector: Vector = {}
        if isinstance(left, Column):
            operation = _where_both_are(_operation(node, kept=1))
            found = {labels: combined((left, column), operation) for labels, column in self._vector(node.rhs).items()}
        else:
            operation = _where_both_are(_operation(node))
            found = {labels: combined((column, self._scalar(node.rhs)), operation) for labels, column in left.items()}
        for labels, column in found.items():
            put(vector, matching.named(labels), column)
        return vector

    def _elementwise(self, function: Callable[..., float | None], node: Any, *parameters: Any) -> Vector | Column:
        others = [self._scalar(parameter) for parameter in parameters]

        def of_all(values: list[float | None]) -> float | None:
            return None if values[0] is None else function(*values)

        found = self._value(node)
        if isinstance(found, Column):
            return combined([found, *others], of_all)
        vector: Vector = {}
        for labels, column in found.items():
            put(vector, without(labels, (NAME,)), combined([column, *others], of_all))
        return vector

    def _over_time(self, function: OverTime, node: Any) -> Vector:
        matrix = _unwrapped(node)
        if not isinstance(matrix, MatrixSelector):
            raise EvaluationError(f"a subquery isn't evaluated here: {node.prettify()}")
        spans = (_milliseconds(matrix.range), _milliseconds(matrix.vector_selector.offset))
        vector: Vector = {}
        for labels, samples in self._selected(matrix.vector_selector):
            named = labels if function.keeps_name else without(labels, (NAME,))
            put(vector, named, over_time(samples, function, *spans, self._grid))
        return vector

    def _selected(self, node: VectorSelector) -> Iterator[tuple[Labels, Samples]]:
        if node.at is not None:
            raise EvaluationError(f"@ isn't evaluated here: {node.prettify()}")
        tests = [(matcher.name, _test(matcher)) for matcher in node.matchers.matchers]
        for labels, samples in self._series:
            values = dict(labels)
            if node.name in (None, values[NAME]) and all(test(values.get(name, "")) for name, test in tests):
                yield labels, samples


def _test(matcher: Any) -> Callable[[str], bool]:
    if matcher.op in (MatchOp.Equal, MatchOp.NotEqual):
        return partial(operator.eq if matcher.op == MatchOp.Equal else operator.ne, matcher.value)
    matches = re.compile(matcher.value).fullmatch
    return lambda value: (matches(value) is not None) == (matcher.op == MatchOp.Re)


def _milliseconds(span: timedelta | None) -> int:
    return 0 if span is None else span // timedelta(milliseconds=1)


def _unwrapped(node: Any) -> Any:
    while isinstance(node, ParenExpr):
        node = node.expr
    return node


def _asked_for(node: Any) -> Labels:
    """The labels that a selector demands, each by one equality: what is absent bears them."""
    node = _unwrapped(node)
    node = node.vector_selector if isinstance(node, MatrixSelector) else node
    if not isinstance(node, VectorSelector):
        return ()
    found: dict[str, str | None] = {}
    for matcher in node.matchers.matchers:
        is_first = matcher.op == MatchOp.Equal and matcher.name not in found
        # A label that is asked for twice has no one value.
        found[matcher.name] = matcher.value if is_first else None
    return tuple(sorted((name, value) for name, value in found.items() if value and name != NAME))


# --- operators ----------------------------------------------------------------------------------

_SETS = ("and", "or", "unless")


def _operation(node: BinaryExpr, kept: int = 0) -> Callable[[float, float], float | None]:
    """What an operator makes of two values; a comparison that filters keeps one of them."""
    name = str(node.op)
    if name in ARITHMETIC:
        return ARITHMETIC[name]
    compare = COMPARISONS.get(name)
    if compare is None:
        raise EvaluationError(f"the operator {name} isn't evaluated here: {node.prettify()}")
    if node.modifier is not None and node.modifier.return_bool:
        return lambda left, right: float(compare(left, right))
    return lambda left, right: (left, right)[kept] if compare(left, right) else None


def _where_both_are(operation: Callable[[float, float], float | None]) -> Callable[[list[float | None]], float | None]:
    return lambda values: None if values[0] is None or values[1] is None else operation(values[0], values[1])


class Matching(Struct, frozen=True):
    """Which series an operator between two vectors puts together, and what the result's labels are."""

    node: BinaryExpr
    names: tuple[str, ...]
    is_on: bool
    included: tuple[str, ...]
    card: Any

    @classmethod
    def of(cls, node: BinaryExpr) -> Matching:
        """As the expression says."""
        modifier = node.modifier
        matching = modifier.matching if modifier is not None else None
        return cls(
            node,
            tuple(matching.labels) if matching is not None else (),
            matching is not None and matching.type == LabelModifierType.Include,
            tuple(modifier.group_labels or ()) if modifier is not None else (),
            modifier.card if modifier is not None else VectorMatchCardinality.OneToOne,
        )

    def signature(self, labels: Labels) -> Labels:
        """What two series must have in common."""
        return _only(labels, self.names) if self.is_on else without(labels, (*self.names, NAME))

    def by_signature(self, vector: Vector) -> dict[Labels, Vector]:
        """The series that have the same in common with others."""
        found: dict[Labels, Vector] = {}
        for labels, column in vector.items():
            found.setdefault(self.signature(labels), {})[labels] = column
        return found

    def named(self, labels: Labels) -> Labels:
        """What a filtered series still is, a computed one is not any more: the metric."""
        is_filter = str(self.node.op) in COMPARISONS and not (self.node.modifier and self.node.modifier.return_bool)
        return labels if is_filter else without(labels, (NAME,))

    def sets(self, left: Vector, right: Vector) -> Vector:
        """``and``, ``or``, ``unless``."""
        name = str(self.node.op)
        # Of "or" the left side is whole, and the right fills what it leaves.
        kept, asked = (right, left) if name == "or" else (left, right)
        others = self.by_signature(asked)

        def of_all(values: list[float | None]) -> float | None:
            return values[0] if bool(_present(values[1:])) == (name == "and") else None

        vector = dict(left) if name == "or" else {}
        for labels, column in kept.items():
            there = others.get(self.signature(labels), {}).values()
            put(vector, labels, combined([column, *there], of_all))
        return vector

    def pairs(self, left: Vector, right: Vector) -> Vector:
        """Arithmetic and comparisons of the series that belong together."""
        operation = _where_both_are(_operation(self.node))
        # group_right: many stand on the right.
        is_flipped = self.card == VectorMatchCardinality.OneToMany
        many, ones = (right, left) if is_flipped else (left, right)
        partners = self.by_signature(ones)
        vector: Vector = {}
        for together in partners.values():
            combined(list(together.values()), _either)  # of two at one instant, neither is the one
        for labels, column in many.items():
            for partner, its_column in partners.get(self.signature(labels), {}).items():
                pair = (its_column, column) if is_flipped else (column, its_column)
                put(vector, self.result(labels, partner), combined(pair, operation))
        return vector

    def result(self, labels: Labels, partner: Labels) -> Labels:
        """The labels of what two series make."""
        labels = self.named(labels)
        if self.card == VectorMatchCardinality.OneToOne:
            return _only(labels, self.names) if self.is_on else without(labels, self.names)
        return tuple(sorted((*without(labels, self.included), *_only(partner, self.included))))
