"""Write the Grafana dashboards of the chart: `python tools/dashboards.py`. A test holds the files against it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "charts" / "pointsman" / "files" / "dashboards"
WIDTH = 24
HEIGHT = 8
SCHEMA_VERSION = 39  # Grafana 10.2 and newer migrate from it by themselves

# Every series of a router, or of an operator; `model` narrows those that have it.
ROUTER = 'namespace=~"$namespace",job=~"$job"'
MODEL = f'{ROUTER},model=~"$model"'
RATE = "$__rate_interval"


# Replicas agree on an instance or will in a moment; pool and role are told by another metric.
AVAILABLE = f"""sum by (pool, role) (
  max by (instance, pool, role) (pointsman_instance_info{{{ROUTER}}})
    * on (instance) group_left () max by (instance) (pointsman_instance_available{{{ROUTER}}}))"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: queries with their legends, and a unit."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    about: str = ""
    width: int = 8
    stacked: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)


def rate(metric: str, by: str, where: str = MODEL) -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def quantiles(metric: str, where: str = MODEL) -> list[tuple[str, str]]:
    return [
        (f"histogram_quantile({share}, {rate(metric + '_bucket', 'le', where)})", name)
        for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    ]


ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Requests",
        (
            Panel(
                "Requests by status",
                [(rate("pointsman_requests_total", "code"), "{{code}}")],
                "reqps",
                stacked=True,
            ),
            Panel(
                "Why requests fail",
                [(rate("pointsman_requests_total", "reason", f'{MODEL},reason!=""'), "{{reason}}")],
                "reqps",
                "The word in x-pointsman-reason.",
            ),
            Panel(
                "In the router",
                [
                    (f"sum by (model) (pointsman_requests_in_flight{{{MODEL}}})", "{{model}}"),
                    (f"sum(pointsman_requests_waiting{{{ROUTER}}})", "waiting for an instance"),
                ],
            ),
            Panel(
                "Tokens",
                [
                    (rate("pointsman_prompt_tokens_total", "model"), "prompt {{model}}"),
                    (rate("pointsman_output_tokens_total", "model"), "output {{model}}"),
                ],
                about="Per second, as counted by engines.",
            ),
            Panel(
                "Attempts beyond the first",
                [(rate("pointsman_retries_total", "reason"), "{{reason}}")],
                "reqps",
            ),
            Panel(
                "Client connections",
                [(f"sum by (pod) (pointsman_client_connections{{{ROUTER}}})", "{{pod}}")],
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "Time to first token", quantiles("pointsman_ttft_seconds"), "s", "Of streams, from arrival."
            ),
            Panel(
                "Time per output token",
                quantiles("pointsman_tpot_seconds"),
                "s",
                "Mean of each stream, after the first token.",
            ),
            Panel("Gaps between tokens", quantiles("pointsman_itl_seconds"), "s"),
            Panel("Whole answers", quantiles("pointsman_e2e_seconds"), "s"),
            Panel("In the router's queue", quantiles("pointsman_queue_seconds"), "s"),
            Panel("CPU time of a decision", quantiles("pointsman_decision_seconds"), "s"),
        ),
    ),
    (
        "Instances",
        (
            Panel(
                "Available",
                [
                    (AVAILABLE, "{{pool}} {{role}}"),
                    (f"max by (model) (pointsman_model_available_instances{{{MODEL}}})", "all of {{model}}"),
                ],
                about="Healthy, not draining, breaker not open.",
                limits={"min": 0},
            ),
            Panel(
                "Open breakers",
                [
                    (
                        f'max by (instance) (pointsman_instance_breaker{{{ROUTER},state="open"}})',
                        "{{instance}}",
                    )
                ],
                about="1 while requests are kept away because they failed.",
                limits={"min": 0, "max": 1},
            ),
            Panel(
                "KV cache in use",
                [(f"max by (instance) (pointsman_engine_kv_used_share{{{ROUTER}}})", "{{instance}}")],
                "percentunit",
                "As engines say of themselves.",
                limits={"min": 0, "max": 1},
            ),
            Panel(
                "Requests placed",
                [(f"sum by (instance) (pointsman_instance_requests{{{ROUTER}}})", "{{instance}}")],
            ),
            Panel(
                "Running and waiting in engines",
                [
                    (f"max by (instance) (pointsman_engine_running{{{ROUTER}}})", "running {{instance}}"),
                    (f"max by (instance) (pointsman_engine_waiting{{{ROUTER}}})", "waiting {{instance}}"),
                ],
            ),
            Panel(
                "Tokens placed",
                [
                    (
                        f"sum by (instance) (pointsman_instance_prefill_tokens{{{ROUTER}}})",
                        "to prefill {{instance}}",
                    ),
                    (
                        f"sum by (instance) (pointsman_instance_context_tokens{{{ROUTER}}})",
                        "in context {{instance}}",
                    ),
                ],
            ),
        ),
    ),
    (
        "The router itself",
        (
            Panel(
                "CPU",
                [(f"sum by (pod) (rate(process_cpu_seconds_total{{{ROUTER}}}[{RATE}]))", "{{pod}}")],
                about="Cores; a router uses one.",
            ),
            Panel(
                "Memory", [(f"max by (pod) (process_resident_memory_bytes{{{ROUTER}}})", "{{pod}}")], "bytes"
            ),
            Panel(
                "Error of token estimates",
                quantiles("pointsman_token_estimate_error"),
                "percentunit",
                "Estimated prompt tokens over counted ones, minus 1.",
            ),
            Panel(
                "Tokens per byte", [(f"avg by (model) (pointsman_tokens_per_byte{{{MODEL}}})", "{{model}}")]
            ),
            Panel(
                "Configurations read",
                [
                    (
                        f"sum by (result) (increase(pointsman_config_reloads_total{{{ROUTER}}}[{RATE}]))",
                        "{{result}}",
                    )
                ],
            ),
            Panel(
                "Headers clamped",
                [(rate("pointsman_clamped_headers_total", "header", ROUTER), "{{header}}")],
                "reqps",
            ),
            Panel(
                "API server last heard",
                [(f"max by (kind) (pointsman_discovery_age_seconds{{{ROUTER}}})", "{{kind}}")],
                "s",
            ),
            Panel(
                "Found in the cluster",
                [
                    (f"max by (kind) (pointsman_discovery_objects{{{ROUTER}}})", "{{kind}}"),
                    (f"max(pointsman_discovery_refused{{{ROUTER}}})", "refused"),
                ],
            ),
        ),
    ),
)

BY_RESOURCE = "{{resource}}"
OPERATOR_ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Reconciling",
        (
            Panel(
                "Who leads",
                [(f"max by (pod) (pointsman_operator_leader{{{ROUTER}}})", "{{pod}}")],
                limits={"min": 0},
            ),
            Panel(
                "Passes",
                [
                    (
                        rate("pointsman_operator_reconciles_total", "kind, outcome", ROUTER),
                        "{{kind}} {{outcome}}",
                    )
                ],
                "ops",
            ),
            Panel("Objects that are due", [(f"sum(pointsman_operator_queue{{{ROUTER}}})", "due")]),
            Panel(
                "Duration of a pass",
                quantiles("pointsman_operator_reconcile_seconds", ROUTER),
                "s",
                "API calls included.",
            ),
            Panel("Due before a pass began", quantiles("pointsman_operator_queue_seconds", ROUTER), "s"),
            Panel(
                "Writes",
                [
                    (
                        rate("pointsman_operator_writes_total", "verb, resource", ROUTER),
                        "{{verb}} {{resource}}",
                    )
                ],
                "ops",
                "None where nothing changes.",
            ),
        ),
    ),
    (
        "The API server, as the operator sees it",
        (
            Panel(
                "Calls",
                [(rate("pointsman_operator_api_calls_total", "verb, code", ROUTER), "{{verb}} {{code}}")],
                "ops",
            ),
            Panel("Duration of calls", quantiles("pointsman_operator_api_call_seconds", ROUTER), "s"),
            Panel(
                "Objects known",
                [(f"max by (resource) (pointsman_operator_cache_objects{{{ROUTER}}})", BY_RESOURCE)],
            ),
            Panel(
                "Since anything was heard",
                [(f"max by (resource) (pointsman_operator_cache_age_seconds{{{ROUTER}}})", BY_RESOURCE)],
                "s",
            ),
            Panel(
                "Since the last list",
                [
                    (
                        f"max by (resource) (pointsman_operator_cache_listed_age_seconds{{{ROUTER}}})",
                        BY_RESOURCE,
                    )
                ],
                "s",
            ),
            Panel(
                "Events that no watch told",
                [(rate("pointsman_operator_cache_missed_total", "resource", ROUTER), BY_RESOURCE)],
                "ops",
            ),
            Panel(
                "Events told",
                [(rate("pointsman_operator_cache_events_total", "resource", ROUTER), BY_RESOURCE)],
                "ops",
            ),
            Panel(
                "Lists",
                [(rate("pointsman_operator_cache_lists_total", "resource", ROUTER), BY_RESOURCE)],
                "ops",
            ),
            Panel(
                "Failed lists and watches",
                [(rate("pointsman_operator_cache_errors_total", "resource", ROUTER), BY_RESOURCE)],
                "ops",
            ),
        ),
    ),
    (
        "The operator itself",
        (
            Panel(
                "CPU", [(f"sum by (pod) (rate(process_cpu_seconds_total{{{ROUTER}}}[{RATE}]))", "{{pod}}")]
            ),
            Panel(
                "Memory", [(f"max by (pod) (process_resident_memory_bytes{{{ROUTER}}})", "{{pod}}")], "bytes"
            ),
        ),
    ),
)

OPERATOR_VARIABLES = (
    ("namespace", "label_values(pointsman_operator_leader, namespace)"),
    ("job", 'label_values(pointsman_operator_leader{namespace=~"$namespace"}, job)'),
)
VARIABLES = (
    ("namespace", "label_values(pointsman_requests_in_flight, namespace)"),
    ("job", 'label_values(pointsman_requests_in_flight{namespace=~"$namespace"}, job)'),
    ("model", 'label_values(pointsman_requests_in_flight{namespace=~"$namespace",job=~"$job"}, model)'),
)
DASHBOARDS = {"router": (ROWS, VARIABLES), "operator": (OPERATOR_ROWS, OPERATOR_VARIABLES)}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana imports it. Raises KeyError."""
    rows, variables = DASHBOARDS[name]
    return {
        "uid": f"pointsman-{name}",
        "title": f"Pointsman: {name}",
        "tags": ["pointsman", "llm"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource_variable(), *(_variable(*each) for each in variables)]},
        "panels": _panels(rows),
    }


def _panels(rows: Sequence[tuple[str, Sequence[Panel]]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in rows:
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, top, WIDTH, 1),
            }
        )
        top += 1
        left = 0
        for panel in row:
            if left + panel.width > WIDTH:
                left, top = 0, top + HEIGHT
            panels.append(_rendered(panel, _place(left, top, panel.width, HEIGHT)))
            left += panel.width
        top += HEIGHT
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return panels


def rendered(name: str) -> str:
    return json.dumps(dashboard(name), indent=1) + "\n"


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _rendered(panel: Panel, place: Mapping[str, int]) -> dict[str, Any]:
    custom = {
        "lineWidth": 1,
        "fillOpacity": 10,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none"},
    }
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom, **panel.limits}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(panel.queries)
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(rendered(name))
