"""The operator's own Prometheus metrics, `pointsman_operator_*`."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman.controller.applying import Outcome
from pointsman.controller.items import Kind
from pointsman.kube.cache import Cache
from pointsman.kube.client import Call
from pointsman.kube.resource import Object

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WRITES = frozenset({"create", "update", "patch", "delete"})


class OperatorMetrics:
    """Counts as things happen; what can be read off is read when somebody scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._reconciles = Counter(
            "pointsman_operator_reconciles",
            "Passes over one object, by how they ended: ok, refused, error or fault.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "pointsman_operator_reconcile_seconds",
            "Duration of a pass, API calls included.",
            ["kind"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waits = Histogram(
            "pointsman_operator_queue_seconds",
            "How long an object was due before its pass began.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._calls = Counter(
            "pointsman_operator_api_calls",
            "Calls to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._writes = Counter(
            "pointsman_operator_writes",
            "Writes that the API server accepted.",
            ["verb", "resource"],
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "pointsman_operator_api_call_seconds",
            "Duration of calls to the API server; of watches, until they had begun.",
            ["verb"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def called(self, call: Call) -> None:
        resource = f"{call.resource.plural}/{call.subresource}" if call.subresource else call.resource.plural
        self._calls.labels(call.verb, resource, str(call.status)).inc()
        self._call_seconds.labels(call.verb).observe(call.duration_s)
        if call.verb in WRITES and 200 <= call.status < 300:
            self._writes.labels(call.verb, resource).inc()

    def reconciled(self, kind: Kind, outcome: Outcome, duration_s: float, waited_s: float) -> None:
        self._reconciles.labels(kind.value, _how(outcome)).inc()
        self._durations.labels(kind.value).observe(duration_s)
        self._waits.observe(waited_s)

    def read_off(
        self,
        caches: Iterable[Cache[Object]],
        *,
        queue: Callable[[], int],
        leads: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """What is read at each scrape."""
        self.registry.register(_Live(tuple(caches), queue, leads, clock))


class _Live(Collector):
    def __init__(
        self,
        caches: tuple[Cache[Object], ...],
        queue: Callable[[], int],
        leads: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._caches = caches
        self._queue = queue
        self._leads = leads
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "pointsman_operator_leader", "1 for the replica that reconciles.", value=float(self._leads())
        )
        yield GaugeMetricFamily(
            "pointsman_operator_queue", "Objects that are due to be reconciled.", value=float(self._queue())
        )
        now_s = self._clock()
        gauges: tuple[tuple[str, str, Callable[[Cache[Object]], float]], ...] = (
            ("objects", "Objects known.", lambda cache: float(len(cache))),
            (
                "age_seconds",
                "Since the API server was last heard of this kind.",
                lambda cache: cache.age_s(now_s),
            ),
            (
                "listed_age_seconds",
                "Since all objects were last compared with a list.",
                lambda cache: cache.listed_age_s(now_s),
            ),
        )
        for name, text, read in gauges:
            gauge = GaugeMetricFamily(f"pointsman_operator_cache_{name}", text, labels=["resource"])
            for cache in self._caches:
                gauge.add_metric([cache.resource.plural], read(cache))
            yield gauge
        counters: tuple[tuple[str, str, Callable[[Cache[Object]], int]], ...] = (
            ("events", "Changes that watches told.", lambda cache: cache.counts.events),
            ("lists", "Lists taken.", lambda cache: cache.counts.lists),
            ("errors", "Lists and watches that failed.", lambda cache: cache.counts.errors),
            (
                "missed",
                "Changes that a list found and no watch had told.",
                lambda cache: cache.counts.invented,
            ),
        )
        for name, text, count in counters:
            counter = CounterMetricFamily(f"pointsman_operator_cache_{name}", text, labels=["resource"])
            for cache in self._caches:
                counter.add_metric([cache.resource.plural], count(cache))
            yield counter


def _how(outcome: Outcome) -> str:
    if outcome.fault:
        return "fault"
    if outcome.refused:
        return "refused"
    return "ok" if outcome.error is None else "error"
