"""`/metrics` of the viewer: the newest plans of its stores, in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.view.runs import newest_plans
from tasks.reporting.metric_points import METRICS, plan_points
from tasks.viewing.library import Library

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PLAN_LABELS = ("store", "plan", "recipe")


class _Plans(Collector):
    """Reads the plans when it is asked."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def collect(self) -> Iterator[Metric]:
        """Every metric, with the values of each plan."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in METRICS:
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            name = metric.name.replace(".", "_")
            families[metric.name] = make(name, metric.help, labels=[*_PLAN_LABELS, *metric.labels])
        for store in self._library.stores:
            for state in newest_plans(store.url):
                of_plan = [store.place(""), state["plan_id"], state["recipe"] or ""]
                for point in plan_points(state):
                    families[point.metric.name].add_metric([*of_plan, *point.labels], point.value)
        yield from families.values()


def metrics_text(library: Library) -> bytes:
    """The metrics of the stores' newest plans."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Plans(library))
    return generate_latest(registry)
