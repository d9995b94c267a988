"""Metric families for Prometheus, and the metrics that only a simulated engine has."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pointsman.simengine.histogram import Histogram
from pointsman.simengine.instance import SimulatedInstance


def own_metrics(instance: SimulatedInstance) -> Iterator[Metric]:
    """What only a simulated engine has: its clock."""
    lateness = instance.lateness
    yield gauge("pointsman:engine_speed", "Virtual seconds per real second.", {}, instance.options.speed)
    yield gauge(
        "pointsman:engine_clock_lag_seconds",
        "How far the engine is behind its virtual clock now, in virtual seconds.",
        {},
        lateness.now_s,
    )
    yield gauge(
        "pointsman:engine_clock_lag_worst_seconds", "The most it was ever behind.", {}, lateness.worst_s
    )
    yield histogram(
        "pointsman:iteration_late_seconds",
        "How much later than its virtual clock says each iteration ended, in virtual seconds.",
        {},
        lateness.late,
        instance.started_s,
    )


def gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def counter(
    name: str, text: str, labels: Mapping[str, str], values: Mapping[tuple[str, ...], float], since_s: float
) -> Metric:
    """One counter; the keys of `values` replace the last label values."""
    family = CounterMetricFamily(name, text, labels=list(labels))
    for own, value in values.items():
        fixed = list(labels.values())[: len(labels) - len(own)]
        family.add_metric([*fixed, *own], value, created=since_s)
    return family


def histogram(name: str, text: str, labels: Mapping[str, str], values: Histogram, since_s: float) -> Metric:
    family = HistogramMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), values.cumulative(), values.sum)
    family.add_sample(f"{name}_created", dict(labels), since_s)
    return family
