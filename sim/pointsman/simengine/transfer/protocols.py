"""What routers write into bodies to split a request over two instances, read into one form.

NIXL (vLLM `nixl/pull_scheduler.py`): the prefill leg's answer names where its KV is; the decode leg brings that back.
Mooncake (vLLM `mooncake_connector.py`): both legs run at once and meet by `transfer_id`.
SGLang: both legs run at once and meet in `bootstrap_room`; prefill begins when decode has come.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pointsman.simengine.bodies import GenerationBody
from pointsman.simengine.errors import ApiError
from pointsman.simengine.options import KvConnector, KvRole, TransferOptions
from pointsman.simengine.transfer.claims import Place

_NIXL_REMOTE = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")
_MOONCAKE_REMOTE = ("remote_engine_id", "remote_bootstrap_addr", "transfer_id")


@dataclass(frozen=True, slots=True)
class Part:
    """A request's part in a transfer. Nothing: it is served here from beginning to end."""

    gives: bool = False
    """Its KV is kept for another instance."""
    key: str | None = None
    """What the KV is offered under; None: the request's own id."""
    meets: bool = False
    """It begins when the other leg has come, and ends when the KV is gone."""
    takes: Place | None = None
    """Where its prompt's KV comes from."""


ALONE = Part()


def part_of(body: GenerationBody, options: TransferOptions) -> Part:
    """Read a body. Raises ApiError 400 where the protocol cannot be followed."""
    if options.role is KvRole.NONE:
        return ALONE
    if options.connector is KvConnector.SGLANG:
        return _sglang_part(body, options)
    params = body.kv_transfer_params or {}
    if options.connector is KvConnector.MOONCAKE:
        return _mooncake_part(params, options)
    return _nixl_part(params)


def _nixl_part(params: dict[str, Any]) -> Part:
    if params.get("do_remote_decode"):
        return Part(gives=True)
    complete = params.get("remote_block_ids") and all(params.get(name) is not None for name in _NIXL_REMOTE)
    if not params.get("do_remote_prefill") or not complete:
        return ALONE
    return Part(
        takes=Place(
            host=str(params["remote_host"]),
            port=_port(params["remote_port"], "kv_transfer_params.remote_port"),
            key=str(params["remote_request_id"]),
            engine_id=str(params["remote_engine_id"]),
        )
    )


def _mooncake_part(params: dict[str, Any], options: TransferOptions) -> Part:
    key = params.get("transfer_id")
    if params.get("do_remote_decode"):
        return Part(gives=True, key=str(key)) if key else ALONE
    if not params.get("do_remote_prefill") or not all(params.get(name) for name in _MOONCAKE_REMOTE):
        return ALONE
    address = urlsplit(str(params["remote_bootstrap_addr"]))
    if not address.hostname or not address.port:
        raise _wrong("kv_transfer_params.remote_bootstrap_addr", "is no URL with a host and a port")
    return Part(
        takes=Place(
            host=address.hostname,
            port=address.port,
            key=str(key),
            engine_id=str(params["remote_engine_id"]),
            wait_s=options.partner_timeout_s,
        )
    )


def _sglang_part(body: GenerationBody, options: TransferOptions) -> Part:
    if options.role is KvRole.BOTH:
        return ALONE
    room = body.bootstrap_room
    if room is None:
        raise ApiError(
            400,
            "BadRequestError",
            "Invalid request: Disaggregated request received without bootstrap room id.",
        )
    if (
        isinstance(room, list)
        or isinstance(body.bootstrap_host, list)
        or isinstance(body.bootstrap_port, list)
    ):
        raise _wrong("bootstrap_room", "must be one number: batches are not split")
    key = f"room-{room}"
    if options.role is KvRole.PRODUCER:
        return Part(gives=True, key=key, meets=True)
    if not body.bootstrap_host:
        raise _wrong("bootstrap_host", "must name the prefill instance")
    return Part(
        takes=Place(body.bootstrap_host, body.bootstrap_port or 8998, key, wait_s=options.partner_timeout_s)
    )


def _port(value: object, field: str) -> int:
    try:
        port = int(str(value))
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise _wrong(field, f"must be a port, got {value!r}")
    return port


def _wrong(field: str, what: str) -> ApiError:
    return ApiError(400, "BadRequestError", f"{field} {what}", field)
