"""Workloads of many clients, each with its own rate over the day, burstiness and lengths.

The form is that of ServeGen (Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model Serving
in Production", 2025): what a service sees is the sum of its clients, and each client is a renewal process whose rate
changes from window to window. Gaps are drawn with a mean of 1 in a client's own operational time, which passes as fast
as its rate says; so a gap may reach over windows, and a law that was fitted with another mean keeps its shape alone.

Prompt and answer lengths are drawn independently: their joint law is not published.
"""

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, islice
from operator import attrgetter

import numpy as np

from pointsman.sim.workload.request import TraceRequest


class GapLaw(StrEnum):
    """The family of a client's gaps between arrivals."""

    GAMMA = "Gamma"
    WEIBULL = "Weibull"


@dataclass(frozen=True, slots=True)
class Window:
    """Some minutes of one client's life, until its next window begins."""

    start_s: float
    requests_per_s: float
    law: GapLaw = GapLaw.GAMMA
    shape: float = 1.0
    """Of the gaps' law; 1 is Poisson, less is burstier."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Lengths in bins [edges[i], edges[i + 1]); within a bin all are equally likely."""

    edges: tuple[int, ...]
    cumulative: tuple[float, ...]
    """Share of lengths below the end of each bin; the last is 1."""

    @classmethod
    def of(cls, bins: Sequence[tuple[int, int, float]]) -> "Histogram":
        """From (first length, length after the last, weight), rising. Raises ValueError without any weight."""
        total = sum(weight for *_, weight in bins)
        if total <= 0:
            raise ValueError("a histogram needs a bin with a weight above 0")
        edges, shares = [bins[0][0]], [0.0]
        for low, high, weight in bins:
            if low > edges[-1]:  # nothing lies between
                edges.append(low)
                shares.append(0.0)
            edges.append(high)
            shares.append(weight / total)
        sums = list(accumulate(shares[1:]))
        return cls(tuple(edges), (*sums[:-1], 1.0))

    def length(self, share: float) -> int:
        """The length at this share, from 0 to below 1, of all."""
        index = bisect_right(self.cumulative, share)
        below = self.cumulative[index - 1] if index else 0.0
        low, high = self.edges[index], self.edges[index + 1]
        inside = (share - below) / (self.cumulative[index] - below)
        return min(high - 1, low + int(inside * (high - low)))

    @property
    def mean(self) -> float:
        total, below = 0.0, 0.0
        for index, share in enumerate(self.cumulative):
            total += (share - below) * (self.edges[index] + self.edges[index + 1] - 1) / 2
            below = share
        return total


@dataclass(frozen=True, slots=True)
class Lengths:
    """What a client asks and gets from a time on."""

    start_s: float
    prompt_tokens: Histogram
    output_tokens: Histogram


@dataclass(frozen=True, slots=True)
class Client:
    """One source of requests."""

    name: str
    windows: tuple[Window, ...]
    """In order of time, from 0; the last ends with the population's span."""
    lengths: tuple[Lengths, ...]
    """In order of time; the first holds before its start, too."""


@dataclass(frozen=True, slots=True)
class Population:
    """All clients of a service over a span of time."""

    name: str
    source: str
    span_s: float
    clients: tuple[Client, ...]

    def requests_per_s(self) -> float:
        """Mean over the span."""
        return sum(_expected(client, self.span_s) for client in self.clients) / self.span_s


def _expected(client: Client, span_s: float) -> float:
    """Requests in a span."""
    ends = [window.start_s for window in client.windows[1:]] + [span_s]
    return sum(
        window.requests_per_s * (end - window.start_s)
        for window, end in zip(client.windows, ends, strict=True)
    )


@dataclass(frozen=True, slots=True)
class ClientsWorkload:
    """`requests` requests of a population, which begins again when its span is over."""

    population: Population
    requests: int
    requests_per_s: float | None = None
    """Mean over the span; every client's rate is scaled alike. None: the population's own."""
    span_s: float | None = None
    """The whole span is squeezed or stretched to so many seconds, rates unchanged: a day's shape in an hour. None: as it was."""
    start_s: float = 0.0
    """Where in the (squeezed) span to begin."""
    seed: int = 0

    def request_count(self) -> int:
        return self.requests

    def __iter__(self) -> Iterator[TraceRequest]:
        population = self.population
        squeeze = (self.span_s or population.span_s) / population.span_s
        scale = 1.0 if self.requests_per_s is None else self.requests_per_s / population.requests_per_s()
        arrivals = [
            _Arrivals(client, population.span_s, squeeze, scale, self.start_s, (self.seed, number))
            for number, client in enumerate(population.clients)
            if any(window.requests_per_s > 0 for window in client.windows)
        ]
        merged = heapq.merge(*map(iter, arrivals), key=attrgetter("arrival_s"))
        first_s: float | None = None
        for request in islice(merged, self.requests):
            if first_s is None:
                first_s = request.arrival_s
            request.arrival_s -= first_s
            yield request


class _Arrivals:
    """One client's requests without end, in order of time. All times squeezed, all rates scaled."""

    __slots__ = ("_begin_s", "_client", "_ends_s", "_lengths_from_s", "_rates", "_rng")

    def __init__(
        self,
        client: Client,
        span_s: float,
        squeeze: float,
        scale: float,
        begin_s: float,
        seed: tuple[int, int],
    ) -> None:
        self._client = client
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self._ends_s = [window.start_s * squeeze for window in client.windows[1:]] + [span_s * squeeze]
        self._lengths_from_s = [lengths.start_s * squeeze for lengths in client.lengths[1:]]
        self._rates = [window.requests_per_s * scale for window in client.windows]
        self._begin_s = begin_s

    def __iter__(self) -> Iterator[TraceRequest]:
        ends_s, rates = self._ends_s, self._rates
        laps, at_s = divmod(self._begin_s, ends_s[-1])
        lap_s = laps * ends_s[-1]
        index = bisect_right(ends_s, at_s)
        left = self._gap(index) * self._rng.random()  # it begins somewhere within a gap
        while True:
            rate, room_s = rates[index], ends_s[index] - at_s
            if left <= rate * room_s:
                at_s += left / rate if left else 0.0
                yield self._request(lap_s + at_s, at_s)
                left = self._gap(index)
                continue
            left -= rate * room_s
            at_s = ends_s[index]
            index += 1
            if index == len(ends_s):
                index, at_s, lap_s = 0, 0.0, lap_s + ends_s[-1]

    def _gap(self, index: int) -> float:
        """Of mean 1."""
        window = self._client.windows[index]
        if window.law is GapLaw.WEIBULL:
            return self._rng.weibull(window.shape) / math.gamma(1 + 1 / window.shape)
        return self._rng.standard_gamma(window.shape) / window.shape

    def _request(self, arrival_s: float, in_span_s: float) -> TraceRequest:
        lengths = self._client.lengths[bisect_right(self._lengths_from_s, in_span_s)]
        prompt, output = self._rng.random(2).tolist()
        return TraceRequest(
            arrival_s,
            lengths.prompt_tokens.length(prompt),
            lengths.output_tokens.length(output),
            tenant=self._client.name,
        )
