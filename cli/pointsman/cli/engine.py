"""`pointsman engine`: one simulated instance."""

from pathlib import Path
from typing import Any

import click

from pointsman.simengine.options import (
    Flavour,
    KvConnector,
    KvEventOptions,
    KvLoadFailure,
    KvRole,
    ServerOptions,
    TransferOptions,
    read_keys,
)


def _choice(kind: Any) -> click.Choice[str]:
    return click.Choice([member.value for member in kind])


@click.command("engine")
@click.option(
    "--profile",
    "profile_name",
    default="a100-opt-13b",
    show_default=True,
    metavar="NAME|FILE",
    help="Engine profile: a shipped name or a JSON file.",
)
@click.option(
    "--model",
    help="The model it says it serves; part of what every token is a function of. Default: the profile's.",
)
@click.option(
    "--served-model-name",
    "served_names",
    multiple=True,
    help="Name it answers to; may be repeated. Default: --model.",
)
@click.option(
    "--lora", "lora_names", multiple=True, metavar="NAME", help="A LoRA adapter's name; may be repeated."
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0: a free one.")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Virtual seconds per real second.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Instances that continue each other's answers share it."
)
@click.option(
    "--mean-output-tokens",
    default=256.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Mean length of answers whose length nobody asks for.",
)
@click.option(
    "--chunk",
    "chunk_tokens",
    default=2048,
    show_default=True,
    type=click.IntRange(min=1),
    help="Token budget of one iteration.",
)
@click.option(
    "--max-sequences", type=click.IntRange(min=1), help="Running requests at most. Default: the profile's."
)
@click.option("--kv-capacity-tokens", type=click.IntRange(min=1), help="KV capacity. Default: the profile's.")
@click.option(
    "--max-model-len",
    type=click.IntRange(min=2),
    help="Longest prompt plus answer. Default: the KV capacity.",
)
@click.option(
    "--scheduling-policy", default="priority", show_default=True, type=click.Choice(["fcfs", "priority"])
)
@click.option("--prefix-caching/--no-prefix-caching", default=True, show_default=True)
@click.option(
    "--tokens-per-event",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Tokens per SSE event, as with vLLM's --stream-interval.",
)
@click.option(
    "--prompt-tokens-details/--no-prompt-tokens-details",
    default=True,
    show_default=True,
    help="Report cached tokens in usage, as vLLM does with --enable-prompt-tokens-details.",
)
@click.option("--flavour", default=Flavour.VLLM.value, show_default=True, type=_choice(Flavour))
@click.option(
    "--kv-role",
    default=KvRole.BOTH.value,
    show_default=True,
    type=_choice(KvRole),
    help="Part in disaggregated serving.",
)
@click.option(
    "--kv-connector",
    type=_choice(KvConnector),
    help="How KV travels. Default: nixl; with --flavour sglang, sglang.",
)
@click.option(
    "--kv-host", default="127.0.0.1", show_default=True, help="Where other instances reach this one's KV."
)
@click.option(
    "--kv-port", default=0, show_default=True, help="Side channel or bootstrap port. 0: a free one."
)
@click.option(
    "--kv-lease",
    "kv_lease_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Virtual seconds that KV is kept for whoever fetches it.",
)
@click.option(
    "--kv-load-failure",
    default=KvLoadFailure.FAIL.value,
    show_default=True,
    type=_choice(KvLoadFailure),
    help="What happens when KV cannot be fetched.",
)
@click.option(
    "--kv-partner-timeout",
    "partner_timeout_s",
    default=30.0,
    show_default=True,
    help="Real seconds a leg waits for its partner.",
)
@click.option("--kv-events-endpoint", metavar="tcp://HOST:PORT", help="Publish KV events over ZMQ.")
@click.option("--kv-events-replay-endpoint", metavar="tcp://HOST:PORT")
@click.option("--kv-events-topic", default="", show_default=True)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keys that clients need, one a line.",
)
@click.option(
    "--start-up", "start_up_s", default=0.0, show_default=True, help="Real seconds of 503 at the start."
)
@click.option(
    "--grace",
    "grace_s",
    default=30.0,
    show_default=True,
    help="Real seconds that running answers get after SIGTERM.",
)
def command(
    profile_name: str, model: str | None, served_names: tuple[str, ...], grace_s: float, **given: Any
) -> None:
    """Serve the OpenAI API from a simulated engine: real timing, made-up tokens.

    Prints one line with its URL when it is ready. SIGTERM lets running answers finish.
    """
    from pointsman.api.profile import load_profile
    from pointsman.simengine.server import run

    try:
        profile = load_profile(profile_name)
        key_file = given.pop("api_key_file")
        keys = read_keys(key_file) if key_file else ()
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if key_file and not keys:
        raise click.ClickException(f"{key_file}: holds no key")
    model = model or profile.model
    given["flavour"] = Flavour(given["flavour"])
    options = ServerOptions(
        profile=profile,
        model=model,
        served_names=served_names or (model,),
        api_keys=keys,
        priority_scheduling=given.pop("scheduling_policy") == "priority",
        transfer=_transfer(given),
        kv_events=_kv_events(given),
        **{name: value for name, value in given.items() if value is not None},
    )
    try:
        run(
            options,
            grace_s,
            lambda url: click.echo(f"pointsman engine ready: {url} {options.served_names[0]}"),
        )
    except OSError as error:
        raise click.ClickException(
            f"cannot serve on {options.host}:{options.port}: {error.strerror}"
        ) from None


def _transfer(given: dict[str, Any]) -> TransferOptions:
    """KV transfer options out of the command's; the connector follows the flavour unless told."""
    follows = KvConnector.SGLANG if given["flavour"] is Flavour.SGLANG else KvConnector.NIXL
    connector = given.pop("kv_connector") or follows
    return TransferOptions(
        role=KvRole(given.pop("kv_role")),
        connector=KvConnector(connector),
        host=given.pop("kv_host"),
        port=given.pop("kv_port"),
        lease_s=given.pop("kv_lease_s"),
        load_failure=KvLoadFailure(given.pop("kv_load_failure")),
        partner_timeout_s=given.pop("partner_timeout_s"),
    )


def _kv_events(given: dict[str, Any]) -> KvEventOptions | None:
    endpoint = given.pop("kv_events_endpoint")
    replay = given.pop("kv_events_replay_endpoint")
    topic = given.pop("kv_events_topic")
    return KvEventOptions(endpoint, replay, topic) if endpoint else None
