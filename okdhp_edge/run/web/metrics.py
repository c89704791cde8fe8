"""The run's numbers in Prometheus' text format."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "render_metrics"]

_COUNTER_HELP = {
    "captured": "Frames captured from the source.",
    "frames": "Frames processed.",
    "found": "Frames with at least one person.",
    "dropped": "Frames of a live source replaced by a newer one before processing.",
}
_SENSOR_HELP = {
    "celsius": "Hottest thermal zone.",
    "mhz": "Mean clock frequency of the cores.",
    "throttled": "Thermal throttling events since the machine started.",
}


class _Numbers(Collector):
    def __init__(self, numbers: dict[str, Any]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        for key, help_text in _COUNTER_HELP.items():
            family = CounterMetricFamily(f"okdhp_edge_{key}", help_text, labels=["source"])
            for source in self._numbers["sources"]:
                family.add_metric([source["name"]], source.get(key, 0))
            yield family
        yield from self._make_gauges()
        yield GaugeMetricFamily(
            "okdhp_edge_viewers", "Image streams being watched.", self._numbers["viewers"]
        )
        for key, value in self._numbers["sensors"].items():
            yield GaugeMetricFamily(f"okdhp_edge_{key}", _SENSOR_HELP[key], value)

    def _make_gauges(self) -> Iterator[Metric]:
        """Of the last two seconds."""
        rate = GaugeMetricFamily("okdhp_edge_fps", "Recent frames per second.", labels=["source"])
        people = GaugeMetricFamily("okdhp_edge_people", "People in view.", labels=["source"])
        age = GaugeMetricFamily(
            "okdhp_edge_frame_age_seconds", "Recent time from capture to poses.",
            labels=["source", "quantile"],
        )  # fmt: skip
        stage = GaugeMetricFamily(
            "okdhp_edge_stage_seconds", "Recent mean time of a stage.", labels=["source", "stage"]
        )
        for source in self._numbers["sources"]:
            rate.add_metric([source["name"]], source["fps"])
            people.add_metric([source["name"]], source["people"])
            for key, quantile in (("p50", "0.5"), ("p95", "0.95")):
                if source["age_ms"]:
                    age.add_metric([source["name"], quantile], source["age_ms"][key] / 1e3)
            for name, ms in source["stages_ms"].items():
                stage.add_metric([source["name"], name], ms / 1e3)
        yield from (rate, people, age, stage)


def render_metrics(numbers: dict[str, Any]) -> bytes:
    """The text of `/metrics`.

    Args:
        numbers: of `Hub.get_numbers`.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    return generate_latest(registry)
