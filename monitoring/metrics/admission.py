"""Holds what is emitted to the catalogue: what is outside of it is folded into ``other``, and counted.

A value outside a closed label's set, or a sample of a metric that isn't declared, is a fault of this package:
:data:`on_violation` lets tests fail on it. A host's further names beyond an open label's limit are no fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import OTHER, Label
from monitoring.metrics.samples import Sample

Admit = Callable[[Label, str], str]
"""Returns the value that the label takes: the given one where it is known or there is still room for it."""

on_violation: Callable[[str], None] | None = None
"""Called with what is at fault, a metric's name and label or a formula's place: tests set it, so that nothing hides."""


def admitted(samples: Iterable[Sample], admit: Admit) -> list[Sample]:
    """The samples as they may be sent, and one for each kind of value that was folded."""
    folded: Counter[str] = Counter()
    found = [_admitted(sample, admit, folded) for sample in samples]
    found += [Sample(catalogue.FOLDED, float(count), {"label": name}) for name, count in folded.items()]
    return found


def _admitted(sample: Sample, admit: Admit, folded: Counter[str]) -> Sample:
    if catalogue.BY_NAME.get(sample.metric.name) is not sample.metric:
        report(sample.metric.name)
        folded["metric"] += 1
        return Sample(catalogue.CUSTOM, sample.value, {catalogue.CUSTOM_NAME.name: OTHER})
    if not sample.labels and not sample.metric.labels:
        return sample
    labels = {label.name: _value(sample, label, admit, folded) for label in sample.metric.labels}
    return sample if labels == sample.labels else sample._replace(labels=labels)


def _value(sample: Sample, label: Label, admit: Admit, folded: Counter[str]) -> str:
    given = sample.labels.get(label.name, OTHER)
    value = admit(label, given)
    if label.closed and given not in label.values:
        report(f"{sample.metric.name}, label {label.name}")
    elif value == given:
        return value
    folded[label.name] += 1
    return value


def report(what: str) -> None:
    """Tell the tests of a fault of this package."""
    if on_violation is not None:
        on_violation(what)
