"""A pod template patch onto a pod template: the part of Kubernetes' strategic merge that patches by people need.

Objects merge field by field and null removes a field. A list whose items have a key in `KEYS` merges item by item, new
items at its end; any other list is replaced. `$patch: replace` in an object replaces it, `$patch: delete` in an item of a
keyed list removes the item. No other directive is known.
"""

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
DIRECTIVE = "$patch"


class TemplateError(ValueError):
    """The patch cannot be merged; the message names the place and what is wrong."""


def merge(base: Mapping[str, Any], patch: Mapping[str, Any], place: str = "template") -> dict[str, Any]:
    """A new object; neither argument is changed. Raises TemplateError."""
    unknown = sorted(name for name in patch if name.startswith("$") and name != DIRECTIVE)
    if unknown:
        raise TemplateError(
            f"{place}.{unknown[0]}: no such directive here; there are $patch: replace and $patch: delete"
        )
    directive = patch.get(DIRECTIVE)
    if directive not in {None, "replace"}:
        raise TemplateError(f"{place}.$patch: must be 'replace' here, not {directive!r}")
    merged = {} if directive == "replace" else dict(base)
    for name, value in patch.items():
        if name == DIRECTIVE:
            continue
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged_value(name, merged.get(name), value, f"{place}.{name}")
    return merged


def _merged_value(name: str, old: Any, new: Any, place: str) -> Any:
    if isinstance(new, Mapping):
        return merge(old if isinstance(old, Mapping) else {}, new, place)
    if isinstance(new, list) and name in KEYS and all(isinstance(item, Mapping) for item in new):
        return merge_items(old if isinstance(old, list) else [], new, KEYS[name], place)
    return new


def merge_items(
    base: Sequence[Mapping[str, Any]], patch: Sequence[Mapping[str, Any]], key: str, place: str
) -> list[dict[str, Any]]:
    """Items with the same key merged, others of `patch` appended in its order. Raises TemplateError."""
    merged = {item[key]: dict(item) for item in base}
    for index, item in enumerate(patch):
        at = f"{place}[{index}]"
        if key not in item:
            raise TemplateError(f"{at}: needs {key!r}, which tells items of this list apart")
        if item.get(DIRECTIVE) == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = merge(merged.get(item[key], {}), item, at)
    return list(merged.values())
