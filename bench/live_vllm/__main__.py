"""Profiles a real vLLM on the CPU from outside, replays a load on it, and simulates the same with the profile.

    make bench-live-vllm ARGS="[--model small|tiny] [--rounds N] [--requests N] [--loads X,X,...] [--out FILE] [--plot FILE]"

Capacity is what the engine gets done per second when all requests are there at once. Each load is Poisson at a share of
it. What a request takes longer on the idle engine than in the simulation is measured, stated, and subtracted.

A machine that is shared is now faster and now slower, for minutes on end, by more than is asked of the simulation. So profile
and loads are measured in turns, some rounds of them, with one profile fitted to the points of all rounds.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from live_vllm import load
from live_vllm.comparing import WANTED, Figure, figures, overhead_s, table
from live_vllm.engine import EngineLimits, running
from live_vllm.plot import draw
from live_vllm.steps import Bench, Both, Played
from pointsman.api.profile import load_profile_file
from pointsman.sim.workload.request import TraceRequest
from realengine.environment import VLLM, UnavailableError, ensure

EX_TEMPFAIL = 75
SEED = 7
IDLE, AT_ONCE = "idle", "at-once"
IDLE_REQUESTS = 20
IDLE_GAP_S = 1.0
GRID = {
    "prompts": "6,12,24,48,72,96,120,150",
    "batches": "1,2,4,8,16,24,32",
    "contexts": "40,300",
    "joining": "12,48,90,130",
    "output-tokens": "32",
}
"""Words; this tokenizer makes about 1.6 tokens of each. The longest prompt and 24 sequences fit into an iteration."""


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the engine ends with this program
    try:
        environment = ensure()
    except UnavailableError as reason:
        print(f"no real vLLM here: {reason}", file=sys.stderr)
        return EX_TEMPFAIL
    folder = asked.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    limits = EngineLimits()
    requests = load.drawn(asked.requests, SEED)
    start_s = time.monotonic()
    with running(environment, asked.model, limits, folder, first=asked.first) as engine:
        bench = Bench(engine.url, limits, folder, asked.first)
        measured, played = in_turns(bench, requests, asked.rounds, asked.loads)
        profile = bench.fit(measured, kv_tokens(engine.url))
    rounds = {name: [bench.simulate(one, profile) for one in ones] for name, ones in played.items()}
    overhead = overhead_s(rounds.pop(IDLE))
    found = [figure for name, ones in rounds.items() for figure in figures(name, ones, overhead)]
    capacities = [capacity(one, asked.requests) for one in rounds[AT_ONCE]]
    Console(width=110).print(table(found))
    report = {
        "vllm": VLLM,
        "model": asked.model,
        "wall_s": round(time.monotonic() - start_s, 1),
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "put_first": asked.first,
        },
        "profile": load_profile_file(profile).model_dump(mode="json"),
        "zero_load_overhead_s": overhead,
        "capacity_requests_per_s": capacities,
        "loads": {name: [beside(both) for both in ones] for name, ones in rounds.items()},
        "figures": [figure.as_json() for figure in found],
    }
    asked.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if asked.plot:
        draw(of_loads(found), asked.plot)
    print(summary(found, overhead, capacities))
    return 0


def in_turns(
    bench: Bench, requests: Sequence[TraceRequest], rounds: int, shares: Sequence[float]
) -> tuple[list[Path], dict[str, list[Played]]]:
    """Points of iterations and plays by load, one of each a round."""
    measured, played = list[Path](), defaultdict[str, list[Played]](list)

    def play(name: str, arriving: Sequence[TraceRequest]) -> Played:
        played[name].append(bench.play(f"{len(measured)}.{name}", arriving))
        return played[name][-1]

    for number in range(1, rounds + 1):
        measured.append(bench.measure(GRID, str(number)))
        play(IDLE, load.spaced(requests[:IDLE_REQUESTS], IDLE_GAP_S))
        per_s = capacity(play(AT_ONCE, load.at_once(requests)), len(requests))
        for share in shares:
            play(f"{share:.0%}", load.at_rate(requests, share * per_s))
    return measured, played


def of_loads(found: Sequence[Figure]) -> list[Figure]:
    """Without those of all requests at once, which tell the capacity."""
    return [figure for figure in found if figure.load != AT_ONCE]


def capacity(at_once: Played | Both, requests: int) -> float:
    """Requests per second that the engine gets done when all are there at once."""
    return requests / float(at_once.live["makespan_s"])


def beside(both: Both) -> dict[str, Any]:
    """What tells whether the figures may be believed."""
    keys = ("requests", "completed", "duration_s", "makespan_s", "preemptions")
    return {
        "live": {key: both.live[key] for key in (*keys, "client_lag_s", "marks")},
        "simulated": {key: both.simulated[key] for key in keys},
    }


def summary(found: list[Figure], overhead: dict[str, float], capacities: list[float]) -> str:
    found = of_loads(found)
    worst = max(found, key=lambda figure: abs(figure.error))
    met = sum(abs(figure.error) <= WANTED for figure in found)
    told = ", ".join(f"{name.removesuffix('_s')} {value * 1e3:.1f} ms" for name, value in overhead.items())
    return (
        f"capacity {', '.join(f'{one:.2f}' for one in capacities)} requests/s; zero-load overhead {told}; {met} of {len(found)} figures within "
        f"{WANTED:.0%}, the worst {worst.error:+.1%} ({worst.name} {worst.statistic} at {worst.load})"
    )


def kv_tokens(url: str) -> int:
    """What vLLM says that its cache holds."""
    text = httpx.get(f"{url}/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("vllm:cache_config_info{"))
    labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
    return int(float(labels["kv_cache_size_tokens"].strip('"')))


def arguments() -> argparse.Namespace:
    def shares(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=("small", "tiny"), default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument(
        "--loads", type=shares, default=[0.3, 0.6, 0.9], metavar="X,X,...", help="of capacity"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/live-vllm.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--first",
        action="store_true",
        help="put engine and clients before whatever else the machine does (as root)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
