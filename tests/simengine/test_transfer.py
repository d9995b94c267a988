"""Prefill and decode apart: what routers do over NIXL, Mooncake and SGLang, and what happens when it goes wrong."""

import asyncio
from typing import Any

import orjson
import pytest

from pointsman.simengine.options import KvConnector, KvLoadFailure, KvRole, TransferOptions

PROMPT = "All signals at danger. " * 40
ASK: dict[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
PREFILL = {"max_tokens": 1, "stream": False, "kv_transfer_params": ASK}
BODY = {"prompt": PROMPT, "max_tokens": 24, "ignore_eos": True, "return_token_ids": True}


def nixl(**options: Any) -> TransferOptions:
    return TransferOptions(**{"connect_timeout_s": 0.3, **options})


async def undisturbed(client: Any, **body: Any) -> list[int]:
    [choice] = (await client.complete(**{**BODY, **body}))["choices"]
    return list(choice["token_ids"])


async def metric(client: Any, name: str) -> float:
    text = (await client.http.get("/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def held_blocks(client: Any) -> int:
    return int(client.server.instance.stats().used_blocks)


class TestNixl:
    async def test_params_are_those_of_vllm(self, start: Any) -> None:
        prefill = await start()
        answer = await prefill.complete(**{**BODY, **PREFILL})
        params = answer["kv_transfer_params"]
        assert list(params) == [
            "do_remote_prefill", "do_remote_decode", "remote_block_ids", "remote_engine_id", "remote_request_id",
            "remote_host", "remote_port", "tp_size", "dcp_size", "pp_size", "remote_num_tokens",
            "remote_blocks_expiry_time", "transfer_mode",
            "remote_prefill_cached_tokens",
        ]  # fmt: skip
        tokens = answer["usage"]["prompt_tokens"]
        assert params["remote_num_tokens"] == tokens
        assert len(params["remote_block_ids"][0]) == -(-tokens // 16)
        assert (params["do_remote_prefill"], params["do_remote_decode"]) == (True, False)

    async def test_decode_pulls_and_answers_the_same_tokens(self, start: Any) -> None:
        prefill, decode = await start(), await start()
        expected = await undisturbed(await start())
        answer = await prefill.complete(**{**BODY, **PREFILL})
        assert held_blocks(prefill) > 0
        params = answer["kv_transfer_params"]
        assert await undisturbed(decode, kv_transfer_params=params) == expected
        prompt_tokens = answer["usage"]["prompt_tokens"]
        source = (
            'vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="external_kv_transfer"}'
        )
        assert await metric(decode, source) == prompt_tokens
        while held_blocks(prefill):
            await asyncio.sleep(0.01)
        assert await metric(prefill, "vllm:nixl_num_kv_expired_reqs_total") == 0

    async def test_streams_carry_no_params(self, start: Any) -> None:
        prefill = await start()
        events = await prefill.events(
            "/v1/completions", **{**BODY, "kv_transfer_params": ASK, "max_tokens": 1}
        )
        assert all("kv_transfer_params" not in event for event in events[:-1])

    async def test_a_running_request_is_handed_over(self, start: Any) -> None:
        source, target = await start(), await start()
        expected = await undisturbed(await start(), max_tokens=200)
        so_far: list[int] = []
        prompt_ids: list[int] = []
        async with source.http.stream(
            "POST", "/v1/completions", json={**BODY, "max_tokens": 200, "stream": True}
        ) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: {"):
                    [choice] = orjson.loads(line[6:])["choices"]
                    prompt_ids += choice["prompt_token_ids"] or []
                    so_far += choice["token_ids"]
                if len(so_far) >= 50:
                    break
            all_ids = prompt_ids + so_far
            leg = await source.complete(**{**BODY, **PREFILL, "prompt": all_ids})
        recomputed = len(all_ids) - leg["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert recomputed <= 18
        rest = await undisturbed(
            target, prompt=all_ids, max_tokens=200 - len(so_far), kv_transfer_params=leg["kv_transfer_params"]
        )
        assert so_far + rest == expected

    async def test_an_expired_lease_frees_the_blocks(self, start: Any) -> None:
        prefill, decode = await start(transfer=nixl(lease_s=0.05)), await start(transfer=nixl())
        params = (await prefill.complete(**{**BODY, **PREFILL}))["kv_transfer_params"]
        while held_blocks(prefill):
            await asyncio.sleep(0.01)
        late = await decode.post("/v1/completions", **BODY, kv_transfer_params=params)
        assert late.status_code == 500
        assert late.json()["error"]["type"] == "InternalServerError"
        assert await metric(prefill, "vllm:nixl_num_kv_expired_reqs_total") == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param({"remote_request_id": "cmpl-unknown"}, id="unknown request"),
            pytest.param({"remote_engine_id": "restarted since"}, id="another engine at the same address"),
            pytest.param({"remote_port": 1}, id="nobody there"),
        ],
    )
    @pytest.mark.parametrize("policy", KvLoadFailure)
    async def test_kv_that_cannot_be_had(
        self, start: Any, wrong: dict[str, Any], policy: KvLoadFailure
    ) -> None:
        prefill, decode = await start(), await start(transfer=nixl(load_failure=policy))
        params = (await prefill.complete(**{**BODY, **PREFILL}))["kv_transfer_params"]
        answer = await decode.post("/v1/completions", **BODY, kv_transfer_params={**params, **wrong})
        if policy is KvLoadFailure.FAIL:
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, 500)
        else:
            assert answer.json()["choices"][0]["token_ids"] == await undisturbed(prefill)
        assert await metric(decode, "vllm:nixl_num_failed_transfers_total") == 1

    async def test_a_failed_pull_in_a_stream_is_an_event_before_done(self, start: Any) -> None:
        decode = await start(transfer=nixl())
        params = {**ASK, "do_remote_decode": False, "do_remote_prefill": True, "remote_block_ids": [[1]]}
        params |= {
            "remote_engine_id": "e",
            "remote_request_id": "r",
            "remote_host": "127.0.0.1",
            "remote_port": 1,
        }
        events = await decode.events("/v1/completions", **BODY, kv_transfer_params=params)
        assert events[0]["error"]["code"] == 500
        assert events[1:] == ["[DONE]"]

    async def test_params_without_blocks_mean_a_plain_request(self, start: Any) -> None:
        decode = await start()
        params = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": None}
        assert await undisturbed(decode, kv_transfer_params=params) == await undisturbed(await start())

    async def test_a_refused_decode_leg_frees_the_blocks(self, start: Any) -> None:
        prefill, decode = await start(), await start()
        params = (await prefill.complete(**{**BODY, **PREFILL}))["kv_transfer_params"]
        refused = await decode.post(
            "/v1/completions", **{**BODY, "temperature": -1, "kv_transfer_params": params}
        )
        assert refused.status_code == 400
        while held_blocks(prefill):
            await asyncio.sleep(0.01)

    async def test_an_engine_without_a_connector_ignores_params(self, start: Any) -> None:
        engine = await start(transfer=nixl(role=KvRole.NONE))
        answer = await engine.complete(**{**BODY, **PREFILL})
        assert answer["kv_transfer_params"] is None
        assert held_blocks(engine) == 0


def sglang(role: KvRole, **options: Any) -> TransferOptions:
    return TransferOptions(role=role, connector=KvConnector.SGLANG, connect_timeout_s=0.3, **options)


class TestSglang:
    async def test_both_legs_meet_in_a_room(self, start: Any) -> None:
        prefill = await start(transfer=sglang(KvRole.PRODUCER))
        decode = await start(transfer=sglang(KvRole.CONSUMER))
        expected = await undisturbed(await start())
        room = {
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.server.app.exchange.port,
            "bootstrap_room": 7,
        }
        first, whole = await asyncio.gather(prefill.complete(**BODY, **room), decode.complete(**BODY, **room))
        assert first["usage"]["completion_tokens"] == 1
        assert first["choices"][0]["token_ids"] == expected[:1]
        assert whole["choices"][0]["token_ids"] == expected
        assert held_blocks(prefill) == 0

    async def test_a_partner_that_never_comes(self, start: Any) -> None:
        prefill = await start(transfer=sglang(KvRole.PRODUCER, partner_timeout_s=0.1))
        decode = await start(transfer=sglang(KvRole.CONSUMER, partner_timeout_s=0.1))
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.server.app.exchange.port}
        alone = await asyncio.gather(
            prefill.post("/v1/completions", **BODY, **room, bootstrap_room=1),
            decode.post("/v1/completions", **BODY, **room, bootstrap_room=2),
        )
        assert [answer.status_code for answer in alone] == [500, 500]
        assert held_blocks(prefill) == held_blocks(decode) == 0

    @pytest.mark.parametrize("role", [KvRole.PRODUCER, KvRole.CONSUMER])
    async def test_no_room_no_service(self, start: Any, role: KvRole) -> None:
        engine = await start(transfer=sglang(role))
        answer = await engine.post("/v1/completions", **BODY)
        assert answer.status_code == 400
        assert "without bootstrap room" in answer.text

    async def test_a_leg_whose_client_leaves_lets_its_partner_fail(self, start: Any) -> None:
        prefill = await start(transfer=sglang(KvRole.PRODUCER, partner_timeout_s=5))
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": 1, "bootstrap_room": 3}
        leg = asyncio.create_task(prefill.post("/v1/completions", **BODY, **room))
        await asyncio.sleep(0.05)
        leg.cancel()
        await asyncio.gather(leg, return_exceptions=True)
        assert held_blocks(prefill) == 0


class TestMooncake:
    async def test_both_legs_at_once(self, start: Any) -> None:
        options = TransferOptions(connector=KvConnector.MOONCAKE)
        prefill, decode = await start(transfer=options), await start(transfer=options)
        expected = await undisturbed(await start())
        bootstrap = f"http://127.0.0.1:{prefill.server.app.exchange.port}"
        entries = (await prefill.http.get(f"{bootstrap}/query")).json()
        give = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": "xfer-1"}
        take = {
            "do_remote_decode": False,
            "do_remote_prefill": True,
            "transfer_id": "xfer-1",
            "remote_bootstrap_addr": bootstrap,
            "remote_engine_id": entries["0"]["engine_id"],
        }
        first, tokens = await asyncio.gather(
            prefill.complete(**{**BODY, **PREFILL, "kv_transfer_params": give}),
            undisturbed(decode, kv_transfer_params=take),
        )
        assert first["kv_transfer_params"] is None
        assert tokens == expected
        while held_blocks(prefill):
            await asyncio.sleep(0.01)
