"""A JSON schema as a grammar: what is accepted of it, token by token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import HalfCharacter, InvalidSchema
from loaders.base import Model
from modules.prompts.json_grammar import json_grammar


def accepts(model: Any, schema: Any, text: str) -> bool:
    """Whether the grammar takes the whole text and may end there."""
    tokenizer = model.tokenizer
    grammar = model._grammars.follow(json_grammar(schema)[0])
    try:
        for token in tokenizer.encode(text, special=False):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.allows(tokenizer.eos_id)
    finally:
        grammar.close()


OPTIONAL = {"properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}}}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (None, ['{"a": [1, {"b": null}]}', "{}"], ["[]", "1", '{"a"}']),
        ({"type": "string"}, ['"é \\n"'], ["a", '"', "1"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"abc"'], ['"a"', '"abcd"']),
        ({"type": "integer"}, ["0", "-12"], ["1.5", "01", '"1"']),
        ({"type": "number"}, ["0", "-1.5e3"], ["1.", "x"]),
        ({"type": ["boolean", "null"]}, ["true", "null"], ["1"]),
        ({"enum": ["a\"b", 2, None]}, ['"a\\"b"', "2", "null"], ["3"]),
        ({"const": {"x": 1}}, ['{"x": 1}'], ['{"x": 2}']),
        ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, ["[1]", "[1, 2]"], ["[]", "[1,2,3]"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, ["[]", "[1]"], ["[1, 2]"]),
        ({"prefixItems": [{"type": "integer"}, {"type": "null"}], "type": "array"}, ["[1, null]"], ["[1]"]),
        ({**OPTIONAL, "required": ["b"]}, ['{"b": true}', '{"a": 1, "b": true, "c": null}'], ['{"a": 1}', "{}"]),
        (OPTIONAL, ["{}", '{"c": null}', '{"a": 1, "c": null}'], ['{"d": 1}', '{"c": null, "a": 1}']),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"x": 1, "y": 2}'], ['{"x": "1"}']),
        ({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {}}]}, ["1", "{}"], ["true"]),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
             "$defs": {"b": {"properties": {"b": {"const": 2}}, "required": ["b"]}}},
            ['{"a": 1, "b": 2}'], ['{"a": 1}'],
        ),
        (
            {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["k"], "properties": {
                "k": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}},
            ['{"k": []}', '{"k": [{"k": []}]}'], ['{"k": [1]}'],
        ),
    ],
)  # fmt: skip
def test_what_fits_the_schema_fits_the_grammar(demo_model: Model, schema: Any, good: list[str], bad: list[str]) -> None:
    for text in good:
        json.loads(text)
        assert accepts(demo_model, schema, text), text
    for text in bad:
        assert not accepts(demo_model, schema, text), text


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (1, "#"), ({"type": "thing"}, "#"), ({"properties": {"a": {"items": 3}}}, "#/properties/a/items"),
        ({"$ref": "#/x"}, "#"), ({"$ref": "http://example/x"}, "#"), ({"enum": []}, "#"), ({"anyOf": []}, "#/anyOf"),
        ({"type": "string", "minLength": 3, "maxLength": 1}, "#"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "#"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_refused_with_its_place(schema: Any, place: str) -> None:
    with pytest.raises(InvalidSchema, match=f"at {place}"):
        json_grammar(schema)


def test_what_a_grammar_cannot_say_is_said() -> None:
    _, notes = json_grammar({"type": "string", "pattern": "a+"})
    assert notes == ["The schema's pattern at # is not enforced."]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {}}, "required": ["b"]}, "required b at # is not enforced"),
        ({"type": "object", "required": ["b"]}, "required b at # is not enforced"),
        ({"type": "array", "prefixItems": [{}], "minItems": 3}, "minItems and maxItems at # are not enforced"),
        ({"type": "array", "prefixItems": [{}], "items": {"type": "null"}}, "items at # is not used"),
        (
            {"$ref": "#/$defs/a", "maxLength": 3, "$defs": {"a": {"type": "string"}}},
            "maxLength beside $ref at # is not",
        ),
    ],
)
def test_what_is_left_out_of_a_schema_is_said(schema: Any, said: str) -> None:
    assert any(said in note for note in json_grammar(schema)[1])


def test_what_is_kept_of_a_schema_is_not_warned_of() -> None:
    arrays = {"type": "array", "prefixItems": [{}], "items": False, "minItems": 1, "maxItems": 1}
    reference = {"$ref": "#/$defs/a", "description": "x", "$defs": {"a": arrays}}
    assert json_grammar(reference)[1] == []


def test_half_a_character_is_refused() -> None:
    for schema in ({"const": "\ud800"}, {"properties": {"\ud800": {}}}, {"enum": ["a", "\ud800"]}):
        with pytest.raises(HalfCharacter):
            json_grammar(schema)


def test_nesting_without_end_is_refused() -> None:
    schema: Any = {"type": "integer"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidSchema, match="too deeply"):
        json_grammar(schema)


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"value {i}" for i in range(100_000)]},
        {"enum": ["x" * 10_000 + str(i) for i in range(100)]},
        {"anyOf": [{"const": i} for i in range(120_000)]},
        {"properties": {f"p{i}": {"type": "integer"} for i in range(5000)}},
        {"allOf": [{"properties": {f"p{i}_{k}": {} for k in range(20)}} for i in range(3000)]},
        {"$ref": "#/$defs/d0", "$defs": {
            **{f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}, "d60": {}}},
        {"const": _deep(990)},
    ],
    ids=["enum", "long enum", "anyOf", "properties", "allOf", "references", "deep"],
)  # fmt: skip
def test_a_schema_that_is_too_large_is_refused_in_time_that_is_bounded(schema: Any) -> None:
    with pytest.raises(InvalidSchema, match="too large"):
        json_grammar(schema)


def test_a_large_schema_of_the_real_kind_is_taken(demo_model: Any) -> None:
    fields = {f"field_{i}": {"type": "string", "description": "x"} for i in range(100)}
    nested = {"type": "object", "properties": fields, "required": list(fields)[:50]}
    schema = {"properties": {"kind": {"enum": [f"kind of thing {i}" for i in range(1000)]}, "of": nested}}
    text = json.dumps({"kind": "kind of thing 77", "of": {f"field_{i}": "é" for i in range(100)}}, ensure_ascii=False)
    assert accepts(demo_model, schema, text)
    assert not accepts(demo_model, schema, text.replace("thing 77", "thing 1001"))
