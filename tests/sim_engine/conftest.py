"""A small engine whose times are easy to add up: 1 ms + 1 us per prefill token + 10 us per decoding sequence."""

import pytest

from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost


@pytest.fixture
def profile() -> EngineProfile:
    return EngineProfile(
        name="toy",
        model="toy",
        engine="toy",
        accelerator="toy",
        accelerator_class=AcceleratorClass.A100,
        tensor_parallel=1,
        cost=IterationCost(t0_ps=1_000_000_000, tp_ps=1_000_000, ta_ps=10, tb_ps=10_000_000, tc_ps=1_000),
        kv_capacity_tokens=4096,
        kv_bytes_per_token=1000,
        transfer_bytes_per_s=1e9,
        block_size=16,
    )
