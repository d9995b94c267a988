"""Draws live and simulated latencies against load (needs the `plots` extra)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from live_vllm.comparing import FIGURES, STATISTICS, Figure

COLOURS = {"mean": "#4e79a7", "p90": "#f28e2b"}


def draw(found: Sequence[Figure], path: Path) -> None:
    """Lines are simulated, dots live less the zero-load overhead. Raises OSError."""
    loads = list(dict.fromkeys(figure.load for figure in found))
    canvas = Canvas(figsize=(10, 3.4), layout="constrained")
    for axes, name in zip(canvas.subplots(1, len(FIGURES)), FIGURES, strict=True):
        for statistic in STATISTICS:
            row = [one for one in found if (one.name, one.statistic) == (name, statistic)]
            colour = COLOURS[statistic]
            axes.plot(
                loads, [1e3 * one.simulated_s for one in row], color=colour, label=f"{statistic}, simulated"
            )
            live_ms = [1e3 * (one.live_s - one.overhead_s) for one in row]
            axes.plot(loads, live_ms, "o", color=colour, label=f"{statistic}, live")
        axes.set_title(name.removesuffix("_s").upper())
        axes.set_xlabel("share of capacity")
        axes.set_ylabel("ms")
        axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110)
