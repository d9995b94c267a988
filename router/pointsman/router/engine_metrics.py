"""What an engine says of itself on /metrics, under vLLM's names and SGLang's.

Pages are 50 to 100 KB of which a few lines matter, so lines are found, not parsed; whatever is not there stays None: a
metric that vanished is not zero.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

RUNNING = (b"vllm:num_requests_running", b"sglang:num_running_reqs")
WAITING = (b"vllm:num_requests_waiting", b"sglang:num_queue_reqs")
KV_USED = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc", b"sglang:token_usage")
KV_CAPACITY = (b"sglang:max_total_num_tokens",)
START = (b"process_start_time_seconds", b"vllm:prompt_tokens_created")
"""In multi-process mode vLLM does not export the former; when a counter began serves as well."""
VLLM_CACHE = b"vllm:cache_config_info{"

_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class EngineReport:
    """None: not said."""

    start: str | None = None
    """When the process started: tells one engine from the next at the same address."""
    running: int | None = None
    waiting: int | None = None
    kv_used_share: float | None = None
    """0 to 1."""
    kv_capacity_tokens: int | None = None


def read_report(page: bytes) -> EngineReport:
    """Requests are summed over the data-parallel ranks of one server, shares of KV averaged."""
    starts = _values(page, START)
    return EngineReport(
        start=repr(starts[0]) if starts else None,
        running=_whole(page, RUNNING),
        waiting=_whole(page, WAITING),
        kv_used_share=_mean(_values(page, KV_USED)),
        kv_capacity_tokens=_vllm_capacity(page) or _whole(page, KV_CAPACITY),
    )


def _whole(page: bytes, names: Sequence[bytes]) -> int | None:
    values = _values(page, names)
    total = sum(values)
    return int(total) if values and isfinite(total) else None


def _mean(values: Sequence[float]) -> float | None:
    mean = sum(values) / len(values) if values else inf
    return mean if isfinite(mean) else None


def _values(page: bytes, names: Sequence[bytes]) -> list[float]:
    """Values of the first of these metrics that is there, one per rank. NaN counts as not said."""
    for name in names:
        found = [value for value in (_sample(line) for line in _lines(page, name)) if value is not None]
        if found:
            return found
    return []


def _lines(page: bytes, name: bytes) -> list[bytes]:
    """Sample lines of one metric. A page may begin with one; all others follow a line break."""
    lines = []
    at = 0 if page.startswith(name) else page.find(b"\n" + name) + 1 or -1
    while at >= 0:
        end = page.find(b"\n", at)
        line = page[at:] if end < 0 else page[at:end]
        if line[len(name) : len(name) + 1] in {b"{", b" "}:
            lines.append(line)
        at = page.find(b"\n" + name, at) + 1 or -1
    return lines


def _sample(line: bytes) -> float | None:
    # SGLang repeats values on every tensor-parallel rank that keeps metrics; the first speaks for its group.
    labels, _, value = line.rpartition(b"} ") if b"{" in line else (b"", b"", line.partition(b" ")[2])
    if b'tp_rank="' in labels and b'tp_rank="0"' not in labels:
        return None
    try:
        number = float(value.split()[0])
    except (ValueError, IndexError):
        return None
    return number if number - number == 0.0 else None  # neither NaN nor infinite


def _vllm_capacity(page: bytes) -> int | None:
    """From the labels of an info metric. Models with several kinds of attention hold more, or less, than blocks times
    tokens per block; newer engines say how much.
    """
    tokens = 0
    for line in _lines(page, VLLM_CACHE[:-1]):
        labels = dict(_LABEL.findall(line))
        try:
            said = labels.get(b"kv_cache_size_tokens", b"None")
            if said == b"None":
                tokens += int(labels[b"num_gpu_blocks"]) * int(labels[b"block_size"])
            else:
                tokens += int(said)
        except (KeyError, ValueError):
            return None
    return tokens or None
