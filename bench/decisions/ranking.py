"""Learning to rank (Fu et al., NeurIPS 2024): shortest predicted first, by how well predictions rank.

One engine that runs so many requests at once; the others wait in the router (late binding). Answer lengths are
those of Llama-3-8B-Instruct on AlpacaEval, drawn with replacement; a burst of 2,000, and Poisson arrivals.
Measured is the mean over requests of end-to-end time per output token, as in the paper.
"""

import csv
import gzip
import json
from pathlib import Path
from random import Random

from scipy.stats import kendalltau

from pointsman.cli.simulation import SimulationPlan
from pointsman.core.units import PS_PER_S
from pointsman.sim.predictors import make_predictor
from pointsman.sim.simulation.kernel import Simulation
from pointsman.sim.simulation.lives import Leg
from pointsman.sim.simulation.node import Node
from pointsman.sim.workload.request import measure_extent

REQUESTS = 2000
RATES = (8.0, 16.0, 24.0)
"""Requests per second; 0: all at once."""
TAUS = (0.24, 0.54, 0.74, 1.0)
MODEL = "Meta-Llama-3-8B-Instruct"
POOLS = "1xmixed:a100-llama3.1-8b"
AT_ONCE = 256
BOUND_S = 60.0
FOLDER = Path("build/decisions/ranking")
FILE = Path("bench/decisions/ranking.json")

Row = dict[str, float | str | int]


class PerToken(Simulation):
    """Sums, over requests, end-to-end time by output tokens, and keeps what was predicted."""

    total_s = 0.0
    worst_wait_s = 0.0
    predicted: list[tuple[int, int]]

    def _finished(self, leg: Leg, node: Node) -> None:
        life = leg.life
        self.total_s += (self._now_ps - life.arrived_ps) / PS_PER_S / life.output_tokens
        self.predicted.append((life.view.expected_output_tokens, life.output_tokens))
        self.worst_wait_s = max(self.worst_wait_s, (life.first_token_ps - life.arrived_ps) / PS_PER_S)
        super()._finished(leg, node)


def rank(data: Path, seed: int = 1) -> list[Row]:
    rows: list[Row] = []
    for rate in (0.0, *RATES):
        trace = _write(data, rate, seed)
        for order, predictor in _contestants():
            rows.append({"rate": rate, **_measure(trace, order, predictor, seed)})
            print(rows[-1], flush=True)
            FILE.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def _contestants() -> list[tuple[str, str]]:
    predictors = [f"noisy:{tau:g}" if tau < 1 else "oracle" for tau in TAUS]
    bounded = f"shortest_predicted:starvation_s={BOUND_S:g}"
    return [
        ("first_come", "none"),
        *((f"shortest_predicted:starvation_s={10**9}", predictor) for predictor in predictors),
        *((bounded, predictor) for predictor in ("noisy:0.54", "oracle")),
    ]


def _measure(trace: Path, order: str, predictor: str, seed: int) -> Row:
    plan = SimulationPlan(
        trace=str(trace),
        pools=POOLS,
        policy="least_requests",
        order=order,
        predictor=predictor,
        max_running=AT_ONCE,
        seed=seed,
    )
    workload = plan.workload()
    planned = measure_extent(workload).requests
    simulation = PerToken(workload, planned, make_predictor(predictor, workload, seed), plan.options())
    simulation.predicted = []
    result = simulation.run()
    pairs = simulation.predicted
    known = any(predicted for predicted, _ in pairs)
    return {
        "order": order,
        "predictor": predictor,
        "kendall_tau": round(float(kendalltau(*zip(*pairs, strict=True)).statistic), 3) if known else 0.0,
        "completed": len(pairs),
        "s_per_token": round(simulation.total_s / len(pairs), 4),
        "longest_wait_s": round(simulation.worst_wait_s, 1),
        "makespan_s": round(result.end_ps / PS_PER_S, 1),
    }


def _write(data: Path, rate: float, seed: int) -> Path:
    with gzip.open(data / "lengths" / "alpaca_eval.jsonl.gz", "rt", encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    lengths = [(row["prompt_tokens"], row["out"][MODEL][0]) for row in known if row["out"].get(MODEL)]
    rng = Random(seed)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"rate-{rate:g}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("timestamp_s", "prompt_tokens", "output_tokens"))
        at_s = 0.0
        for _ in range(REQUESTS):
            writer.writerow((f"{at_s:.6f}", *(max(1, tokens) for tokens in rng.choice(lengths))))
            at_s += rng.expovariate(rate) if rate else 0.0
    return path
