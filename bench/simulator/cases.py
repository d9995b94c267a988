"""What is timed: our command, as Python and compiled, and Dynamo's replay of the same trace."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dataplane import interpreter
from dataplane.compiled import PACKAGES, compiled
from dataplane.environments import DYNAMO
from dataplane.load import BUILD, ROOT
from simulator.mooncake import write_mooncake
from simulator.timing import Timed, timed

PROFILE = "h100-llama3.1-8b"
REQUESTS = 200_000
MANY_REQUESTS = 1_000_000
SHORT, LONG = 100_000, 400_000
"""Traces of which the longer may not take more memory."""
RATE_PER_INSTANCE = 1.5
"""Requests/s: 12 for 8 instances."""
WORKERS = 8
TRACES = ("azure2023_conv", "azure2023_code", "mooncake_conversation", "mooncake_synthetic")
PAIRED = (("round_robin", "round_robin"), ("kv_cost", "kv_router"))
"""Our policy, and Dynamo's router mode."""
FOLDER = BUILD / "simulator"

REPLAY = """
import json, sys, time
import dynamo._core as core
start_s = time.perf_counter()
core.run_mocker_trace_replay([sys.argv[1]], num_workers=int(sys.argv[2]), router_mode=sys.argv[3], trace_block_size=512)
json.dump({"inside_s": time.perf_counter() - start_s}, open(sys.argv[4], "w"))
"""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    group: str
    name: str
    side: str
    run: Callable[[], Row]


def measured(case: Case, repeat: int) -> Row:
    """The median of some runs, by wall time from outside; the smallest and largest beside it."""
    rows = sorted((case.run() for _ in range(repeat)), key=lambda row: float(row["outside_s"]))
    middle = rows[(len(rows) - 1) // 2]
    return {
        "group": case.group,
        "name": case.name,
        "side": case.side,
        **middle,
        "requests_per_s": middle["requests"] / middle["outside_s"],
        "outside_s_all": [row["outside_s"] for row in rows],
    }


def simulate(trace: str, instances: int, policy: str, *, pure: bool, arguments: Sequence[str] = ()) -> Row:
    """One run of our command. `inside_s` is the report's `wall_s`: without the start of the interpreter."""
    folders = [ROOT / name for name in PACKAGES] if pure else [compiled()]
    report = FOLDER / "report.json"
    argv = [str(interpreter.environment()), "-m", "pointsman.cli", "simulate", trace]
    argv += ["--pools", f"{instances}xmixed:{PROFILE}", "--policy", policy, "--json", str(report), *arguments]
    took = timed(argv, {"PYTHONPATH": os.pathsep.join(map(str, folders))}, FOLDER / "simulate.log")
    told = json.loads(report.read_text())
    # The first tenth of the requests warms up and is in no figure.
    requests = round(told["wall_s"] * told["simulated_requests_per_s"])
    return _row(took, requests, told["wall_s"])


def dynamo(source: Path, requests: int, mode: str) -> Row:
    """One replay by Dynamo's own mocked workers. `inside_s` is the call alone, without the import."""
    told = FOLDER / "dynamo.json"
    argv = [str(DYNAMO.path() / "bin" / "python"), "-c", REPLAY, str(source), str(WORKERS), mode, str(told)]
    took = timed(argv, {"DYN_LOG": "error"}, FOLDER / "dynamo.log")
    return _row(took, requests, json.loads(told.read_text())["inside_s"])


def _row(took: Timed, requests: int, inside_s: float) -> Row:
    return {
        "requests": requests,
        "outside_s": took.wall_s,
        "inside_s": inside_s,
        "cpu_s": took.cpu_s,
        "peak_bytes": took.peak_bytes,
    }


def generated(instances: int, requests: int) -> str:
    return f"gen:azure-conv?rate={RATE_PER_INSTANCE * instances:g}&requests={requests}&seed=1"


def own_cases(share: float, sides: Sequence[str]) -> list[Case]:
    """`share` of all numbers of requests; sides `pure` and `compiled`. As Python, a million is left out."""
    cases = []
    for side in sides:
        run = partial(simulate, pure=side == "pure")
        for policy in ("round_robin", "least_tokens"):
            one = partial(run, generated(8, scaled(REQUESTS, share)), 8, policy)
            cases.append(Case("speed", f"8 instances, {policy}", side, one))
        if side == "compiled":
            many = partial(run, generated(64, scaled(MANY_REQUESTS, share)), 64, "round_robin")
            cases.append(Case("speed", "64 instances, round_robin", side, many))
            for requests in (SHORT, LONG):
                one = partial(run, generated(8, scaled(requests, share)), 8, "round_robin")
                cases.append(Case("memory", f"{scaled(requests, share):,} requests", side, one))
    return cases


def paired_cases(data: Path, share: float, rate_scale: float, side: str) -> list[Case]:
    """Each trace that is there, by us and by Dynamo. Writes the traces as Dynamo reads them."""
    cases = []
    for name in TRACES:
        trace = data / "traces" / f"{name}.csv.gz"
        if not trace.exists():
            continue
        most = None if share == 1 else scaled(10_000, share)
        source = FOLDER / f"{name}.jsonl"
        requests = write_mooncake(trace, rate_scale, most, source)
        arguments = ["--rate-scale", f"{rate_scale:g}", "--max-requests", str(requests)]
        for policy, mode in PAIRED:
            ours = partial(simulate, str(trace), WORKERS, policy, pure=side == "pure", arguments=arguments)
            cases.append(Case(name, policy, side, ours))
            cases.append(Case(name, mode, "dynamo", partial(dynamo, source, requests, mode)))
    return cases


def scaled(requests: int, share: float) -> int:
    return max(100, round(requests * share))


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the rows say about the goals, in sentences."""
    said = []
    memory = [row["peak_bytes"] for row in rows if row["group"] == "memory"]
    if len(memory) == 2:
        said.append(f"memory: a trace four times as long takes {memory[1] / memory[0] - 1:+.1%}")
    speeds = {
        (row["group"], row["name"], row["side"] == "dynamo"): row["requests"] / row["inside_s"]
        for row in rows
    }
    for policy, mode in PAIRED:
        ratios = [
            (trace, speeds[trace, policy, False] / speeds[trace, mode, True])
            for trace in TRACES
            if (trace, policy, False) in speeds and (trace, mode, True) in speeds
        ]
        if ratios:
            listed = ", ".join(f"{trace} {ratio:.1f}x" for trace, ratio in ratios)
            said.append(f"our {policy} against Dynamo's {mode}, without starts: {listed}")
    return said
