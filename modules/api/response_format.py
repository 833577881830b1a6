"""Converts the `response_format` field, in all forms that servers accept, to a grammar.

A schema may be in `json_schema.schema` (OpenAI), `schema` (llama.cpp, Together, Responses), `value` (TGI),
`schema_definition` (Mistral) or be `json_schema` itself (Cohere). The schema's meaning is handled by
modules/prompts/json_schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import InvalidInput, encode_utf8
from modules.prompts.json_schema.grammar import json_grammar

_KINDS = ("text", "json_object", "json_schema", "json", "grammar")
_WITH_SCHEMA = ("schema", "schema_definition", "value")
#: Fields beside a schema that need no handling: a schema is always enforced.
_IDLE = frozenset(["type", "name", "description", "strict"])
_LIKE_A_SCHEMA = frozenset(["type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "items"])


def response_format_grammar(form: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """The grammar of a response_format, empty if any text is allowed, and what it does not enforce.

    Raises: InvalidInput, InvalidSchema.
    """
    kind = (form or {}).get("type", "text")
    if form is None or kind == "text":
        return "", _idle(form or {}, "response_format")
    if kind == "grammar":
        if not isinstance(form.get("grammar"), str):
            raise InvalidInput('response_format with the type grammar requires {"grammar": "root ::= ..."}, in GBNF.')
        encode_utf8(form["grammar"], "response_format.grammar")
        return form["grammar"], _idle(form, "response_format", "grammar")
    if kind not in _KINDS:
        raise InvalidInput(
            f"response_format.type must be text, json_object, json_schema or grammar (got {ascii(kind)[:60]})."
        )
    found, notes = _schema(form)
    if found is None and kind != "json_object":
        raise InvalidInput('response_format requires {"json_schema": {"name": ..., "schema": {...}}}.')
    grammar, unsaid = json_grammar() if found is None else json_grammar(found)
    return grammar, [*notes, *unsaid]


def _schema(form: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The schema, None if there is none, and a sentence for each field without a meaning."""
    inner = form.get("json_schema")
    if isinstance(inner, Mapping):
        key = next((key for key in _WITH_SCHEMA if key in inner), None)
        if key and inner[key] is not None:
            notes = _idle(form, "response_format", "json_schema")
            return inner[key], [*notes, *_idle(inner, "response_format.json_schema", key)]
        if inner.keys() & _LIKE_A_SCHEMA:
            return inner, _idle(form, "response_format", "json_schema")
    key = next((key for key in _WITH_SCHEMA if form.get(key) is not None), "")
    return form.get(key), _idle(form, "response_format", key)


def _idle(fields: Mapping[str, Any], where: str, *used: str) -> list[str]:
    others = [key for key, value in fields.items() if key not in _IDLE and key not in used and value is not None]
    return [f"Unknown field {where}.{str(key)[:60]} was ignored." for key in others[:20]]
