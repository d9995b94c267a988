"""The configuration file: what a short one means, and what people are told about a wrong one."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pointsman.api.config_file import ConfigError, parse_config
from pointsman.api.router_config import RouterConfig, load_router_config
from pointsman.core.instances import Role

Parse = Callable[[str], RouterConfig]

SHORT = """\
models:
  - name: llama
    instances:
      - url: http://127.0.0.1:8001/
      - {url: "http://127.0.0.1:8002", role: decode, connector: nixl}
"""


def test_a_short_file_is_enough(parse: Parse) -> None:
    config = parse(SHORT)
    first, second = config.models[0].instances
    assert (first.url, first.role) == ("http://127.0.0.1:8001", Role.MIXED)
    assert second.role is Role.DECODE
    assert config.listen.host == "127.0.0.1"
    assert config.sessions == "tracked"


WRONG = {
    "a role that does not exist": (
        SHORT.replace("role: decode", "role: decod"),
        "models[0].instances[1].role: must be 'prefill', 'decode' or 'mixed', not 'decod'; did you mean 'decode'?",
    ),
    "a misspelt field": (
        SHORT + "limts: {}\n",
        "router.yaml:6: limts: unknown field; did you mean 'limits'?; there are admin, ",
    ),
    "a misspelt field inside": (
        SHORT + "limits:\n  body_byte: 3\n",
        "router.yaml:7: limits.body_byte: unknown field; did you mean 'body_bytes'?; there are body_bytes, ",
    ),
    "a missing field": ("models:\n  - name: x\n", "router.yaml:2: models[0].instances: is required"),
    "no instances": (
        "models:\n  - {name: x, instances: []}\n",
        "models[0].instances: must have at least one item",
    ),
    "a url without a scheme": (
        "models: [{name: x, instances: [{url: '10.0.0.1:8000'}]}]",
        "models[0].instances[0].url: must be scheme, host and port, like http://10.0.3.7:8000, not '10.0.0.1:8000'",
    ),
    "the same url twice": (
        SHORT.replace("8002", "8001"),
        "router.yaml:5: models[0].instances[1].url: 'http://127.0.0.1:8001' is already at models[0].instances[0].url",
    ),
    "an alias that is taken": (
        SHORT.replace("    instances:", "    aliases: [a, llama]\n    instances:"),
        "router.yaml:3: models[0].aliases[1]: 'llama' is already at models[0].name",
    ),
    "nothing that decodes": (
        "models: [{name: x, instances: [{url: 'http://h:1', role: prefill, connector: nixl}]}]",
        "models[0].instances: needs a 'decode' or 'mixed' instance",
    ),
    "prefill without a connector": (
        "models: [{name: x, instances: [{url: 'http://h:1', role: prefill}]}]",
        "models[0].instances[0]: connector is required for role 'prefill'",
    ),
    "an unknown policy": (
        SHORT.replace("    instances:", "    policy: round_robbin\n    instances:"),
        "router.yaml:3: models[0].policy",
    ),
    "a negative limit": (
        SHORT + "limits: {headers: -1}\n",
        "limits.headers: must be greater than or equal to 1, not -1",
    ),
    "an admin port for all without a token": (
        SHORT + "admin: {host: 0.0.0.0}\n",
        "router.yaml:6: admin: token_file is required when host is not a loopback address",
    ),
    "a file that is not there": (
        SHORT + "admin: {token_file: nowhere}\n",
        "router.yaml:6: admin.token_file: no file at ",
    ),
    "half a key pair": (
        SHORT + "engine_tls: {certificate: router.yaml}\n",
        "engine_tls.certificate: no file at ",
    ),
    "a tenant's unknown model": (
        SHORT + "tenants: [{name: a, models: [lama]}]\n",
        "tenants[0].models[0]: no model 'lama'; there are llama",
    ),
    "the same key twice": (
        "models: []\nmodels: []\n",
        "router.yaml:2: models: appears twice; the first is on line 1",
    ),
    "no models": ("models: []\n", "router.yaml:1: models: must have at least one item"),
    "a list": ("- 1\n", "must be a valid dictionary"),
    "broken YAML": ("models: [\n", "not YAML: "),
    "an object that runs code": (
        "models: !!python/object/apply:os.getcwd []\n",
        "not YAML: could not determine",
    ),
    "a date that is none": ("models: 2024-99-99\n", "not YAML: month must be in 1..12"),
    "a circle": ("models: &m [*m]\n", "models[0]: "),
    "nothing": ("", "is empty; docs/configuration.md shows a complete example"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(parse: Parse, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_every_problem_is_named_at_once(parse: Parse) -> None:
    text = SHORT.replace("role: decode", "role: x").replace("8001", "8001/v1") + "limits: {headers: 0}\n"
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert [problem.line for problem in caught.value.problems] == [4, 5, 6]


def test_a_key_in_place_of_its_hash_is_not_repeated(parse: Parse) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(SHORT + "tenants: [{name: a, key_hashes: [sk-very-secret]}]\n")
    assert "tenants[0].key_hashes[0]: must be 'sha256:'" in str(caught.value)
    assert "sk-very-secret" not in str(caught.value)


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    file = tmp_path / "router.yaml"
    file.write_text(SHORT + "admin: {host: 0.0.0.0, token_file: token}\n")
    assert load_router_config(file).admin.token_file == (tmp_path / "token").resolve()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: No such file"):
        load_router_config(tmp_path / "nothing.yaml")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
NAMES = st.sampled_from(
    ["models", "name", "instances", "url", "role", "policy", "limits", "tenants", "slo"]
) | st.text(max_size=10)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_document_is_right_or_explained(document: dict[str, Any]) -> None:
    try:
        parse_config(yaml.safe_dump(document), RouterConfig, Path("router.yaml"))
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either is right


@given(st.text(st.characters(codec="utf-8"), max_size=80) | st.text("{}[]:,-&*!|> \n\"'ab01", max_size=40))
def test_any_text_is_right_or_explained(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text, RouterConfig, Path("router.yaml"))


DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def documented() -> tuple[str, str]:
    """The shortest and the complete example."""
    short, complete = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return short, complete


def loaded(file: Path, content: str) -> RouterConfig:
    file.write_text(content)
    return load_router_config(file)


def test_the_documented_examples_are_right(tmp_path: Path) -> None:
    for name in re.findall(r"[\w-]+\.(?:pem|key|token)", documented()[1]):
        (tmp_path / name).write_text("x")
    short, complete = (loaded(tmp_path / "router.yaml", example) for example in documented())
    assert [instance.url[-4:] for instance in short.models[0].instances] == ["8001", "8002"]
    assert (short.listen.port, short.admin.port) == (8080, 8081)
    assert [model.name for model in complete.models] == ["meta-llama/Llama-3.1-70B", "Qwen/Qwen3-32B"]
    assert complete.tenants[0].models == ("llama", "sql-lora")
    assert complete.models[1].policy.parameters == {"cache_threshold": 0.5, "balance_abs": 32}


def fields(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        for inner in inner_sections(field.annotation):
            yield from fields(inner)


def inner_sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from inner_sections(argument)


def test_every_field_is_documented() -> None:
    example = documented()[1]
    assert [name for name in fields(RouterConfig) if not re.search(rf"\b{name}:", example)] == []


def test_documented_defaults_are_the_defaults(parse: Parse) -> None:
    """A value without a word about its default is the default."""
    example = yaml.safe_load(documented()[1])
    defaults = parse(SHORT).model_dump()
    for section in ("limits", "queue", "timeouts", "retries", "health", "breaker", "scrape"):
        assert {name: defaults[section][name] for name in example[section]} == example[section]
    for name in ("sessions", "forbidden_fields", "remote_media", "drain_grace_s", "log_level"):
        assert defaults[name] == example[name]
