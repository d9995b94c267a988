"""Write manifests/crds/ from the models: `make crds`."""

from pathlib import Path

from pointsman.api.crd.definitions import DEFINITIONS, custom_resource_definition, to_yaml

FOLDER = Path(__file__).parents[1] / "manifests" / "crds"


def main() -> None:
    for definition in DEFINITIONS:
        text = to_yaml(iter([custom_resource_definition(definition)]))
        (FOLDER / f"{definition.plural}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
