"""`pointsman up` and `pointsman demo` as people run them: they serve, they report, they leave nothing behind."""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.timeout(180)
WITHIN_S = 60.0


async def read_until(process: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    read = ""
    async with asyncio.timeout(WITHIN_S):
        async for line in process.stdout:
            read += line.decode()
            if found := re.search(pattern, read):
                return found
    raise AssertionError(f"{pattern} is not in:\n{read}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.02)


async def test_up_serves_until_it_is_told_to_end(
    start_pointsman: Any, children_of: Any, tmp_path: Path
) -> None:
    process = await start_pointsman(
        *("up", "--prefill", "1", "--decode", "1", "--speed", "50", "--port", "0")
    )
    url = (await read_until(process, r"(http://\S+/v1)\n"))[1]
    await read_until(process, "Ctrl-C ends it")
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        model = (await client.models.list()).data[0].id
        answer = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": "Which way to Crewe? " * 200}],
            max_tokens=5,
            extra_headers={"x-pointsman-explain": "1"},
        )
    usage = answer.parse().usage
    assert usage is not None
    assert usage.completion_tokens == 5
    assert "prefill=http://127.0.0.1:" in answer.headers["x-pointsman-decision"]
    assert len(children_of(process.pid)) == 3
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp_s,prompt_tokens,output_tokens\n0,600,3\n0,600,3\n")
    replay = await start_pointsman("replay", trace, "--url", url, "--speed", "50")
    said = " ".join((await replay.communicate())[0].decode().split())
    assert "2 measured: 2 completed, 0 failed" in said
    assert "pools 1 prefill + 1 decode x a100-opt-13b" in said
    assert "engine lag" in said
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert children_of(process.pid) == []


async def test_an_engine_that_dies_is_reported_and_started_anew_where_wanted(
    start_pointsman: Any, children_of: Any
) -> None:
    process = await start_pointsman("up", "--mixed", "1", "--port", "0", "--restart")
    await read_until(process, "Ctrl-C ends it")
    engine = min(children_of(process.pid))  # the router is started after it
    os.kill(engine, signal.SIGKILL)
    await read_until(process, r"mixed-1 \(http://127.0.0.1:\d+\) ended with signal 9")
    await read_until(process, r"mixed-1 \(http://127.0.0.1:\d+\) serves again")
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def test_nothing_is_left_when_up_is_killed(start_pointsman: Any, children_of: Any) -> None:
    process = await start_pointsman("up", "--mixed", "2", "--port", "0")
    await read_until(process, "Ctrl-C ends it")
    assert len(children_of(process.pid)) == 3
    process.kill()
    await process.wait()
    await until(lambda: not children_of(process.pid))


async def test_a_port_that_is_taken_is_an_error_with_the_routers_words(
    start_pointsman: Any, children_of: Any
) -> None:
    async with await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await start_pointsman("up", "--mixed", "1", "--port", port)
        output, _ = await process.communicate()
    assert process.returncode == 1
    assert "router ended with status 1" in output.decode()
    assert "Traceback" not in output.decode()
    assert children_of(process.pid) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--profile", "none"], "Invalid value for --profile: no engine profile 'none'"),
        (["--prefill", "2"], "prefill instances alone answer nothing"),
        (["--mixed", "-1"], "Invalid value for '--mixed'"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (["--policy", "none"], "models[0].policy"),
    ],
)
async def test_mistakes_are_explained(start_pointsman: Any, arguments: list[str], complaint: str) -> None:
    process = await start_pointsman("up", *arguments)
    output, _ = await process.communicate()
    assert process.returncode in (1, 2)
    assert complaint in " ".join(output.decode().split())
    assert "Traceback" not in output.decode()


async def test_the_demo_ends_by_itself_with_the_report(start_pointsman: Any, children_of: Any) -> None:
    process = await start_pointsman("demo", "--requests", "60", "--speed", "10")
    output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    assert "54 measured: 54 completed, 0 failed, 0 rejected" in said
    assert re.search(r"curl -N http://127\.0\.0\.1:\d+/v1/chat/completions", said)
    assert children_of(process.pid) == []


@pytest.mark.parametrize("when", ["Starting", "Now"])
async def test_the_demo_ends_cleanly_when_interrupted(
    start_pointsman: Any, children_of: Any, when: str
) -> None:
    process = await start_pointsman("demo")
    await read_until(process, when)
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in output.decode()
    assert children_of(process.pid) == []


async def test_the_demo_keeps_serving_where_wanted(start_pointsman: Any, children_of: Any) -> None:
    process = await start_pointsman("demo", "--keep", "--requests", "10", "--speed", "50")
    await read_until(process, "Still serving at http")
    assert len(children_of(process.pid)) == 5
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert children_of(process.pid) == []
