"""`pointsman profile`: what it shows, refuses, fits, and measures on a live engine."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from pointsman.api.profile import load_profile, load_profile_file, shipped_profiles
from pointsman.cli.profile import command
from pointsman.core.units import PS_PER_MS
from pointsman.profiling.points import COLUMNS, Measured, write_points

COST = load_profile("a100-opt-13b").cost


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def exact(*shapes: Sequence[int]) -> list[Measured]:
    """Points as the shipped profile predicts them."""
    points = [Measured(*shape, 1.0) for shape in shapes]  # type: ignore[call-arg]
    return [
        point._replace(
            time_ms=COST.iteration_ps(*point.point()[:4], point.point().prefill_chunks) / PS_PER_MS
        )
        for point in points
    ]


PREFILL = [(n, 0, 1, 0, 0) for n in (32, 64, 128, 256, 512, 1024)]
DECODE = [(0, 0, 0, n, c) for n in (1, 4, 16, 30) for c in (100, 700)]
MIXED = [(p, 0, 1, n, 300) for p in (64, 500, 900) for n in (2, 20)]


def test_the_list_tells_estimates_from_measurements() -> None:
    lines = invoke("show").output.splitlines()
    for name in shipped_profiles():
        (line,) = [line for line in lines if name in line.split()]
        assert ("estimate" in line) == ("aiconfigurator" in load_profile_file(name).provenance.source)


def test_a_profile_is_shown_with_its_source_and_errors() -> None:
    output = " ".join(invoke("show", "h100-llama3.1-8b").output.split())
    assert "estimate, not a measurement of an engine: aiconfigurator" in output
    assert "prefill of a prompt of 2048 tokens" in output
    assert "prefill 0.7% median, 2.7% p90 of 400 points" in output


def test_all_that_ships_holds_what_is_wanted() -> None:
    result = invoke("check")
    assert result.exit_code == 0, result.output
    assert "short" not in result.output


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.2, 1)])
def test_points_are_held_against_a_profile(tmp_path: Path, factor: float, code: int) -> None:
    file = tmp_path / "points.csv"
    points = exact(*PREFILL, *DECODE, *MIXED)
    write_points(file, [point._replace(time_ms=point.time_ms * factor) for point in points])
    result = invoke("check", "a100-opt-13b", "--points", file)
    assert result.exit_code == code
    assert ("short" in result.output) == bool(code)


@pytest.mark.parametrize(
    ("shapes", "phases"), [([*PREFILL, *DECODE], 2), ([*PREFILL, *DECODE, *MIXED, *MIXED], 3)]
)
def test_a_fit_finds_what_made_the_points(
    tmp_path: Path, shapes: Sequence[Sequence[int]], phases: int
) -> None:
    file, out = tmp_path / "points.csv", tmp_path / "mine.json"
    write_points(file, exact(*shapes))
    result = invoke(
        "fit", file, "--like", "a100-opt-13b", "--name", "mine", "--kv-capacity-tokens", 4096, "--out", out
    )
    assert result.exit_code == 0, result.output
    mine = load_profile_file(out)
    assert mine.kv_capacity_tokens == 4096
    assert mine.provenance.kv_capacity == "given by who fitted it"
    assert mine.provenance.transfer == "taken from a100-opt-13b"
    assert len(mine.provenance.left_out) == phases
    assert max(error.median for error in mine.provenance.left_out.values()) < 0.01
    assert invoke("check", out, "--points", file).exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunk_tokens,time_ms\n", "line 1: no column context_before, prefill_chunks"),
        (",".join(COLUMNS) + "\n8,0,1,0,0,-3\n", "line 2, time_ms: '-3' is no time above 0"),
        (
            ",".join(COLUMNS) + "\n8,0,1,0,0,3\n8,0,x,0,0,3\n",
            "line 3, prefill_chunks: 'x' is no whole number",
        ),
        (",".join(COLUMNS) + "\n8,0,0,0,0,3\n", "line 2: an iteration that computes nothing"),
        (",".join(COLUMNS) + "\n8,0,1,0,0,3\n", "a fit needs three points of each phase"),
        (
            ",".join(COLUMNS) + ",note\n8,0,1,0,0,3,x\n",
            "line 1: unknown column 'note'; it takes chunk_tokens",
        ),
        (",".join(COLUMNS) + "\n8,0,1,0,0,3,4\n", "line 2: more fields than the 6 columns"),
        (",".join(COLUMNS) + "\n8,0,1\n", "line 2, decode_sequences: None is no whole number"),
        (",".join(COLUMNS) + "\n8,0,1,0,0,nan\n", "line 2, time_ms: 'nan' is no time above 0"),
        ("", "line 1: no column chunk_tokens"),
        (
            ",".join(COLUMNS) + "\n" + "8,0,1,0,0,3\n" * 3 + "0,0,0,1,9,3\n" * 3 + "8,0,1,1,9,3\n",
            "there are 1 points that mix the phases",
        ),
        (
            ",".join(COLUMNS) + "\n" + "8,0,1,0,0,3\n" * 9 + "8,0,1,1,9,3\n" * 5,
            "a joint fit needs three points of each phase; there are fewer of decode",
        ),
    ],
)
def test_points_that_make_no_fit_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text(text)
    result = invoke("fit", file, "--like", "a100-opt-13b", "--name", "mine")
    assert result.exit_code == 1
    assert message in result.output


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_bytes(b"\xff\xfe\x00")
    result = invoke("fit", file, "--like", "a100-opt-13b", "--name", "mine")
    assert result.exit_code == 1
    assert f"{file}: not UTF-8 text" in result.output


def test_what_an_engine_runs_under_can_be_told(tmp_path: Path) -> None:
    file, out = tmp_path / "points.csv", tmp_path / "mine.json"
    write_points(file, exact(*PREFILL, *DECODE))
    limits = ("--max-batched-tokens", 512, "--max-sequences", 32, "--block-size", 32)
    result = invoke("fit", file, "--like", "a100-opt-13b", "--name", "mine", *limits, "--out", out)
    assert result.exit_code == 0, result.output
    mine = load_profile(out)
    assert (mine.max_batched_tokens, mine.max_sequences, mine.block_size) == (512, 32, 32)


def test_without_aiconfigurator_an_estimate_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator", None)
    result = invoke("estimate", "--model", "m", "--system", "h100_sxm", "--name", "x")
    assert result.exit_code == 1
    assert "pip install 'pointsman[profiles]'" in result.output


class Live(NamedTuple):
    url: str
    process: "subprocess.Popen[str]"


@pytest.fixture
def engine() -> Iterator[Live]:
    arguments = ["engine", "--port", "0", "--profile", "a100-opt-13b"]
    with subprocess.Popen(
        [sys.executable, "-m", "pointsman.cli", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Live(process.stdout.readline().split()[3], process)
        process.terminate()


def test_a_live_engine_is_measured(engine: Live, tmp_path: Path) -> None:
    out = tmp_path / "points.csv"
    sizes = ("--prompts", "64,512", "--batches", "2", "--contexts", "100", "--output-tokens", "32")
    result = invoke("measure", engine.url, *sizes, "--repeats", "1", "--out", out)
    assert result.exit_code == 0, result.output
    lines = [line.split(",") for line in out.read_text().splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["64", "0", "1", "0"],
        ["512", "0", "1", "0"],
        ["0", "0", "0", "2"],
    ]
    assert int(lines[-1][4]) == pytest.approx(116, abs=16), "in the middle of the answers"
    assert all(float(line[5]) > 0 for line in lines[1:])


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = invoke("measure", "http://127.0.0.1:9", "--out", tmp_path / "points.csv")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9" in result.output
    assert not (tmp_path / "points.csv").exists()
