"""Live and simulated figures beside each other."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from live_vllm.steps import Both

FIGURES = ("ttft_s", "tpot_s", "e2e_s")
STATISTICS = ("mean", "p90")
WANTED = 0.10


@dataclass(frozen=True)
class Figure:
    """One statistic, seconds. `overhead_s` is what the same takes longer on an idle engine, mean live less mean simulated."""

    load: str
    name: str
    statistic: str
    live_s: float
    overhead_s: float
    simulated_s: float

    @property
    def error(self) -> float:
        """Of the simulation, as a share of what was measured, the overhead subtracted."""
        measured_s = self.live_s - self.overhead_s
        return (self.simulated_s - measured_s) / measured_s

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "error": self.error}


def overhead_s(idle: Both) -> dict[str, float]:
    """Seconds that HTTP, tokenising and detokenising add to each figure where nothing waits for anything."""
    return {name: idle.live[name]["mean"] - idle.simulated[name]["mean"] for name in FIGURES}


def figures(both: Both, overhead: Mapping[str, float]) -> Iterator[Figure]:
    for name in FIGURES:
        for statistic in STATISTICS:
            live_s, simulated_s = both.live[name][statistic], both.simulated[name][statistic]
            yield Figure(both.name, name, statistic, live_s, overhead[name], simulated_s)


def table(found: list[Figure]) -> Table:
    shown = Table("load", "", *("live", "less overhead", "simulated", "error"), box=SIMPLE_HEAD)
    for figure in found:
        times = (figure.live_s, figure.live_s - figure.overhead_s, figure.simulated_s)
        shown.add_row(
            figure.load,
            f"{figure.name.removesuffix('_s').upper()} {figure.statistic}",
            *(f"{time_s * 1e3:.1f} ms" for time_s in times),
            f"{figure.error:+.1%}",
        )
    return shown
