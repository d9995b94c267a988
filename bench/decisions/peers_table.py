"""The peers beside each other, as Markdown: medians over windows, and at one load the least and the most."""

import json
from collections.abc import Callable, Sequence
from statistics import median

from decisions.peers import CONNECTOR_LOAD, FILE, LOADS, STALE_S, Row

Shown = Callable[[float], str]
SPREAD = (CONNECTOR_LOAD, 0.0)
"""Load and age of the view at which the least and the most over windows are shown, too; peers.json has them of all."""
COLUMNS = [*((load, 0.0) for load in LOADS), *((load, STALE_S) for load in LOADS[1:])]


def tables() -> str:
    """One a setting."""
    rows: list[Row] = json.loads(FILE.read_text())
    settings = dict.fromkeys((row["trace"], row["pools"]) for row in rows)
    return "\n".join(_table([row for row in rows if (row["trace"], row["pools"]) == one]) for one in settings)


def spread(values: Sequence[float], shown: Shown) -> str:
    """Median (least to most)."""
    low, middle, high = shown(min(values)), shown(median(values)), shown(max(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def middle(values: Sequence[float], shown: Shown) -> str:
    return shown(median(values))


def _table(rows: list[Row]) -> str:
    by_case = {(row["policy"], row["load"], row["view_delay_s"]): row for row in rows}
    policies = dict.fromkeys(row["policy"] for row in rows)
    windows = min(len(row["requests"]) for row in rows)
    word = "window" if windows == 1 else "windows"
    columns = [f"{load:.0%}{', stale' if delay else ''}" for load, delay in COLUMNS]
    head = [
        f"`{rows[0]['trace'].removesuffix('.csv.gz')}` on `{rows[0]['pools']}`, {windows} {word} of {rows[0]['requests'][0]:,} measured requests:",
        "",
        f"| | {' | '.join(columns)} | TTFT p90 at {CONNECTOR_LOAD:.0%} | E2E mean at {CONNECTOR_LOAD:.0%} |",
        "|" + "---|" * (len(columns) + 3),
    ]
    lines = [_line(policy, by_case) for policy in policies]
    return "\n".join([*head, *lines, "", *_unequal(by_case)])


def _line(policy: str, by_case: dict[tuple[str, float, float], Row]) -> str:
    def cell(load: float, delay: float, figure: str, shown: Shown) -> str:
        row = by_case.get((policy, load, delay))
        if row is None:
            return ""
        return (spread if (load, delay) == SPREAD else middle)(row[figure], shown)

    cells = [cell(load, delay, "attainment", lambda share: f"{share:.1%}") for load, delay in COLUMNS]
    at = by_case.get((policy, CONNECTOR_LOAD, 0.0))
    cells += [
        "" if at is None else middle(at[figure], lambda seconds: f"{seconds:.3g} s")
        for figure in ("ttft_p90_s", "e2e_mean_s")
    ]
    return f"| `{policy}` | " + " | ".join(cells) + " |"


def _unequal(by_case: dict[tuple[str, float, float], Row]) -> list[str]:
    """Comparisons count only with equal numbers of completed requests."""
    wanted = max((row["completed"] for row in by_case.values()), key=sum)
    return [
        f"{policy} at {load:.0%}{', stale' if delay else ''} completed {row['completed']} where others completed {wanted}."
        for (policy, load, delay), row in by_case.items()
        if row["completed"] != wanted
    ]
