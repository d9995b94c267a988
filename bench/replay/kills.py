"""Engines killed under load, and what that may and may not cost."""

import asyncio
import os
import random
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pointsman.cli.cluster import Cluster
from pointsman.loadgen.client import LoadClient

NOTICED_S = 3.0
"""Wall time within which a stream from a killed engine has failed at its client."""


@dataclass(frozen=True, slots=True)
class Kill:
    at_s: float
    """On the workload's clock."""
    url: str
    name: str


@dataclass(slots=True)
class Killer:
    """SIGKILLs one engine after another, at random but seeded, leaving each time to come back."""

    cluster: Cluster
    interval_s: float
    seed: int
    kills: list[Kill] = field(default_factory=list)

    async def run(self, client: LoadClient) -> None:
        """Until cancelled."""
        rng = random.Random(self.seed)
        while True:
            await asyncio.sleep(self.interval_s)
            engine = rng.choice(self.cluster.engines)
            if engine.child.has_ended:
                continue
            os.kill(engine.child.pid, signal.SIGKILL)
            self.kills.append(Kill(client.now_s, engine.url, engine.name))


@dataclass(slots=True)
class Losses:
    """Failed requests by whether a kill excuses them."""

    own_instance_died_after_first_byte: int = 0
    other: list[Mapping[str, Any]] = field(default_factory=list)
    """Records of those that should not have failed."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(records: Iterable[Mapping[str, Any]], kills: list[Kill], speed: float) -> Losses:
    """A failure is excused where the answer had begun and an instance that the router named was killed just before."""
    losses = Losses()
    for record in records:
        if record["outcome"] == "completed":
            continue
        instances = instances_of(record["decision"] or "")
        excused = record["status"] == 200 and any(
            kill.url in instances and 0 <= record["end_s"] - kill.at_s <= NOTICED_S * speed for kill in kills
        )
        if excused:
            losses.own_instance_died_after_first_byte += 1
        else:
            losses.other.append(record)
    return losses


def instances_of(decision: str) -> set[str]:
    """The addresses in an `x-pointsman-decision` header."""
    fields = (field.partition("=") for field in decision.split(";"))
    return {value for name, _, value in fields if name in ("prefill", "decode")}
