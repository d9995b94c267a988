"""What the engine counts while it runs; exported under whoever's names in `vllm_metrics` and `sglang_metrics`.

Plain numbers, touched once per token at most; all text is made when somebody scrapes. Times are virtual seconds.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman.core.units import to_s
from pointsman.sim.engine import EngineRequest
from pointsman.simengine.histogram import Histogram

LATENCY_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
ITERATION_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
N_BUCKETS = (1, 2, 5, 10, 20)
PREEMPTION_BUCKETS = (1, 2, 3, 4, 5, 10, 20)


def token_buckets(longest: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, ... up to the longest context."""
    series = (mantissa * 10**exponent for exponent in range(12) for mantissa in (1, 2, 5))
    return tuple(bound for bound in series if bound <= longest)


@dataclass(slots=True)
class Measures:
    """All counters and histograms of one instance."""

    longest_context: int
    prompt_tokens: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    prompt_tokens_pulled: int = 0
    generation_tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BUCKETS))
    itl: Histogram = field(default_factory=lambda: Histogram(ITL_BUCKETS))
    tpot: Histogram = field(default_factory=lambda: Histogram(ITL_BUCKETS))
    e2e: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    queue: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    inference: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    prefill: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    decode: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS))
    iteration_tokens: Histogram = field(default_factory=lambda: Histogram(ITERATION_BUCKETS))
    params_n: Histogram = field(default_factory=lambda: Histogram(N_BUCKETS))
    request_preemptions: Histogram = field(default_factory=lambda: Histogram(PREEMPTION_BUCKETS))
    request_prompt_tokens: Histogram = field(init=False)
    request_generation_tokens: Histogram = field(init=False)
    request_max_generation_tokens: Histogram = field(init=False)
    request_max_tokens: Histogram = field(init=False)
    prefill_computed: Histogram = field(init=False)
    late_finishes_s: float = 0.0
    """Virtual seconds by which answers ended later than the virtual clock says, summed: the host's fault."""

    def __post_init__(self) -> None:
        buckets = token_buckets(self.longest_context)
        self.request_prompt_tokens = Histogram(buckets)
        self.request_generation_tokens = Histogram(buckets)
        self.request_max_generation_tokens = Histogram(buckets)
        self.request_max_tokens = Histogram(buckets)
        self.prefill_computed = Histogram(buckets)

    @property
    def lag_share(self) -> float:
        """How much longer requests took than they should have, for the host was late."""
        return self.late_finishes_s / self.e2e.sum if self.e2e.sum else 0.0

    def first_token(self, request: EngineRequest, pull_tokens: int) -> None:
        """A request got its first token: its prompt is through."""
        local = request.cached_tokens
        pulled = max(min(pull_tokens, request.prompt_tokens) - local, 0)
        self.prompt_tokens += request.prompt_tokens
        self.prompt_tokens_cached += local
        self.prompt_tokens_pulled += pulled
        self.prompt_tokens_computed += request.prompt_tokens - local - pulled
        if request.first_token_ps is not None:
            self.ttft.observe(to_s(request.first_token_ps - request.arrived_ps))

    def iteration(self, computed_tokens: int, gaps_ps: Iterable[tuple[int, int]]) -> None:
        """An iteration ended: tokens computed in it, and (gap, how many streams had it) between tokens."""
        self.iteration_tokens.observe(computed_tokens)
        for gap_ps, streams in gaps_ps:
            self.itl.observe(to_s(gap_ps), streams)

    def request_finished(self, request: EngineRequest, reason: str, max_tokens: int, choices: int) -> None:
        """A request ended: its last token was generated, or it was cut off before (`abort`, `error`)."""
        self.finished[reason] += 1
        scheduled_ps, first_ps, last_ps = request.scheduled_ps, request.first_token_ps, request.finished_ps
        if scheduled_ps is None or first_ps is None or last_ps is None:
            return
        tokens = request.generated_tokens
        self.e2e.observe(to_s(last_ps - request.arrived_ps))
        self.queue.observe(to_s(scheduled_ps - request.arrived_ps))
        self.prefill.observe(to_s(first_ps - scheduled_ps))
        self.inference.observe(to_s(last_ps - scheduled_ps))
        self.decode.observe(to_s(last_ps - first_ps))
        self.tpot.observe(to_s(last_ps - first_ps) / (tokens - 1) if tokens > 1 else 0.0)
        self.request_preemptions.observe(request.preemptions)
        self.prefill_computed.observe(request.prompt_tokens - request.cached_tokens)
        self.request_prompt_tokens.observe(request.prompt_tokens)
        self.request_generation_tokens.observe(tokens)
        self.request_max_generation_tokens.observe(tokens)
        self.request_max_tokens.observe(max_tokens)
        self.params_n.observe(choices)
