"""Predicted answer lengths for simulated requests: none, the mean, the truth, the truth with noise, or those of a file.

Noise is meant by what it does to an order: `noisy:TAU` draws predictions whose Kendall rank correlation with the truth
(tau-b, which ties lower) is TAU. How strong the noise must be for that depends on the lengths, so it is measured on the
workload's first requests with the very noise that they get: see `calibrated_deviation`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Protocol

import numpy as np

from pointsman.sim.workload.predictions import SUFFIXES, is_predictions
from pointsman.sim.workload.request import TraceRequest, Workload

MOST_SAMPLED = 100_000
"""Requests of a workload whose lengths are looked at for their mean."""
MOST_RANKED = 2_000
"""Requests that noise is calibrated on; each is compared with each."""
MOST_PREDICTED_TOKENS = 1 << 30
STRONGEST_NOISE = 64.0
HALVINGS = 16
"""Of the range in which the noise is sought: to a thousandth of a standard deviation."""


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
        return _with_noise(request.output_tokens, self.rng.gauss(0.0, self.deviation))


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
        return MeanPredictor(round(_mean_tokens(workload)))
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
    lengths = [request.output_tokens for request in islice(workload, MOST_RANKED)]
    return NoisyPredictor(calibrated_deviation(lengths, tau, seed), Random(seed))


def calibrated_deviation(lengths: Sequence[int], tau: float, seed: int) -> float:
    """The standard deviation of the noise on log lengths with which predictions of `lengths` have Kendall's `tau`.

    Found by halving, for tau falls as noise grows. Whoever draws from `Random(seed)` in the order of `lengths` gets exactly
    this tau; other lengths of the same law get it but for the luck of the draw (0.01 with some thousands).
    """
    rng = Random(seed)
    standard = [rng.gauss(0.0, 1.0) for _ in lengths]
    truth = np.array(lengths, dtype=np.int64)
    least, most = 0.0, STRONGEST_NOISE
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        noisy = [_with_noise(tokens, middle * z) for tokens, z in zip(lengths, standard, strict=True)]
        if kendall_tau(truth, np.array(noisy, dtype=np.int64)) > tau:
            least = middle
        else:
            most = middle
    return least


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two rows of numbers, by comparing each pair (Kendall, Rank Correlation Methods, 1948).

    0 where one of the rows says nothing about an order.
    """
    first_above = first[:, None] > first[None, :]
    second_above = second[:, None] > second[None, :]
    concordant = int(np.count_nonzero(first_above & second_above))
    discordant = int(np.count_nonzero(first_above & (second[:, None] < second[None, :])))
    ordered = int(np.count_nonzero(first_above)) * int(np.count_nonzero(second_above))
    return (concordant - discordant) / math.sqrt(ordered) if ordered else 0.0


def _with_noise(tokens: int, noise: float) -> int:
    return max(1, round(min(tokens * math.exp(noise), MOST_PREDICTED_TOKENS)))


def _mean_tokens(workload: Workload) -> float:
    lengths = [request.output_tokens for request in islice(workload, MOST_SAMPLED)]
    return sum(lengths) / len(lengths) if lengths else 0.0
