"""The bench of simulated against real vLLM: what is played, what is simulated for it, and what counts as an error."""

import json
from pathlib import Path
from typing import Any

import pytest
from live_vllm.comparing import figures, overhead_s
from live_vllm.load import Lengths, as_served, at_rate, drawn, spaced, write_trace
from live_vllm.steps import Both

from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.trace import TraceFile


def test_a_load_is_the_same_requests_at_another_rate() -> None:
    slow, fast = drawn(200, seed=1), at_rate(drawn(200, seed=1), 4.0)
    assert [(r.prompt_tokens, r.output_tokens) for r in slow] == [
        (r.prompt_tokens, r.output_tokens) for r in fast
    ]
    assert fast[-1].arrival_s == pytest.approx(slow[-1].arrival_s / 4)
    assert 150 < slow[-1].arrival_s < 260
    assert max(r.prompt_tokens for r in slow) <= Lengths().most_prompt
    assert [r.arrival_s for r in spaced(slow[:3], 1.5)] == [0.0, 1.5, 3.0]


def test_what_was_served_is_simulated(tmp_path: Path) -> None:
    """Prompts have the lengths that the engine counted, and come when they were sent, in that order."""
    asked = [TraceRequest(0.0, 10, 5), TraceRequest(1.0, 20, 6)]
    records = tmp_path / "records.jsonl"
    lines = [
        {"index": 1, "prompt_tokens": 29, "sent_s": 1.004},
        {"index": 0, "prompt_tokens": 14, "sent_s": 0.002},
    ]
    records.write_text("\n".join(map(json.dumps, lines)))
    write_trace(tmp_path / "served.csv", as_served(asked, records))
    found = list(TraceFile(tmp_path / "served.csv"))
    assert [(r.prompt_tokens, r.output_tokens) for r in found] == [(14, 5), (29, 6)]
    assert [r.arrival_s for r in found] == pytest.approx([0.0, 1.002])


def test_an_engine_that_counts_no_prompts_cannot_be_simulated(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text('{"index": 0, "prompt_tokens": null, "sent_s": 0.0}')
    with pytest.raises(ValueError, match="did not count the prompt of request 0"):
        as_served([TraceRequest(0.0, 10, 5)], records)


def test_errors_are_of_what_was_measured_less_what_an_idle_engine_adds() -> None:
    idle = Both(report(0.110, 0.021, 0.500), report(0.100, 0.020, 0.480))
    overhead = overhead_s([idle])
    assert overhead == pytest.approx({"ttft_s": 0.010, "tpot_s": 0.001, "e2e_s": 0.020})
    busy = Both(report(0.210, 0.041, 1.020), report(0.220, 0.036, 1.0))
    found = {(one.name, one.statistic): one.error for one in figures("60%", [busy], overhead)}
    assert found["ttft_s", "mean"] == pytest.approx(0.10)
    assert found["tpot_s", "p90"] == pytest.approx(-0.10)
    assert found["e2e_s", "mean"] == pytest.approx(0.0)


def test_rounds_are_taken_together_and_told_one_by_one() -> None:
    """A machine that was slow in one round and fast in the next says nothing against the simulation."""
    rounds = [
        Both(report(0.090, 0.040, 1.0), report(0.100, 0.040, 1.0)),
        Both(report(0.110, 0.040, 1.0), report(0.100, 0.040, 1.0)),
    ]
    ttft = next(iter(figures("30%", rounds, overhead_s([Both(NOTHING, NOTHING)]))))
    assert ttft.error == pytest.approx(0.0)
    assert ttft.errors == pytest.approx((1 / 9, -1 / 11))


def report(ttft_s: float, tpot_s: float, e2e_s: float) -> dict[str, Any]:
    times = {"ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": e2e_s}
    return {name: {"mean": time_s, "p90": time_s} for name, time_s in times.items()}


NOTHING = report(0.0, 0.0, 0.0)
