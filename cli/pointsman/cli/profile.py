"""`pointsman profile`: what engines cost, where the figures come from, and figures of one's own."""

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from pointsman.api.profile import EngineProfileFile, ProfileError, load_profile_file, shipped_profiles
from pointsman.core.perf import AcceleratorClass
from pointsman.core.units import PS_PER_MS

if TYPE_CHECKING:
    from pointsman.api.fitting import Point
    from pointsman.profiling.points import Measured

FilePath = click.Path(path_type=Path, dir_okay=False)
MEDIAN_WANTED, P90_WANTED = 0.05, 0.15
SHOWN_PREFILL = (16, 128, 512, 2048, 8192)
SHOWN_DECODE = ((1, 1000), (8, 1000), (32, 1000), (128, 1000), (128, 4000))


@click.group()
def command() -> None:
    """Engine profiles: what an iteration costs, and what an instance holds."""


@command.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
def show(name: str | None) -> None:
    """Show a profile, or list those that ship."""
    if name is None:
        _list_shipped()
        return
    file = _load(name)
    console = Console()
    _facts(console, file)
    cost = file.cost.to_cost()
    table = Table("iteration", "time", box=SIMPLE_HEAD)
    for tokens in SHOWN_PREFILL:
        time_ps = cost.iteration_ps(tokens, tokens * tokens, 0, 0)
        table.add_row(f"prefill of a prompt of {tokens} tokens", _ms(time_ps))
    for sequences, context in SHOWN_DECODE:
        time_ps = cost.iteration_ps(0, 0, sequences, sequences * context)
        table.add_row(f"decode of {sequences} sequences of {context} tokens", _ms(time_ps))
    console.print(table)


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@click.option("--points", type=FilePath, help="Measured iterations (CSV) to hold one profile against.")
def check(names: tuple[str, ...], points: Path | None) -> None:
    """How well profiles predict iterations that their fit did not see; exits with 1 if one falls short.

    Wanted of prefill and decode: a median error of at most 5% and a 90th percentile of at most 15%.
    """
    chosen = names or tuple(shipped_profiles())
    if points is not None and len(chosen) != 1:
        raise click.UsageError("--points is held against one profile: name it")
    table = Table(
        Column("profile", no_wrap=True),
        "kind",
        "phase",
        "points",
        "median",
        "p90",
        "worst",
        "",
        box=SIMPLE_HEAD,
    )
    short = False
    for name in chosen:
        file = _load(name)
        found = _against(file, points) if points is not None else file.provenance.left_out
        for phase, error in found.items():
            good = error.median <= MEDIAN_WANTED and error.p90 <= P90_WANTED
            short |= not good
            shares = (f"{value:.1%}" for value in (error.median, error.p90, error.worst))
            table.add_row(file.name, _kind(file), phase, str(error.points), *shares, "" if good else "short")
    Console().print(table)
    sys.exit(int(short))


@command.command()
@click.argument("points", type=FilePath)
@click.option("--name", required=True, help="Of the profile.")
@click.option("--like", required=True, metavar="NAME|FILE", help="Profile to take all else from.")
@click.option("--model", help="What the engine calls it.")
@click.option("--engine", help="Serving software and its version.")
@click.option("--accelerator", help="Such as h100-80gb.")
@click.option("--tensor-parallel", type=click.IntRange(min=1))
@click.option("--max-batched-tokens", type=click.IntRange(min=1), help="Of an iteration.")
@click.option("--max-sequences", type=click.IntRange(min=1), help="That run at once.")
@click.option("--block-size", type=click.IntRange(min=1), help="Tokens per KV block.")
@click.option("--kv-capacity-tokens", type=click.IntRange(min=1))
@click.option("--kv-bytes-per-token", type=click.IntRange(min=1))
@click.option("--transfer-bytes-per-s", type=click.FloatRange(min=0, min_open=True))
@click.option(
    "--source", default="measured by who fitted it", show_default=True, help="Where the points are from."
)
@click.option("--licence", default="none stated", show_default=True, help="Of the points.")
@click.option("--out", type=FilePath, help="Write it there.  [default: NAME.json]")
def fit(
    points: Path, name: str, like: str, source: str, licence: str, out: Path | None, **facts: Any
) -> None:
    """Fit a profile to measured iterations, a CSV file such as `pointsman profile measure` writes."""
    _need_scipy()
    from pointsman.profiling.compose import Given, fitted_profile

    measured = _read_points(points)
    try:
        profile = fitted_profile(name, measured, _load(like), Given(source, licence, facts))
    except ValueError as error:
        raise click.ClickException(f"{points}: {error}") from error
    _write(profile, out)


@command.command()
@click.option("--model", required=True, help="Hugging Face name, such as meta-llama/Meta-Llama-3.1-8B.")
@click.option("--system", required=True, help="Accelerator in aiconfigurator's words, such as h100_sxm.")
@click.option("--tensor-parallel", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--backend", type=click.Choice(["vllm", "sglang", "trtllm"]), default="vllm", show_default=True)
@click.option(
    "--accelerator-class",
    type=click.Choice([kind.value for kind in AcceleratorClass]),
    default="h100",
    show_default=True,
)
@click.option("--max-batched-tokens", type=click.IntRange(min=1), default=2048, show_default=True)
@click.option("--max-sequences", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--name", required=True, help="Of the profile.")
@click.option("--out", type=FilePath, help="Write it there.  [default: NAME.json]")
def estimate(
    model: str,
    system: str,
    tensor_parallel: int,
    backend: str,
    accelerator_class: str,
    max_batched_tokens: int,
    max_sequences: int,
    name: str,
    out: Path | None,
) -> None:
    """Estimate a profile from NVIDIA's kernel measurements (needs `pip install 'pointsman[profiles]'`)."""
    _need_scipy()
    from pointsman.profiling.compose import estimated_profile
    from pointsman.profiling.estimate import EstimateError, Estimator, Shape

    try:
        estimator = Estimator(Shape(model, system, tensor_parallel, backend))
        profile, _ = estimated_profile(
            name, estimator, AcceleratorClass(accelerator_class), max_batched_tokens, max_sequences
        )
    except EstimateError as error:
        raise click.ClickException(str(error)) from error
    _write(profile, out)


@command.command()
@click.argument("url")
@click.option("--model", help="Model to ask for.  [default: the first of /v1/models]")
@click.option("--prompts", metavar="N,N,...", help="Tokens of prompts that are computed alone.")
@click.option("--batches", metavar="N,N,...", help="Streams that run together.")
@click.option("--contexts", metavar="N,N,...", help="Tokens of their prompts.")
@click.option("--joining", metavar="N,N,...", help="Tokens of prompts that come while streams run.")
@click.option("--output-tokens", type=click.IntRange(min=8), default=64, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--api-key-file", type=FilePath, help="File with the API key.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Variable with the API key.")
@click.option("--out", type=FilePath, required=True, help="Write the points there, as CSV.")
def measure(url: str, out: Path, api_key_file: Path | None, api_key_env: str, **given: Any) -> None:
    """Measure a live engine through its OpenAI endpoint, with nothing else on it."""
    from pointsman.cli.options import read_api_key
    from pointsman.loadgen.replay import EndpointError
    from pointsman.profiling.points import write_points

    try:
        points = asyncio.run(_measure(url, read_api_key(api_key_file, api_key_env), **given))
    except (EndpointError, ValueError) as error:
        raise click.ClickException(f"{url}: {error}") from error
    write_points(out, points)
    click.echo(f"{out}: {len(points)} points")


async def _measure(url: str, api_key: str | None, *, model: str | None, **given: Any) -> "list[Measured]":
    from pointsman.loadgen.replay import Target, find_model
    from pointsman.loadgen.wire import Api, Dialect, Endpoint
    from pointsman.profiling.measure import Grid, measure

    grid = Grid(
        **{key: _numbers(key, value) for key, value in given.items() if isinstance(value, str)},
        output_tokens=given["output_tokens"],
        repeats=given["repeats"],
    )
    endpoint = Endpoint.from_url(url, api_key)
    dialect = Dialect(
        model or await find_model(endpoint), Api.COMPLETIONS, exact_lengths=True, token_ids=True
    )
    return await measure(Target(endpoint, dialect), grid, click.echo)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{text!r} is no list of whole numbers above 0", param_hint=f"--{name}")
    return numbers


def _load(name: str) -> EngineProfileFile:
    try:
        return load_profile_file(name)
    except ProfileError as error:
        raise click.ClickException(str(error)) from error


def _read_points(path: Path) -> "list[Point]":
    _need_scipy()
    from pointsman.profiling.points import PointsError, read_points

    try:
        return read_points(path)
    except PointsError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error


def _need_scipy() -> None:
    if find_spec("scipy") is None:
        raise click.ClickException("fits need scipy; install it with: pip install 'pointsman[fit]'")


def _against(file: EngineProfileFile, points: Path) -> Any:
    from pointsman.api.fitting import errors_by_phase

    return errors_by_phase(file.cost.to_cost(), _read_points(points))


def _write(profile: EngineProfileFile, out: Path | None) -> None:
    path = out or Path(f"{profile.name}.json")
    path.write_text(profile.model_dump_json(indent=2) + "\n", encoding="utf-8")
    click.echo(f"{path}: from {profile.provenance.points_used} points")
    for phase, error in profile.provenance.left_out.items():
        click.echo(f"  {phase}: error of points left out {error.median:.1%} median, {error.p90:.1%} p90")


def _list_shipped() -> None:
    table = Table(
        Column("profile", no_wrap=True),
        "kind",
        "KV tokens",
        "2,048-token prompt",
        "32 decode",
        box=SIMPLE_HEAD,
    )
    for name in shipped_profiles():
        file = load_profile_file(name)
        cost = file.cost.to_cost()
        prefill, decode = cost.iteration_ps(2048, 2048**2, 0, 0), cost.iteration_ps(0, 0, 32, 32_000)
        table.add_row(name, _kind(file), f"{file.kv_capacity_tokens:,}", _ms(prefill), _ms(decode))
    Console().print(table)


def _facts(console: Console, file: EngineProfileFile) -> None:
    table = Table(box=None, show_header=False)
    provenance = file.provenance
    rows = {
        "profile": f"{file.name} ({_kind(file)})",
        "model": file.model,
        "engine": file.engine,
        "accelerators": f"{file.tensor_parallel} x {file.accelerator}, limits of class {file.accelerator_class}",
        "KV": f"{file.kv_capacity_tokens:,} tokens of {file.kv_bytes_per_token:,} bytes ({provenance.kv_capacity})",
        "iteration": f"at most {file.max_batched_tokens} tokens and {file.max_sequences} sequences",
        "source": provenance.source,
        "licence": provenance.licence,
        "method": f"{provenance.method}; {provenance.points_used} points",
        "errors": "; ".join(
            f"{phase} {error.median:.1%} median, {error.p90:.1%} p90 of {error.points} points"
            for phase, error in provenance.left_out.items()
        ),
        "caveats": "; ".join(provenance.caveats),
    }
    for key, value in rows.items():
        table.add_row(key, value)
    console.print(table)


def _kind(file: EngineProfileFile) -> str:
    return "estimate" if file.provenance.source.startswith("estimate") else "measured"


def _ms(time_ps: int) -> str:
    return f"{time_ps / PS_PER_MS:,.2f} ms"
