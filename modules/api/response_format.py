"""The form that a client wants for a reply, in any of the ways in which servers take it, as a grammar.

A schema stands in `json_schema.schema` (OpenAI), `schema` (llama.cpp, Together, Responses), `value` (TGI),
`schema_definition` (Mistral) or is `json_schema` itself (Cohere). What a schema means is json_grammar's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import InvalidInput, utf8
from modules.prompts.json_grammar import json_grammar

_KINDS = ("text", "json_object", "json_schema", "json", "grammar")
_WITH_SCHEMA = ("schema", "schema_definition", "value")
#: What stands beside a schema and asks for nothing more: a schema is always kept to.
_IDLE = frozenset(["type", "name", "description", "strict"])
_LIKE_A_SCHEMA = frozenset(["type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "items"])


def form_grammar(form: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """The grammar of a response_format, empty where any text will do, and what it does not enforce.

    Raises: InvalidInput, InvalidSchema.
    """
    kind = (form or {}).get("type", "text")
    if form is None or kind == "text":
        return "", _idle(form or {}, "response_format")
    if kind == "grammar":
        if not isinstance(form.get("grammar"), str):
            raise InvalidInput('response_format of the type grammar needs {"grammar": "root ::= ..."}, as GBNF.')
        utf8(form["grammar"], "response_format.grammar")
        return form["grammar"], _idle(form, "response_format", "grammar")
    if kind not in _KINDS:
        raise InvalidInput(
            f"response_format.type is text, json_object, json_schema or grammar (it was {ascii(kind)[:60]})."
        )
    found, notes = _schema(form)
    if found is None and kind != "json_object":
        raise InvalidInput('response_format needs {"json_schema": {"name": ..., "schema": {...}}}.')
    grammar, unsaid = json_grammar() if found is None else json_grammar(found)
    return grammar, [*notes, *unsaid]


def _schema(form: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The schema wherever it stands, None where there is none, and a sentence for each field that means nothing."""
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
    return [f"{where}.{str(key)[:60]} has no effect: it is not a field here." for key in others[:20]]
