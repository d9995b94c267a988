"""The router's view of every instance as metric families and, for people, as a list."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from pointsman.core.breaker import BreakerState
from pointsman.core.cluster import Cluster
from pointsman.core.events import EngineSample
from pointsman.router.fleet import Fleet, Member

STALE_S = 15.0
"""What an engine said of itself longer ago is not repeated."""


class InstanceMetrics:
    """Families with one sample per instance, made when somebody scrapes."""

    def __init__(self, fleet: Fleet, cluster: Cluster) -> None:
        self._fleet = fleet
        self._cluster = cluster

    def families(self, now_s: float, models: Iterable[str], may_sleep: Container[str]) -> Iterator[Metric]:
        """`models` by their own names, not their aliases. One that may sleep and does has no sample: it is not out of order."""
        members = tuple(self._fleet.members())
        counts = Counter(
            name for member in members if member.available for name in member.upstream.instance.models
        )
        usable = GaugeMetricFamily(
            "pointsman_model_available_instances", "Instances that placements may go to", labels=["model"]
        )
        for name in models:
            if counts[name] or name not in may_sleep:
                usable.add_metric([name], counts[name])
        yield usable
        info = GaugeMetricFamily("pointsman_instance_info", "1", labels=["instance", "pool", "role", "epoch"])
        available = GaugeMetricFamily(
            "pointsman_instance_available", "Whether placements may go there", labels=["instance"]
        )
        breaker = GaugeMetricFamily(
            "pointsman_instance_breaker", "1 for the breaker's state", labels=["instance", "state"]
        )
        for member in members:
            instance = member.upstream.instance
            info.add_metric([member.id.address, instance.pool, instance.role.value, member.id.epoch], 1)
            available.add_metric([member.id.address], int(member.available))
            now = self._fleet.state(member)
            for state in BreakerState:
                breaker.add_metric([member.id.address, state.value], int(state is now))
        yield from (info, available, breaker)
        yield from self._loads(members)
        yield from self._samples(members, now_s)

    def _loads(self, members: tuple[Member, ...]) -> Iterator[Metric]:
        loads = self._cluster.loads
        for name, text, values in (
            ("requests", "Requests the router placed there", loads.running),
            ("prefill_tokens", "Prompt tokens placed there and not computed", loads.prefill_tokens),
            ("context_tokens", "Tokens of requests that decode there", loads.context_tokens),
        ):
            family = GaugeMetricFamily(f"pointsman_instance_{name}", text, labels=["instance"])
            for member in members:
                slot = self._cluster.slot_of(member.id)
                if slot is not None:
                    family.add_metric([member.id.address], int(values[slot]))
            yield family

    def _samples(self, members: tuple[Member, ...], now_s: float) -> Iterator[Metric]:
        """What engines did not say, or said too long ago, has no sample: it is not zero."""
        for name, text in (
            ("running", "Requests running, as the engine says"),
            ("waiting", "Requests waiting, as the engine says"),
            ("kv_used_share", "Share of KV cache in use, as the engine says"),
        ):
            family = GaugeMetricFamily(f"pointsman_engine_{name}", text, labels=["instance"])
            for member in members:
                value = getattr(fresh(member, now_s), name, None)
                if value is not None:
                    family.add_metric([member.id.address], value)
            yield family

    def listed(self, now_s: float) -> list[dict[str, Any]]:
        """Everything known of every instance, for /admin/instances."""
        return [self._described(member, now_s) for member in self._fleet.members()]

    def _described(self, member: Member, now_s: float) -> dict[str, Any]:
        instance = member.upstream.instance
        sample = fresh(member, now_s)
        slot = self._cluster.slot_of(member.id)
        loads = self._cluster.loads
        placed = (loads.running, loads.prefill_tokens, loads.context_tokens)
        running, prefill_tokens, context_tokens = (
            (0, 0, 0) if slot is None else (int(of[slot]) for of in placed)
        )
        return {
            "url": member.id.address,
            "epoch": member.id.epoch,
            "models": list(instance.models),
            "role": instance.role.value,
            "pool": instance.pool,
            "connector": member.upstream.connector.value,
            "available": member.available,
            "healthy": member.healthy,
            "why": member.why,
            "breaker": self._fleet.state(member).value,
            "probes_in_s": self._fleet.probes_in_s(member),
            "draining": member.draining or member.leaving,
            "kv_capacity_tokens": instance.kv_capacity_tokens,
            "placed": {
                "requests": running,
                "prefill_tokens": prefill_tokens,
                "context_tokens": context_tokens,
            },
            "engine": None
            if sample is None
            else {
                "running": sample.running,
                "waiting": sample.waiting,
                "kv_used_share": sample.kv_used_share,
                "age_s": round(now_s - sample.at_s, 3),
            },
        }


def fresh(member: Member, now_s: float) -> EngineSample | None:
    """What the engine said of itself, unless that is too long ago, or was said by the one before it."""
    sample = member.sample
    return (
        sample if sample is not None and sample.id == member.id and now_s - sample.at_s <= STALE_S else None
    )
