"""The chart's schema of values knows the router's configuration as it is."""

import json
from typing import Any

import pytest

from tools.write_values_schema import FILE, OWN, written

SCHEMA: dict[str, Any] = json.loads(FILE.read_text())
CONFIG = SCHEMA["definitions"][f"{OWN}config"]


def test_the_file_is_as_the_models_are() -> None:
    assert written(FILE.read_text()) == FILE.read_text(), "run: make crds"


@pytest.mark.parametrize("name", ["queue", "tenants", "health", "listen", "models"])
def test_its_parts_are_known(name: str) -> None:
    assert name in CONFIG["properties"]
    assert CONFIG["additionalProperties"] is False


def test_only_items_of_lists_must_be_whole() -> None:
    """The rest is merged onto what the chart writes."""
    whole = {
        name for name, body in SCHEMA["definitions"].items() if name.startswith(OWN) and "required" in body
    }
    assert whole == {f"{OWN}{name}" for name in ("InstanceConfig", "ModelConfig", "TenantConfig")}


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(SCHEMA)
    assert all(part.split('"')[0] in SCHEMA["definitions"] for part in text.split("#/definitions/")[1:])
