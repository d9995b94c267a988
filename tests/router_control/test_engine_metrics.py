"""What engines say of themselves."""

import pytest

from pointsman.router.engine_metrics import EngineReport, read_report

VLLM = b"""\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.76370000012e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 7.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="1000",odd="a\\"b,}"} 1.0
"""

TWO_RANKS = b"""\
vllm:num_requests_running{engine="0",model_name="llama"} 7.0
vllm:num_requests_running{engine="1",model_name="llama"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama"} 0.75
"""

SGLANG = b"""\
sglang:num_running_reqs{model_name="llama",tp_rank="0"} 4.0
sglang:num_running_reqs{model_name="llama",tp_rank="1"} 4.0
sglang:num_queue_reqs{model_name="llama",tp_rank="0"} 1.0
sglang:token_usage{model_name="llama",tp_rank="0"} 0.5
sglang:max_total_num_tokens{model_name="llama",tp_rank="0"} 65536.0
"""

PAGES = {
    "vLLM": (VLLM, EngineReport("1763700000.12", 7, 2, 0.25, 16000)),
    "two data-parallel ranks": (TWO_RANKS, EngineReport(None, 10, None, 0.5, None)),
    "SGLang, two tensor-parallel ranks": (SGLANG, EngineReport(None, 4, 1, 0.5, 65536)),
    "vLLM that says its capacity": (
        b'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="9000",num_gpu_blocks="1000"} 1\n',
        EngineReport(kv_capacity_tokens=9000),
    ),
    "vLLM that does not know it": (
        b'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="None",num_gpu_blocks="10"} 1\n',
        EngineReport(kv_capacity_tokens=160),
    ),
    "vLLM's older name": (b"vllm:gpu_cache_usage_perc 0.5", EngineReport(kv_used_share=0.5)),
    "no labels": (b"vllm:num_requests_running 3\n", EngineReport(running=3)),
    "vLLM in several processes": (
        b'vllm:prompt_tokens_created{engine="0"} 1.7e+09\n',
        EngineReport(start="1700000000.0"),
    ),
    "nothing": (b"", EngineReport()),
    "another exporter": (b"up 1\n", EngineReport()),
    "not a number": (b"vllm:num_requests_running NaN\nvllm:num_requests_waiting x\n", EngineReport()),
    "no value": (b"vllm:num_requests_running \n", EngineReport()),
    "cut short": (b'vllm:num_requests_running{model="a', EngineReport()),
    "longer names only": (b"vllm:num_requests_running_total 3\n", EngineReport()),
    "blocks not known yet": (
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n',
        EngineReport(),
    ),
    "a comment only": (b"# HELP vllm:num_requests_running Number\n", EngineReport()),
}


@pytest.mark.parametrize(("page", "report"), PAGES.values(), ids=PAGES)
def test_pages_are_read(page: bytes, report: EngineReport) -> None:
    assert read_report(page) == report


def test_a_vanished_metric_is_not_zero() -> None:
    page = VLLM.replace(b"vllm:num_requests_waiting{", b"# vllm:num_requests_waiting{")
    assert read_report(page).waiting is None
