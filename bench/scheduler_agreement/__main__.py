"""Drives vLLM's own V1 scheduler and our engine loop side by side and compares every iteration.

    PYTHONPATH=core:sim PYTHON_OF_VLLM bench/scheduler_agreement.py --model DIR [--lives 50] [--json FILE]

Needs Python with vLLM (0.32 was used; no GPU and no weights: the model directory gives the configuration only).
Each life is a random workload (lengths, arrivals, shared prefixes, priorities, KV size, token budget, sequences).
Per iteration the scheduled requests and their token counts must be equal, and so must preemptions; per request the
prefix hits. vLLM samples nothing: the tokens are given to it, the same as those that our block hashes stand for.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from pointsman.core.perf import AcceleratorClass, EngineProfile, IterationCost
from pointsman.sim.engine import Engine, EngineOptions, EngineRequest, Scheduling

BLOCK = 16
COST = IterationCost(t0_ps=1_000, tp_ps=10, ta_ps=0, tb_ps=5, tc_ps=0)
Step = list[tuple[str, int]]


@dataclass
class Asked:
    """One request of a life: its tokens are its text's first ones, and what it generates goes on with them."""

    name: str
    at_iteration: int
    prompt: int
    output: int
    text: int
    shared: int
    priority: int

    def token(self, position: int) -> int:
        """Texts agree in their first `shared` tokens, so that prefixes are shared."""
        return position % 50 + 1 if position < self.shared else (self.text * 7919 + position) % 1000 + 100


@dataclass
class Life:
    seed: int
    blocks: int
    budget: int
    sequences: int
    priority: bool
    caching: bool
    asked: list[Asked] = field(default_factory=list)


def life(seed: int) -> Life:
    rng = random.Random(seed)
    made = Life(
        seed=seed,
        blocks=rng.choice([20, 40, 120, 1000]),
        budget=rng.choice([32, 100, 256, 2048]),
        sequences=rng.choice([2, 8, 32]),
        priority=rng.random() < 0.3,
        caching=rng.random() < 0.7,
    )
    longest = min(900, made.blocks * BLOCK - 1)
    spread = rng.choice([1, 5, 40])
    at = 0
    for number in range(rng.randrange(5, 60)):
        at += rng.randrange(spread + 1)
        prompt = rng.randrange(1, longest * 2 // 3)
        output = rng.randrange(1, min(200, longest - prompt) + 1)
        # A few texts: the same request may come again, or go on where an earlier answer ended.
        text = rng.randrange(1000) if rng.random() < 0.7 else rng.randrange(3)
        shared = rng.choice([0, 0, 40, 64, 200])
        name = f"{number:04d}"
        made.asked.append(Asked(name, at, prompt, output, text, shared, rng.randrange(3)))
    return made


class Theirs:
    """vLLM's scheduler, given the tokens that a model would have sampled."""

    def __init__(self, made: Life, model: str) -> None:
        arguments = EngineArgs(
            model=model,
            max_num_batched_tokens=made.budget,
            max_num_seqs=min(made.sequences, made.budget),
            max_model_len=1024,
            block_size=BLOCK,
            enable_prefix_caching=made.caching,
            scheduling_policy="priority" if made.priority else "fcfs",
            async_scheduling=False,
            enforce_eager=True,
        )
        config = arguments.create_engine_config()
        config.cache_config.num_gpu_blocks = made.blocks + 1  # one is vLLM's null block
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=16, dtype=torch.float16)
        kv_config = KVCacheConfig(
            num_blocks=made.blocks + 1,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(layer_names=["layer"], kv_cache_spec=spec)],
        )
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(BLOCK, sha256)
        self.scheduler = Scheduler(
            config, kv_config, StructuredOutputManager(config), block_size=BLOCK, log_stats=True
        )
        self.asked: dict[str, Asked] = {}
        self.hits: dict[str, int] = {}
        self.preempted: list[str] = []

    def add(self, asked: Asked, iteration: int) -> None:
        self.asked[asked.name] = asked
        sampling = SamplingParams(max_tokens=asked.output, ignore_eos=True)
        sampling.update_from_generation_config({}, 0)
        self.scheduler.add_request(
            Request(
                request_id=asked.name,
                prompt_token_ids=[asked.token(position) for position in range(asked.prompt)],
                sampling_params=sampling,
                pooling_params=None,
                priority=asked.priority,
                arrival_time=float(iteration),
                block_hasher=self.hasher,
            )
        )

    def step(self) -> Step:
        """The next step that schedules anything: one that only preempts costs no time on a device."""
        for _ in range(3):
            scheduled = self._step()
            if scheduled:
                break
        return scheduled

    def _step(self) -> Step:
        output = self.scheduler.schedule()
        self.preempted += sorted(output.preempted_req_ids or ())
        for new in output.scheduled_new_reqs:
            self.hits.setdefault(new.req_id, new.num_computed_tokens)
        names = list(output.num_scheduled_tokens)
        sampled = []
        for name in names:
            request = self.scheduler.requests[name]
            complete = request.num_computed_tokens >= request.num_tokens
            sampled.append([self.asked[name].token(request.num_tokens)] if complete else [])
        runner = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=sampled,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        self.scheduler.update_from_output(output, runner)
        return sorted(output.num_scheduled_tokens.items())


class Ours:
    """Our loop; the hash of a block is its tokens and all before them."""

    def __init__(self, made: Life) -> None:
        profile = EngineProfile(
            name="agreement",
            model="any",
            engine="any",
            accelerator="any",
            accelerator_class=AcceleratorClass.A100,
            tensor_parallel=1,
            cost=COST,
            kv_capacity_tokens=made.blocks * BLOCK,
            kv_bytes_per_token=1,
            transfer_bytes_per_s=1.0,
            block_size=BLOCK,
        )
        options = EngineOptions(
            chunk_tokens=made.budget,
            scheduling=Scheduling.PRIORITY if made.priority else Scheduling.FCFS,
            prefix_caching=made.caching,
            max_sequences=min(made.sequences, made.budget),
        )
        self.engine = Engine(profile, options)
        self.requests: dict[str, EngineRequest] = {}
        self.now_ps = 0

    def add(self, asked: Asked, iteration: int) -> None:
        request = EngineRequest(
            asked.name, asked.prompt, asked.output, block_hash=hashes(asked), priority=asked.priority
        )
        self.requests[asked.name] = request
        # Priorities tie by arrival: the iteration stands for the time, as it does on the other side.
        self.engine.add(request, iteration)

    def step(self) -> Step:
        iteration = self.engine.begin(self.now_ps)
        if iteration is None:
            return []
        scheduled = sorted((request.request_id, tokens) for request, tokens in iteration.scheduled)
        self.now_ps = iteration.end_ps
        self.engine.end(iteration)
        return scheduled


def hashes(asked: Asked) -> Callable[[int], int]:
    chain: list[int] = []

    def block_hash(index: int) -> int:
        while len(chain) <= index:
            start = len(chain) * BLOCK
            tokens = tuple(asked.token(position) for position in range(start, start + BLOCK))
            chain.append(hash((chain[-1] if chain else 0, tokens)))
        return chain[index]

    return block_hash


def compare(made: Life, model: str) -> dict[str, Any]:
    theirs, ours = Theirs(made, model), Ours(made)
    pending = list(made.asked)
    iterations = different = idle = 0
    first: dict[str, Any] | None = None
    seconds = {"theirs": 0.0, "ours": 0.0}
    while pending or theirs.scheduler.has_unfinished_requests() or ours.engine.has_work():
        while pending and pending[0].at_iteration <= iterations:
            asked = pending.pop(0)
            theirs.add(asked, iterations)
            ours.add(asked, iterations)
        start = time.perf_counter()
        their_step = theirs.step()
        middle = time.perf_counter()
        our_step = ours.step()
        seconds["theirs"] += middle - start
        seconds["ours"] += time.perf_counter() - middle
        if their_step != our_step:
            different += 1
            first = first or {"iteration": iterations, "theirs": their_step, "ours": our_step}
            break  # from here on the two live different lives
        iterations += 1
        idle = 0 if their_step or pending else idle + 1
        if idle > 10:
            break
    hits = {
        name: request.cached_tokens
        for name, request in ours.requests.items()
        if request.scheduled_ps is not None
    }
    return {
        "seed": made.seed,
        "iterations": iterations,
        "different": different,
        "first": first,
        "preemptions": {"theirs": len(theirs.preempted), "ours": ours.engine.counters.preemptions},
        "different_hits": sum(theirs.hits.get(name) != tokens for name, tokens in hits.items()),
        "hit_tokens": sum(hits.values()),
        "unfinished": idle > 10,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--lives", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for seed in range(arguments.seed, arguments.seed + arguments.lives):
        result = compare(life(seed), arguments.model)
        results.append(result)
        if result["different"] or result["different_hits"] or result["unfinished"]:
            print(json.dumps(result)[:1500])
    total = {
        "lives": len(results),
        "lives_that_differ": sum(bool(r["different"] or r["different_hits"]) for r in results),
        "iterations_compared": sum(r["iterations"] for r in results),
        "preemptions": {side: sum(r["preemptions"][side] for r in results) for side in ("theirs", "ours")},
        "prefix_hit_tokens": sum(r["hit_tokens"] for r in results),
        "seconds": {side: round(sum(r["seconds"][side] for r in results), 3) for side in ("theirs", "ours")},
    }
    print(json.dumps(total, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"total": total, "lives": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
