"""`/metrics` under the names, labels and types of vLLM 0.32."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman.simengine.exposition import counter, gauge, histogram, own_metrics
from pointsman.simengine.instance import SimulatedInstance
from pointsman.simengine.options import KvConnector
from pointsman.simengine.transfer.exchange import Exchange

_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
_CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")

_HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": ("ttft", "Histogram of time to first token in seconds."),
    "vllm:inter_token_latency_seconds": ("itl", "Histogram of inter-token latency in seconds."),
    "vllm:request_time_per_output_token_seconds": (
        "tpot",
        "Histogram of time_per_output_token_seconds per request.",
    ),
    "vllm:e2e_request_latency_seconds": ("e2e", "Histogram of e2e request latency in seconds."),
    "vllm:request_queue_time_seconds": ("queue", "Histogram of time spent in WAITING phase for request."),
    "vllm:request_inference_time_seconds": (
        "inference",
        "Histogram of time spent in RUNNING phase for request.",
    ),
    "vllm:request_prefill_time_seconds": ("prefill", "Histogram of time spent in PREFILL phase for request."),
    "vllm:request_decode_time_seconds": ("decode", "Histogram of time spent in DECODE phase for request."),
    "vllm:request_num_preemptions": (
        "request_preemptions",
        "Histogram of the number of times a request was preempted.",
    ),
    "vllm:request_prefill_kv_computed_tokens": (
        "prefill_computed",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    ),
    "vllm:request_prompt_tokens": ("request_prompt_tokens", "Number of prefill tokens processed."),
    "vllm:request_generation_tokens": ("request_generation_tokens", "Number of generation tokens processed."),
    "vllm:iteration_tokens_total": ("iteration_tokens", "Histogram of number of tokens per engine_step."),
    "vllm:request_max_num_generation_tokens": (
        "request_max_generation_tokens",
        "Histogram of maximum number of requested generation tokens.",
    ),
    "vllm:request_params_n": ("params_n", "Histogram of the n request parameter."),
    "vllm:request_params_max_tokens": (
        "request_max_tokens",
        "Histogram of the max_tokens request parameter.",
    ),
}
_OTHER_CACHE_CONFIG = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "gpu_memory_utilization": "0.92",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "auto",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}
"""vLLM's defaults of what has no meaning here, for dashboards that ask."""


@dataclass(slots=True, eq=False)
class VllmMetrics(Collector):
    """Reads the engine when it is scraped."""

    instance: SimulatedInstance
    exchange: Exchange

    def collect(self) -> Iterator[Metric]:
        labels = {"model_name": self.instance.options.served_names[0], "engine": "0"}
        yield from self._gauges(labels)
        yield from self._counters(labels)
        for name, (attribute, text) in _HISTOGRAMS.items():
            yield histogram(
                name, text, labels, getattr(self.instance.measures, attribute), self.instance.started_s
            )
        yield from self._nixl(labels)
        yield from self._estimates(labels)
        yield self._cache_config()
        if self.instance.options.lora_names:
            yield self._loras()
        yield from own_metrics(self.instance)

    def _gauges(self, labels: Mapping[str, str]) -> Iterator[Metric]:
        instance = self.instance
        stats = instance.stats()
        yield gauge(
            "vllm:num_requests_running",
            "Number of requests in model execution batches.",
            labels,
            stats.running,
        )
        yield gauge(
            "vllm:num_requests_waiting", "Number of requests waiting to be processed.", labels, stats.waiting
        )
        by_reason = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            labels=[*labels, "reason"],
        )
        by_reason.add_metric([*labels.values(), "capacity"], stats.waiting - instance.pulling)
        by_reason.add_metric([*labels.values(), "deferred"], instance.pulling)
        yield by_reason
        fetches = GaugeMetricFamily(
            "vllm:num_requests_kv_fetch_by_stage",
            "Number of waiting requests by async KV load stage.",
            labels=[*labels, "stage"],
        )
        for stage in ("waiting_to_start", "in_progress", "completed_waiting"):
            fetches.add_metric([*labels.values(), stage], instance.pulling if stage == "in_progress" else 0)
        yield fetches
        asleep = GaugeMetricFamily(
            "vllm:engine_sleep_state",
            "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake.",
            labels=[*labels, "sleep_state"],
        )
        level = instance.sleep_level
        for name, value in (
            ("awake", level == 0),
            ("weights_offloaded", level == 1),
            ("discard_all", level == 2),
        ):
            asleep.add_metric([*labels.values(), name], float(value))
        yield asleep
        used = stats.used_blocks / stats.total_blocks if stats.total_blocks else 0.0
        yield gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", labels, used)

    def _counters(self, labels: Mapping[str, str]) -> Iterator[Metric]:
        instance, stats, measures = self.instance, self.instance.stats(), self.instance.measures
        since = instance.started_s
        plain = {
            "vllm:prefix_cache_queries": (
                "Prefix cache queries, in terms of number of queried tokens.",
                stats.counters.prefix_queries,
            ),
            "vllm:prefix_cache_hits": (
                "Prefix cache hits, in terms of number of cached tokens.",
                stats.counters.prefix_hits,
            ),
            "vllm:external_prefix_cache_queries": (
                "External prefix cache queries from KV connector cross-instance cache sharing.",
                measures.prompt_tokens - measures.prompt_tokens_cached,
            ),
            "vllm:external_prefix_cache_hits": (
                "External prefix cache hits from KV connector cross-instance cache sharing.",
                measures.prompt_tokens_pulled,
            ),
            "vllm:mm_cache_queries": ("Multi-modal cache queries, in terms of number of queried items.", 0),
            "vllm:mm_cache_hits": ("Multi-modal cache hits, in terms of number of cached items.", 0),
            "vllm:num_preemptions": (
                "Cumulative number of preemption from the engine.",
                stats.counters.preemptions,
            ),
            "vllm:prompt_tokens": ("Number of prefill tokens processed.", measures.prompt_tokens),
            "vllm:prompt_tokens_cached": (
                "Number of cached prompt tokens (local + external).",
                measures.prompt_tokens_cached + measures.prompt_tokens_pulled,
            ),
            "vllm:generation_tokens": ("Number of generation tokens processed.", measures.generation_tokens),
        }
        for name, (text, value) in plain.items():
            yield counter(name, text, labels, {(): value}, since)
        yield counter(
            "vllm:prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            {**labels, "source": ""},
            {
                ("local_compute",): measures.prompt_tokens_computed,
                ("local_cache_hit",): measures.prompt_tokens_cached,
                ("external_kv_transfer",): measures.prompt_tokens_pulled,
            },
            since,
        )
        tiers: dict[tuple[str, ...], float] = dict.fromkeys(((tier,) for tier in _CACHE_TIERS), 0.0)
        tiers["device",] = stats.counters.prefix_hits
        tiers["p2p",] = measures.prompt_tokens_pulled
        yield counter(
            "vllm:prompt_tokens_cached_by_source",
            "Prefix-cache hit tokens by the cache tier that supplied them.",
            {**labels, "source": ""},
            tiers,
            since,
        )
        yield counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            {**labels, "finished_reason": ""},
            {(reason,): measures.finished[reason] for reason in _FINISH_REASONS},
            since,
        )
        yield counter(
            "vllm:admission_rejections",
            "Number of admission attempts rejected by a queue limit, by reason.",
            {"model_name": labels["model_name"], "reason": ""},
            {("max_num_queued_reqs",): 0, ("max_num_queued_tokens",): 0},
            since,
        )

    def _nixl(self, labels: Mapping[str, str]) -> Iterator[Metric]:
        if self.instance.options.transfer.connector is not KvConnector.NIXL:
            return
        since, measures, counts = self.instance.started_s, self.exchange.measures, self.exchange.desk.counts
        for name, (text, values) in {
            "vllm:nixl_xfer_time_seconds": (
                "Histogram of transfer duration for NIXL KV Cache transfers.",
                measures.seconds,
            ),
            "vllm:nixl_post_time_seconds": (
                "Histogram of transfer post time for NIXL KV Cache transfers.",
                measures.post_seconds,
            ),
            "vllm:nixl_bytes_transferred": (
                "Histogram of bytes transferred per NIXL KV Cache transfers.",
                measures.bytes,
            ),
            "vllm:nixl_num_descriptors": (
                "Histogram of number of descriptors per NIXL  KV Cache transfers.",
                measures.descriptors,
            ),
        }.items():
            yield histogram(name, text, labels, values, since)
        for name, (text, value) in {
            "vllm:nixl_num_failed_transfers": ("Number of failed NIXL KV Cache transfers.", measures.failed),
            "vllm:nixl_num_failed_notifications": ("Number of failed NIXL KV Cache notifications.", 0),
            "vllm:nixl_num_kv_expired_reqs": ("Number of requests that had their KV expire.", counts.expired),
            "vllm:nixl_num_notifications_after_expiry": (
                "Number of completion notifications for requests that were no longer tracked.",
                0,
            ),
        }.items():
            yield counter(name, text, labels, {(): value}, since)

    def _estimates(self, labels: Mapping[str, str]) -> Iterator[Metric]:
        """Exported by vLLM whether it estimates or not; it does not unless told."""
        for name, what in (
            ("flops", "flops"),
            ("read_bytes", "bytes read"),
            ("write_bytes", "bytes written"),
        ):
            yield counter(
                f"vllm:estimated_{name}_per_gpu",
                f"Estimated {what} per GPU.",
                labels,
                {(): 0},
                self.instance.started_s,
            )

    def _cache_config(self) -> Metric:
        options, stats = self.instance.options, self.instance.stats()
        values = {
            **_OTHER_CACHE_CONFIG,
            "block_size": str(options.profile.block_size),
            "effective_attention_block_size": str(options.profile.block_size),
            "enable_prefix_caching": str(options.prefix_caching),
            "engine": "0",
            "hash_block_size": str(options.profile.block_size),
            "kv_cache_max_concurrency": str(
                stats.total_blocks * options.profile.block_size / options.longest_context()
            ),
            "kv_cache_size_tokens": str(stats.total_blocks * options.profile.block_size),
            "num_gpu_blocks": str(stats.total_blocks),
        }
        return gauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", values, 1)

    def _loras(self) -> Metric:
        running, waiting = self.instance.lora_activity()
        labels = {
            "max_lora": str(len(self.instance.options.lora_names)),
            "waiting_lora_adapters": ",".join(waiting),
            "running_lora_adapters": ",".join(running),
        }
        return gauge(
            "vllm:lora_requests_info", "Running stats on lora requests.", labels, self.instance.wall_s()
        )
