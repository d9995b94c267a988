"""The load client against an endpoint that does as each test says."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pointsman.core.slo import Slo
from pointsman.loadgen.client import LoadOptions
from pointsman.loadgen.replay import EndpointError, Plan, Replay, Target, find_model
from pointsman.loadgen.wire import Api, Dialect, Endpoint
from pointsman.sim.objective import FixedObjective
from pointsman.sim.report import Report, RunFacts
from pointsman.sim.workload.request import TraceRequest

GENEROUS = FixedObjective(Slo(ttft_s=1e6, tpot_s=1e6))
ONE = [TraceRequest(0.0, 20, 3)]


def replay_of(
    url: str,
    workload: list[TraceRequest],
    options: LoadOptions = LoadOptions(timeout_s=20.0),  # noqa: B008 - a value
    dialect: Dialect = Dialect("fake-model"),  # noqa: B008 - a value
    **target: Any,
) -> Replay:
    plan = Plan(workload, RunFacts("t", speed=options.speed, slo_rule="generous"), GENEROUS, options)
    return Replay(Target(Endpoint.from_url(url), dialect, **target), plan)


def marks_of(report: Report) -> list[str]:
    """Without the one that a busy test machine earns."""
    return [mark for mark in report.marks if not mark.startswith("this client")]


async def test_every_request_is_answered_and_counted(endpoint: Any) -> None:
    workload = [TraceRequest(i * 0.001, 10 + i, 1 + i % 5) for i in range(50)]
    report = await replay_of(endpoint.url, workload).run()
    assert (report.requests, report.completed, report.failed) == (45, 45, 0)
    assert report.slo.attainment == 1.0
    assert marks_of(report) == []
    assert report.itl_s.p50 is not None
    assert sorted(len(asked.body["prompt"]) // 4 for asked in endpoint.asked) == [
        r.prompt_tokens for r in workload
    ]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_url_may_end_with_v1_or_not(endpoint: Any, suffix: str) -> None:
    assert await find_model(Endpoint.from_url(endpoint.url + suffix)) == "fake-model"
    report = await replay_of(endpoint.url + suffix, ONE).run()
    assert report.completed == 1
    assert endpoint.asked[0].target == "/v1/completions"


async def test_a_base_path_is_kept(endpoint: Any) -> None:
    await replay_of(endpoint.url + "/openai/v1", ONE).run()
    assert endpoint.asked[0].target == "/openai/v1/completions"


async def test_decisions_are_asked_for_and_recorded(endpoint: Any, tmp_path: Path) -> None:
    async def handler(asked: Any) -> None:
        await asked.answer(404, {"error": {"message": "no"}}, "X-Pointsman-Decision: decode=d;why=idle")

    endpoint.handler = handler
    plan = Plan(ONE, RunFacts("t"), GENEROUS, LoadOptions(), tmp_path / "r.jsonl")
    await Replay(Target(Endpoint.from_url(endpoint.url), Dialect("m", explain=True)), plan).run()
    assert endpoint.asked[0].headers["x-pointsman-explain"] == "1"
    assert orjson.loads((tmp_path / "r.jsonl").read_text())["decision"] == "decode=d;why=idle"


async def test_what_is_sent(endpoint: Any) -> None:
    request = TraceRequest(0.0, 20, 3, session_id="s", program_id="bad id\n", tenant="t", priority=2)
    await replay_of(endpoint.url, [request]).run()
    (asked,) = endpoint.asked
    assert asked.body["max_tokens"] == asked.body["pointsman_output_tokens"] == 3
    assert asked.body["ignore_eos"] is True
    assert asked.body["stream"] is True
    assert asked.body["stream_options"] == {"include_usage": True}
    assert asked.headers["x-session-id"] == "s"
    assert len(asked.headers["x-program-id"]) == 16
    assert asked.headers["x-tenant"] == "t"
    assert asked.headers["x-priority"] == "2"
    assert asked.headers["x-request-id"].startswith("replay-")


async def test_plain_chat_sends_only_what_openai_defines(endpoint: Any) -> None:
    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        await asked.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        await asked.event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]})
        await asked.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await asked.event(b"[DONE]")
        await asked.end_stream()

    endpoint.handler = handler
    dialect = Dialect("m", Api.CHAT, exact_lengths=False)
    report = await replay_of(endpoint.url, ONE, dialect=dialect).run()
    (asked,) = endpoint.asked
    assert asked.target == "/v1/chat/completions"
    assert set(asked.body) == {"model", "messages", "max_tokens", "stream", "stream_options"}
    assert report.completed == 1
    assert marks_of(report) == ["answers had 33% of the tokens that the trace asks for"]


Script = Callable[[Any], Any]


async def refuse_429(asked: Any) -> None:
    await asked.answer(429, {"error": {"message": "slow down"}})


async def refuse_503(asked: Any) -> None:
    await asked.answer(503, {"error": {"message": "full"}}, "x-pointsman-reason: queue_full")


async def break_503(asked: Any) -> None:
    await asked.answer(503, {"detail": "engine is dead"})


async def error_event(asked: Any) -> None:
    await asked.begin_stream()
    await asked.token()
    await asked.event({"error": {"message": "engine lost"}})
    await asked.event(b"[DONE]")
    await asked.end_stream()


async def clean_end_without_finish(asked: Any) -> None:
    await asked.begin_stream()
    await asked.token()
    await asked.end_stream()


async def hang_up(asked: Any) -> None:
    await asked.begin_stream()
    await asked.token()
    asked.hang_up()


async def not_json(asked: Any) -> None:
    await asked.begin_stream()
    await asked.event(b"{oops")
    await asyncio.sleep(10)


async def wrong_shape(asked: Any) -> None:
    await asked.begin_stream()
    await asked.event({"choices": ["oops"]})
    await asyncio.sleep(10)


async def not_a_stream(asked: Any) -> None:
    await asked.answer(200, {"choices": [{"text": "whole"}]})


@pytest.mark.parametrize(
    ("script", "outcome", "error"),
    [
        (refuse_429, "rejected", "429: slow down"),
        (refuse_503, "rejected", "503: queue_full full"),
        (break_503, "failed", "503: "),
        (error_event, "failed", "200: engine lost"),
        (clean_end_without_finish, "failed", "200: the stream ended before the answer did"),
        (hang_up, "failed", "200: closed"),
        (not_json, "failed", "200: not a stream of completion chunks"),
        (wrong_shape, "failed", "200: not a stream of completion chunks: str where an object belongs"),
        (not_a_stream, "failed", "200: the stream ended before the answer did"),
    ],
)
async def test_what_goes_wrong_is_counted_and_named(
    endpoint: Any, script: Script, outcome: str, error: str
) -> None:
    endpoint.handler = script
    report = await replay_of(endpoint.url, ONE).run()
    assert getattr(report, outcome) == 1
    assert report.slo.attainment == 0.0
    (told,) = report.errors
    assert told.startswith(error)


async def test_a_silent_endpoint_times_out(endpoint: Any) -> None:
    async def silence(asked: Any) -> None:
        await asyncio.sleep(30)

    endpoint.handler = silence
    report = await replay_of(endpoint.url, ONE, LoadOptions(timeout_s=0.2)).run()
    assert report.failed == 1
    assert "timeout" in next(iter(report.errors))


async def test_nobody_listening_fails_each_request_and_ends() -> None:
    report = await replay_of("http://127.0.0.1:1", ONE * 3).run()
    assert report.failed == 3
    with pytest.raises(EndpointError, match="cannot be reached"):
        await find_model(Endpoint.from_url("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [(200, {"data": []}, "name one with --model"), (401, {"error": {"message": "who?"}}, "401: who[?]")],
)
async def test_models_that_do_not_answer_the_question(
    endpoint: Any, status: int, body: object, complaint: str
) -> None:
    endpoint.models, endpoint.models_status = body, status
    with pytest.raises(EndpointError, match=complaint):
        await find_model(Endpoint.from_url(endpoint.url))


async def test_several_tokens_in_an_event_are_counted_by_their_ids(endpoint: Any) -> None:
    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        await asked.token(token_ids=[1])
        await asked.token(token_ids=[2, 3, 4])
        await asked.finish(4)

    endpoint.handler = handler
    replay = replay_of(endpoint.url, [TraceRequest(0.0, 5, 4)], dialect=Dialect("m", token_ids=True))
    report = await replay.run()
    assert endpoint.asked[0].body["return_token_ids"] is True
    assert report.tpot_s.mean is not None
    assert report.itl_s.mean == pytest.approx(report.tpot_s.mean)
    assert report.itl_s.max == pytest.approx(report.tpot_s.mean)


async def test_tokens_that_events_hide_are_counted_by_usage(endpoint: Any) -> None:
    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        await asked.token()
        await asked.token(" two three")
        await asked.finish(5)

    endpoint.handler = handler
    report = await replay_of(endpoint.url, [TraceRequest(0.0, 5, 5)]).run()
    assert marks_of(report) == []
    assert report.itl_s.mean == pytest.approx(report.tpot_s.mean)


async def test_events_cut_anywhere_are_put_together(endpoint: Any) -> None:
    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        stream = b'data: {"choices":[{"index":0,"text":" x","finish_reason":null}]}\r\n\r\n: ping\n\n' * 3
        stream += b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        for at in range(0, len(stream), 7):
            await asked.send(stream[at : at + 7])
        await asked.end_stream()

    endpoint.handler = handler
    report = await replay_of(endpoint.url, ONE).run()
    assert (report.completed, marks_of(report)) == (1, [])


async def test_requests_beyond_the_limit_wait_in_the_client(endpoint: Any) -> None:
    under_way, most = 0, 0

    async def handler(asked: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asked.begin_stream()
        await asyncio.sleep(0.01)
        under_way -= 1
        await asked.finish(3)

    endpoint.handler = handler
    report = await replay_of(endpoint.url, ONE * 20, LoadOptions(max_in_flight=4)).run()
    assert report.completed == 18
    assert most == 4


async def test_speed_compresses_arrivals_and_multiplies_times_back(endpoint: Any) -> None:
    workload = [TraceRequest(0.0, 5, 1), TraceRequest(100.0, 5, 1)]
    report = await replay_of(endpoint.url, workload, LoadOptions(speed=100.0)).run()
    assert report.duration_s > 50.0  # the first request may be sent late
    assert report.duration_s <= report.wall_s * 100.0
    assert report.speed == 100.0


async def test_stopping_reports_what_ended_and_counts_the_rest_as_unfinished(endpoint: Any) -> None:
    replay: Replay
    second_arrived = asyncio.Event()

    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        if len(endpoint.asked) == 1:
            await asked.token()
            await asked.finish(1)
        else:
            second_arrived.set()
            await asyncio.sleep(30)

    endpoint.handler = handler
    replay = replay_of(
        endpoint.url, [TraceRequest(0.0, 5, 1), TraceRequest(0.3, 5, 1), TraceRequest(1e6, 5, 1)]
    )
    running = asyncio.create_task(replay.run())
    await second_arrived.wait()
    replay.stop()
    report = await running
    assert (report.completed, report.unfinished, report.interrupted) == (1, 1, True)
    assert "interrupted after 2 of 3 requests; no warm-up is taken off" in report.marks
    assert report.slo.attainment == 0.5


async def test_records_hold_times_and_counts_but_no_text(endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    plan = Plan(
        [TraceRequest(0.0, 20, 3), TraceRequest(0.0, 30, 1, prompt="secret words")],
        RunFacts("t", slo_rule="generous"),
        GENEROUS,
        LoadOptions(),
        path,
    )
    await Replay(Target(Endpoint.from_url(endpoint.url), Dialect("m")), plan).run()
    assert {asked.body["prompt"] for asked in endpoint.asked} > {"secret words"}
    text = path.read_text()
    assert "secret" not in text
    records = {record["index"]: record for record in map(orjson.loads, text.splitlines())}
    assert records[0]["output_tokens"] == 3
    assert records[0]["prompt_tokens"] == 20
    assert records[0]["outcome"] == "completed"
    assert records[1]["tpot_s"] is None
    assert records[0]["sent_s"] <= records[0]["first_token_s"] <= records[0]["end_s"]


METRICS = """# HELP x y
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 100.0
vllm:prefix_cache_hits_total{engine="0"} 20
vllm:num_preemptions_total{engine="0"} 1
garbage
"""


async def test_engines_metrics_tell_prefix_hits_and_preemptions(endpoint: Any) -> None:
    endpoint.metrics = METRICS

    async def handler(asked: Any) -> None:
        endpoint.metrics = (
            METRICS.replace(" 100.0", " 150.0").replace(" 20\n", " 70\n").replace(" 1\n", " 4\n")
        )
        await asked.begin_stream()
        await asked.token()
        await asked.finish(1)

    endpoint.handler = handler
    engines = (Endpoint.from_url(endpoint.url),)
    report = await replay_of(endpoint.url, [TraceRequest(0.0, 5, 1)], engines=engines, instances=2).run()
    assert report.prefix_hit_rate == 0.5
    assert report.preemptions == 3
    assert report.instance_seconds == pytest.approx(2 * report.duration_s)


async def test_a_run_with_lagging_engines_is_marked(endpoint: Any) -> None:
    metrics = "pointsman:iteration_late_seconds_sum 0\npointsman:iteration_late_seconds_count 0\n"
    endpoint.metrics = metrics

    async def handler(asked: Any) -> None:
        endpoint.metrics = metrics.replace("sum 0", "sum 5000").replace("count 0", "count 10")
        await asked.begin_stream()
        await asked.token()
        await asked.finish(1)

    endpoint.handler = handler
    engines = (Endpoint.from_url(endpoint.url),)
    report = await replay_of(endpoint.url, [TraceRequest(0.0, 5, 1)], engines=engines).run()
    assert report.ttft_s.mean is not None
    assert report.engine_lag == pytest.approx(500 / report.ttft_s.mean)
    assert "behind their virtual clocks" in marks_of(report)[0]


async def test_engines_at_another_speed_mark_the_run(endpoint: Any) -> None:
    endpoint.metrics = "pointsman:engine_speed 5.0\n"
    engines = (Endpoint.from_url(endpoint.url),)
    report = await replay_of(endpoint.url, ONE, engines=engines).run()
    assert marks_of(report) == ["engines run at 5x real time, not at this replay's 1x"]


async def test_without_engines_cached_tokens_tell_prefix_hits(endpoint: Any) -> None:
    async def handler(asked: Any) -> None:
        await asked.begin_stream()
        await asked.token()
        await asked.finish(1, prompt_tokens=8, prompt_tokens_details={"cached_tokens": 2})

    endpoint.handler = handler
    report: Report = await replay_of(endpoint.url, [TraceRequest(0.0, 8, 1)]).run()
    assert report.prefix_hit_rate == 0.25
