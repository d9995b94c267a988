"""The router's own Prometheus metrics, `pointsman_*`.

A request touches its model's counters some ten times. They are plain integers and lists here, 0.1 to 0.3 us a touch
where a Prometheus child takes 0.4 to 0.8; families are built from them when somebody scrapes.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)
TOKEN_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.04,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
)
DECISION_SECONDS = (5e-6, 1e-5, 2e-5, 4e-5, 6e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3)
RELATIVE_ERRORS = (-0.75, -0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)

OTHER = "other"
SORTED_AT_ONCE = 512
MAX_OUTCOMES = 256
"""Different (code, reason) pairs kept per model; the vocabulary is fixed and smaller, this is the fence behind it."""

Source = Callable[[], Iterable[Metric]]
"""Families made on demand, from state that is somebody else's."""


class Histogram:
    """Counts per bucket, each up to and including its bound; the last is beyond all bounds.

    What is observed is sorted into the buckets by hundreds: one by one takes four times as long.
    """

    __slots__ = ("_observed", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self._observed: list[float] = []

    def observe(self, value: float) -> None:
        observed = self._observed
        observed.append(value)
        if len(observed) >= SORTED_AT_ONCE:
            self.sort()

    def sort(self) -> None:
        """Bring counts and total up to date."""
        observed = self._observed
        observed.sort()
        self.total += sum(observed)
        before = 0
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(observed, bound)
            self.counts[index] += upto - before
            before = upto
        self.counts[-1] += len(observed) - before
        observed.clear()

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as the exposition format wants them."""
        self.sort()
        cumulative, listed = 0, []
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            cumulative += count
            listed.append((bound, float(cumulative)))
        return listed


class ModelMetrics:
    """What happened to one model's requests. Times in seconds."""

    __slots__ = (
        "decision",
        "e2e",
        "in_flight",
        "itl",
        "outcomes",
        "output_tokens",
        "prompt_tokens",
        "queue",
        "retries",
        "token_error",
        "tpot",
        "ttft",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        self.outcomes: dict[tuple[int, str], int] = {}
        self.retries: dict[str, int] = {}
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.decision = Histogram(DECISION_SECONDS)
        self.queue = Histogram(SECONDS)
        self.ttft = Histogram(SECONDS)
        self.tpot = Histogram(TOKEN_SECONDS)
        self.itl = Histogram(TOKEN_SECONDS)
        self.e2e = Histogram(SECONDS)
        self.token_error = Histogram(RELATIVE_ERRORS)

    def arrived(self) -> None:
        """A request was read; `finished` must follow."""
        self.in_flight += 1

    def decided(self, seconds: float) -> None:
        """CPU time of one decision."""
        self.decision.observe(seconds)

    def started(self, queue_s: float) -> None:
        """A request was sent to an engine after waiting in the router's queue."""
        self.queue.observe(queue_s)

    def first_token(self, seconds: float) -> None:
        """Time from arrival to the first output token."""
        self.ttft.observe(seconds)

    def gap(self, seconds: float, tokens: int = 1) -> None:
        """Time since the last event of a stream, which brought so many tokens at once: the ITL of the first of them."""
        self.itl.observe(seconds)
        if tokens > 1:
            self.itl.counts[0] += tokens - 1

    def retried(self, reason: str) -> None:
        """Another attempt is made because of this failure."""
        count_bounded(self.retries, reason)

    def finished(self, code: int, reason: str, e2e_s: float, tpot_s: float | None = None) -> None:
        """The answer is complete, or has failed: HTTP status, and a word of the fixed vocabulary, empty for success."""
        self.in_flight -= 1
        outcome = (code, reason)
        outcomes = self.outcomes
        if outcome in outcomes:
            outcomes[outcome] += 1
        else:
            outcome = outcome if len(outcomes) < MAX_OUTCOMES else (code, OTHER)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        self.e2e.observe(e2e_s)
        if tpot_s is not None:
            self.tpot.observe(tpot_s)

    def counted(self, prompt_tokens: int, output_tokens: int) -> None:
        """What the engine said the request took."""
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens


def count_bounded(counts: dict[str, int], key: str) -> None:
    key = key if key in counts or len(counts) < MAX_OUTCOMES else OTHER
    counts[key] = counts.get(key, 0) + 1


_HISTOGRAMS: tuple[tuple[str, str, Callable[[ModelMetrics], Histogram]], ...] = (
    ("pointsman_ttft_seconds", "Arrival to first output token", lambda model: model.ttft),
    ("pointsman_tpot_seconds", "Mean time per output token after the first", lambda model: model.tpot),
    ("pointsman_itl_seconds", "Gap before each output token after the first", lambda model: model.itl),
    ("pointsman_e2e_seconds", "Arrival to the end of the answer", lambda model: model.e2e),
    ("pointsman_queue_seconds", "Time in the router's queue", lambda model: model.queue),
    ("pointsman_decision_seconds", "CPU time of a placement decision", lambda model: model.decision),
    (
        "pointsman_token_estimate_error",
        "Estimated prompt tokens over counted ones, minus 1",
        lambda model: model.token_error,
    ),
)


class RouterMetrics:
    """All of the router's metrics. Label values come from configuration and fixed vocabularies only."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = {name: ModelMetrics() for name in (*models, OTHER)}
        self._clamped: dict[str, int] = {}
        self._reloads = {"accepted": 0, "refused": 0}
        self._sources: list[Source] = []
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def model(self, name: str) -> ModelMetrics:
        """The metrics of a configured model; of all others together under the name `other`."""
        found = self._models.get(name)
        return found if found is not None else self._models[OTHER]

    def add_models(self, names: Iterable[str]) -> None:
        """Names that a new configuration brings. Old ones stay: counters never vanish while the process runs."""
        for name in names:
            self._models.setdefault(name, ModelMetrics())

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    def clamped(self, header: str) -> None:
        """A header asked for more than its tenant may have."""
        count_bounded(self._clamped, header)

    def estimate_error(self, model: str, error: float) -> None:
        """Relative error of a prompt's estimated tokens."""
        self.model(model).token_error.observe(error)

    def reloaded(self, *, accepted: bool) -> None:
        self._reloads["accepted" if accepted else "refused"] += 1

    async def exposition(self) -> bytes:
        """The text format, one family at a time, so that the loop never stands still for all of them."""
        pieces = []
        for metric in self._families():
            pieces.append(generate_latest(_Only(metric)))
            await asyncio.sleep(0)
        pieces.append(generate_latest(self._process))
        return b"".join(pieces)

    def _families(self) -> Iterator[Metric]:
        models = tuple(self._models.items())
        yield from self._counters(models)
        for name, text, of in _HISTOGRAMS:
            histogram = HistogramMetricFamily(name, text, labels=["model"])
            for model, metrics in models:
                observed = of(metrics)
                histogram.add_metric([model], observed.buckets(), observed.total)
            yield histogram
        for source in self._sources:
            yield from source()

    def _counters(self, models: Sequence[tuple[str, ModelMetrics]]) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "pointsman_requests", "Requests by status and reason", labels=["model", "code", "reason"]
        )
        retries = CounterMetricFamily(
            "pointsman_retries", "Attempts beyond a request's first", labels=["model", "reason"]
        )
        in_flight = GaugeMetricFamily(
            "pointsman_requests_in_flight", "Requests in the router", labels=["model"]
        )
        prompt = CounterMetricFamily("pointsman_prompt_tokens", "As counted by engines", labels=["model"])
        output = CounterMetricFamily("pointsman_output_tokens", "As counted by engines", labels=["model"])
        for model, metrics in models:
            for (code, reason), count in metrics.outcomes.items():
                requests.add_metric([model, str(code), reason], count)
            for reason, count in metrics.retries.items():
                retries.add_metric([model, reason], count)
            in_flight.add_metric([model], metrics.in_flight)
            prompt.add_metric([model], metrics.prompt_tokens)
            output.add_metric([model], metrics.output_tokens)
        clamped = CounterMetricFamily(
            "pointsman_clamped_headers",
            "Headers that asked beyond their tenant's ceilings",
            labels=["header"],
        )
        for header, count in self._clamped.items():
            clamped.add_metric([header], count)
        reloads = CounterMetricFamily(
            "pointsman_config_reloads", "New configurations read", labels=["result"]
        )
        for result, count in self._reloads.items():
            reloads.add_metric([result], count)
        yield from (requests, retries, in_flight, prompt, output, clamped, reloads)


class _Only(Collector):
    """Collects one family, made already."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
