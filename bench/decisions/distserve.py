"""DistServe (Zhong et al., OSDI 2024): the placement of OPT-13B on four GPUs that bears most requests per second and GPU.

Prefill and decode instances of one, two or four GPUs each, and instances that do both beside them. A placement bears a
rate if nine of ten requests have their first token within 0.2 s and nine of ten take at most 0.1 s per further token, the
rule of the authors' own simulator, LLMServe/DistServe@82831f1604cc simdistserve (Apache-2.0), which says 1.56 requests per
second and GPU for a prefill instance of two GPUs and a decode instance of one.
"""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from decisions.arrivals import Lengths, matched_means, poisson, trace_lengths
from decisions.cluster_run import Setup, play
from decisions.runs import processes, remembered
from decisions.search import highest_rate

from pointsman.api.profile import load_profile
from pointsman.cli.report_view import write_json
from pointsman.core.instances import Role
from pointsman.core.perf import EngineProfile
from pointsman.core.units import PS_PER_S
from pointsman.sim.engine import EngineOptions
from pointsman.sim.pools import Pool

FILE = Path("bench/decisions/distserve.json")
GPUS = 4
TTFT_S, TPOT_S = 0.2, 0.1
ATTAINED_PER_CENT = 90
MEAN_PROMPT, MEAN_OUTPUT = 755.5, 200.3
"""Of ShareGPT in the paper, tokens."""
MOST_TOKENS = 2048
"""Of prompt and answer: longer requests were dropped there."""
REQUESTS = 1000
THEIR_REQUESTS = 300
SEEDS = (1, 2, 3)
WHOLE_PROMPTS = 16_384
CHUNKS = (512, WHOLE_PROMPTS)
"""Tried where instances do both; prefill instances compute prompts whole, as theirs."""
THEIR_ITERATION_OVERHEAD_PS = 2 * PS_PER_S // 1000
"""Their simulator adds 2 ms and 0.1 us per token of context to each iteration."""
THEIR_TOKEN_OVERHEAD_PS = PS_PER_S // 10_000_000
PROFILES = {1: "a100-opt-13b", 2: "a100-opt-13b-tp2", 4: "a100-opt-13b-tp4"}
NVLINK = ("a100_pairwise_nvlink", "send_recv", "2")
"""Node, collective, and GPUs of the node that took part, in Vidur's measurements."""
FIRST_GUESS = 1.5
"""Requests per second and GPU."""
NEAR = 1.06
"""Stride of a search that begins where another seed's ended."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Instances alike."""

    count: int
    gpus_each: int

    @property
    def gpus(self) -> int:
        return self.count * self.gpus_each

    def __str__(self) -> str:
        return f"{self.count} x {self.gpus_each} GPU{'s' * (self.gpus_each > 1)}"


@dataclass(frozen=True)
class Placement:
    """What runs where; no decode instances: all do both."""

    first: Group
    decode: Group | None

    @property
    def gpus(self) -> int:
        return self.first.gpus + (self.decode.gpus if self.decode else 0)

    def __str__(self) -> str:
        return f"{self.first} prefill, {self.decode} decode" if self.decode else f"{self.first} both"


@dataclass(frozen=True)
class Variant:
    """In what a search differs from the main one."""

    name: str
    network: bool = False
    """KV goes over one link between two nodes, instead of NVLink within one."""
    decode_answers: bool = False
    """The first token comes from the decode instance, as with NIXL in vLLM, and waits for the KV."""
    their_overheads: bool = False
    requests: int = REQUESTS


MAIN = Variant("ours")
VARIANTS = (
    Variant("their overhead per iteration", their_overheads=True),
    Variant("300 requests, as they have", requests=THEIR_REQUESTS),
    Variant("KV over the network between nodes", network=True),
    Variant("first token from the decode instance", decode_answers=True),
)
"""Played on what their simulator finds best."""
THEIR_BEST = Placement(Group(1, 2), Group(1, 1))


def groups() -> Iterator[Group]:
    for gpus_each in PROFILES:
        for count in range(1, GPUS // gpus_each + 1):
            yield Group(count, gpus_each)


def placements() -> Iterator[Placement]:
    """All on up to four GPUs."""
    for first in groups():
        yield Placement(first, None)
        for decode in groups():
            if first.gpus + decode.gpus <= GPUS:
                yield Placement(first, decode)


def place(data: Path, jobs: int) -> list[Row]:
    """Finds each placement's rate, then what each variant makes of their best one; writes the table."""
    lengths = sharegpt_like(data)
    nvlink = nvlink_bytes_per_s(data)
    rows: list[Row] = []
    with processes(jobs) as pool:

        def add(wanted: list[tuple[Placement, Variant]]) -> None:
            placed, variants = zip(*wanted, strict=True)
            for row in pool.map(_row, placed, variants, [lengths] * len(wanted), [nvlink] * len(wanted)):
                rows.append(row)
                print(row, flush=True)

        add([(placement, MAIN) for placement in placements()])
        add([(THEIR_BEST, variant) for variant in VARIANTS])
    write_json(FILE, rows)
    return rows


def sharegpt_like(data: Path) -> list[tuple[int, int]]:
    """The Azure conversation trace's lengths, stretched to ShareGPT's means; ShareGPT itself is not at hand."""
    known = trace_lengths(data / "traces" / "azure2023_conv.csv.gz")
    return matched_means(known, MEAN_PROMPT, MEAN_OUTPUT, MOST_TOKENS)


def nvlink_bytes_per_s(data: Path) -> float:
    """What a pair of A100 got over NVLink in Vidur's measurements: the slope of time over size, from 1 MB up."""
    with gzip.open(data / "profiles" / "vidur_network.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        measured = [
            (float(row["size"]), float(row["time_ms"]) / 1e3)
            for row in csv.DictReader(lines)
            if (row["node"], row["collective"], row["devices_per_node"]) == NVLINK
        ]
    sizes, seconds = zip(*[point for point in measured if point[0] >= 1e6], strict=True)
    return float(1 / np.polyfit(sizes, seconds, 1)[0])


def _row(placement: Placement, variant: Variant, lengths: Lengths, nvlink: float) -> Row:
    facts = {"distserve": str(placement), "variant": asdict(variant), "seeds": SEEDS, "chunks": CHUNKS}
    return remembered(facts, lambda: _search(placement, variant, lengths, nvlink))


def _search(placement: Placement, variant: Variant, lengths: Lengths, nvlink: float) -> Row:
    chunk, best = WHOLE_PROMPTS, 0.0
    for tried in (WHOLE_PROMPTS,) if placement.decode else reversed(CHUNKS):
        rate = _rate(placement, variant, lengths, nvlink, tried, SEEDS[0], best)
        if rate > best:
            chunk, best = tried, rate
    rates = [
        best,
        *(_rate(placement, variant, lengths, nvlink, chunk, seed, guess=best) for seed in SEEDS[1:]),
    ]
    per_gpu = [round(rate / placement.gpus, 3) for rate in rates]
    return {
        "placement": str(placement),
        "variant": variant.name,
        "gpus": placement.gpus,
        "chunk": chunk,
        "rate_per_gpu": round(fmean(per_gpu), 3),
        "rate_per_gpu_runs": per_gpu,
        "requests": variant.requests,
    }


def _rate(
    placement: Placement,
    variant: Variant,
    lengths: Lengths,
    nvlink: float,
    chunk: int,
    seed: int,
    floor: float = 0.0,
    guess: float = 0.0,
) -> float:
    setup = Setup(
        pools_of(placement, variant, nvlink),
        EngineOptions(chunk_tokens=chunk, prefix_caching=False),
        prefill_answers=not variant.decode_answers,
    )

    def meets(rate: float) -> bool:
        # Short runs cannot spare a tenth for the warm-up: theirs has none either.
        share = 0.0 if variant.requests <= THEIR_REQUESTS else 0.1
        course = play(setup, poisson(lengths, rate, variant.requests, seed), seed, share)
        if len(course.served) < course.offered:
            return False
        ttft_ps = np.percentile([request.ttft_ps for request in course.served], ATTAINED_PER_CENT)
        tpot_ps = np.percentile([request.tpot_ps for request in course.served], ATTAINED_PER_CENT)
        return bool(ttft_ps < TTFT_S * PS_PER_S and tpot_ps < TPOT_S * PS_PER_S)

    if guess:
        return highest_rate(meets, guess, stride=NEAR)
    return highest_rate(meets, FIRST_GUESS * placement.gpus, floor)


def pools_of(placement: Placement, variant: Variant, nvlink: float) -> list[Pool]:
    first = _profile(placement.first.gpus_each, variant, nvlink)
    if placement.decode is None:
        return [Pool("both", placement.first.count, Role.MIXED, first)]
    decode = _profile(placement.decode.gpus_each, variant, nvlink)
    return [
        Pool("prefill", placement.first.count, Role.PREFILL, first),
        Pool("decode", placement.decode.count, Role.DECODE, decode),
    ]


def _profile(gpus: int, variant: Variant, nvlink: float) -> EngineProfile:
    profile = load_profile(PROFILES[gpus])
    cost = profile.cost
    if variant.their_overheads:
        cost = replace(
            cost,
            t0_ps=cost.t0_ps + THEIR_ITERATION_OVERHEAD_PS,
            tp_ps=cost.tp_ps + THEIR_TOKEN_OVERHEAD_PS,
            tc_ps=cost.tc_ps + THEIR_TOKEN_OVERHEAD_PS,
        )
    bandwidth = profile.transfer_bytes_per_s if variant.network else gpus * nvlink
    return replace(profile, cost=cost, transfer_bytes_per_s=bandwidth)
