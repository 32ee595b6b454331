"""What every server that speaks InfluxDB's write protocol offers to the contract tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

FieldValue = float | int | bool | str


@dataclass(frozen=True)
class Point:
    """One stored point as the server tells it back."""

    tags: dict[str, str]
    fields: dict[str, FieldValue] = field(default_factory=dict)
    time_ns: int = 0


class PointServer(Protocol):
    """A running server that points can be written to and read back from.

    They differ in what they keep of a point: `as_kept` tells, so that one test can expect the right thing of
    each.
    """

    time_step_ns: int

    @property
    def url(self) -> str:
        """Where a client reaches the server."""
        ...

    def write_settings(self) -> dict[str, Any]:
        """The `influxdb` section of the module's settings: url, token, org, bucket and api."""
        ...

    def as_kept(self, point: Point) -> Point:
        """What `read_points` will tell back of a point that was written."""
        ...

    def read_points(self, measurement: str) -> list[Point]:
        """All points of a measurement, oldest first."""
        ...

    def start(self) -> Any:
        """Start again after an outage."""
        ...

    def stop(self) -> None:
        """Begin an outage."""
        ...

    def kill(self) -> None:
        """Begin an outage without warning."""
        ...
