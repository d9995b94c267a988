"""`make bench-dataplane`: see README.md beside this file."""

import argparse
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from dataplane import decisions, environments, inside, interpreter, machine, network, report, scenarios
from dataplane.compiled import compiled
from dataplane.dynamo import WORKERS
from dataplane.load import BUILD, INTERVAL_MS, compile_programs, raise_descriptor_limit
from dataplane.measure import FOREIGN_LIMIT, Bench
from dataplane.scenarios import Outcome, Plan

SCENARIOS: dict[str, Callable[[Bench, Plan], Outcome]] = {
    "saturated": scenarios.saturated,
    "streaming": lambda bench, plan: scenarios.streaming(bench, plan, 1000, "streaming"),
    "unsaturated_streaming": lambda bench, plan: scenarios.streaming(
        bench, plan, 300, "unsaturated_streaming"
    ),
    "first_byte": scenarios.first_byte,
    "accept_storm": scenarios.accept_storm,
    "disaggregation": scenarios.disaggregation,
}
NEEDS_OURS = {"disaggregation"}
INSIDE: dict[str, Callable[[Bench, float], dict[str, float]]] = {
    "metrics_stall": inside.metrics_stall,
    "idle_streams": lambda bench, _seconds: inside.idle_streams(bench),
    "decisions": lambda _bench, _seconds: decisions.measure(),
}
SIDES = ("direct", "pointsman", "pointsman_pure", "vllm_router", "sglang_router", "dynamo")
DEFAULT_SIDES = tuple(side for side in SIDES if side != "pointsman_pure")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataplane", description="Router data planes side by side."
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round each: whether it works, not how fast it is"
    )
    parser.add_argument("--rounds", type=int, help="interleaved runs of each side (5, with --quick 1)")
    parser.add_argument("--seconds", type=float, help="measured window of a run (8, with --quick 3)")
    parser.add_argument("--retries", type=int, default=3, help="of a run that other processes disturbed (3)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=DEFAULT_SIDES, help="measure these only")
    parser.add_argument("--scenarios", nargs="+", choices=[*SCENARIOS, *INSIDE], help="and these only")
    parser.add_argument("--json", type=Path, default=BUILD / "dataplane.json", help="where the results go")
    return parser.parse_args()


def _skipped(sides: set[str]) -> dict[str, str]:
    """Sides that cannot be measured here, each with the reason."""
    reasons = {"dynamo": network.why_no_namespace()}
    return {side: reason for side, reason in reasons.items() if side in sides and reason}


def _context(bench: Bench, seconds: float, skipped: dict[str, str]) -> dict[str, object]:
    pins = [environments.VLLM_ROUTER, environments.SGLANG_ROUTER, environments.DYNAMO]
    return {
        "machine": machine.facts(),
        "router_python": interpreter.facts(interpreter.environment()),
        "cores": {"router": bench.cores.router, "load": bench.cores.load},
        "versions": {"pointsman": version("pointsman"), **{each.name: each.pins for each in pins}},
        "settings": {
            "rounds": bench.rounds,
            "seconds": seconds,
            "instances": scenarios.INSTANCES,
            "dynamo_workers": WORKERS,
            "token_interval_ms": INTERVAL_MS,
            "foreign_limit": FOREIGN_LIMIT,
        },
        "skipped": skipped,
    }


def main() -> int:
    arguments = _arguments()
    compile_programs()
    raise_descriptor_limit()
    seconds = arguments.seconds or (3.0 if arguments.quick else 8.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    bench = Bench(machine.choose_cores(), rounds, arguments.retries, lambda line: print(line, flush=True))
    sides = set(arguments.sides)
    skipped = _skipped(sides)
    for name, reason in skipped.items():
        bench.say(f"without {name}: {reason}")
    if "pointsman" in sides:
        compiled()
    plan = Plan(frozenset(sides - set(skipped)), seconds)
    outcomes: list[Outcome] = []
    figures: dict[str, float] = {}
    for name in arguments.scenarios or [*SCENARIOS, *INSIDE]:
        if (name in NEEDS_OURS or name in INSIDE) and "pointsman" not in plan.sides:
            continue
        bench.say(f"{name}:")
        if name in INSIDE:
            figures |= INSIDE[name](bench, seconds)
        else:
            outcome = SCENARIOS[name](bench, plan)
            outcomes.append(outcome)
            figures |= outcome.figures
        # After each, so that a run that is cut short leaves what it has.
        report.write(arguments.json, outcomes, figures, _context(bench, seconds, skipped))
    report.show(outcomes, figures, skipped)
    print(f"every run: {arguments.json}")
    return 0


sys.exit(main())
