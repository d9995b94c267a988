"""The simulator's bench: what it times, what it gives to Dynamo, and what it concludes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from simulator.cases import own_cases, verdicts
from simulator.mooncake import write_mooncake
from simulator.timing import CommandError, timed


def test_a_command_is_timed_with_its_memory(tmp_path: Path) -> None:
    holds = "import os; data = bytearray(150_000_000); data[::4096] = b'x' * len(data[::4096]); print(os.environ['SAID'])"
    took = timed([sys.executable, "-c", holds], {"SAID": "hello"}, tmp_path / "log")
    assert took.peak_bytes > 150_000_000
    assert took.cpu_s > 0
    assert took.wall_s > 0
    assert (tmp_path / "log").read_text() == "hello\n"


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"ended with 3:\nno such thing"):
        timed([sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"], {}, tmp_path / "log")


def test_dynamo_gets_the_same_requests(tmp_path: Path) -> None:
    trace, file = tmp_path / "trace.csv", tmp_path / "out" / "trace.jsonl"
    trace.write_text("timestamp_s,prompt_tokens,output_tokens,hash_ids\n5,1000,3,7 8\n7,513,4,\n9,1,1,\n")
    assert write_mooncake(trace, 2.0, 2, file) == 2
    first, second = map(json.loads, file.read_text().splitlines())
    assert first == {"timestamp": 0.0, "input_length": 1000, "output_length": 3, "hash_ids": [7, 8]}
    assert (second["timestamp"], second["input_length"], second["output_length"]) == (1000.0, 513, 4)
    assert len(set(second["hash_ids"]) - {7, 8}) == 2


def test_each_side_is_timed_and_memory_once() -> None:
    cases = own_cases(0.01, ["compiled", "pure"])
    assert [(case.side, case.name) for case in cases if case.group == "memory"] == [
        ("compiled", "1,000 requests"),
        ("compiled", "4,000 requests"),
    ]
    assert {case.side for case in cases if case.group == "speed"} == {"compiled", "pure"}


def test_what_is_concluded() -> None:
    def row(group: str, name: str, side: str, inside_s: float, peak: int = 1) -> dict[str, Any]:
        return {
            "group": group, "name": name, "side": side, "inside_s": inside_s, "requests": 100, "peak_bytes": peak
        }  # fmt: skip

    rows = [
        row("memory", "1", "compiled", 1, 100),
        row("memory", "4", "compiled", 1, 103),
        row("azure2023_code", "round_robin", "compiled", 1.0),
        row("azure2023_code", "round_robin", "dynamo", 3.0),
        row("azure2023_code", "kv_cost", "compiled", 4.0),
        row("azure2023_code", "kv_router", "dynamo", 2.0),
        row("azure2023_conv", "kv_cost", "compiled", 4.0),
    ]
    assert verdicts(rows) == [
        "memory: a trace four times as long takes +3.0%",
        "our round_robin against Dynamo's round_robin, without starts: azure2023_code 3.0x",
        "our kv_cost against Dynamo's kv_router, without starts: azure2023_code 0.5x",
    ]
