"""What the tests of the router's control side share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.api.config_file import parse_config
from pointsman.api.router_config import RouterConfig

MakeConfig = Callable[..., RouterConfig]

MINIMAL: dict[str, Any] = {"models": [{"name": "llama", "instances": [{"url": "http://127.0.0.1:8001"}]}]}


@pytest.fixture
def make_config() -> MakeConfig:
    """A configuration with one mixed instance, and whatever else is given."""

    def make(**sections: Any) -> RouterConfig:
        return RouterConfig.model_validate(MINIMAL | sections)

    return make


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[str], RouterConfig]:
    """Reads a configuration's text as if it lay in a file."""

    def read(text: str) -> RouterConfig:
        return parse_config(text, RouterConfig, tmp_path / "router.yaml")

    return read
