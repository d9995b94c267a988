"""Live and simulated figures beside each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from live_vllm.steps import Both

FIGURES = ("ttft_s", "tpot_s", "e2e_s")
STATISTICS = ("mean", "p90")
WANTED = 0.10


@dataclass(frozen=True)
class Figure:
    """One statistic at one load, seconds, the mean of all rounds.

    `overhead_s` is what the same takes longer on an idle engine, mean live less mean simulated.
    """

    load: str
    name: str
    statistic: str
    live_s: float
    overhead_s: float
    simulated_s: float
    errors: tuple[float, ...]
    """Of each round by itself."""

    @property
    def error(self) -> float:
        return error(self.simulated_s, self.live_s - self.overhead_s)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "error": self.error}


def error(simulated_s: float, measured_s: float) -> float:
    """Of the simulation, as a share of what was measured, the overhead subtracted."""
    return (simulated_s - measured_s) / measured_s


def overhead_s(idle: Sequence[Both]) -> dict[str, float]:
    """Seconds that HTTP, tokenising and detokenising add to each figure where nothing waits for anything."""
    return {
        name: fmean(one.live[name]["mean"] - one.simulated[name]["mean"] for one in idle) for name in FIGURES
    }


def figures(load: str, rounds: Sequence[Both], overhead: Mapping[str, float]) -> Iterator[Figure]:
    for name in FIGURES:
        for statistic in STATISTICS:
            pairs = [(both.live[name][statistic], both.simulated[name][statistic]) for both in rounds]
            live_s, simulated_s = map(fmean, zip(*pairs, strict=True))
            errors = tuple(error(simulated, live - overhead[name]) for live, simulated in pairs)
            yield Figure(load, name, statistic, live_s, overhead[name], simulated_s, errors)


def table(found: list[Figure]) -> Table:
    shown = Table("load", "", *("live", "less overhead", "simulated", "error", "each round"), box=SIMPLE_HEAD)
    for figure in found:
        times = (figure.live_s, figure.live_s - figure.overhead_s, figure.simulated_s)
        shown.add_row(
            figure.load,
            f"{figure.name.removesuffix('_s').upper()} {figure.statistic}",
            *(f"{time_s * 1e3:.1f} ms" for time_s in times),
            f"{figure.error:+.1%}",
            " ".join(f"{one:+.0%}" for one in figure.errors),
        )
    return shown
