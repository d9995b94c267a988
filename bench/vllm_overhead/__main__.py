"""`vllm bench serve` directly at a real vLLM on the CPU and through the router, in turns.

    make bench-vllm-overhead ARGS="[--rounds N] [--out FILE]"

A first round warms engines and router up and is not counted. Ways change places from round to round, and no two runs have
a prompt in common. The table has the median over rounds, and the least and the most.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from realengine.engine import EngineError, EngineSpec, running
from realengine.environment import VLLM, Environment, UnavailableError, ensure
from realengine.load_client import BenchServe
from realengine.router import Backend, routing

EX_TEMPFAIL = 75
LOCAL_PREFILL_TOKENS = 32
"""Shorter prompts would skip the prefill engine."""
FIGURES = ("ttft", "tpot", "itl")
STATISTICS = ("mean", "median", "p99")
Reports = dict[str, list[dict[str, Any]]]
"""By way, one a round."""


def main() -> int:
    asked = arguments()
    try:
        environment = ensure()
    except UnavailableError as reason:
        print(f"no real vLLM here: {reason}", file=sys.stderr)
        return EX_TEMPFAIL
    folder = asked.out.with_suffix("").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        reports = measured(environment, folder, asked.rounds)
    except (EngineError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}; logs are in {folder}", file=sys.stderr)
        return 1
    Console(width=130).print(table(reports))
    document = {
        "vllm": VLLM,
        "machine": {"cores": os.cpu_count(), "load_average": os.getloadavg()},
        "rounds": asked.rounds,
        "reports": {way: [figures(one) for one in found] for way, found in reports.items()},
    }
    asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(environment: Environment, folder: Path, rounds: int) -> Reports:
    """Raises EngineError, RuntimeError (the router) and CalledProcessError (the client)."""
    with (
        running((EngineSpec("one"), EngineSpec("other")), environment, folder) as (one, other),
        routing([Backend(one.url)], folder) as router,
        routing(
            [Backend(other.url, "prefill", "nixl"), Backend(one.url, "decode", "nixl")],
            folder,
            local_prefill_tokens=LOCAL_PREFILL_TOKENS,
        ) as apart,
    ):
        urls = {"directly": one.url, "router": router.url, "prefill and decode apart": apart.url}
        ways = list(urls)
        reports: Reports = {way: [] for way in ways}
        load = BenchServe()
        for number in range(rounds + 1):
            for way in ways if number % 2 else reversed(ways):
                seed = 10 * number + ways.index(way)
                report = load.run(urls[way], seed, environment, folder / f"{seed:03}.json")
                if number:
                    reports[way].append(report)
                    print(f"round {number}: {way}: TTFT {report['median_ttft_ms']:.1f} ms", flush=True)
    return reports


def figures(report: dict[str, Any]) -> dict[str, float]:
    """What is kept of a report, milliseconds but for the first two."""
    kept = {key: report[key] for key in ("completed", "output_throughput")}
    return kept | {f"{s}_{f}_ms": report[f"{s}_{f}_ms"] for f in FIGURES for s in STATISTICS}


def table(reports: Reports) -> Table:
    shown = Table("", *reports, box=SIMPLE_HEAD)
    shown.add_row("completed", *(str(sum(one["completed"] for one in found)) for found in reports.values()))
    for figure in FIGURES:
        for name in STATISTICS:
            key = f"{name}_{figure}_ms"
            shown.add_row(
                f"{figure.upper()} {name}, ms",
                *(spread([one[key] for one in found]) for found in reports.values()),
            )
    return shown


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench/vllm-overhead.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
