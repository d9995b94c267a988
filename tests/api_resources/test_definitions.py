"""The definitions as files, and as the command prints them."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pointsman.api.crd.definitions import (
    DEFINITIONS,
    Definition,
    custom_resource_definition,
    shipped_engine_profiles,
    to_yaml,
)
from pointsman.api.profile import shipped_profiles
from pointsman.api.resources.model_service import ModelService
from pointsman.cli.main import main
from pointsman.core.placement.catalogue import make_policy

FOLDER = Path(__file__).parents[2] / "manifests" / "crds"
SAMPLES = sorted((FOLDER.parent / "samples").glob("*.yaml"))


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_files_are_what_the_models_say(definition: Definition) -> None:
    text = (FOLDER / f"{definition.plural}.yaml").read_text(encoding="utf-8")
    assert text == to_yaml(iter([custom_resource_definition(definition)])), "run `make crds`"


def test_there_are_no_other_files() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {definition.plural for definition in DEFINITIONS} | {
        "kustomization"
    }


def test_the_file_of_profiles_is_what_is_shipped() -> None:
    text = (FOLDER.parent / "profiles" / "shipped.yaml").read_text(encoding="utf-8")
    assert text == to_yaml(shipped_engine_profiles()), "run `make crds`"
    assert text == CliRunner().invoke(main, ["crds", "--profiles"]).output


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_name_what_there_is(sample: Path) -> None:
    """An API server checks the rest, in e2e/cluster."""
    service = ModelService.from_wire(yaml.safe_load(sample.read_text(encoding="utf-8")))
    named = {shape.profile for pool in service.spec.pools for shape in pool.accelerators if shape.profile}
    assert named <= set(shipped_profiles())
    make_policy(service.spec.routing.policy.name, service.spec.routing.policy.parameters)


def test_no_two_samples_meet() -> None:
    services = [ModelService.from_wire(yaml.safe_load(sample.read_text())) for sample in SAMPLES]
    names = [name for service in services for name in (service.spec.model.name, *service.spec.model.aliases)]
    assert len(set(names)) == len(names)
    assert len({service.metadata.name for service in services}) == len(services)


def test_the_command_prints_all_of_them() -> None:
    result = CliRunner().invoke(main, ["crds"])
    assert result.exit_code == 0
    printed = list(yaml.safe_load_all(result.output))
    assert printed == [custom_resource_definition(definition) for definition in DEFINITIONS]
