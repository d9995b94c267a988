"""Write manifests/crds and manifests/profiles from the models and the shipped profiles: `make crds`."""

from pathlib import Path

from pointsman.api.crd.definitions import (
    DEFINITIONS,
    custom_resource_definition,
    shipped_engine_profiles,
    to_yaml,
)

MANIFESTS = Path(__file__).parents[1] / "manifests"


def main() -> None:
    for definition in DEFINITIONS:
        text = to_yaml(iter([custom_resource_definition(definition)]))
        (MANIFESTS / "crds" / f"{definition.plural}.yaml").write_text(text, encoding="utf-8")
    text = to_yaml(shipped_engine_profiles())
    (MANIFESTS / "profiles" / "shipped.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
