"""The generated workload has the statistics it states."""

import numpy as np
import pytest

from pointsman.sim.workload.generate import Generated
from pointsman.sim.workload.published import AZURE_CONVERSATION_2023

PUBLISHED = {
    # min, p50, p90, p99, max, mean of the 2023 conversation trace's first 15,460 requests
    "prompt_tokens": (2, 1014, 3840, 4127, 14050, 1180.38),
    "output_tokens": (7, 115, 421, 598, 1000, 201.19),
}


@pytest.mark.parametrize("column", PUBLISHED)
@pytest.mark.parametrize("seed", [0, 1])
def test_lengths_have_the_published_quantiles(column: str, seed: int) -> None:
    least, p50, p90, p99, most, mean = PUBLISHED[column]
    lengths = [getattr(request, column) for request in Generated(AZURE_CONVERSATION_2023, 15_460, seed)]
    assert least <= min(lengths)
    assert max(lengths) <= most
    assert np.mean(lengths) == pytest.approx(mean, rel=0.03)
    assert np.quantile(lengths, [0.5, 0.9, 0.99]) == pytest.approx([p50, p90, p99], rel=0.05)


def test_arrivals_have_the_published_rate_and_burstiness() -> None:
    arrivals = [request.arrival_s for request in Generated(AZURE_CONVERSATION_2023, 15_460, seed=2)]
    gaps = np.diff(arrivals)
    assert arrivals[0] == 0.0
    assert 1 / gaps.mean() == pytest.approx(5.887, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.075, rel=0.03)


def test_one_seed_is_one_workload_and_a_longer_one_begins_alike() -> None:
    once = list(Generated(AZURE_CONVERSATION_2023, 5_000, seed=3))
    assert once == list(Generated(AZURE_CONVERSATION_2023, 5_000, seed=3))
    assert once != list(Generated(AZURE_CONVERSATION_2023, 5_000, seed=4))
    assert len(once) == 5_000
