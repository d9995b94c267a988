"""What a cluster under load looks like just now: a table for terminals, one line for logs."""

from collections import deque
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pointsman.cli.cluster import RunningEngine
from pointsman.cli.report_view import seconds, share
from pointsman.core.instances import Role
from pointsman.loadgen.engines import EngineState
from pointsman.loadgen.replay import Replay
from pointsman.sim.report import Distribution, RequestResult, distribution

RECENT_S = 30.0
"""Of the workload's clock."""
BAR_CELLS = 16
SHADES = " ▏▎▍▌▋▊▉█"
ROLE_STYLES = {Role.PREFILL: "cyan", Role.DECODE: "green", Role.MIXED: "magenta"}
SLO_GOOD, SLO_FAIR = 0.9, 0.7


@dataclass(slots=True)
class RecentFigures:
    """Requests that ended within the last `RECENT_S` of the workload's clock."""

    results: deque[RequestResult] = field(default_factory=deque)

    def add(self, result: RequestResult) -> None:
        self.results.append(result)

    def forget_before(self, time_s: float) -> None:
        while self.results and self.results[0].end_s < time_s:
            self.results.popleft()

    @property
    def ttft(self) -> Distribution:
        return distribution([r.ttft_s for r in self.results if r.ttft_s is not None])

    @property
    def tpot(self) -> Distribution:
        return distribution([r.tpot_s for r in self.results if r.tpot_s is not None])

    @property
    def good(self) -> int:
        return sum(result.meets_slo for result in self.results)


@dataclass(slots=True)
class LiveView:
    """Drawn anew at each refresh from what the replay and its engine watch know."""

    title: str
    engines: list[RunningEngine]
    replay: Replay
    recent: RecentFigures
    messages: deque[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._forget()
        parts: list[RenderableType] = [self._instances(), self._figures(), Text(), self._progress()]
        parts += [Text(message, style="yellow") for message in self.messages]
        yield Panel(
            Group(*parts),
            title=f"[bold]{self.title}[/]",
            title_align="left",
            border_style="dim",
            expand=False,
            padding=(0, 1),
        )

    def line(self) -> str:
        """The same without a terminal."""
        self._forget()
        running, waiting = self._total("running"), self._total("waiting")
        return (
            f"{self._ended} of {self.replay.requests} ended, running {running}, waiting {waiting}, "
            f"TTFT p50 {seconds(self.recent.ttft.p50)} p90 {seconds(self.recent.ttft.p90)}, "
            f"TPOT p50 {seconds(self.recent.tpot.p50)} p90 {seconds(self.recent.tpot.p90)}, "
            f"goodput {self._goodput:.2f}/s"
        )

    @property
    def _ended(self) -> int:
        return self.replay.client.sent - self.replay.client.in_flight

    @property
    def _goodput(self) -> float:
        over_s = min(RECENT_S, self.replay.client.now_s)
        return self.recent.good / over_s if over_s > 0 else 0.0

    def _forget(self) -> None:
        self.recent.forget_before(self.replay.client.now_s - RECENT_S)

    def _total(self, name: str) -> int:
        return sum(getattr(state, name) or 0 for state in self.replay.watch.states)

    def _instances(self) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("instance")
        table.add_column("role")
        table.add_column("running", justify="right", min_width=7)
        table.add_column("waiting", justify="right", min_width=7)
        table.add_column("KV use", min_width=BAR_CELLS + 5)
        for engine, state in zip(self.engines, self.replay.watch.states, strict=True):
            table.add_row(
                engine.name, Text(engine.role, style=ROLE_STYLES[engine.role]), *_state_cells(state)
            )
        return table

    def _figures(self) -> Table:
        ttft, tpot, recent = self.recent.ttft, self.recent.tpot, self.recent
        met = recent.good / len(recent.results) if recent.results else None
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column(Text(f"last {RECENT_S:g} s", style="dim"))
        table.add_column("p50", justify="right", min_width=7)
        table.add_column("p90", justify="right", min_width=7)
        table.add_column("goodput", justify="right", min_width=11)
        table.add_column("within SLO", justify="right")
        attained = Text(share(met), style=_slo_style(met))
        table.add_row(
            "TTFT", seconds(ttft.p50), seconds(ttft.p90), f"[bold]{self._goodput:.2f}[/]/s", attained
        )
        table.add_row("TPOT", seconds(tpot.p50), seconds(tpot.p90))
        return table

    def _progress(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1, self.replay.requests), completed=self._ended, width=40)
        grid.add_row(
            bar,
            f"{self._ended} of {self.replay.requests} requests",
            f"{self.replay.client.in_flight} in flight",
        )
        return grid


def _state_cells(state: EngineState) -> tuple[Text | str, ...]:
    if not state.reachable:
        return Text("away", style="bold red"), "", ""
    used = state.kv_used_share
    kv = Text("-") if used is None else Text.assemble((_bar(used), "yellow"), f" {used:4.0%}")
    return _count(state.running), _count(state.waiting), kv


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _bar(used: float) -> str:
    eighths = round(min(1.0, max(0.0, used)) * BAR_CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (SHADES[rest] if rest else "")).ljust(BAR_CELLS)


def _slo_style(met: float | None) -> str:
    if met is None:
        return "dim"
    return "green" if met >= SLO_GOOD else "yellow" if met >= SLO_FAIR else "red"
