"""Drives vLLM's own V1 scheduler and our engine loop side by side and compares every iteration.

    PYTHONPATH=core:sim:bench PYTHON_OF_VLLM -m scheduler_agreement --model DIR [--lives N] [--traces DIR] [--json FILE]

Needs Python with vLLM (0.32 was used; no GPU and no weights: the model directory gives the configuration only).
A random life draws everything; a trace brings its own arrivals, lengths and prefixes, in the time that iterations take
on a shipped profile. Per iteration the scheduled requests and their token counts must be equal; in the end the
preemptions and, of each request, the prefix hits. vLLM samples nothing: the tokens are given to it, the same as those
that our block hashes stand for.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scheduler_agreement.comparing import Agreement, compare, total
from scheduler_agreement.lives import Life, TraceCase, random_life, trace_life

SHOWN_CHARACTERS = 1500


def trace_cases(folder: Path, requests: int) -> list[TraceCase]:
    """Conversation lengths, near what an instance sustains and with tight KV, and long prompts with shared prefixes."""
    azure, profile = folder / "azure2023_conv.csv.gz", "h100-llama3.1-8b"
    mooncake = folder / "mooncake_conversation.csv.gz"
    return [
        TraceCase(azure, profile, requests, 6.0, 2048),
        TraceCase(azure, profile, requests, 6.0, 512, kv_tokens=24_000),
        TraceCase(mooncake, profile, requests, 0.8, 2048),
        TraceCase(mooncake, profile, requests, 0.8, 8192, kv_tokens=100_000),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--lives", type=int, default=50, help="random ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traces", type=Path, help="folder of the traces; without it none is driven")
    parser.add_argument("--requests", type=int, default=1000, help="of each trace")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    lives = [random_life(seed) for seed in range(asked.seed, asked.seed + asked.lives)]
    random_ones = list(lived(iter(lives), asked.model))
    cases = trace_cases(asked.traces, asked.requests) if asked.traces else []
    traces = list(lived((trace_life(case) for case in cases), asked.model))
    for one in traces:
        print(json.dumps(one.as_json()))
    report: dict[str, Any] = {"random": total(random_ones), "traces": total(traces)}
    print(json.dumps(report, indent=2))
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        lists = {"random_lives": random_ones, "trace_lives": traces}
        report |= {key: [one.as_json() for one in found] for key, found in lists.items()}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(any(one.differs for one in (*random_ones, *traces)))


def lived(lives: Iterator[Life], model: str) -> Iterator[Agreement]:
    for life in lives:
        found = compare(life, model)
        if found.differs:
            print(json.dumps(found.as_json())[:SHOWN_CHARACTERS])
        yield found


if __name__ == "__main__":
    main()
