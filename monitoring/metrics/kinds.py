"""What a metric and a label are: the terms in which the catalogue declares them, and what follows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

from msgspec import Struct

from monitoring.records import coerce

ANALYSIS_MEASUREMENTS = (
    "leglength_analysis", "leglength_analysis_alarm", "leglength_analysis_alarms", "leglength_analysis_disk",
    "leglength_analysis_look",
)  # fmt: skip
"""InfluxDB's measurements of what the charts say: points with the time of the look at the store, and no session's;
of an alarm with the day on which the change began."""
OWN_MEASUREMENTS = (
    "leglength_monitoring", "leglength_monitoring_certificate", "leglength_monitoring_failure",
    "leglength_monitoring_loss", "leglength_monitoring_store",
)  # fmt: skip
"""InfluxDB's measurements of the monitoring's own state: points with the time of sending, and no session's."""


class Kind(StrEnum):
    """How a metric behaves in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Label(Struct, frozen=True):
    """A label and its values; ``closed`` ones take no others, open ones up to ``limit`` distinct others.

    ``form`` returns a value that an open label may take as it is, anything else changed or as None.
    """

    name: str
    values: tuple[str, ...]
    closed: bool = True
    limit: int = 0
    form: Callable[[Any], str | None] = coerce.metric_name


_NOTHING_DECLARED: Mapping[Label, Iterable[str]] = {}


class Metric(Struct, frozen=True):
    """One metric. ``measurement`` and ``field`` are its place in InfluxDB, None when it has none there.

    ``is_pushed`` is False for what belongs to one session alone: Prometheus, which knows the latest value, isn't told.
    Of a metric that says what is there (its value is 1), ``one_per`` names the labels for each of which the latest
    series alone is exported: an older version's must not stand beside the newer one's.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    measurement: str | None = None
    field: str | None = None
    buckets: tuple[float, ...] = ()
    source: str = "measured"
    is_pushed: bool = True
    one_per: tuple[Label, ...] | None = None

    @property
    def is_of_an_image(self) -> bool:
        """Whether its latest value tells of one image, and is the patient's."""
        # Counters and histograms are sums over everybody; versions, the monitoring itself and charts are nobody's.
        of_none = (None, *OWN_MEASUREMENTS, *ANALYSIS_MEASUREMENTS)
        return self.kind is Kind.GAUGE and self.one_per is None and self.measurement not in of_none

    def known_series(self, declared: Mapping[Label, Iterable[str]] = _NOTHING_DECLARED) -> Iterator[dict[str, str]]:
        """Every label combination that is known beforehand, to be exported at 0 from the first push.

        ``declared`` holds further values of open labels.
        """
        names = [label.name for label in self.labels]
        # Every combination: Prometheus can't see the step from nothing to one, so each must be there at 0 before.
        for values in product(*((*label.values, *declared.get(label, ())) for label in self.labels)):
            yield dict(zip(names, values, strict=True))
