"""`/metrics` under SGLang's names (0.5)."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pointsman.simengine.exposition import counter, gauge, histogram, own_metrics
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.options import KvRole
from pointsman.simengine.transfer.exchange import Exchange

ENGINE_TYPES = {
    KvRole.NONE: "unified",
    KvRole.BOTH: "unified",
    KvRole.PRODUCER: "prefill",
    KvRole.CONSUMER: "decode",
}


@dataclass(slots=True, eq=False)
class SglangMetrics(Collector):
    """Reads the engine when it is scraped."""

    instance: SimulatedInstance
    exchange: Exchange

    def collect(self) -> Iterator[Metric]:
        options = self.instance.options
        request_labels = {
            "model_name": options.served_names[0],
            "engine_type": ENGINE_TYPES[options.transfer.role],
        }
        yield from self._gauges({**request_labels, "tp_rank": "0", "pp_rank": "0", "moe_ep_rank": "0"})
        yield from self._requests(request_labels)
        yield from own_metrics(self.instance)

    def _gauges(self, labels: dict[str, str]) -> Iterator[Metric]:
        instance, stats = self.instance, self.instance.stats()
        block = instance.options.profile.block_size
        used, total = stats.used_blocks * block, stats.total_blocks * block
        hits, queries = stats.counters.prefix_hits, stats.counters.prefix_queries
        prefill = instance.options.transfer.role is KvRole.PRODUCER
        values = {
            "num_running_reqs": ("The number of running requests.", stats.running),
            "num_queue_reqs": ("The number of requests in the waiting queue.", stats.waiting),
            "token_usage": ("The token usage.", used / total if total else 0.0),
            "full_token_usage": (
                "The token usage for full attention layers.",
                used / total if total else 0.0,
            ),
            "num_used_tokens": ("The number of used tokens.", used),
            "kv_used_tokens": ("Number of actively used token slots in the KV cache pool.", used),
            "kv_available_tokens": ("Number of free token slots in the KV cache pool.", total - used),
            "cache_hit_rate": ("The prefix cache hit rate.", hits / queries if queries else 0.0),
            "gen_throughput": ("The generation throughput (token/s).", instance.generated_per_s()),
            "num_prefill_bootstrap_queue_reqs": (
                "The number of requests in the prefill bootstrap queue.",
                self.exchange.waiting_for_partner,
            ),
            "num_prefill_inflight_queue_reqs": (
                "The number of requests in the prefill inflight queue.",
                self.exchange.waiting_to_be_fetched if prefill else 0,
            ),
            "num_decode_transfer_queue_reqs": (
                "The number of requests in the decode transfer queue.",
                instance.pulling,
            ),
        }
        for name, (text, value) in values.items():
            yield gauge(f"sglang:{name}", text, labels, value)
        since = instance.started_s
        yield counter(
            "sglang:num_retracted_requests",
            "Total number of retracted requests.",
            labels,
            {(): stats.counters.preemptions},
            since,
        )
        yield counter(
            "sglang:num_transfer_failed_reqs",
            "The number of transfer failed requests.",
            labels,
            {(): self.exchange.measures.failed},
            since,
        )

    def _requests(self, labels: dict[str, str]) -> Iterator[Metric]:
        measures, since = self.instance.measures, self.instance.started_s
        totals = {
            "prompt_tokens": ("Number of prefill tokens processed.", measures.prompt_tokens),
            "generation_tokens": ("Number of generation tokens processed.", measures.generation_tokens),
            "cached_tokens": ("Number of cached prompt tokens.", measures.prompt_tokens_cached),
            "num_requests": ("Number of requests processed.", sum(measures.finished.values())),
            "num_aborted_requests": ("Number of requests aborted.", measures.finished["abort"]),
        }
        for name, (text, value) in totals.items():
            yield counter(f"sglang:{name}", text, labels, {(): value}, since)
        for name, text, values in (
            ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", measures.ttft),
            ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", measures.itl),
            (
                "e2e_request_latency_seconds",
                "Histogram of End-to-end request latency in seconds",
                measures.e2e,
            ),
            ("queue_time_seconds", "Histogram of queueing time in seconds.", measures.queue),
        ):
            yield histogram(f"sglang:{name}", text, labels, values, since)
