"""On which traces and clusters baselines are compared, and what of a baseline is there to be tuned."""

from dataclasses import dataclass

CHUNKS = (512, 1024, 2048)
"""Token budgets of an iteration. With 2,048 an H100 is at the 50 ms of its SLO (p90 of TPOT on the code trace: 47 ms)."""
REASONING = "servegen-deepseek-r1"


@dataclass(frozen=True)
class Setting:
    """A trace on a cluster, and how many requests a run of it has."""

    trace: str
    """Name of a file in traces/ without `.csv.gz`, or of a generator."""
    profile: str
    first_guess: float
    """Requests per second, about the capacity: the search begins there, and windows are made for it."""
    prefixes: bool = False
    """Whether the trace says which prompts begin alike."""
    spread_s: float = 0.0
    """Ticks of the trace's timestamps: arrivals are spread within one."""
    session_block: int | None = None
    """Requests that are alike up to this block of the prompt are taken for one session. None: the trace tells nothing."""
    training_requests: int = 2000
    measured_requests: int = 10_000

    @property
    def pools(self) -> str:
        return f"8xmixed:{self.profile}"

    @property
    def generated(self) -> bool:
        return self.trace == REASONING

    @property
    def file_name(self) -> str:
        """As capacities name it."""
        return f"gen:{self.trace}" if self.generated else f"{self.trace}.csv.gz"

    def split(self, prefills: int) -> str:
        return f"{prefills}xprefill:{self.profile},{8 - prefills}xdecode:{self.profile}"

    def baselines(self) -> list[str]:
        """`session` falls back on `least_requests` where no session is known, which is there by itself."""
        return [name for name in BASELINES if name != "session" or self.session_block is not None]

    def knobs(self, policy: str) -> list[str]:
        """Variants of a policy, its defaults aside."""
        if policy == "prefix_affinity" and not self.prefixes:
            return [f"{policy}:{balance}" for balance in BALANCES[1:]]
        return [f"{policy}:{parameters}" for parameters in KNOBS.get(policy, ())]


SETTINGS = (
    Setting("azure2023_code", "h100-llama3.1-8b", 160),
    Setting("azure2023_conv", "h100-llama3.1-8b", 220),
    Setting("azure2023_conv", "a100-opt-13b", 18),
    Setting(REASONING, "h100-qwen3-30b-a3b", 9),
    Setting("mooncake_conversation", "h100-llama3.1-8b", 8, True, 3.0, 1, 1500),  # noqa: FBT003
    Setting("mooncake_synthetic", "h100-llama3.1-8b", 14, True, 0.0, 0, 1500),  # noqa: FBT003
)
BASELINES = (
    "round_robin", "random", "power_of_two", "least_requests", "least_tokens", "prefix_affinity", "kv_cost",
    "weighted_scorers", "freeness", "session",
)  # fmt: skip
BALANCES = (
    "balance_abs=64,balance_rel=1.5",
    "balance_abs=16,balance_rel=1.2",
    "balance_abs=4,balance_rel=1.1",
)
KNOBS = {
    "prefix_affinity": [
        f"cache_threshold={threshold},{balance}" for threshold in (0.1, 0.3, 0.5) for balance in BALANCES
    ],
    "kv_cost": [
        "prefill_load_scale=0.5",
        "prefill_load_scale=2",
        "prefill_load_scale=4",
        "overlap_credit=0.5",
        "active_request_weight=1000",
        "temperature=0.1",
    ],
    "weighted_scorers": [
        f"queue_weight={queue},kv_weight={kv},prefix_weight={prefix}"
        for queue, kv, prefix in ((1, 0, 0), (1, 1, 1), (2, 2, 6), (3, 1, 3), (1, 3, 3), (2, 2, 1))
    ],
}
SPLIT_POLICIES = ("least_tokens", "least_requests", "kv_cost")
CONNECTORS = ("nixl", "mooncake", "sglang")
