"""Traces in Mooncake's form, which Dynamo replays."""

import json
from pathlib import Path
from typing import Any

from pointsman.sim.workload.request import HASH_BLOCK_TOKENS, TraceRequest
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace import TraceFile

_FRESH = 1 << 40
"""Ids from here on are of blocks that a trace does not name: nobody shares them."""


def mooncake_line(number: int, request: TraceRequest) -> dict[str, Any]:
    """The `number`-th request."""
    blocks = -(-request.prompt_tokens // HASH_BLOCK_TOKENS)
    hashes = request.hash_ids or tuple(_FRESH + number * 1024 + place for place in range(blocks))
    return {
        "timestamp": request.arrival_s * 1000,
        "input_length": request.prompt_tokens,
        "output_length": request.output_tokens,
        "hash_ids": list(hashes),
    }


def write_mooncake(trace: Path, rate_scale: float, most: int | None, file: Path) -> int:
    """How many requests were written. Raises TraceError and OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = -1
    with file.open("w", encoding="utf-8") as lines:
        for number, request in enumerate(Cut(RateScaled(TraceFile(trace), rate_scale), most)):
            lines.write(json.dumps(mooncake_line(number, request)) + "\n")
    return number + 1
