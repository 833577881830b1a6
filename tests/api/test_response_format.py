"""A schema is used wherever in response_format a client puts it, and what has no effect is reported."""

from __future__ import annotations

from typing import Any

import pytest

from errors import InvalidInput
from modules.api.response_format import response_format_grammar
from modules.prompts.json_schema.grammar import json_grammar

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema_definition": SCHEMA}},
        {"type": "json_schema", "name": "a", "strict": False, "schema": SCHEMA},
        {"type": "json_schema", "json_schema": SCHEMA},
        {"type": "json_schema", "value": SCHEMA},
        {"type": "json_object", "schema": SCHEMA},
        {"type": "json_object", "json_schema": SCHEMA},
        {"type": "json", "value": SCHEMA},
    ],
)
def test_a_schema_is_found_wherever_it_stands(form: dict[str, Any]) -> None:
    assert response_format_grammar(form) == json_grammar(SCHEMA)


def test_the_other_forms() -> None:
    assert response_format_grammar(None) == response_format_grammar({"type": "text"}) == ("", [])
    assert response_format_grammar({"type": "json_object"}) == json_grammar()
    assert response_format_grammar({"type": "grammar", "grammar": 'root ::= "a"'}) == ('root ::= "a"', [])


def test_what_has_no_effect_in_it_is_named() -> None:
    inner = {"schema": SCHEMA, "wobble": 1}
    notes = response_format_grammar({"type": "json_schema", "json_schema": inner, "schema_id": "x"})[1]
    assert [note.split()[2] for note in notes] == [
        "response_format.schema_id", "response_format.json_schema.wobble",
    ]  # fmt: skip


@pytest.mark.parametrize("form", [{"type": "xml"}, {"type": "json_schema"}, {"type": "json"}, {"type": "grammar"}])
def test_what_is_no_form_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        response_format_grammar(form)
