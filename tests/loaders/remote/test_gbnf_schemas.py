"""Forms with JSON schemas inside, written as GBNF: llama.cpp's matcher accepts what the schema does, and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loaders.remote.gbnf_schemas import write_schemas_as_rules
from tests.loaders.llamacpp_grammar import LlamaCppGrammar

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city"],
    "additionalProperties": False,
}
KIND = {"type": "object", "properties": {"root": {"$ref": "#/$defs/one"}}, "required": ["root"], "$defs": {"one": {"type": "integer"}}}  # fmt: skip  # noqa: E501
LIST = {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}


def accepts(model: Any, grammar: str, text: str) -> bool:
    """Whether the whole text is one of the grammar, by llama.cpp."""
    tokenizer = model.tokenizer
    theirs = LlamaCppGrammar(tokenizer._vocab, tokenizer.n_vocab, grammar)
    try:
        for token in tokenizer.encode(text):
            if not theirs.allows(token):
                return False
            theirs.accept(token)
        return any(theirs.allows(token) for token in tokenizer.end_ids)
    finally:
        theirs.close()


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (PLACE, [{"city": "Rom"}, {"city": 'a "b" \\', "unit": "C"}], [{}, {"city": 1}, {"city": "a", "unit": "K"}]),
        (KIND, [{"root": 7}], [{"root": "7"}, {"one": 7}]),
        (LIST, [[True], [True, False]], [[], [1], [True] * 3]),
    ],
)
def test_a_schema_between_marks_means_the_same(schema: Any, good: list[Any], bad: list[Any], demo_model: Any) -> None:
    call = f'call ::= "<call>" %json {json.dumps(schema)} "</call>" schema1'
    written = write_schemas_as_rules(f'root ::= call call?\n{call}\nschema1 ::= "!"\n')
    for value in good:
        said = f"<call>{json.dumps(value)}</call>!"
        assert accepts(demo_model, written, said), said
        assert accepts(demo_model, written, said * 2)
        assert not accepts(demo_model, written, said[:-1])
    for value in bad:
        assert not accepts(demo_model, written, f"<call>{json.dumps(value)}</call>!"), value


def test_two_schemas_do_not_share_rules(demo_model: Any) -> None:
    first, second = (
        json.dumps({"type": "object", "properties": {"a": {"const": n}}, "required": ["a"]}) for n in (1, 2)
    )
    written = write_schemas_as_rules(f"root ::= %json {first} %json {second}")
    assert accepts(demo_model, written, '{"a": 1}{"a": 2}')
    assert not accepts(demo_model, written, '{"a": 2}{"a": 1}')


@pytest.mark.parametrize(
    "grammar",
    ['root ::= %text {"end": "."}', 'root ::= "a" %json {"$ref": "https://127.0.0.1:1/x"}', "root ::= %json {"],
)
def test_what_cannot_be_written_is_a_reason(grammar: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        write_schemas_as_rules(grammar)
