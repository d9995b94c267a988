"""Agent programs, as Markdown: time per token by rate, and how many programs a second are served at equal latency."""

import itertools
import json
from collections.abc import Sequence

from decisions.agents import EARLY, FILE, Row

LIMIT = 2.0
"""Equal latency is so many times what early binding takes at the lowest rate, response per generated token."""


def tables() -> str:
    """One a kind of programs."""
    rows: list[Row] = json.loads(FILE.read_text())
    return "\n\n".join(
        _table([row for row in rows if row["programs"] == kind])
        for kind in dict.fromkeys(row["programs"] for row in rows)
    )


def rate_at(limit_s: float, rates: Sequence[float], times_s: Sequence[float]) -> float | None:
    """The rate at which the time reaches the limit, by straight lines between what was played.

    0: already the lowest rate is beyond it. None: not even the highest is.
    """
    if times_s[0] > limit_s:
        return 0.0
    points = list(zip(rates, times_s, strict=True))
    for (rate, time_s), (next_rate, next_s) in itertools.pairwise(points):
        if next_s > limit_s:
            return rate + (next_rate - rate) * (limit_s - time_s) / (next_s - time_s)
    return None


def _table(rows: list[Row]) -> str:
    rates = sorted({row["rate"] for row in rows})
    by_case = {(row["contestant"], row["rate"]): row for row in rows}
    times_s = {
        name: [by_case[name, rate]["per_token_mean_s"] for rate in rates]
        for name in dict.fromkeys(row["contestant"] for row in rows)
    }
    limit_s = LIMIT * times_s[EARLY.name][0]
    early = rate_at(limit_s, rates, times_s[EARLY.name])
    due = "deadline_attainment" in rows[0]
    head = [
        f"| `{rows[0]['programs']}` | "
        + " | ".join(f"{rate:g}/s" for rate in rates)
        + f" | programs/s at {1000 * limit_s:.3g} ms | response, mean at {rates[-2]:g}/s |"
        + (f" within the deadline at {rates[-2]:g}/s |" if due else ""),
        "|" + "---|" * (len(rates) + 3 + due),
    ]
    return "\n".join(
        [*head, *(_line(name, by_case, rates, found, limit_s, early) for name, found in times_s.items())]
    )


def _line(
    name: str,
    by_case: dict[tuple[str, float], Row],
    rates: list[float],
    times_s: list[float],
    limit_s: float,
    early: float | None,
) -> str:
    row = by_case[name, rates[-2]]
    cells = [f"{1000 * time_s:.3g} ms" for time_s in times_s]
    cells.append(_throughput(rate_at(limit_s, rates, times_s), rates, early))
    cells.append(
        f"{row['response_mean_s']:.1f} s ({row['response_mean_lowest_s']:.1f} to {row['response_mean_highest_s']:.1f})"
    )
    if "deadline_attainment" in row:
        cells.append(f"{row['deadline_attainment']:.1%}")
    return f"| {name} | " + " | ".join(cells) + " |"


def _throughput(rate: float | None, rates: Sequence[float], early: float | None) -> str:
    if rate is None:
        return f"over {rates[-1]:g}"
    if not rate:
        return f"under {rates[0]:g}"
    return f"{rate:.3g}" + (f" ({rate / early:.2f}x)" if early else "")
