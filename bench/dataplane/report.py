"""The bench's results: one JSON file with every run, and a table."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dataplane.measure import spread, used_runs
from dataplane.scenarios import Outcome

AT_LEAST, AT_MOST = operator.ge, operator.le

TARGETS: dict[str, tuple[Callable[[float, float], bool], float]] = {
    "requests_per_cpu_s_vs_vllm_router": (AT_LEAST, 1.2),
    "requests_per_cpu_s_vs_sglang_router": (AT_LEAST, 1.75),
    "requests_per_cpu_s_vs_dynamo": (AT_LEAST, 8),
    "chunks_per_cpu_s_vs_vllm_router": (AT_LEAST, 1.1),
    "chunks_per_cpu_s_vs_dynamo": (AT_LEAST, 1.2),
    "added_ttfb_p50_us": (AT_MOST, 200),
    "added_ttfb_p99_us": (AT_MOST, 500),
    "storm_ttfb_p99_vs_vllm_router": (AT_MOST, 1),
    "disaggregated_extra_cpu_us": (AT_MOST, 20),
    "disaggregated_share": (AT_LEAST, 1),
    "saturated_load_headroom": (AT_LEAST, 3),
    "streaming_load_headroom": (AT_LEAST, 3),
    "metrics_stall_ms": (AT_MOST, 5),
    "idle_stream_bytes": (AT_MOST, 64 * 1024),
    "decision_us_8": (AT_MOST, 10),
    "decision_us_64": (AT_MOST, 20),
    "decision_us_512": (AT_MOST, 60),
}


def _scenario(outcome: Outcome) -> dict[str, Any]:
    return {
        "title": outcome.title,
        "unit": outcome.unit,
        "sides": {
            side: {
                **spread(outcome.values(side)),
                "errors": sum(run.errors for run in used_runs(runs, outcome.rounds)),
                "disturbed_runs_used": sum(not run.accepted for run in used_runs(runs, outcome.rounds)),
                "runs": [run.as_json() for run in runs],
            }
            for side, runs in outcome.runs.items()
            if runs
        },
    }


def write(
    path: Path, outcomes: Sequence[Outcome], figures: Mapping[str, float], context: Mapping[str, Any]
) -> None:
    """The figures on top, so that other programs find them by name; then targets, context and all runs."""
    document = {
        **figures,
        "targets_met": {
            key: compare(figures[key], limit) for key, (compare, limit) in TARGETS.items() if key in figures
        },
        **context,
        "scenarios": {outcome.name: _scenario(outcome) for outcome in outcomes},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def show(outcomes: Sequence[Outcome], figures: Mapping[str, float], skipped: Mapping[str, str]) -> None:
    """Sides per scenario with their spread, then the figures beside their targets."""
    console = Console()
    for outcome in outcomes:
        table = Table(
            "side", outcome.unit, "least", "greatest", "runs used / all", "errors", title=outcome.title
        )
        for side, runs in outcome.runs.items():
            if not runs:
                continue
            used, values = used_runs(runs, outcome.rounds), spread(outcome.values(side))
            disturbed = sum(not run.accepted for run in used)
            counts = f"{len(used)} / {len(runs)}" + (f", {disturbed} disturbed" if disturbed else "")
            numbers = [_number(values[key]) for key in ("median", "min", "max")]
            table.add_row(side, *numbers, counts, str(sum(run.errors for run in used)))
        console.print(table)
    table = Table("figure", "measured", "target", "", title="Figures")
    for key, value in figures.items():
        compare, limit = TARGETS.get(key, (None, 0.0))
        if compare is None:
            table.add_row(key, _number(value), "", "")
        else:
            target = f"{'>=' if compare is AT_LEAST else '<='} {_number(limit)}"
            table.add_row(key, _number(value), target, "met" if compare(value, limit) else "[bold red]missed")
    console.print(table)
    for name, reason in skipped.items():
        console.print(f"not measured: {name}: {reason}")
