"""Splitwise's clusters, as Markdown: what each kind bears for one budget, and which limit it meets first."""

import json

from decisions.splitwise import FILE, LIMITS, QUANTILES, WHOLE_PROMPTS, Row, Slowdowns

WHOLE, CUT, FLAT = "as measured, prompts whole", "as measured, best chunk", "flat"


def tables() -> str:
    """One a budget."""
    rows: list[Row] = json.loads(FILE.read_text())
    return "\n\n".join(
        _table([row for row in rows if row["budget"] == budget])
        for budget in dict.fromkeys(row["budget"] for row in rows)
    )


def binding(slowdowns: Slowdowns) -> str:
    """The limit that is nearest."""
    shares = {
        f"{name.upper()} p{quantile}": found / limit
        for name, limits in LIMITS.items()
        for quantile, found, limit in zip(QUANTILES, slowdowns[name], limits, strict=True)
    }
    return max(shares, key=shares.__getitem__)


def _table(rows: list[Row]) -> str:
    head = [
        f"| equal {rows[0]['budget']} | decode | policy | prompt + token machines | requests/s | against the better baseline | first limit |",
        "|" + "---|" * 7,
    ]
    kinds = dict.fromkeys((row["workload"], _kind(row)) for row in rows)
    lines = []
    for workload, kind in kinds:
        of_kind = [row for row in rows if (row["workload"], _kind(row)) == (workload, kind)]
        best = max(row["rate"] for row in of_kind if "Baseline" in row["system"])
        lines += [_line(row, kind, best) for row in of_kind]
    return "\n".join([*head, *lines])


def _kind(row: Row) -> str:
    if row["cost_model"] == "flat decode":
        return FLAT
    return CUT if row["tuned"] else WHOLE


def _line(row: Row, kind: str, best: float) -> str:
    machines = (
        f"{row['prompt_machines']} + {row['token_machines']}"
        if row["prompt_machines"]
        else f"{row['token_machines']}"
    )
    chunk = f", {row['chunk']:,}" if row["chunk"] != WHOLE_PROMPTS else ""
    spread = f"{row['rate']:.1f} ({min(row['rates']):.1f} to {max(row['rates']):.1f})"
    met = binding(row["slowdowns"]) if row["rate"] else "at no rate"
    ratio = f"{row['rate'] / best:.2f}" if best else ""
    return f"| {row['workload']}, {row['system']} | {kind}{chunk} | `{row['policy']}` | {machines} | {spread} | {ratio} | {met} |"
