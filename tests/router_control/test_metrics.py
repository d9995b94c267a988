"""The router's own metrics."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from pointsman.api.router_config import RouterConfig
from pointsman.router.app import RouterApp
from pointsman.router.metrics import MAX_OUTCOMES, RouterMetrics


async def read(metrics: RouterMetrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """(sample name, label values in the order of their names) -> value."""
    text = (await metrics.exposition()).decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_request_leaves_its_marks() -> None:
    metrics = RouterMetrics(["llama"])
    llama = metrics.model("llama")
    llama.arrived()
    llama.decided(8e-6)
    llama.started(0.02)
    llama.first_token(0.3)
    llama.gap(0.02)
    llama.gap(0.03, tokens=3)
    llama.retried("connect")
    llama.counted(100, 5)
    during = await read(metrics)
    llama.finished(200, "", 1.5, 0.02)
    after = await read(metrics)
    assert during["pointsman_requests_in_flight", ("llama",)] == 1
    assert after["pointsman_requests_in_flight", ("llama",)] == 0
    assert after["pointsman_requests_total", ("200", "llama", "")] == 1
    assert after["pointsman_retries_total", ("llama", "connect")] == 1
    assert after["pointsman_ttft_seconds_bucket", ("0.25", "llama")] == 0
    assert after["pointsman_ttft_seconds_bucket", ("0.5", "llama")] == 1
    assert after["pointsman_ttft_seconds_sum", ("llama",)] == 0.3
    assert after["pointsman_itl_seconds_count", ("llama",)] == 4
    assert after["pointsman_e2e_seconds_count", ("llama",)] == 1
    assert after["pointsman_queue_seconds_count", ("llama",)] == 1
    assert after["pointsman_prompt_tokens_total", ("llama",)] == 100
    assert after["pointsman_output_tokens_total", ("llama",)] == 5
    assert "process_start_time_seconds" in {name for name, _ in after}


async def test_bounds_belong_to_their_bucket() -> None:
    metrics = RouterMetrics(["m"])
    metrics.model("m").first_token(0.25)
    assert (await read(metrics))["pointsman_ttft_seconds_bucket", ("0.25", "m")] == 1


async def test_labels_are_bounded() -> None:
    metrics = RouterMetrics(["m"])
    for made_up in range(3 * MAX_OUTCOMES):
        metrics.model(f"model-{made_up}").arrived()
        metrics.model("m").retried(f"reason-{made_up}")
        metrics.model("m").arrived()
        metrics.model("m").finished(500, f"reason-{made_up}", 1.0)
        metrics.clamped(f"header-{made_up}")
    read_back = await read(metrics)
    for name in ("pointsman_retries_total", "pointsman_requests_total", "pointsman_clamped_headers_total"):
        assert len([1 for sample, _ in read_back if sample == name]) <= MAX_OUTCOMES + 1
        assert sum(value for (sample, _), value in read_back.items() if sample == name) == 3 * MAX_OUTCOMES
    assert read_back["pointsman_requests_in_flight", ("other",)] == 3 * MAX_OUTCOMES


async def test_errors_of_estimates_may_be_negative() -> None:
    metrics = RouterMetrics(["m"])
    metrics.estimate_error("m", -0.15)
    assert (await read(metrics))["pointsman_token_estimate_error_bucket", ("-0.2", "m")] == 0
    assert (await read(metrics))["pointsman_token_estimate_error_bucket", ("-0.1", "m")] == 1


async def test_models_can_join_and_others_add_families() -> None:
    def source() -> Iterator[Metric]:
        yield GaugeMetricFamily("pointsman_test", "A test", value=3)

    metrics = RouterMetrics(["a"])
    metrics.add_models(["a", "b"])
    metrics.add_source(source)
    metrics.model("b").arrived()
    metrics.reloaded(accepted=False)
    read_back = await read(metrics)
    assert read_back["pointsman_requests_in_flight", ("b",)] == 1
    assert read_back["pointsman_test", ()] == 3
    assert read_back["pointsman_config_reloads_total", ("refused",)] == 1


async def test_every_metric_is_documented(make_config: Callable[..., RouterConfig]) -> None:
    app = RouterApp(make_config(), Path("router.yaml"))
    names = re.findall(r"^# TYPE (pointsman_\w+)", (await app.metrics()).decode(), re.MULTILINE)
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in documented] == []


async def test_a_model_that_sleeps_is_not_out_of_order(make_config: Callable[..., RouterConfig]) -> None:
    app = RouterApp(make_config(), Path("router.yaml"))

    def told(may_sleep: set[str]) -> list[tuple[str, float]]:
        families = app._instances.families(0.0, ["a", "b"], may_sleep)
        return [
            (sample.labels["model"], sample.value)
            for family in families
            if family.name == "pointsman_model_available_instances"
            for sample in family.samples
        ]

    assert told({"b"}) == [("a", 0)]
    assert told(set()) == [("a", 0), ("b", 0)]
