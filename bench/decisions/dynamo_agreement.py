"""`kv_cost` beside the router it is taken from: the picks of Dynamo's KV router in its own replay, and ours.

Dynamo replays a trace on its mocked workers. Its choices are then told to a view of ours, one after another, with
the times it reports for first and last tokens, and before each of them our policy is asked on that view. A pick is
equal if Dynamo's worker is among our cheapest. The same formula is also asked on books kept as Dynamo keeps them: prompt
tokens without those it expects in the cache, and blocks that running requests share counted once. Dynamo does not
replay a trace twice alike, so it does so several times.
"""

import heapq
import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from simulator.mooncake import mooncake_line

from dataplane.environments import DYNAMO
from pointsman.core.cluster import Cluster
from pointsman.core.events import Event, Finished, InstanceHealth, InstanceSeen, Placed, PrefillEnded
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.placement.kv_cost import KvCost
from pointsman.core.placement.policy import cached_tokens
from pointsman.core.requests import RequestView
from pointsman.core.slots import Slots
from pointsman.core.view import Stage
from pointsman.sim.workload.request import HASH_BLOCK_TOKENS
from pointsman.sim.workload.scale import Cut, RateScaled
from pointsman.sim.workload.trace import TraceFile

WORKERS = 8
BLOCK = 64
"""Of Dynamo's mocked engine."""
CAPACITY_BLOCKS = 16_384
REQUESTS = 3000
REPLAYS = 5
TRACES = {
    "mooncake_conversation": 4.0,
    "mooncake_synthetic": 4.0,
    "azure2023_conv": 8.0,
    "azure2023_code": 8.0,
}
"""Rate scales, so that workers have several requests each."""
FOLDER = Path("build/decisions/dynamo")
FILE = Path("bench/decisions/dynamo.json")
REPLAY = """
import sys, dynamo._core as core
core.run_mocker_trace_replay([sys.argv[1]], num_workers=8, router_mode="kv_router", trace_block_size=512,
                             report_jsonl_path=sys.argv[2])
"""

Row = dict[str, float | str | int | list[float]]


def agree(data: Path) -> list[Row]:
    rows = []
    for name, scale in TRACES.items():
        trace = data / "traces" / f"{name}.csv.gz"
        rows.append(summary(trace.name, scale, [_agree(trace, scale) for _ in range(REPLAYS)]))
        print(rows[-1], flush=True)
    FILE.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the picks of one replay are ours too, as shares of them."""

    picks: int
    running_per_worker: float
    equal: float
    equal_on_its_own_books: float


def summary(trace: str, rate_scale: float, replays: Sequence[Agreement]) -> Row:
    """One row of medians, and the shares of each replay beside them."""
    equal = [round(one.equal, 4) for one in replays]
    on_its_own_books = [round(one.equal_on_its_own_books, 4) for one in replays]
    return {
        "trace": trace,
        "rate_scale": rate_scale,
        "picks": replays[0].picks,
        "running_per_worker": round(median(one.running_per_worker for one in replays), 2),
        "equal": median(equal),
        "equal_runs": equal,
        "equal_on_its_own_books": median(on_its_own_books),
        "equal_on_its_own_books_runs": on_its_own_books,
    }


@dataclass
class Books:
    """What Dynamo's router counts for one worker."""

    pending: dict[str, int] = field(default_factory=dict)
    blocks: Counter[tuple[int, int]] = field(default_factory=Counter)

    def cost(self, prompt_tokens: int, cached_blocks: int, blocks: list[tuple[int, int]]) -> float:
        pending = (sum(self.pending.values()) + prompt_tokens) / BLOCK
        new = sum(block not in self.blocks for block in blocks)
        return max(0.0, pending - cached_blocks) + len(self.blocks) + new


def _agree(trace: Path, scale: float) -> Agreement:
    requests, report = _replay(trace, scale)
    cluster = Cluster()
    ids = [InstanceId(f"worker-{number}", "") for number in range(WORKERS)]
    for instance in ids:
        capacity = CAPACITY_BLOCKS * BLOCK
        cluster.apply(InstanceSeen(Instance(instance, ("m",), Role.MIXED, kv_capacity_tokens=capacity)))
        cluster.apply(InstanceHealth(instance, available=True))
    slots = Slots([slot for slot in map(cluster.slot_of, ids) if slot is not None])
    books = [Books() for _ in ids]
    policy = KvCost()
    later: list[tuple[float, int, int, Event, list[tuple[int, int]]]] = []
    equal = equal_books = running = 0
    for number, (request, told) in enumerate(zip(requests, report, strict=True)):
        while later and later[0][0] <= told["arrival_time_ms"]:
            _, _, worker, event, blocks = heapq.heappop(later)
            cluster.apply(event)
            _keep(books[worker], event, blocks)
        chosen: int = told["routing_history"][0]["logical_worker_id"]
        cached = [cached_tokens(cluster, request, slot) // BLOCK for slot in slots.listed]
        blocks = [
            (block, part) for block in request.block_hashes for part in range(HASH_BLOCK_TOKENS // BLOCK)
        ]
        blocks = blocks[: request.prompt_tokens // BLOCK]
        ours = policy.costs(cluster, request, slots, Stage.WHOLE)
        kept = [book.cost(request.prompt_tokens, cached[worker], blocks) for worker, book in enumerate(books)]
        equal += ours[chosen] == min(ours)
        equal_books += kept[chosen] == min(kept)
        running += sum(cluster.loads.running[slot] for slot in slots.listed)
        hit = cached_tokens(cluster, request, slots.listed[chosen])
        cluster.apply(Placed(request, None, ids[chosen], request.arrived_s, hit))
        books[chosen].pending[request.request_id] = request.prompt_tokens - cached[chosen] * BLOCK
        books[chosen].blocks.update(blocks)
        first = PrefillEnded(request.request_id, 0.0)
        last = Finished(request.request_id, 0.0, completed=True)
        heapq.heappush(later, (told["first_token_ms"], 2 * number, chosen, first, blocks))
        heapq.heappush(later, (told["terminal_time_ms"], 2 * number + 1, chosen, last, blocks))
    return Agreement(
        picks=len(requests),
        running_per_worker=running / len(requests) / WORKERS,
        equal=equal / len(requests),
        equal_on_its_own_books=equal_books / len(requests),
    )


def _keep(book: Books, event: Event, blocks: list[tuple[int, int]]) -> None:
    if isinstance(event, PrefillEnded):
        book.pending.pop(event.request_id, None)
    elif isinstance(event, Finished):
        book.blocks.subtract(blocks)
        for block in blocks:
            if book.blocks[block] <= 0:
                del book.blocks[block]


def _replay(trace: Path, scale: float) -> tuple[list[RequestView], list[dict[str, Any]]]:
    """The requests, and what Dynamo reports of each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    source, report = FOLDER / f"{trace.stem}.jsonl", FOLDER / f"{trace.stem}.report.jsonl"
    requests = []
    with source.open("w", encoding="utf-8") as file:
        for number, one in enumerate(Cut(RateScaled(TraceFile(trace), scale, 1), REQUESTS)):
            line = mooncake_line(number, one)
            hashes = tuple(line["hash_ids"])
            view = RequestView(str(number), "m", one.prompt_tokens, one.arrival_s, hashes, HASH_BLOCK_TOKENS)
            requests.append(view)
            file.write(json.dumps(line) + "\n")
    python = DYNAMO.path() / "bin" / "python"
    subprocess.run([python, "-c", REPLAY, source, report], check=True, env={"DYN_LOG": "error"})
    return requests, _in_order(source, report)


def _in_order(source: Path, report: Path) -> list[dict[str, Any]]:
    """The report has no ids of ours: requests are told apart by arrival and lengths."""
    told: dict[tuple[float, int, int], list[dict[str, Any]]] = {}
    for line in report.read_text().splitlines():
        entry = json.loads(line)
        key = (round(entry["arrival_time_ms"], 3), entry["input_length"], entry["output_length"])
        told.setdefault(key, []).append(entry)
    asked = [json.loads(line) for line in source.read_text().splitlines()]
    return [
        told[round(one["timestamp"], 3), one["input_length"], one["output_length"]].pop(0) for one in asked
    ]
