"""Capacities and what was tuned, as Markdown."""

from decisions.capacity import known_capacities
from decisions.peers import split_name
from decisions.tuning import Tuned


def tables() -> str:
    capacities = known_capacities()
    lines = [
        "| trace | cluster | capacity, requests/s | kept by | tuned at, requests/s | best static split there |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{one.trace}` | `{one.pools}` | {one.requests_per_s:.4g} | `{one.policy}`, chunks of {one.chunk:,} | "
        f"{one.training_rate:.4g} | {_split(one.split)} |"
        for one in capacities
    ]
    names = list(dict.fromkeys(policy for one in capacities for policy in one.tuned))
    lines += [
        "",
        "| | " + " | ".join(f"`{one.trace}`, `{one.pools.partition(':')[2]}`" for one in capacities) + " |",
        "|" + "---|" * (len(capacities) + 1),
    ]
    for name in names:
        cells = [_cell(one.tuned.get(name)) for one in capacities]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _split(split: Tuned | None) -> str:
    if split is None:
        return ""
    return f"{split_name(split)}, `{split.policy}`, {split.chunk:,}: {split.attainment:.1%}"


def _cell(tuned: Tuned | None) -> str:
    """Attainment, chunk size, and knobs that are not the defaults."""
    if tuned is None:
        return ""
    knobs = tuned.policy.partition(":")[2].replace(",", ", ")
    return f"{tuned.attainment:.1%}, {tuned.chunk:,}" + (f", {knobs}" if knobs else "")
