"""Leg bodies, exactly as the engines' protocols want them."""

from typing import Any

import orjson
import pytest

from pointsman.router.connectors.connector import Pairing, add_fields
from pointsman.router.connectors.registry import CONNECTORS

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 50,
    "max_completion_tokens": 50,
    "min_tokens": 5,
    "logprobs": True,
    "top_logprobs": 3,
    "best_of": 1,
    "n": 1,
    "temperature": 0.5,
}
RAW = orjson.dumps(BODY)
PAIRING = Pairing("abc", 7, "10.0.0.1", 8998, "engine-1")
PREFILLED = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": False,
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "n": 1,
    "temperature": 0.5,
}
NIXL_ASKS = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
ROOM = {"bootstrap_host": "10.0.0.1", "bootstrap_port": 8998, "bootstrap_room": 7}

PREFILL: dict[str, dict[str, Any]] = {
    "nixl": {**PREFILLED, "kv_transfer_params": NIXL_ASKS},
    "sglang": {**BODY, **ROOM},
    "mooncake": {
        **PREFILLED,
        "kv_transfer_params": {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "transfer_id": "xfer-abc",
        },
    },
}
DECODE: dict[str, dict[str, Any]] = {
    "nixl": {**BODY, "kv_transfer_params": {"opaque": [1]}},
    "sglang": {**BODY, **ROOM},
    "mooncake": {
        **BODY,
        "kv_transfer_params": {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "transfer_id": "xfer-abc",
            "remote_bootstrap_addr": "http://10.0.0.1:8998",
            "remote_engine_id": "engine-1",
        },
    },
}


@pytest.mark.parametrize("name", PREFILL)
def test_the_prefill_leg(name: str) -> None:
    assert orjson.loads(CONNECTORS[name].prefill(RAW, BODY, PAIRING)) == PREFILL[name]


@pytest.mark.parametrize("name", DECODE)
def test_the_decode_leg(name: str) -> None:
    params = {"opaque": [1]} if name == "nixl" else None
    leg = CONNECTORS[name].decode(RAW, PAIRING, params)
    assert leg.startswith(RAW[:-1])
    assert orjson.loads(leg) == DECODE[name]


def test_nixl_without_parameters_sends_the_clients_own_body() -> None:
    assert CONNECTORS["nixl"].decode(RAW, PAIRING, None) == RAW


def test_which_legs_run_at_once() -> None:
    assert {name for name, connector in CONNECTORS.items() if connector.at_once} == {"sglang", "mooncake"}


@pytest.mark.parametrize("raw", [b"{}", b" { } \n", b'{"a":{}}', b'{"a":"}"} \r\n', b'{"a":1}'])
def test_adding_fields_leaves_what_was_there(raw: bytes) -> None:
    assert orjson.loads(add_fields(raw, {"b": [2], "c": 3})) == {**orjson.loads(raw), "b": [2], "c": 3}
