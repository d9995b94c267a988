"""The options that `simulate` and `compare` share."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from pointsman.api.connector import Connector
from pointsman.cli.options import read_slo
from pointsman.cli.simulation import DEFAULT_CHUNK_TOKENS, FIRST_COME


class FilePath(click.Path):
    """A file to write to, in a folder that is there: what runs for minutes should not find that out at its end."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            self.fail(f"{path.parent} is no folder that can be written to", param, ctx)
        return path


class SecondsOrScale(click.FloatRange):
    """A number within bounds that is one: float() reads nan and inf, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def shared_options(*, without: Sequence[str] = ()) -> Option:
    """The command-line options of `SimulationPlan`."""
    options = {
        "pools": click.option(
            "--pools",
            required=True,
            metavar="COUNTxROLE:PROFILE,...",
            help='Instances, as in "8xmixed:a100-opt-13b" or "4xprefill:P,4xdecode:P"; P a shipped profile or a file.',
        ),
        "policy": click.option(
            "--policy", required=True, metavar="NAME[:KEY=VALUE,...]", help="Placement policy."
        ),
        "order": click.option(
            "--order",
            default=FIRST_COME,
            show_default=True,
            metavar="NAME[:KEY=VALUE,...]",
            help="Order in which requests wait in the router; it needs --max-running.",
        ),
        "chunk": click.option(
            "--chunk",
            type=click.IntRange(min=1),
            default=DEFAULT_CHUNK_TOKENS,
            show_default=True,
            help="Token budget of an iteration.",
        ),
        "predictor": click.option(
            "--predictor",
            default="none",
            show_default=True,
            metavar="none|mean|oracle|noisy:TAU|FILE",
            help="Predicts answer lengths; TAU is Kendall's rank correlation with the truth, FILE a CSV or JSONL, maybe "
            "gzipped, with predicted_output_tokens, one line a request of TRACE.",
        ),
        "seed": click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn."),
        "rate_scale": click.option(
            "--rate-scale",
            type=SecondsOrScale(min=0, min_open=True),
            default=1.0,
            show_default=True,
            help="Times the trace's request rate.",
        ),
        "max_requests": click.option(
            "--max-requests", type=click.IntRange(min=1), help="Stop after so many, counted after scaling."
        ),
        "view_delay": click.option(
            "--view-delay",
            type=SecondsOrScale(min=0, max=86_400),
            default=0.0,
            show_default=True,
            metavar="S",
            help="Seconds after which a router sees what another did.",
        ),
        "routers": click.option(
            "--routers",
            type=click.IntRange(min=1),
            help="Router replicas that requests come to in turn.  [default: 1; 2 with --view-delay]",
        ),
        "max_running": click.option(
            "--max-running",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Requests the router lets run on an instance at once, more wait in the router; 0: no limit.",
        ),
        "connector": click.option(
            "--connector",
            type=click.Choice([one.value for one in Connector if one is not Connector.NONE]),
            help="How prefill and decode instances exchange KV: NIXL's decode instance is chosen when the prefill ends, the "
            "others' with it, and SGLang's cannot prefill.  [default: nixl]",
        ),
        "events": click.option(
            "--events",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="CSV of what befalls instances: at_s, instance (POOL/NUMBER), what (fail, stop, start), and maybe startup.",
        ),
        "slo": click.option(
            "--slo",
            callback=read_slo,
            metavar="ttft=S,tpot=S",
            help="Limits in seconds; either may be left out.",
        ),
        "explain": click.option(
            "--explain",
            multiple=True,
            type=click.IntRange(min=0),
            metavar="ID",
            help="Say why the request of this place in the order of arrival, from 0, went where it went; repeatable.",
        ),
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed([name for name in options if name not in without]):
            command = options[name](command)
        return command

    return decorate
