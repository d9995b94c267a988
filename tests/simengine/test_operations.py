"""Metrics, sleep, faults, start-up, the virtual clock: what operators and tests use."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

BODY = {"prompt": "x" * 400, "max_tokens": 20, "ignore_eos": True}


async def families(client: Any) -> dict[str, Any]:
    text = (await client.http.get("/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(text)}


async def value(client: Any, family: str, suffix: str = "", **labels: str) -> float:
    samples = (await families(client))[family].samples
    return sum(
        float(sample.value)
        for sample in samples
        if sample.name == family + suffix and labels.items() <= sample.labels.items()
    )


class TestMetrics:
    async def test_counters_follow_what_ran(self, client: Any) -> None:
        await client.complete(**BODY)
        await client.complete(**BODY)
        assert await value(client, "vllm:prompt_tokens", "_total") == 200
        assert await value(client, "vllm:generation_tokens", "_total") == 40
        assert await value(client, "vllm:prefix_cache_queries", "_total") == 200
        assert await value(client, "vllm:prefix_cache_hits", "_total") == 96
        assert await value(client, "vllm:request_success", "_total", finished_reason="length") == 2
        for histogram in (
            "time_to_first_token_seconds",
            "e2e_request_latency_seconds",
            "request_queue_time_seconds",
        ):
            assert await value(client, f"vllm:{histogram}", "_count") == 2
        assert await value(client, "vllm:inter_token_latency_seconds", "_count") == 38

    async def test_gauges_follow_what_runs(self, client: Any) -> None:
        long = {**BODY, "max_tokens": 10_000, "stream": True}
        async with client.http.stream("POST", "/v1/completions", json=long) as response:
            async for _ in response.aiter_lines():
                break
            assert await value(client, "vllm:num_requests_running") == 1
            assert await value(client, "vllm:kv_cache_usage_perc") > 0
        await client.server.instance.idle.wait()
        assert await value(client, "vllm:num_requests_running") == 0
        assert await value(client, "vllm:kv_cache_usage_perc") == 0

    async def test_labels_and_types(self, client: Any) -> None:
        found = await families(client)
        assert found["vllm:num_requests_running"].type == "gauge"
        assert found["vllm:time_to_first_token_seconds"].type == "histogram"
        assert found["vllm:prompt_tokens"].type == "counter"
        [sample] = found["vllm:num_requests_running"].samples
        assert sample.labels == {"model_name": "tiny", "engine": "0"}
        [info] = found["vllm:cache_config_info"].samples
        assert info.labels["block_size"] == "16"
        assert info.labels["num_gpu_blocks"] == "1024"

    async def test_lora_requests(self, start: Any) -> None:
        client = await start(lora_names=("adapter",))
        base = await client.complete(**BODY)
        adapted = await client.complete(**BODY, model="adapter")
        assert adapted["model"] == "adapter"
        assert adapted["choices"][0]["text"] != base["choices"][0]["text"]
        assert adapted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        [info] = (await families(client))["vllm:lora_requests_info"].samples
        assert info.labels["max_lora"] == "1"


class TestSleep:
    async def test_sleeps_and_wakes(self, client: Any) -> None:
        assert (await client.http.post("/sleep", params={"level": 2})).json() == {
            "status": "sleeping",
            "level": 2,
        }
        assert (await client.http.get("/is_sleeping")).json() == {"is_sleeping": True}
        assert await value(client, "vllm:engine_sleep_state", sleep_state="discard_all") == 1
        waiting = asyncio.create_task(client.complete(**BODY))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await client.http.post("/wake_up")
        assert (await waiting)["usage"]["completion_tokens"] == 20

    async def test_running_answers_end_with_abort(self, client: Any) -> None:
        running = asyncio.create_task(client.complete(**{**BODY, "max_tokens": 10_000}))
        while not client.server.instance.stats().running:
            await asyncio.sleep(0.005)
        await client.http.post("/sleep")
        assert (await running)["choices"][0]["finish_reason"] == "abort"
        assert client.server.instance.stats().used_blocks == 0


class TestFaults:
    async def test_errors_at_a_rate_are_the_same_for_a_seed(self, client: Any) -> None:
        outcomes = []
        for _ in range(2):
            await client.post("/admin/faults", error_rate=0.5, seed=7)
            codes = [(await client.post("/v1/completions", **BODY)).status_code for _ in range(12)]
            outcomes.append(codes)
        assert outcomes[0] == outcomes[1]
        assert set(outcomes[0]) == {200, 500}
        await client.http.delete("/admin/faults")
        assert (await client.post("/v1/completions", **BODY)).status_code == 200

    async def test_a_stream_is_dropped_after_so_many_tokens(self, client: Any) -> None:
        await client.post("/admin/faults", drop_rate=1.0, drop_after_tokens=5)
        seen: list[str] = []

        async def read() -> None:
            body = {**BODY, "stream": True}
            async with client.http.stream("POST", "/v1/completions", json=body) as response:
                async for line in response.aiter_lines():
                    seen.append(line)  # noqa: PERF401 what came before the cut counts

        with pytest.raises(httpx.RemoteProtocolError):
            await read()
        assert sum(line.startswith("data: {") for line in seen) == 5
        assert client.server.instance.stats().used_blocks == 0

    async def test_a_hung_engine_answers_nothing_but_its_health(self, client: Any) -> None:
        await client.post("/admin/faults", hang=True)
        waiting = asyncio.create_task(client.complete(**BODY))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert (await client.http.get("/health")).status_code == 200
        await client.http.delete("/admin/faults")
        await waiting

    async def test_slow_iterations_take_their_factor(self, client: Any) -> None:
        await client.complete(**BODY)
        fast = await value(client, "vllm:request_decode_time_seconds", "_sum")
        await client.post("/admin/faults", slow_factor=4)
        await client.complete(**BODY)
        slow = await value(client, "vllm:request_decode_time_seconds", "_sum") - fast
        assert slow == pytest.approx(4 * fast, rel=0.01)

    @pytest.mark.parametrize(
        ("faults", "param"),
        [
            pytest.param({"error_rate": 2}, "error_rate", id="no rate"),
            pytest.param({"explode": True}, "explode", id="unknown"),
        ],
    )
    async def test_refused_settings(self, client: Any, faults: dict[str, Any], param: str) -> None:
        answer = await client.post("/admin/faults", **faults)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_slow_start_answers_503(start: Any) -> None:
    client = await start(start_up_s=30)
    assert (await client.http.get("/health")).status_code == 503
    assert (await client.post("/v1/completions", **BODY)).status_code == 503
    assert (await client.http.get("/metrics")).status_code == 200


async def test_virtual_time_does_not_depend_on_the_speed(start: Any) -> None:
    """Latencies as the engine measures them are those of its profile, however fast the clock runs."""
    sums = []
    for speed in (1.0, 10.0):
        client = await start(speed=speed)
        await client.complete(**BODY)
        sums.append(await value(client, "vllm:e2e_request_latency_seconds", "_sum"))
    assert sums[0] == pytest.approx(sums[1])


async def test_a_late_host_catches_up_and_says_so(client: Any) -> None:
    """The host sleeps for a while: later iterations are late, virtual latencies are not."""
    running = asyncio.create_task(client.complete(**{**BODY, "max_tokens": 100}))
    while not client.server.instance.stats().running:
        await asyncio.sleep(0.001)
    time.sleep(0.1)  # noqa: ASYNC251 a host that is busy elsewhere
    await running
    status = (await client.http.get("/admin/status")).json()
    assert status["lag_worst_s"] >= 0.09
    expected_s = 100 * 0.0021
    assert await value(client, "vllm:e2e_request_latency_seconds", "_sum") == pytest.approx(
        expected_s, rel=0.1
    )


async def test_priority_runs_first(start: Any) -> None:
    client = await start(priority_scheduling=True, max_sequences=1)
    order: list[str] = []

    async def one(name: str, priority: int) -> None:
        await client.complete(**BODY, priority=priority)
        order.append(name)

    await client.post("/admin/faults", hang=True)
    tasks = []
    for name, priority in (("later", 5), ("first", 0), ("urgent", -5)):
        tasks.append(asyncio.create_task(one(name, priority)))
        while client.server.instance.driver.arriving < len(tasks):
            await asyncio.sleep(0.001)
    await client.http.delete("/admin/faults")
    await asyncio.gather(*tasks)
    assert order == ["urgent", "first", "later"]


async def test_a_full_engine_preempts_and_finishes_everything(start: Any) -> None:
    client = await start(kv_capacity_tokens=640, max_model_len=600)
    expected = await client.complete(**{**BODY, "max_tokens": 300})
    answers = await asyncio.gather(
        *(client.complete(**{**BODY, "max_tokens": 300, "cache_salt": f"s{n}"}) for n in range(4)),
        client.complete(**{**BODY, "max_tokens": 300}),
    )
    assert await value(client, "vllm:num_preemptions", "_total") > 0
    assert answers[-1]["choices"][0]["text"] == expected["choices"][0]["text"]
