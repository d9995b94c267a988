"""Traces are read as they are written, and refused with the place and the remedy."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from pointsman.sim.workload.request import TraceRequest
from pointsman.sim.workload.trace import TraceError, TraceFile

CSV = "timestamp_s,prompt_tokens,output_tokens,hash_ids,session_id,priority,note\n5.5,1025,7,3 4 5,alice,-2,x\n6,1,1,,,,\n"
JSONL = (
    '{"timestamp_s":5.5,"prompt_tokens":1025,"output_tokens":7,"hash_ids":[3,4,5],"session_id":"alice","priority":-2}\n'
    "\n"
    '{"timestamp_s":6,"prompt_tokens":1,"output_tokens":1,"session_id":null}\n'
)
EXPECTED = [
    TraceRequest(0.0, 1025, 7, (3, 4, 5), session_id="alice", priority=-2),
    TraceRequest(0.5, 1, 1),
]


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trace.csv", CSV.encode()),
        ("trace.csv.gz", packed(CSV.encode())),
        ("trace.jsonl", JSONL.encode()),
        ("trace.jsonl.gz", packed(JSONL.encode())),
        ("windows.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("hash ids as text.jsonl", JSONL.replace("[3,4,5]", '"3 4 5"').encode()),
    ],
)
def test_a_trace_is_read_from_each_format_and_again(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    trace = TraceFile(path)
    assert list(trace) == EXPECTED
    assert list(trace) == EXPECTED


def test_prompts_may_span_lines_and_hold_commas(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text('timestamp_s,prompt_tokens,output_tokens,prompt,tenant\n0,3,1,"a, b\nc",team\n')
    assert list(TraceFile(path)) == [TraceRequest(0.0, 3, 1, tenant="team", prompt="a, b\nc")]


HEAD = "timestamp_s,prompt_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"", "is no trace by its name; allowed: .csv, .jsonl, either with .gz"),
        ("gz", b"", "is no trace by its name"),
        ("a.csv", b"", "holds no requests"),
        ("a.csv", HEAD.encode(), "holds no requests"),
        ("a.jsonl", b"\n\n", "holds no requests"),
        ("a.csv", b"prompt_tokens,output_tokens\n1,1\n", "line 1, timestamp_s: is not among the columns"),
        ("a.csv", (HEAD + "0,1,1\n1,2\n").encode(), "line 3: has 2 fields where the header names 3"),
        (
            "a.csv",
            (HEAD + "0,1,1\nnan,1,1\n").encode(),
            "line 3, timestamp_s: 'nan' is not a number of seconds",
        ),
        ("a.csv", (HEAD + "1,1,1\n0.5,1,1\n").encode(), "line 3, timestamp_s: 0.5 comes after 1.0; sort"),
        ("a.csv", (HEAD + "0,0,1\n").encode(), "line 2, prompt_tokens: '0' is not a whole number from 1 to"),
        ("a.csv", (HEAD + "0,1,2.5\n").encode(), "line 2, output_tokens: '2.5' is not a whole number"),
        ("a.csv", (HEAD + "0,1_0,2\n").encode(), "line 2, prompt_tokens: '1_0' is not a whole number"),
        ("a.csv", (HEAD + "0,--1,2\n").encode(), "line 2, prompt_tokens: '--1' is not a whole number"),
        ("a.csv", (HEAD + "0,,2\n").encode(), "line 2, prompt_tokens: '' is not a whole number"),
        ("a.csv", (HEAD + '0,1,"1').encode(), "line 2: is not CSV"),
        ("a.csv", (HEAD + "0,1,\xff\n").encode("latin-1"), "line 2: is not UTF-8"),
        ("a.csv.gz", b"plain", "cannot be read: Not a gzipped file"),
        ("a.csv.gz", packed((HEAD + "0,1,1\n").encode())[:-9], "cannot be read"),
        ("a.jsonl", b"{", "line 1: is not JSON"),
        ("a.jsonl", b"[1]", "line 1: [1] is not a JSON object"),
        ("a.jsonl", b'{"timestamp_s":0,"prompt_tokens":1}', "line 1, output_tokens: is missing"),
        (
            "a.jsonl",
            b'{"timestamp_s":true,"prompt_tokens":1,"output_tokens":1}',
            "timestamp_s: True is not a number of seconds",
        ),
        (
            "a.jsonl",
            b'{"timestamp_s":0,"prompt_tokens":1.0,"output_tokens":1}',
            "prompt_tokens: 1.0 is not a whole number",
        ),
        (
            "a.jsonl",
            b'{"timestamp_s":0,"prompt_tokens":1,"output_tokens":1,"hash_ids":7}',
            "hash_ids: 7 is not a list of whole numbers",
        ),
        (
            "a.jsonl",
            b'{"timestamp_s":0,"prompt_tokens":512,"output_tokens":1,"hash_ids":[1,2]}',
            "hash_ids: 2 blocks of 512 for 512 prompt tokens",
        ),
        (
            "a.jsonl",
            b'{"timestamp_s":0,"prompt_tokens":1,"output_tokens":1,"prompt":["x"]}',
            "prompt: ['x'] is not text",
        ),
    ],
)
def test_a_bad_trace_is_refused_with_file_line_and_field(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError) as refused:
        list(TraceFile(path))
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere\.csv: cannot be read: No such file"):
        list(TraceFile(tmp_path / "nowhere.csv"))


def test_what_came_before_a_bad_line_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEAD + "0,1,1\nx,1,1\n")
    requests = iter(TraceFile(path))
    assert next(requests) == TraceRequest(0.0, 1, 1)
    with pytest.raises(TraceError):
        next(requests)


def test_reading_holds_no_more_than_a_few_lines(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(HEAD + "".join(f"{i},100,100\n" for i in range(50_000)))
    tracemalloc.start()
    assert sum(1 for _ in TraceFile(path)) == 50_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
