"""The two schedulers behind one face: requests are added, a step says who is scheduled with how many tokens."""

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

from pointsman.sim.engine import Engine, EngineOptions, EngineRequest, Scheduling
from scheduler_agreement.lives import BLOCK_TOKENS, Asked, Life, hashes

Step = list[tuple[str, int]]


class Theirs:
    """vLLM's scheduler, given the tokens that a model would have sampled."""

    def __init__(self, life: Life, model: str) -> None:
        arguments = EngineArgs(
            model=model,
            hf_overrides={"max_position_embeddings": life.longest_tokens},
            max_num_batched_tokens=life.budget,
            max_num_seqs=life.sequences,
            max_model_len=life.longest_tokens,
            block_size=BLOCK_TOKENS,
            enable_prefix_caching=life.caching,
            scheduling_policy="priority" if life.by_priority else "fcfs",
            async_scheduling=False,
            enforce_eager=True,
        )
        config = arguments.create_engine_config()
        config.cache_config.num_gpu_blocks = life.blocks + 1  # one is vLLM's null block
        spec = FullAttentionSpec(block_size=BLOCK_TOKENS, num_kv_heads=1, head_size=16, dtype=torch.float16)
        kv_config = KVCacheConfig(
            num_blocks=life.blocks + 1,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(layer_names=["layer"], kv_cache_spec=spec)],
        )
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(BLOCK_TOKENS, sha256)
        self.scheduler = Scheduler(
            config, kv_config, StructuredOutputManager(config), block_size=BLOCK_TOKENS, log_stats=True
        )
        self.hits: dict[str, int] = {}
        self.preempted = 0
        self._asked: dict[str, Asked] = {}

    def has_work(self) -> bool:
        return bool(self.scheduler.has_unfinished_requests())

    def add(self, asked: Asked) -> None:
        self._asked[asked.name] = asked
        sampling = SamplingParams(max_tokens=asked.output, ignore_eos=True)
        sampling.update_from_generation_config({}, 0)
        self.scheduler.add_request(
            Request(
                request_id=asked.name,
                prompt_token_ids=[asked.token(position) for position in range(asked.prompt)],
                sampling_params=sampling,
                pooling_params=None,
                priority=asked.priority,
                arrival_time=float(asked.at),
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
        self.preempted += len(output.preempted_req_ids or ())
        for new in output.scheduled_new_reqs:
            self.hits.setdefault(new.req_id, new.num_computed_tokens)
        names = list(output.num_scheduled_tokens)
        runner = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[self._sampled(name) for name in names],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        self.scheduler.update_from_output(output, runner)
        return sorted(output.num_scheduled_tokens.items())

    def _sampled(self, name: str) -> list[int]:
        request: Any = self.scheduler.requests[name]
        complete = request.num_computed_tokens >= request.num_tokens
        return [self._asked[name].token(request.num_tokens)] if complete else []


class Ours:
    """Our loop; the hash of a block is its tokens and all before them."""

    def __init__(self, life: Life) -> None:
        options = EngineOptions(
            chunk_tokens=life.budget,
            scheduling=Scheduling.PRIORITY if life.by_priority else Scheduling.FCFS,
            prefix_caching=life.caching,
            max_sequences=life.sequences,
        )
        self.engine = Engine(life.profile, options)
        self.now_ps = 0
        self._requests: dict[str, EngineRequest] = {}

    @property
    def hits(self) -> dict[str, int]:
        """Cached tokens of each request that was scheduled."""
        scheduled = (request for request in self._requests.values() if request.scheduled_ps is not None)
        return {request.request_id: request.cached_tokens for request in scheduled}

    @property
    def preempted(self) -> int:
        return self.engine.counters.preemptions

    def has_work(self) -> bool:
        return self.engine.has_work()

    def add(self, asked: Asked) -> None:
        request = EngineRequest(
            asked.name, asked.prompt, asked.output, block_hash=hashes(asked), priority=asked.priority
        )
        self._requests[asked.name] = request
        # Priorities tie by arrival: the moment on the life's clock, as on the other side.
        self.engine.add(request, asked.at)

    def step(self) -> Step:
        iteration = self.engine.begin(self.now_ps)
        if iteration is None:
            return []
        scheduled = sorted((request.request_id, tokens) for request, tokens in iteration.scheduled)
        self.now_ps = iteration.end_ps
        self.engine.end(iteration)
        return scheduled
