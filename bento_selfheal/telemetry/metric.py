"""What a metric is: its names, its unit, and where its value is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

Kind = Literal["gauge", "counter", "updowncounter"]


@dataclass(frozen=True)
class Metric:
    """One metric: its OpenTelemetry name, unit and meaning, and its place in the status."""

    name: str
    unit: str
    description: str
    path: tuple[str, ...] = ()
    kind: Kind = "gauge"
    attribute: str = ""
    """The attribute that tells its values apart, if it has several."""

    @property
    def prometheus(self) -> str:
        """Its name on ``/metrics``, by OpenTelemetry's rules for Prometheus."""
        ratio = self.unit == "1" and self.kind == "gauge"
        suffix = "_ratio" if ratio else "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + suffix + "_total" * (self.kind == "counter")

    @property
    def label(self) -> str:
        """Its attribute as a label on ``/metrics``."""
        return self.attribute.rpartition(".")[2]

    def observe(
        self, meter: Meter, read: Callable[[CallbackOptions], Iterable[Observation]]
    ) -> None:
        """Let OpenTelemetry read it when it collects."""
        make = {
            "gauge": meter.create_observable_gauge,
            "counter": meter.create_observable_counter,
            "updowncounter": meter.create_observable_up_down_counter,
        }[self.kind]
        make(self.name, callbacks=[read], unit=self.unit, description=self.description)
