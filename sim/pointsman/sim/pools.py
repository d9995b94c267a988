"""Which instances a simulated cluster has: `8xmixed:h100-llama3.1-8b`, `4xprefill:P,4xdecode:P`."""

import re
from dataclasses import dataclass, field

from pointsman.core.instances import Capabilities, Role
from pointsman.core.perf import EngineProfile

MOST_INSTANCES = 10_000
_POOL = re.compile(r"(?P<count>\d+)x(?P<role>[a-z]+):(?P<profile>[^,\s]+)")


class PoolsError(ValueError):
    """Pools that cannot be: says which part, and what is allowed."""


@dataclass(frozen=True, slots=True)
class PoolName:
    """A pool as it is written, its profile not looked up yet."""

    count: int
    role: Role
    profile: str


@dataclass(frozen=True, slots=True)
class Pool:
    """Instances alike in initial role and profile."""

    name: str
    count: int
    role: Role
    profile: EngineProfile
    capabilities: Capabilities = field(default_factory=Capabilities)
    max_running: int = 0
    """Requests the router lets run on each at once; more wait in the router. 0: no limit."""


def parse_pools(text: str) -> list[PoolName]:
    """COUNTxROLE:PROFILE, several separated by commas. Raises PoolsError."""
    pools = []
    for part in text.split(","):
        match = _POOL.fullmatch(part.strip())
        if match is None:
            raise PoolsError(f"{part.strip()!r} is not COUNTxROLE:PROFILE, as in 8xmixed:a100-opt-13b")
        roles = [role.value for role in Role]
        if match["role"] not in roles:
            raise PoolsError(
                f"{part.strip()!r}: {match['role']!r} is no role; there are {', '.join(sorted(roles))}"
            )
        count = int(match["count"])
        if not 1 <= count <= MOST_INSTANCES:
            raise PoolsError(
                f"{part.strip()!r}: {count} is not a number of instances from 1 to {MOST_INSTANCES}"
            )
        pools.append(PoolName(count, Role(match["role"]), match["profile"]))
    present = {pool.role for pool in pools}
    if Role.PREFILL in present and Role.DECODE not in present:
        raise PoolsError("prefill instances need decode instances that go on where they end")
    if present == {Role.DECODE}:
        raise PoolsError("decode instances alone serve nothing: add a prefill or a mixed pool")
    return pools
