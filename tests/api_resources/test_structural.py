"""The converter from pydantic's JSON schema to structural schemas: what it translates and what it refuses."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, WithJsonSchema

from pointsman.api.crd.structural import NotStructuralError, from_json_schema, structural
from pointsman.api.resources.base import Part, Rule, map_list, told
from pointsman.api.resources.kubernetes import Quantity


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Part):
    """Inside."""

    size: int = 3
    name: str | None = None


class Named(Part):
    name: str


class Ruled(Part):
    rules = (Rule("self.low <= self.high", "low must not be greater than high", ".low", "FieldValueInvalid"),)
    low: int
    high: int


def schema_of(annotation: Any, **field: Any) -> dict[str, Any]:
    """The structural schema of a field."""
    model = type("Sample", (BaseModel,), {"__annotations__": {"it": annotation}, "it": Field(**field)})
    result: dict[str, Any] = structural(model)["properties"]["it"]
    return result


INNER = {
    "description": "Inside.",
    "type": "object",
    "properties": {"size": {"type": "integer", "default": 3}, "name": {"type": "string"}},
}
OBJECT = "x-kubernetes-preserve-unknown-fields"
TRANSLATED: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "text": (str, {"max_length": 3}, {"type": "string", "maxLength": 3}),
    "enum": (Colour, {}, {"type": "string", "enum": ["red", "blue"]}),
    "const": (Literal["one"], {}, {"type": "string", "enum": ["one"]}),
    "const of a number": (Literal[1], {}, {"type": "integer", "enum": [1]}),
    "exclusive bound of an integer": (int, {"gt": 0, "lt": 9}, {"type": "integer", "minimum": 1, "maximum": 8}),
    "exclusive bound of a number": (
        float,
        {"gt": 0},
        {"type": "number", "minimum": 0, "exclusiveMinimum": True},
    ),
    "or null": (int | None, {"default": None, "ge": 0}, {"type": "integer", "minimum": 0}),
    "by reference": (Inner, {}, INNER),
    "by reference, or null": (Inner | None, {"default": None}, INNER),
    "description beside a reference": (Inner, {"description": "Here."}, {**INNER, "description": "Here."}),
    "default of an object": (Inner, {"default": Inner()}, {**INNER, "default": {"size": 3}}),
    "default that says nothing": (list[str], {"default": []}, {"type": "array", "items": {"type": "string"}}),
    "map": (dict[str, int], {"max_length": 2}, {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}}),
    "free form": (dict[str, Any], {"json_schema_extra": {OBJECT: True}}, {"type": "object", OBJECT: True}),
    "map list": (
        Annotated[list[Named], map_list()],
        {},
        {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    ),
    "paragraphs flow": (
        str,
        {"description": "One\nline.\n\nAnother."},
        {"type": "string", "description": "One line.\n\nAnother."},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("annotation", "field", "wanted"), TRANSLATED.values(), ids=TRANSLATED)
def test_what_can_be_said_is_translated(
    annotation: Any, field: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert schema_of(annotation, **field) == wanted


def test_integer_or_string() -> None:
    schema = schema_of(Quantity)
    assert schema["x-kubernetes-int-or-string"] is True
    assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert "type" not in schema


def test_rules_stand_at_their_part() -> None:
    assert schema_of(Ruled)["x-kubernetes-validations"] == [
        {
            "rule": "self.low <= self.high",
            "message": "low must not be greater than high",
            "fieldPath": ".low",
            "reason": "FieldValueInvalid",
        }
    ]


LETTERS = r"^[a-z\\]+$"


def test_a_pattern_with_a_message_is_a_rule() -> None:
    """A pattern would be told as it is, which says little to people."""
    letters = Annotated[str, Field(pattern=LETTERS, max_length=9), told("must be letters")]
    rule = {"rule": r'self.matches("^[a-z\\\\]+$")', "message": "must be letters"}
    assert schema_of(letters) == {"type": "string", "maxLength": 9, "x-kubernetes-validations": [rule]}
    (amount,) = schema_of(Quantity)["x-kubernetes-validations"]
    assert amount["rule"].startswith("type(self) == int || self.matches(")


def test_status_has_no_defaults() -> None:
    assert structural(Inner, defaults=False)["properties"]["size"] == {"type": "integer"}


class Tree(BaseModel):
    children: list["Tree"] = []


class Open(BaseModel):
    model_config = {"extra": "allow"}
    a: int = 0


REFUSED: dict[str, tuple[Any, str]] = {
    "alternatives": (int | str, "it: a value has one type"),
    "alternatives or null": (int | str | None, "it: a value has one type"),
    "anything": (Any, "it: has no type"),
    "an object that would lose all": (dict[str, Any], "it: any properties"),
    "a pair": (tuple[int, str], "it: structural schemas have no 'prefixItems'"),
    "a set": (set[str], "it: structural schemas have no 'uniqueItems'"),
    "bounds of keys": (
        dict[Annotated[str, Field(pattern="^a")], int],
        "it: structural schemas have no 'p",
    ),
    "a tree": (Tree, "it.children[]: Tree contains itself"),
    "mixed constants": (Literal[1, "one"], "it: has no type"),
    "a message without a pattern": (Annotated[str, told("must be letters")], "it: a message needs its pattern"),
    "a message without a length": (
        Annotated[str, Field(pattern="^a$"), told("must be a")],
        "and a length",
    ),
    "an unknown format": (Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})], "'uri'"),
    "a pattern of another language": (Annotated[str, Field(json_schema_extra={"pattern": "^(?!a)"})], "(?...)"),
    "a list of types": (Annotated[str, WithJsonSchema({"type": ["string", "null"]})], "it: a value has one type"),
    "all of": (Annotated[int, WithJsonSchema({"allOf": [{"type": "integer"}]})], "no 'allOf'"),
    "one of": (Annotated[int, WithJsonSchema({"oneOf": [{"type": "integer"}]})], "no 'oneOf'"),
    "not": (Annotated[int, WithJsonSchema({"type": "integer", "not": {"enum": [1]}})], "no 'not'"),
    "a list of anything": (list[Any], "it: an array says what its items are"),
    "properties beside a map": (
        Annotated[
            dict[str, int],
            WithJsonSchema(
                {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "integer"}}
            ),
        ],
        "it: an object has either properties or additionalProperties",
    ),
    "both bounds": (
        Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "exclusiveMinimum": 0})],
        "it: has both",
    ),
    "bounds of an older schema": (
        Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "exclusiveMinimum": True})],
        "exclusiveMinimum is a number",
    ),
    "integer or string in other words": (
        Annotated[str, WithJsonSchema({"type": "string", "x-kubernetes-int-or-string": True})],
        "it: integer or string is written",
    ),
    "properties of text": (
        Annotated[str, WithJsonSchema({"type": "string", "properties": {"a": {"type": "string"}}})],
        "it: only objects have properties",
    ),
    "items of text": (
        Annotated[str, WithJsonSchema({"type": "string", "items": {"type": "string"}})],
        "it: only arrays have items",
    ),
    "a map list without its key": (Annotated[list[Inner], map_list("name")], "it[]: 'name' tells the items apart"),
    "an unknown extension": (
        Annotated[str, Field(json_schema_extra={"x-kubernetes-colour": "red"})],
        "no 'x-kubernetes-colour'",
    ),
    "any other fields": (Open, "it: any properties"),
}  # fmt: skip


@pytest.mark.parametrize(("annotation", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_refused_with_its_path(annotation: Any, said: str) -> None:
    with pytest.raises(NotStructuralError) as caught:
        schema_of(annotation)
    assert said in str(caught.value)


def test_a_reference_to_nothing_is_refused() -> None:
    with pytest.raises(NotStructuralError, match="no definition 'Gone'"):
        from_json_schema({"$ref": "#/$defs/Gone"})
