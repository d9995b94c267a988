"""The definitions as files, and as the command prints them."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pointsman.api.crd.definitions import DEFINITIONS, Definition, custom_resource_definition, to_yaml
from pointsman.cli.main import main

FOLDER = Path(__file__).parents[2] / "manifests" / "crds"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_files_are_what_the_models_say(definition: Definition) -> None:
    text = (FOLDER / f"{definition.plural}.yaml").read_text(encoding="utf-8")
    assert text == to_yaml(iter([custom_resource_definition(definition)])), "run `make crds`"


def test_there_are_no_other_files() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {definition.plural for definition in DEFINITIONS} | {
        "kustomization"
    }


def test_the_command_prints_all_of_them() -> None:
    result = CliRunner().invoke(main, ["crds"])
    assert result.exit_code == 0
    printed = list(yaml.safe_load_all(result.output))
    assert printed == [custom_resource_definition(definition) for definition in DEFINITIONS]
