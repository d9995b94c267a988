"""manifests/base, rendered from the chart for those who do without Helm: `make manifests`."""

from typing import Any

import yaml

from e2e.cluster import binaries, helm

FILE = binaries.PROJECT / "manifests" / "base" / "pointsman.yaml"

# What Helm makes up (keys, a password) is the user's to make here; what needs other definitions is the chart's.
VALUES: dict[str, Any] = {
    "crds": {"install": False},
    "redis": {"enabled": False},
    "router": {"keys": {"existingSecret": "pointsman-router-keys"}},
}
OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")
HEAD = "# Rendered from charts/pointsman by `make manifests`.\n"


def rendered() -> str:
    """Raises CommandError."""
    text = helm.render(VALUES, release="pointsman", namespace="pointsman")
    kept = [each for each in helm.objects_of(text) if "helm.sh/hook" not in _annotations(each)]
    for each in kept:
        _clean(each)
    return HEAD + yaml.safe_dump_all(kept, sort_keys=False, width=1_000_000, explicit_start=True)


def _annotations(each: dict[str, Any]) -> dict[str, str]:
    return each["metadata"].get("annotations") or {}


def _clean(each: dict[str, Any]) -> None:
    templates = [each, each.get("spec", {}).get("template", {})]
    for metadata in (template.get("metadata", {}) for template in templates):
        for label in OF_HELM:
            metadata.get("labels", {}).pop(label, None)


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")
