"""Rates scale, copies share nothing, order is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.sim.workload.request import Extent, TraceRequest, measure_extent
from pointsman.sim.workload.scale import Cut, RateScaled

TRACE = [
    TraceRequest(0.0, 1024, 10, (0, 1), session_id="a", program_id="p"),
    TraceRequest(1.0, 1024, 11, (0, 2), session_id="b"),
    TraceRequest(4.0, 600, 12, (0, 3), session_id="a"),
    TraceRequest(9.0, 100, 13),
]


@pytest.mark.parametrize(("factor", "last_s"), [(1, 9.0), (4, 2.25), (0.5, 18.0)])
def test_up_to_four_times_is_one_copy_in_compressed_time(factor: float, last_s: float) -> None:
    scaled = list(RateScaled(TRACE, factor))
    assert len(scaled) == len(TRACE)
    assert scaled[-1].arrival_s == last_s
    assert [request.hash_ids for request in scaled] == [request.hash_ids for request in TRACE]
    assert [request.session_id for request in scaled] == ["a", "b", "a", ""]


@pytest.mark.parametrize(("factor", "copies"), [(4, 1), (4.1, 2), (8, 2), (9, 3), (100, 25)])
def test_beyond_four_times_copies_are_added(factor: float, copies: int) -> None:
    scaled = list(RateScaled(TRACE, factor))
    assert len(scaled) == copies * len(TRACE)
    rate = len(scaled) / (measure_extent(TRACE).period_s * copies / factor)
    assert rate == pytest.approx(factor * len(TRACE) / measure_extent(TRACE).period_s)


def test_copies_are_shifted_by_the_seed() -> None:
    once = list(RateScaled(TRACE, 8, seed=1))
    assert once == list(RateScaled(TRACE, 8, seed=1))
    assert once != list(RateScaled(TRACE, 8, seed=2))


def test_copies_keep_their_own_prefixes_sessions_and_programs() -> None:
    scaled = list(RateScaled(TRACE, 12, seed=3))
    for copy in range(3):
        lengths = sorted(r.output_tokens for r in scaled if r.session_id.startswith(f"{copy}/"))
        assert lengths == [10, 11, 12]
        first_blocks = {r.hash_ids[0] for r in scaled if r.session_id.startswith(f"{copy}/")}
        assert first_blocks == {copy}
    assert {r.program_id for r in scaled} == {"", "0/p", "1/p", "2/p"}


@given(
    gaps=st.lists(st.floats(0, 100), min_size=1, max_size=30),
    factor=st.floats(0.01, 40),
    seed=st.integers(0, 5),
)
def test_scaling_keeps_every_request_in_order_within_the_scaled_time(
    gaps: list[float], factor: float, seed: int
) -> None:
    arrival_s, trace = 0.0, []
    for index, gap_s in enumerate([0.0, *gaps]):
        arrival_s += gap_s
        trace.append(TraceRequest(arrival_s, 1 + index, 1))
    scaled_workload = RateScaled(trace, factor, seed)
    scaled = list(scaled_workload)
    arrivals = [request.arrival_s for request in scaled]
    assert arrivals == sorted(arrivals)
    period_s = measure_extent(trace).period_s * scaled_workload.copies / factor
    assert all(0 <= at <= period_s * (1 + 1e-9) for at in arrivals)
    assert sorted(r.prompt_tokens for r in scaled) == sorted(
        r.prompt_tokens for r in trace * scaled_workload.copies
    )


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_a_senseless_factor_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RateScaled(TRACE, factor)


def test_a_cut_takes_the_first_requests_after_scaling() -> None:
    assert list(Cut(RateScaled(TRACE, 8), 5)) == list(RateScaled(TRACE, 8))[:5]
    assert list(Cut(TRACE, None)) == TRACE
    assert measure_extent(Cut(TRACE, 3)) == Extent(3, 4.0, 3)
