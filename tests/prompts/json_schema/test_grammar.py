"""A JSON schema as a grammar: what it accepts, token by token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import InvalidGrammar, InvalidSchema, LoneSurrogate
from loaders import gbnf
from loaders.base import Model
from modules.prompts.json_schema.grammar import json_grammar


def accepts(model: Any, schema: Any, text: str) -> bool:
    """Whether the grammar accepts the whole text and may end there."""
    return follows(model, json_grammar(schema)[0], text)


def follows(model: Any, grammar_text: str, text: str) -> bool:
    tokenizer = model.tokenizer
    grammar = model._grammars.follow(grammar_text)
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
        ({"type": "integer"}, ["0", "-12", "9007199254740991"], ["1.5", "01", '"1"', "1" * 17, "-" + "9" * 99]),
        ({"type": ["integer", "null"], "minimum": 5}, ["null", "5", "9007199254740991"], ["4", "1" * 17]),
        ({"type": "integer", "exclusiveMaximum": 5}, ["4", "-9007199254740991"], ["5", "-" + "1" * 17]),
        *(
            ({"type": "integer", "format": f"int{bits}"}, ["0", str(2 ** (bits - 1) - 1024 * (bits == 64) - 1)],
             [str(2 ** (bits - 1)), str(-(2 ** (bits - 1)) - 1), "1" * 20])
            for bits in (8, 16, 32, 64)
        ),
        ({"type": "number"}, ["0", "-1.5e3"], ["1.", "x"]),
        ({"type": ["boolean", "null"]}, ["true", "null"], ["1"]),
        ({"enum": ["a\"b", 2, None]}, ['"a\\"b"', "2", "null"], ["3"]),
        ({"const": {"x": 1}}, ['{"x": 1}'], ['{"x": 2}']),
        ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, ["[1]", "[1, 2]"], ["[]", "[1,2,3]"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, ["[]", "[1]"], ["[1, 2]"]),
        ({"prefixItems": [{"type": "integer"}, {"type": "null"}], "type": "array"},
         ["[1, null]", "[1]"], ["[1, 2]", "[1, null, 3]"]),
        ({**OPTIONAL, "required": ["b"]}, ['{"b": true}', '{"a": 1, "b": true, "c": null}'], ['{"a": 1}', "{}"]),
        (OPTIONAL, ["{}", '{"c": null}', '{"a": 1, "c": null}'], ['{"d": 1}', '{"c": null, "a": 1}']),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"x": 1, "y": 2}'], ['{"x": "1"}']),
        ({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {}}]}, ["1", "{}"], ["true"]),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
             "$defs": {"b": {"properties": {"b": {"const": 2}}, "required": ["b"]}}},
            ['{"a": 1, "b": 2}'], ['{"a": 1}'],
        ),
        # a keyword that other programs write, and its meaning there
        ({"type": "string", "nullable": True}, ["null", '"a"'], ["1"]),
        ({"items": [{"type": "string"}, {"type": "integer"}]}, ['["a", 1]'], ['[1, "a"]', '["a", 1, 2]']),
        ({"minimum": 3, "exclusiveMinimum": True, "type": "integer"}, ["4"], ["3"]),
        ({"$ref": "#/definitions/List%3Cstring%3E", "definitions": {"List<string>": {"items": {"type": "string"}}}},
         ['["a"]'], ["[1]"]),
        ({"$ref": "#word", "$defs": {"w": {"$anchor": "word", "type": "string"}}}, ['"a"'], ["1"]),
        ({"$ref": "#/anyOf/1", "anyOf": [{}, {"type": "null"}]}, ["null"], ["1"]),
        # keywords beside each other all count
        ({"type": "integer", "enum": [1, "a"]}, ["1"], ['"a"']),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"type": "object", "properties": {"a": {"maxLength": 3}}}]},
         ['{"a": "xy"}'], ['{"a": 5}', '{"a": "wxyz"}', '{"a": "xy", "b": 1}']),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], **OPTIONAL, "type": "object"},
         ['{"a": 1}', '{"b": true}'], ["{}", '{"c": null}', '{"a": 1, "d": 2}']),
        # numbers and texts
        ({"type": "integer", "minimum": 3, "maximum": 12, "multipleOf": 3}, ["3", "12"], ["0", "4", "15"]),
        ({"type": "string", "pattern": "^[a-c]+\\/\\d$"}, ['"ab/1"'], ['"d/1"', '"ab/x"']),
        ({"type": "string", "format": "date"}, ['"2024-02-29"', '"2023-12-31"'], ['"2023-02-29"', '"x"']),
        # further properties: those that the schema speaks of
        ({"properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
         ['{"a": null, "b": 1}'], ['{"b": "x"}']),
        ({"properties": {"a": {}}, "required": ["b"]},
         ['{"b": 1}', '{"a": 1, "b": 1}'], ['{"a": 1}', '{"b": 1, "c": 1}']),
        ({"propertyNames": {"enum": ["x.y", "z"]}, "additionalProperties": {"type": "integer"}},
         ['{"x.y": 1}', "{}"], ['{"xay": 1}', '{"z": "a"}']),
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


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "a(?=b)"}, "The schema's pattern at # is not enforced."),
        ({"items": {"type": "string", "format": "iri"}}, "format at #/items is not enforced"),
        ({"not": {"type": "null"}}, "not at # is not enforced"),
        ({"propertyNames": {"not": {}}, "dependentSchemas": {}, "unevaluatedProperties": False}, "propertyNames at #"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf at # is treated as anyOf"),
        ({"multipleOf": 12_345_678}, "multipleOf at # is not enforced"),
        ({"properties": {n: {"uniqueItems": True} for n in "abcde"}}, "#/properties/c and 2 more is not enforced"),
        ({"type": "string", "maxlength": 3}, "maxlength at # is not a known keyword"),
        ({"patternProperties": {"a": {}, "b": {}}}, "patternProperties at # is not enforced"),
        ({"minProperties": 2, "properties": {"a": {}, "b": {}, "c": {}}}, "minProperties at # is not enforced"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/$defs/a", "maxLength": 3,
          "$defs": {"a": {"type": "string"}}}, "maxLength at # is not enforced"),
    ],
)  # fmt: skip
def test_what_is_left_out_of_a_schema_is_said(schema: Any, said: str) -> None:
    notes = json_grammar(schema)[1]
    assert any(said in note for note in notes), notes


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "description": "x", "$defs": {"a": {"type": "array", "prefixItems": [{}]}}},
        {"oneOf": [{"properties": {"k": {"const": "a"}}, "required": ["k"]},
                   {"properties": {"k": {"const": "b"}}, "required": ["k"]}]},
        {"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
        {"oneOf": [{"$ref": "#/$defs/a"}, {"type": "null"}], "$defs": {"a": {"type": "string", "x-order": 1}}},
        {"type": "number", "format": "double", "minimum": 0.5, "title": "T", "default": 1},
        {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 1},
    ],
)  # fmt: skip
def test_what_is_kept_of_a_schema_is_not_warned_of(demo_model: Model, schema: Any) -> None:
    text, notes = json_grammar(schema)
    assert notes == []
    demo_model._grammars.start(text)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"minimum": 5, "maximum": 3, "type": "integer"}, "JSON schema"),
        ({"allOf": [True, False]}, "schema is false"),
    ],
)
def test_a_schema_that_allows_nothing_is_refused_by_the_follower(demo_model: Any, schema: Any, said: str) -> None:
    with pytest.raises(InvalidGrammar, match=said):
        demo_model._grammars.start(json_grammar(schema)[0])


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('root ::= "<call>\n" %json {"type": "integer"} "\n</call>"', ["<call>\n12\n</call>"], ["<call>\nx"]),
        (
            'root ::= "<a>" %text {"end": "</a>", "never": ["x"], "maxLength": 3} "."',
            ["<a></a>.", "<a></b</a>."],
            ["<a>x</a>.", "<a></a></a>.", "<a>abcd</a>."],
        ),
        ('root ::= (%json {"const": 1} ";")+ # more\n', ["1;", "1;1;"], ["1", "2;"]),
        ('root ::= a | "x"\na ::= %json {"const": "http://a#b"}', ['"http://a#b"', "x"], ["y"]),
    ],
)
def test_a_schema_stands_within_a_grammar(demo_model: Any, text: str, good: list[str], bad: list[str]) -> None:
    assert all(follows(demo_model, text, each) for each in good)
    assert not any(follows(demo_model, text, each) for each in bad)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root ::= %json [1]", "Line 1, column 10: expected json"),
        ('root ::= %text {"a": 1}', "Line 1, column 10: unknown key a"),
        ('root ::= %text {"end": ""}', "an end of 1 to 200 characters"),
        ('root ::= %text {"end": "x", "maxLength": 9999}', "must be from 0 to 2,000"),
        ('root ::= %text {"end": "x", "never": [""]}', "list of strings of 1 to 200 characters"),
        ('root ::= "a"\n  %json {"a" 1}', "Line 2"),
        ('root ::= %json {"a": ' + "[" * 500 + "]" * 500 + "}", "nested deeper"),
    ],
)
def test_a_schema_that_is_no_json_is_a_mistake_in_its_line(text: str, said: str) -> None:
    assert said in str(gbnf.check_grammar(text.replace("\n  ", " "))[0]) or said in str(gbnf.check_grammar(text)[0])


def test_a_keyword_in_a_grammar_that_cannot_be_kept_to_is_refused(demo_model: Any) -> None:
    with pytest.raises(InvalidGrammar, match="uniqueItems"):
        demo_model._grammars.start('root ::= %json {"type": "array", "uniqueItems": true}')


def test_half_a_character_is_refused() -> None:
    for schema in ({"const": "\ud800"}, {"properties": {"\ud800": {}}}, {"enum": ["a", "\ud800"]}):
        with pytest.raises(LoneSurrogate):
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
        {"const": _deep(990)},
    ],
    ids=["enum", "long enum", "anyOf", "properties", "allOf", "deep"],
)  # fmt: skip
def test_a_schema_that_is_too_large_is_refused_in_time_that_is_bounded(schema: Any) -> None:
    with pytest.raises(InvalidSchema, match=r"too large|too deeply"):
        json_grammar(schema)


def test_a_large_schema_of_the_real_kind_is_taken(demo_model: Any) -> None:
    fields = {f"field_{i}": {"type": "string", "description": "x"} for i in range(100)}
    nested = {"type": "object", "properties": fields, "required": list(fields)[:50]}
    schema = {"properties": {"kind": {"enum": [f"kind of thing {i}" for i in range(1000)]}, "of": nested}}
    text = json.dumps({"kind": "kind of thing 77", "of": {f"field_{i}": "é" for i in range(100)}}, ensure_ascii=False)
    assert accepts(demo_model, schema, text)
    assert not accepts(demo_model, schema, text.replace("thing 77", "thing 1001"))
