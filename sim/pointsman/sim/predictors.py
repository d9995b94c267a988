"""Predicted answer lengths for simulated requests: none, the mean, the truth, the truth with noise, or those of a file.

Noise is meant by what it does to an order: `noisy:TAU` draws predictions whose Kendall rank correlation with the truth
is TAU in expectation. On log lengths with a standard deviation s that are near normal, adding normal noise of standard
deviation s * sqrt(1/r^2 - 1) gives a linear correlation r, and Kendall's tau of a bivariate normal law is
2/pi * asin(r) (Greiner's relation), so r = sin(pi/2 * TAU).
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

from pointsman.sim.workload.predictions import SUFFIXES, is_predictions
from pointsman.sim.workload.request import TraceRequest, Workload

MOST_SAMPLED = 100_000
"""Requests of a workload whose lengths are looked at for their mean and spread."""


class PredictorError(ValueError):
    """An unknown predictor; the message lists what there is."""


class Predictor(Protocol):
    """Expected output tokens of a request; 0: not known."""

    def predict(self, request: TraceRequest) -> int: ...


@dataclass(frozen=True, slots=True)
class NoPredictor:
    """Knows nothing."""

    def predict(self, request: TraceRequest) -> int:  # noqa: ARG002 - the protocol's
        return 0


@dataclass(frozen=True, slots=True)
class MeanPredictor:
    """The workload's own mean for all."""

    tokens: int

    def predict(self, request: TraceRequest) -> int:  # noqa: ARG002 - the protocol's
        return self.tokens


@dataclass(frozen=True, slots=True)
class OraclePredictor:
    """The truth."""

    def predict(self, request: TraceRequest) -> int:
        return request.output_tokens


@dataclass(frozen=True, slots=True)
class NoisyPredictor:
    """The truth times log-normal noise."""

    deviation: float
    rng: Random

    def predict(self, request: TraceRequest) -> int:
        return max(1, round(request.output_tokens * math.exp(self.rng.gauss(0.0, self.deviation))))


@dataclass(frozen=True, slots=True)
class GivenPredictor:
    """What the requests carry: see `Predicted`."""

    def predict(self, request: TraceRequest) -> int:
        return request.expected_output_tokens


def make_predictor(name: str, workload: Workload, seed: int) -> Predictor:
    """`none`, `mean`, `oracle`, `noisy:TAU`, or a file's name if the workload is `Predicted` by it. Raises PredictorError."""
    if is_predictions(name):
        return GivenPredictor()
    if name == "none":
        return NoPredictor()
    if name == "oracle":
        return OraclePredictor()
    if name == "mean":
        return MeanPredictor(round(_moments(workload)[0]))
    kind, _, value = name.partition(":")
    if kind != "noisy":
        raise PredictorError(
            f"unknown predictor {name!r}; there are none, mean, oracle, noisy:TAU and files ending in {', '.join(SUFFIXES)}"
        )
    try:
        tau = float(value)
    except ValueError:
        tau = math.nan
    if not 0 < tau <= 1:
        raise PredictorError(f"noisy:{value}: Kendall's tau must be above 0 and at most 1, as in noisy:0.54")
    correlation = math.sin(math.pi / 2 * tau)
    spread = _moments(workload)[1]
    return NoisyPredictor(spread * math.sqrt(max(0.0, correlation**-2 - 1)), Random(seed))


def _moments(workload: Workload) -> tuple[float, float]:
    """Mean of the output lengths, and standard deviation of their logarithms."""
    count, total, logs, squares = 0, 0, 0.0, 0.0
    for request in workload:
        count += 1
        total += request.output_tokens
        log = math.log(request.output_tokens)
        logs += log
        squares += log * log
        if count == MOST_SAMPLED:
            break
    if not count:
        return 0.0, 0.0
    mean = logs / count
    return total / count, math.sqrt(max(0.0, squares / count - mean * mean))
