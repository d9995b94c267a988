"""The requests that are played: lengths spread as in the Azure conversation trace, shrunk to the model, Poisson arrivals."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from pointsman.sim.workload.request import TraceRequest

COLUMNS = ("timestamp_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True)
class Lengths:
    """Words of prompts and tokens of answers: log-normal, cut at both ends."""

    prompt_median: float = 110.0
    prompt_sigma: float = 0.9
    most_prompt: int = 600
    output_median: float = 32.0
    output_sigma: float = 0.7
    most_output: int = 120
    least: int = 4

    def draw(self, rng: Random) -> tuple[int, int]:
        prompt = rng.lognormvariate(0.0, self.prompt_sigma) * self.prompt_median
        output = rng.lognormvariate(0.0, self.output_sigma) * self.output_median
        return (
            max(self.least, min(self.most_prompt, round(prompt))),
            max(self.least, min(self.most_output, round(output))),
        )


def drawn(requests: int, seed: int, lengths: Lengths = Lengths()) -> list[TraceRequest]:
    """One request a second on average."""
    rng = Random(seed)
    at_s, found = 0.0, []
    for _ in range(requests):
        found.append(TraceRequest(at_s, *lengths.draw(rng)))
        at_s += rng.expovariate(1.0)
    return found


def at_rate(requests: Sequence[TraceRequest], per_s: float) -> list[TraceRequest]:
    return [request.at(request.arrival_s / per_s) for request in requests]


def at_once(requests: Sequence[TraceRequest]) -> list[TraceRequest]:
    return [request.at(0.0) for request in requests]


def spaced(requests: Sequence[TraceRequest], gap_s: float) -> list[TraceRequest]:
    """So far apart that each is alone."""
    return [request.at(place * gap_s) for place, request in enumerate(requests)]


def write_trace(path: Path, requests: Sequence[TraceRequest]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((f"{r.arrival_s:.6f}", r.prompt_tokens, r.output_tokens) for r in requests)


def as_served(requests: Sequence[TraceRequest], records: Path) -> list[TraceRequest]:
    """The same requests with the prompts' lengths as the engine counted them, when they were really sent.

    Raises ValueError where the engine did not say.
    """
    lines = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    served = []
    for line in sorted(lines, key=lambda line: int(line["index"])):
        if line["prompt_tokens"] is None:
            raise ValueError(f"{records}: the engine did not count the prompt of request {line['index']}")
        request = replace(requests[line["index"]], prompt_tokens=line["prompt_tokens"])
        served.append(request.at(line["sent_s"]))
    first_s = served[0].arrival_s
    return [request.at(max(0.0, request.arrival_s - first_s)) for request in served]
