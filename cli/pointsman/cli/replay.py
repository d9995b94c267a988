"""`pointsman replay`: play a trace against an OpenAI endpoint and report."""

import asyncio
import resource
import signal
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console

from pointsman.cli.options import objective_for, read_api_key, read_slo
from pointsman.cli.report_view import print_report, write_json
from pointsman.cli.running import RunningCluster, find_cluster
from pointsman.core.slo import Slo
from pointsman.loadgen.client import LoadOptions
from pointsman.loadgen.replay import EndpointError, Plan, Replay, Target, find_model
from pointsman.loadgen.wire import Api, Dialect, Endpoint
from pointsman.sim.report import Report, RunFacts
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace import TraceError, TraceFile

DEFAULT_URL = "http://127.0.0.1:8000"
PROGRESS_INTERVAL_S = 0.25
INTERRUPTED_STATUS = 130
SPARE_FILES = 64
FilePath = click.Path(path_type=Path, dir_okay=False)
Above0 = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("trace", type=FilePath)
@click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    help="Base URL of the endpoint, with or without /v1. By default, where `pointsman up` serves.",
)
@click.option(
    "--rate-scale", type=Above0, default=1.0, show_default=True, help="Times the trace's request rate."
)
@click.option(
    "--speed",
    type=Above0,
    default=1.0,
    show_default=True,
    help="How much faster than real time the engines run: arrivals are compressed, times multiplied back.",
)
@click.option("--max-requests", type=click.IntRange(min=1), help="Stop after so many, counted after scaling.")
@click.option(
    "--slo", callback=read_slo, metavar="ttft=S,tpot=S", help="Limits in seconds; either may be left out."
)
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Engine profile for the default SLO.  [default: the one whose model is served]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the shifts between copies of the trace."
)
@click.option("--json", "json_file", type=FilePath, help="Write the report as one JSON object.")
@click.option("--records", type=FilePath, help="Write one line of JSON per request.")
@click.option("--model", help="Model to ask for. Default: the first of /v1/models.")
@click.option(
    "--api",
    type=click.Choice([api.value for api in Api]),
    default=Api.COMPLETIONS.value,
    show_default=True,
    help="Endpoint to ask.",
)
@click.option(
    "--plain", is_flag=True, help="Send only what OpenAI defines: answers then end when the model likes."
)
@click.option(
    "--token-ids", is_flag=True, help="Ask for token ids, to tell tokens apart that arrive in one event."
)
@click.option(
    "--explain", is_flag=True, help="Ask Pointsman's router for its decisions, and keep them in the records."
)
@click.option(
    "--engine-metrics",
    multiple=True,
    metavar="URL",
    help="Base URL of an engine whose /metrics tell prefix hits, preemptions and lag; repeatable.  [default: those of `pointsman up`]",
)
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    help="How many instances serve, for instance seconds. Default: as many as --engine-metrics.",
)
@click.option("--pools", help="What is replayed against, for the report.")
@click.option("--policy", help="How it places requests, for the report.")
@click.option("--api-key-file", type=FilePath, help="File with the API key.")
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable with the API key.",
)
@click.option("--ca", type=FilePath, help="Certificate authorities to trust, PEM.")
@click.option(
    "--timeout", type=Above0, default=600.0, show_default=True, help="Seconds of wall time for one request."
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Requests at once; more wait in the client and count as sent late.",
)
def command(**given: Any) -> None:
    r"""Play TRACE (CSV or JSONL, maybe gzipped) open-loop against any OpenAI endpoint, and report.

    \b
    Columns: timestamp_s, prompt_tokens, output_tokens and, where known, hash_ids,
    session_id, program_id, tenant, priority, prompt.
    """
    options = ReplayOptions(**given)
    allow_many_connections(options.max_in_flight)
    try:
        report = uvloop.run(play(options))
    except (TraceError, EndpointError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.FileError(str(error.filename), error.strerror) from error
    print_report(report)
    if options.json_file is not None:
        try:
            write_json(options.json_file, report.as_json())
        except OSError as error:
            raise click.FileError(str(options.json_file), error.strerror) from error
    if report.interrupted:
        sys.exit(INTERRUPTED_STATUS)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The command line, one field per option."""

    trace: Path
    url: str
    rate_scale: float
    speed: float
    max_requests: int | None
    slo: Slo | None
    profile: str | None
    seed: int
    json_file: Path | None
    records: Path | None
    model: str | None
    api: str
    plain: bool
    token_ids: bool
    explain: bool
    engine_metrics: tuple[str, ...]
    instances: int | None
    pools: str | None
    policy: str | None
    api_key_file: Path | None
    api_key_env: str
    ca: Path | None
    timeout: float
    max_in_flight: int

    def plan(self, model: str) -> Plan:
        """Raises click.BadParameter."""
        objective = objective_for(self.slo, self.profile, model)
        return Plan(
            Cut(RateScaled(TraceFile(self.trace), self.rate_scale, self.seed), self.max_requests),
            RunFacts(
                trace=self.trace.name,
                policy=self.policy,
                seed=self.seed,
                pools=self.pools or (self.cluster.pools if self.cluster else None),
                rate_scale=self.rate_scale,
                speed=self.speed,
                slo=objective.same_for_all,
                slo_rule=objective.rule,
            ),
            objective,
            LoadOptions(self.speed, self.max_in_flight, self.timeout),
            self.records,
        )

    async def target(self) -> Target:
        """Raises EndpointError and click.BadParameter."""
        context = self._ssl_context()
        endpoint = _endpoint(self.url, "--url", read_api_key(self.api_key_file, self.api_key_env))
        model = self.model or await find_model(endpoint, context)
        dialect = Dialect(
            model, Api(self.api), exact_lengths=not self.plain, token_ids=self.token_ids, explain=self.explain
        )
        urls = self.engine_metrics or (self.cluster.engines if self.cluster else ())
        engines = tuple(_endpoint(url, "--engine-metrics") for url in urls)
        return Target(endpoint, dialect, engines, self.instances or len(engines) or None, context)

    @property
    def cluster(self) -> RunningCluster | None:
        """The cluster of `pointsman up` behind the URL, where it is one."""
        return find_cluster(self.url)

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self.ca is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise click.BadParameter(f"{self.ca}: {error.strerror}", param_hint="--ca") from error


async def play(options: ReplayOptions) -> Report:
    target = await options.target()
    replay = Replay(target, options.plan(target.dialect.model))
    loop = asyncio.get_running_loop()
    showing = loop.create_task(show_progress(replay))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, replay.stop)
    try:
        return await replay.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


async def show_progress(replay: Replay) -> None:
    """One line on a terminal, until cancelled; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    with console.status("") as status:
        while True:
            client = replay.client
            ended = client.sent - client.in_flight
            status.update(f"{ended} of {replay.requests} requests ended, {client.in_flight} in flight")
            await asyncio.sleep(PROGRESS_INTERVAL_S)


def allow_many_connections(count: int) -> None:
    """Raise the soft limit on open files as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _endpoint(url: str, option: str, api_key: str | None = None) -> Endpoint:
    try:
        return Endpoint.from_url(url, api_key)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
