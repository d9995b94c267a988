"""Populations that come with the package, as figures derived from public statistics; `tools/fit_servegen.py` made them.

A file holds `name`, `source`, `span_s` and `clients`, each with a rate for every hour, one law of gaps, and one histogram of
prompt and of answer lengths for the whole span.
"""

from importlib import resources
from typing import Any

import orjson

from pointsman.sim.workload.clients import Client, GapLaw, Histogram, Lengths, Population, Window

HOUR_S = 3600.0
SHIPPED = ("servegen-deepseek-r1", "servegen-m-large")


def load_population(name: str) -> Population:
    """One of `SHIPPED`. Raises FileNotFoundError for another."""
    file = resources.files(__package__) / "populations" / f"{name}.json"
    values = orjson.loads(file.read_bytes())
    return Population(
        values["name"], values["source"], values["span_s"], tuple(map(_client, values["clients"]))
    )


def _client(values: dict[str, Any]) -> Client:
    law, shape = GapLaw(values["gap_law"]), values["gap_shape"]
    windows = tuple(
        Window(hour * HOUR_S, rate, law, shape) for hour, rate in enumerate(values["requests_per_s"])
    )
    prompts, outputs = (Histogram.of(values[field]) for field in ("prompt_tokens", "output_tokens"))
    return Client(values["name"], windows, (Lengths(0.0, prompts, outputs),))
