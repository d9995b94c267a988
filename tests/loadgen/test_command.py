"""`pointsman replay` as people run it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

POINTSMAN = str(Path(sys.executable).parent / "pointsman")
TRACE = "timestamp_s,prompt_tokens,output_tokens\n" + "".join(f"{i * 0.01},20,3\n" for i in range(20))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


async def start(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        POINTSMAN, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def run(*arguments: object) -> tuple[int | None, str]:
    process = await start(*arguments)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_trace_is_replayed_and_reported(endpoint: Any, trace: Path, tmp_path: Path) -> None:
    report_file = tmp_path / "out.json"
    records = tmp_path / "records.jsonl"
    status, output = await run(
        *("replay", trace, "--url", endpoint.url + "/v1", "--rate-scale", "8", "--max-requests", "30"),
        *("--speed", "2", "--slo", "ttft=5,tpot=1", "--json", report_file, "--records", records),
        *("--policy", "round_robin", "--pools", "fake"),
    )
    assert status == 0, output
    assert "27 measured: 27 completed, 0 failed, 0 rejected" in output
    assert "speed x2" in output
    report = orjson.loads(report_file.read_bytes())
    assert report["requests"] == report["completed"] == 27
    assert (report["rate_scale"], report["speed"]) == (8.0, 2.0)
    assert (report["policy"], report["pools"], report["trace"]) == ("round_robin", "fake", "trace.csv")
    assert report["slo"]["ttft_s"] == 5.0
    assert endpoint.asked[0].body["model"] == "fake-model"
    assert len(records.read_text().splitlines()) == 30
    assert sorted(os.listdir(tmp_path)) == ["out.json", "records.jsonl", "trace.csv"]  # noqa: PTH208 - no await here


async def test_the_api_key_is_sent_and_not_shown(endpoint: Any, trace: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-hidden\n")
    status, output = await run("replay", trace, "--url", endpoint.url, "--api-key-file", key)
    assert status == 0
    assert endpoint.asked[0].headers["authorization"] == "bearer sk-hidden"
    assert "sk-hidden" not in output


async def test_ctrl_c_prints_the_report_of_what_ended(endpoint: Any, tmp_path: Path) -> None:
    trace = tmp_path / "long.csv"
    trace.write_text("timestamp_s,prompt_tokens,output_tokens\n0,20,3\n0,20,3\n9999,20,3\n")
    answered = asyncio.Event()
    usual = endpoint.handler

    async def handler(asked: Any) -> None:
        await usual(asked)
        if len(endpoint.asked) == 2:
            answered.set()

    endpoint.handler = handler
    process = await start("replay", trace, "--url", endpoint.url, "--json", tmp_path / "out.json")
    await answered.wait()
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    assert process.returncode == 130
    assert "interrupted after 2 of 3 requests" in output.decode()
    assert orjson.loads((tmp_path / "out.json").read_bytes())["interrupted"] is True


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{trace}", "--url", "ftp://x"], "Invalid value for --url: 'ftp://x' is no http:// or https:// URL"),
        (
            ["{trace}", "--url", "{url}", "--slo", "fast"],
            "Invalid value for '--slo': 'fast' is not ttft=SECONDS",
        ),
        (["{trace}", "--url", "{url}", "--rate-scale", "0"], "0.0 is not in the range x>0"),
        (["nowhere.csv", "--url", "{url}"], "Error: nowhere.csv: cannot be read: No such file"),
        (["{trace}", "--url", "http://127.0.0.1:1"], "Error: http://127.0.0.1:1 cannot be reached"),
        (["{trace}", "--url", "{url}", "--records", "/nowhere/r"], "/nowhere/r"),
        (["{trace}", "--url", "{url}", "--api-key-file", "/nowhere/k"], "Invalid value for --api-key-file"),
        ([], "Missing argument 'TRACE'"),
    ],
)
async def test_mistakes_are_explained_without_a_traceback(
    endpoint: Any, trace: Path, arguments: list[str], complaint: str
) -> None:
    filled = [argument.format(trace=trace, url=endpoint.url) for argument in arguments]
    status, output = await run("replay", *filled)
    assert status in (1, 2)
    assert complaint in " ".join(output.split())
    assert "Traceback" not in output
