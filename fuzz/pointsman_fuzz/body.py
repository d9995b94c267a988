"""What clients ask for: bodies as the gateway reads them, and as engines get them."""

from typing import Any

import orjson

from pointsman.router.call import FORBIDDEN_FIELDS, Call, read_call
from pointsman.router.connectors.connector import Pairing
from pointsman.router.connectors.registry import CONNECTORS
from pointsman.router.prompts import Endpoint, PromptReader
from pointsman.router.refusals import BadRequestError

PAIRING = Pairing("attempt", 7, "10.0.0.1", 8998, "engine")


async def run(data: bytes) -> None:
    """It is refused with a reason, or every engine gets what the client said and what we add, and no more."""
    for endpoint in Endpoint:
        for drop in (True, False):
            try:
                _asked(endpoint, data, drop=drop)
            except BadRequestError as error:
                assert str(error)


def _asked(endpoint: Endpoint, data: bytes, *, drop: bool) -> None:
    call = read_call(endpoint, data, drop_forbidden=drop)
    prompt = PromptReader(b"k" * 32, 64, 0.25, lambda model, error: None).read(
        endpoint, call.body, "tenant", "model"
    )
    assert prompt.estimated_tokens >= 1
    assert prompt.least_tokens >= 0
    assert all(0 <= block < 2**64 for block in prompt.block_hashes)
    assert orjson.loads(call.raw) == call.body
    assert FORBIDDEN_FIELDS.isdisjoint(call.body)
    if call.stream and not call.wants_usage:
        _ask_for_usage(call)
    call.rename_model("served")
    assert orjson.loads(call.raw) == call.body
    assert call.body["model"] == "served"
    if call.may_split:
        _split(call)


def _ask_for_usage(call: Call) -> None:
    before = dict(call.body)
    options = before.pop("stream_options", None) or {}
    call.ask_for_usage()
    after: dict[str, Any] = orjson.loads(call.raw)
    assert after == call.body
    assert after.pop("stream_options") == {**options, "include_usage": True}
    assert after == before


def _split(call: Call) -> None:
    for name, connector in CONNECTORS.items():
        legs = connector.prefill(call.raw, call.body, PAIRING), connector.decode(call.raw, PAIRING, {"a": 1})
        prefill, decode = map(orjson.loads, legs)
        assert FORBIDDEN_FIELDS.intersection(decode), "decode is told where the KV is"
        assert {field: decode[field] for field in call.body} == call.body, name
        assert FORBIDDEN_FIELDS.intersection(prefill), "prefill is told to lend"
