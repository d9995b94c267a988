"""A pydantic model's JSON schema as a Kubernetes structural schema.

The API server takes a part of JSON schema only: nothing by reference, each value with one type, exclusive bounds as
booleans, no alternatives but "integer or string" (Kubernetes documentation, "Extend the Kubernetes API with
CustomResourceDefinitions", section "Specifying a structural schema"). What can be said in that form is translated; all
else is refused with its path, because a constraint that got lost silently would be worse.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


class NotStructuralError(ValueError):
    """A model holds what no structural schema can say."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'schema'}: {problem}")
        self.path = path


_TYPES = {"object", "array", "string", "integer", "number", "boolean"}
_FORMATS = {"date-time", "int32", "int64"}
"""Formats that the API server knows; others it would ignore."""
_KEPT = {
    "description", "type", "enum", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "multipleOf",
    "minItems", "maxItems", "minProperties", "maxProperties",
}  # fmt: skip
_EXTENSIONS = {
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
}
_TRANSLATED = {
    "$ref", "$defs", "title", "default", "anyOf", "const", "exclusiveMinimum", "exclusiveMaximum", "properties",
    "required", "additionalProperties", "items",
}  # fmt: skip
PATTERN_MESSAGE = "x-pointsman-pattern-message"
"""Beside a pattern: what people are told in place of it. Such a pattern becomes a rule, for only rules have messages."""
_NULL = {"type": "null"}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The schema of a model. Raises NotStructuralError.

    Without `defaults` none are filled in: right for status, where what is absent is not known.
    """
    schema = model.model_json_schema(by_alias=True)
    return from_json_schema(schema, defaults=defaults)


def from_json_schema(schema: Mapping[str, Any], *, defaults: bool = True) -> Schema:
    """As `structural`, from a JSON schema with its `$defs`. Raises NotStructuralError."""
    return _Converter(schema.get("$defs", {}), defaults=defaults).convert(schema, "", ())


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, given: Mapping[str, Any], path: str, above: tuple[str, ...]) -> Schema:
        """`above`: the references that led here."""
        schema, above = self._resolved(given, path, above)
        schema = _without_null(schema, path)
        if unknown := sorted(set(schema) - _KEPT - _EXTENSIONS - _TRANSLATED - {PATTERN_MESSAGE}):
            raise NotStructuralError(path, f"structural schemas have no {unknown[0]!r}")
        result: Schema = {key: schema[key] for key in schema if key in _KEPT | _EXTENSIONS}
        if "description" in result:
            result["description"] = _flowing(result["description"])
        if "const" in schema:
            result["enum"] = [schema["const"]]
        _bounds(schema, result, path)
        if "x-kubernetes-int-or-string" in schema:
            if schema.get("anyOf") != _INT_OR_STRING or "type" in schema:
                raise NotStructuralError(path, "integer or string is written as anyOf integer, string")
            result["anyOf"] = _INT_OR_STRING
        else:
            _typed(schema, result, path)
        _worded(schema, result, path)
        self._children(schema, result, path, above)
        if self._defaults and (default := _default(schema.get("default"), result)) is not None:
            result["default"] = default
        return result

    def _resolved(
        self, given: Mapping[str, Any], path: str, above: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """Without `$ref`; what stands beside it has the last word."""
        schema = dict(given)
        while "$ref" in schema:
            name = str(schema.pop("$ref")).removeprefix("#/$defs/")
            if name in above:
                raise NotStructuralError(path, f"{name} contains itself: structural schemas have an end")
            if name not in self._definitions:
                raise NotStructuralError(path, f"no definition {name!r}")
            above = (*above, name)
            schema = {**self._definitions[name], **schema}
        if "anyOf" in schema:
            alternatives = [alternative for alternative in schema["anyOf"] if alternative != _NULL]
            if len(alternatives) == 1 and len(schema["anyOf"]) == 2 and "$ref" in alternatives[0]:
                beside = {key: value for key, value in schema.items() if key != "anyOf"}
                return self._resolved({**alternatives[0], **beside}, path, above)
        return schema, above

    def _children(self, schema: Schema, result: Schema, path: str, above: tuple[str, ...]) -> None:
        if result.get("type") == "object":
            self._members(schema, result, path, above)
        elif "properties" in schema or "additionalProperties" in schema:
            raise NotStructuralError(path, "only objects have properties")
        if result.get("type") == "array":
            items = schema.get("items")
            if not isinstance(items, Mapping) or not items:
                raise NotStructuralError(path, "an array says what its items are")
            result["items"] = self.convert(items, f"{path}[]", above)
            _map_keys(result, path)
        elif "items" in schema:
            raise NotStructuralError(path, "only arrays have items")

    def _members(self, schema: Schema, result: Schema, path: str, above: tuple[str, ...]) -> None:
        properties = schema.get("properties", {})
        values = schema.get("additionalProperties")
        keeps_all = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        if properties and isinstance(values, Mapping):
            raise NotStructuralError(path, "an object has either properties or additionalProperties")
        if values is True and not keeps_all:
            raise NotStructuralError(path, "any properties: that needs x-kubernetes-preserve-unknown-fields")
        if not properties and not isinstance(values, Mapping) and not keeps_all:
            raise NotStructuralError(path, "an object without properties would lose all it is given")
        if properties:
            result["properties"] = {
                name: self.convert(value, f"{path}.{name}".removeprefix("."), above)
                for name, value in properties.items()
            }
            if schema.get("required"):
                result["required"] = list(schema["required"])
        # additionalProperties false needs no translation: unknown fields are refused or dropped by the API server.
        if isinstance(values, Mapping):
            result["additionalProperties"] = self.convert(values, f"{path}.*".removeprefix("."), above)


def _without_null(schema: Schema, path: str) -> Schema:
    """`X or null` as plain X: a field that is null is one that is absent."""
    if "anyOf" not in schema or "x-kubernetes-int-or-string" in schema:
        return schema
    alternatives = [alternative for alternative in schema["anyOf"] if alternative != _NULL]
    if len(alternatives) != 1:
        raise NotStructuralError(path, "a value has one type; alternatives cannot be said")
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return _without_null({**alternatives[0], **rest}, path)


def _typed(schema: Schema, result: Schema, path: str) -> None:
    kind = schema.get("type")
    if kind is None and "enum" in result:
        kinds = {_type_of(value) for value in result["enum"]}
        kind = kinds.pop() if len(kinds) == 1 else None
    if isinstance(kind, list):
        raise NotStructuralError(path, "a value has one type; a list of types cannot be said")
    if kind not in _TYPES:
        raise NotStructuralError(path, f"has no type that the API server knows (but {kind!r})")
    result["type"] = kind
    if "format" in schema and schema["format"] not in _FORMATS:
        raise NotStructuralError(path, f"the API server would ignore the format {schema['format']!r}")
    if "(?" in schema.get("pattern", ""):
        raise NotStructuralError(path, "the API server's patterns have no (?...): they are RE2's")


def _worded(schema: Schema, result: Schema, path: str) -> None:
    """A pattern with a message as a rule with one. Strings of CEL are written as those of JSON."""
    if PATTERN_MESSAGE not in schema:
        return
    if "pattern" not in result or "maxLength" not in result:
        raise NotStructuralError(
            path, "a message needs its pattern, and a length, from which the rule's cost follows"
        )
    matches = f"self.matches({json.dumps(result.pop('pattern'))})"
    if "x-kubernetes-int-or-string" in result:
        matches = f"type(self) == int || {matches}"
    rule = {"rule": matches, "message": schema[PATTERN_MESSAGE]}
    result["x-kubernetes-validations"] = [rule, *result.get("x-kubernetes-validations", [])]


def _bounds(schema: Schema, result: Schema, path: str) -> None:
    """Exclusive bounds: of integers as the next integer, of numbers as the API server's booleans."""
    for name, bound, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        if name not in schema:
            continue
        value = schema[name]
        if isinstance(value, bool):
            raise NotStructuralError(path, f"{name} is a number in JSON schema")
        if bound in schema:
            raise NotStructuralError(path, f"has both {name} and {bound}")
        if schema.get("type") == "integer":
            result[bound] = value + step
        else:
            result[bound] = value
            result[name] = True


def _map_keys(result: Schema, path: str) -> None:
    """Refuses what the API server would: keys of a map list that an item may lack."""
    if result.get("x-kubernetes-list-type") != "map":
        return
    items = result["items"]
    for key in result.get("x-kubernetes-list-map-keys", ()):
        field = items.get("properties", {}).get(key)
        if field is None or (key not in items.get("required", ()) and "default" not in field):
            raise NotStructuralError(f"{path}[]", f"{key!r} tells the items apart, so each needs it")


def _default(value: Any, schema: Schema) -> Any:
    """A default without what says nothing: nulls and empty lists and maps. None: nothing is left.

    Objects keep their fields' own defaults: the API server checks a default by its rules before it fills it in.
    """
    if value is None or value in ([], {}):
        return None
    if "properties" not in schema:
        return value
    inner = {name: _default(value[name], schema["properties"][name]) for name in value}
    return {name: kept for name, kept in inner.items() if kept is not None} or None


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "string" if isinstance(value, str) else "unknown"


def _flowing(text: str) -> str:
    """Lines of a paragraph joined: `kubectl explain` wraps them itself."""
    return re.sub(r"(?<!\n)\n(?!\n)\s*", " ", text.strip())
