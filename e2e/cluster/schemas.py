"""JSON schemas for kubeconform, made from what Kubernetes and custom resource definitions say of themselves.

kubeconform would download such schemas; here they come from the OpenAPI document in the Kubernetes module. Fields that a
type does not name are refused, as the API server does when it validates strictly.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

REFERENCE = "#/definitions/"
SCHEMA_LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"

# What the document calls a string, and the API server takes as a number too.
EITHER = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}
PRESERVES = "x-kubernetes-preserve-unknown-fields"


def of_kubernetes(swagger: Schema, kinds: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Schema]]:
    """File name and schema of each (apiVersion, kind) that Kubernetes itself has."""
    wanted = set(kinds)
    definitions: Mapping[str, Schema] = swagger["definitions"]
    for name, definition in definitions.items():
        for described in definition.get("x-kubernetes-group-version-kind", ()):
            group, version, kind = described["group"], described["version"], described["kind"]
            if (f"{group}/{version}".lstrip("/"), kind) in wanted:
                needed = _reachable(definitions, name)
                strict = {each: EITHER.get(each) or _strict(definitions[each]) for each in needed}
                yield file_name(group, version, kind), {"$ref": REFERENCE + name, "definitions": strict}


def of_definition(crd: Schema) -> Iterator[tuple[str, Schema]]:
    """File name and schema of each version of a custom resource."""
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = dict(_strict(version["schema"]["openAPIV3Schema"]))
        # Of these the definition says that they are there, and no more.
        schema["properties"] = {
            "apiVersion": {},
            "kind": {},
            **schema.get("properties", {}),
            "metadata": {"type": "object"},
        }
        yield file_name(spec["group"], version["name"], spec["names"]["kind"]), schema


def file_name(group: str, version: str, kind: str) -> str:
    """As kubeconform fills SCHEMA_LOCATION: lower case, and of the group its first part."""
    return "-".join(filter(None, (kind, group.split(".", maxsplit=1)[0], version))).lower() + ".json"


def write(folder: Path, schemas: Iterable[tuple[str, Schema]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas:
        (folder / name).write_text(json.dumps(schema))


def _reachable(definitions: Mapping[str, Schema], first: str) -> list[str]:
    found, pending = {first: None}, [first]
    while pending:
        for name in _references(definitions[pending.pop()]):
            if name not in found:
                found[name] = None
                pending.append(name)
    return list(found)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(REFERENCE)
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _strict(schema: Any) -> Any:
    """The schema with everything refused that it does not name."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if not schema.get(PRESERVES):
            closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["string", "integer"]
    return closed
