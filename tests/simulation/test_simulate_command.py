"""`pointsman simulate` as people call it."""

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pointsman.cli.simulate import command

POOLS = "2xmixed:a100-opt-13b"
TIMES = ("wall_s", "simulated_requests_per_s")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rng = Random(1)
    at_s, lines = 0.0, ["timestamp_s,prompt_tokens,output_tokens,hash_ids"]
    for _ in range(200):
        at_s += rng.expovariate(3.0)
        prompt = rng.randint(600, 3000)
        shared = rng.randint(0, 3)
        lines.append(f"{at_s:.4f},{prompt},{rng.randint(1, 300)},{shared}")
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def simulate(trace: Path, *arguments: str, pools: str = POOLS, policy: str = "least_requests") -> Result:
    return CliRunner().invoke(command, [str(trace), "--pools", pools, "--policy", policy, *arguments])


def report(trace: Path, tmp_path: Path, *arguments: str, **named: str) -> dict[str, Any]:
    file = tmp_path / "report.json"
    result = simulate(trace, "--json", str(file), *arguments, **named)
    assert result.exit_code == 0, result.output
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--view-delay", "0.1"),
        ("--predictor", "noisy:0.5", "--rate-scale", "6"),
    ],
)
def test_the_same_twice_is_the_same(trace: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    first, second = (report(trace, tmp_path, *arguments, policy="power_of_two") for _ in range(2))
    for name in TIMES:
        first.pop(name), second.pop(name)
    assert json.dumps(first) == json.dumps(second)


def test_the_first_tenth_warms_up(trace: Path, tmp_path: Path) -> None:
    found = report(trace, tmp_path)
    assert (found["requests"], found["completed"], found["failed"], found["rejected"]) == (180, 180, 0, 0)
    assert found["slo"]["attainment"] > 0
    assert found["prefix_hit_rate"] > 0.1
    assert found["ttft_s"]["p50"] < found["ttft_s"]["p99"] <= found["ttft_s"]["max"] < found["e2e_s"]["max"]
    assert found["instance_seconds"] >= 2 * found["duration_s"]


def test_split_pools_prefill_and_decode(trace: Path, tmp_path: Path) -> None:
    found = report(trace, tmp_path, pools="2xprefill:a100-opt-13b,2xdecode:a100-opt-13b")
    mixed = report(trace, tmp_path)
    assert found["completed"] == 180
    # Nobody's decoding waits for somebody's prompt.
    assert found["itl_s"]["p99"] < mixed["itl_s"]["p99"]


def test_a_connector_decides_what_a_decode_instance_may_do(trace: Path, tmp_path: Path) -> None:
    pools = "2xprefill:a100-opt-13b,2xdecode:a100-opt-13b"
    found = [report(trace, tmp_path, "--connector", name, pools=pools) for name in ("nixl", "sglang")]
    assert [one["completed"] for one in found] == [180, 180]
    assert found[0]["e2e_s"] != found[1]["e2e_s"]


def test_interrupted_it_writes_no_report(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    arguments = ["--pools", POOLS, "--policy", "random", "--rate-scale", "3000", "--json", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman.cli", "simulate", str(trace), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    while b"SigCgt:\t0000000000000000" in (status := Path(f"/proc/{process.pid}/status").read_bytes()) or (
        not int(re.search(rb"SigCgt:\t(\w+)", status)[1], 16) & (1 << (signal.SIGTERM - 1))  # type: ignore[index]
    ):
        time.sleep(0.02)  # until it listens to signals
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert "report.json was not written" in errors.decode()
    assert not list(tmp_path.glob("*report*"))


def test_a_trace_that_lasts_longer_than_can_be_counted_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "long.csv"
    header = "timestamp_s,prompt_tokens,output_tokens\n0,10,10\n"
    trace.write_text(header + "4000000,10,10\n")
    assert "2 completed" in simulate(trace).output
    trace.write_text(header + "20000000,10,10\n")
    assert "long.csv: a request arrives 231 days after the first" in (refused := simulate(trace)).output
    assert refused.exit_code == 2


def test_limits_that_nobody_can_miss_are_limits_all_the_same(trace: Path) -> None:
    result = simulate(trace, "--slo", "ttft=1e9,tpot=1e9")
    assert result.exit_code == 0, result.output
    assert "attainment  100.0% of offered requests" in result.output


def test_explain_says_why_a_request_went_where_it_went(trace: Path) -> None:
    result = simulate(trace, "--explain", "100")
    assert "request 100: decode=sim://mixed/" in result.output
    assert "why=fewest requests" in result.output
    assert result.output.count("sim://mixed/1  mixed  running") == 1


@pytest.mark.parametrize(
    ("arguments", "named", "problem"),
    [
        ((), {"pools": "2xmixed:nothing"}, "nothing"),
        ((), {"pools": "2xprefill:a100-opt-13b"}, "need decode instances"),
        ((), {"policy": "psychic"}, "unknown policy 'psychic'; there are"),
        ((), {"policy": "prefix_affinity:cache_threshold"}, "is not PARAMETER=VALUE"),
        ((), {"policy": "round_robin:x=1"}, "has no parameter x"),
        (("--predictor", "noisy:2"), {}, "Kendall's tau must be above 0"),
        (("--predictor", "psychic"), {}, "unknown predictor 'psychic'"),
        (("--slo", "ttft=0"), {}, "not a number of seconds above 0"),
        (("--view-delay", "1", "--routers", "1"), {}, "a single router sees all it does at once"),
        (("--rate-scale", "0"), {}, "--rate-scale"),
        (("--rate-scale", "nan"), {}, "nan is not a finite number"),
        (("--rate-scale", "1e12"), {}, "at most 4000 times is possible"),
        (("--view-delay", "1e300"), {}, "is not in the range 0<=x<=86400"),
        (
            (),
            {"policy": "prefix_affinity:cache_threshold=x"},
            "cache_threshold=x is not a number of 0 or more",
        ),
        ((), {"policy": "kv_cost:temperature=-1"}, "temperature=-1 is not a number of 0 or more"),
        (
            (),
            {"policy": "weighted_scorers:queue_weight=nan"},
            "queue_weight=nan is not a number of 0 or more",
        ),
        (
            ("--order", "shortest_predicted"),
            {},
            "nobody waits in the router while instances take all that comes",
        ),
        (("--order", "least_slack:x=1", "--max-running", "4"), {}, "order 'least_slack' has no parameter x"),
        (("--connector", "sglang"), {}, "mixed instances alone hand nothing over"),
        (("--explain", "200"), {}, "200: there are 200 requests, counted from 0"),
        (("--json", "/nowhere/report.json"), {}, "/nowhere is no folder that can be written to"),
        (
            (),
            {"pools": "1xprefill:a100-opt-13b,1xdecode:a100-llama3.1-8b"},
            "a100-opt-13b serves facebook/opt-13b and a100-llama3.1-8b meta-llama/Meta-Llama-3.1-8B",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    trace: Path, arguments: tuple[str, ...], named: dict[str, str], problem: str
) -> None:
    result = simulate(trace, *arguments, **named)
    assert result.exit_code != 0
    assert problem in " ".join(result.output.replace("│", " ").split())


def test_a_prompt_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n0,10,10\n1,5000000,10\n")
    result = simulate(path)
    assert result.exit_code == 1
    assert "long.csv, line 3, prompt_tokens: 5000000 and 10 output tokens exceed the" in result.output


def test_predictions_come_from_a_file(trace: Path, tmp_path: Path) -> None:
    answers = [line.split(b",")[2].decode() for line in gzip.decompress(trace.read_bytes()).split()[1:]]
    path = tmp_path / "truth.csv"
    path.write_text("predicted_output_tokens\n" + "\n".join(answers))
    shortest = ("--max-running", "4", "--order", "shortest_predicted", "--rate-scale", "6", "--predictor")
    given, oracle, blind = (
        report(trace, tmp_path, *shortest, name) for name in (str(path), "oracle", "none")
    )
    assert given.pop("predictor") == "truth.csv"
    assert oracle.pop("predictor") == "oracle"
    for name in TIMES:
        given.pop(name), oracle.pop(name)
    assert given == oracle
    assert given["ttft_s"] != blind["ttft_s"]


def test_predictions_that_do_not_match_are_refused_before_anything_runs(trace: Path, tmp_path: Path) -> None:
    path, file = tmp_path / "few.csv", tmp_path / "report.json"
    path.write_text("predicted_output_tokens\n5\n6\n")
    result = simulate(trace, "--predictor", str(path), "--json", str(file))
    assert result.exit_code == 1
    assert (
        "few.csv, predicted_output_tokens: holds 2 predictions; the workload has 200 requests"
        in result.output
    )
    assert not file.exists()


def test_a_broken_trace_leaves_no_report(tmp_path: Path) -> None:
    path, file = tmp_path / "broken.csv", tmp_path / "report.json"
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n0,10,10\n1,x,10\n")
    result = simulate(path, "--json", str(file))
    assert result.exit_code == 1
    assert "broken.csv, line 3, prompt_tokens: 'x' is not a whole number" in result.output
    assert not file.exists()
