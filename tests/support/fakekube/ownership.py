"""Server-side apply, as far as the tests need it: who owns which field, and what goes when nobody does.

A field is a path; an element of a list of named objects is addressed by its name, any other list is one value.
"""

import copy
from typing import Any

Path = tuple[str, ...]
KEYS = ("name", "type", "port", "mountPath")
"""By which Kubernetes' own kinds merge their lists, the first that every element has."""


def leaves(value: Any, at: Path = ()) -> dict[Path, Any]:
    """Every field that is set, by path."""
    if isinstance(value, dict) and value:
        found: dict[Path, Any] = {}
        for name, inner in value.items():
            found |= leaves(inner, (*at, name))
        return found
    if (named := _by_name(value)) is not None:
        found = {}
        for name, inner in named.items():
            found |= leaves(inner, (*at, name))
        return found
    return {at: value}


def merge(live: Any, applied: Any) -> Any:
    if isinstance(live, dict) and isinstance(applied, dict):
        merged = dict(live)
        for name, inner in applied.items():
            merged[name] = merge(live[name], inner) if name in live else copy.deepcopy(inner)
        return merged
    old, new = _by_name(live), _by_name(applied)
    if old is not None and new is not None:
        kept = {name: merge(inner, new[name]) if name in new else inner for name, inner in old.items()}
        return list((kept | {name: inner for name, inner in new.items() if name not in old}).values())
    return copy.deepcopy(applied)


def without(value: Any, gone: set[Path], at: Path = ()) -> Any:
    """The value without these fields, and without what they leave empty."""
    if isinstance(value, dict):
        kept = {
            name: without(inner, gone, (*at, name))
            for name, inner in value.items()
            if (*at, name) not in gone
        }
        return {name: inner for name, inner in kept.items() if inner != {} or value[name] == {}}
    if (named := _by_name(value)) is not None:
        held = {name: without(inner, gone, (*at, name)) for name, inner in named.items()}
        return [
            inner
            for name, inner in held.items()
            if not all(path in gone for path in leaves(named[name], (*at, name)))
        ]
    return value


def _by_name(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, list) or not value or not all(isinstance(element, dict) for element in value):
        return None
    for key in KEYS:
        if all(key in element for element in value):
            return {f"{key}={element[key]}": element for element in value}
    return None
