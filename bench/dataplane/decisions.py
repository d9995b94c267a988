"""How long a decision takes among 8, 64 and 512 instances: `core.decide` alone, on a view under load."""

import time
from collections.abc import Iterator
from random import Random

from pointsman.core.cluster import Cluster
from pointsman.core.decide import ModelRules, Rules, decide
from pointsman.core.decisions import Dispatch
from pointsman.core.events import InstanceHealth, InstanceSeen, Placed
from pointsman.core.instances import Instance, InstanceId, Role
from pointsman.core.placement.catalogue import POLICIES, make_policy
from pointsman.core.requests import RequestView

SIZES = (8, 64, 512)
MODEL = "bench"
PLACED_PER_INSTANCE = 20
BLOCKS = 16
CONVERSATIONS = 64
BATCHES, BATCH = 40, 100


def _requests(rng: Random) -> Iterator[RequestView]:
    """Chats that share half of their 16 prefix blocks with others of their conversation."""
    heads = [[rng.getrandbits(64) for _ in range(BLOCKS // 2)] for _ in range(CONVERSATIONS)]
    number = 0
    while True:
        number += 1
        hashes = rng.choice(heads) + [rng.getrandbits(64) for _ in range(BLOCKS // 2)]
        yield RequestView(
            request_id=f"request-{number}",
            model=MODEL,
            prompt_tokens=rng.randint(200, 4000),
            arrived_s=0.0,
            block_hashes=hashes,
            block_tokens=64,
            session=f"session-{rng.randrange(1000)}",
        )


def _loaded_cluster(size: int, rng: Random, requests: Iterator[RequestView]) -> Cluster:
    cluster = Cluster()
    identities = [
        InstanceId(f"http://10.0.{number // 250}.{number % 250 + 1}:8000", "1") for number in range(size)
    ]
    for identity in identities:
        cluster.apply(InstanceSeen(Instance(identity, (MODEL,), Role.MIXED, kv_capacity_tokens=500_000)))
        cluster.apply(InstanceHealth(identity, available=True))
    for identity in identities:
        for _ in range(PLACED_PER_INSTANCE + rng.randrange(5)):
            cluster.apply(Placed(next(requests), None, identity, 0.0))
    return cluster


def decision_us(policy: str, size: int) -> float:
    """CPU microseconds of one decision: the least mean of many short batches."""
    rng = Random(size)
    requests = _requests(rng)
    cluster = _loaded_cluster(size, rng, requests)
    rules = Rules(models={MODEL: ModelRules(policy=make_policy(policy))})
    best = float("inf")
    for _ in range(BATCHES):
        batch = [(next(requests),) for _ in range(BATCH)]
        before = time.process_time_ns()
        for waiting in batch:
            (decision,) = decide(cluster, waiting, 0.0, rng, rules)
        best = min(best, (time.process_time_ns() - before) / BATCH / 1e3)
        assert isinstance(decision, Dispatch)
    return best


def measure() -> dict[str, float]:
    """`decision_us_SIZE` of the slowest policy, and `decision_us_SIZE_POLICY` of each."""
    figures: dict[str, float] = {}
    for size in SIZES:
        each = {policy: decision_us(policy, size) for policy in sorted(POLICIES)}
        figures[f"decision_us_{size}"] = max(each.values())
        figures |= {f"decision_us_{size}_{policy}": took for policy, took in each.items()}
    return figures
