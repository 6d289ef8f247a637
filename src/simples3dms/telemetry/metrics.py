"""Numbers as Prometheus reads them, in its text format: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that goes up and down: what it is, and its values, each by its labels."""

    name: str
    meaning: str
    values: Sequence[tuple[Mapping[str, str], float]]


class _Measured(Collector):
    """What was measured just now: the library asks for it once, to write it down."""

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = list(gauges)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauge in self._gauges:
            family = GaugeMetricFamily(gauge.name, gauge.meaning)
            for labels, value in gauge.values:
                family.add_sample(gauge.name, dict(labels), value)
            yield family


def render(gauges: Iterable[Gauge]) -> str:
    """All of them, in their order."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Measured(gauges))
    return generate_latest(registry).decode()
