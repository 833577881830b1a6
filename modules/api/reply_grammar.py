"""Converts the required form of a reply, in any field in which clients send it, to a GBNF grammar.

`response_format` (see response_format.py), llama-server's `json_schema` and `grammar`, vLLM's `guided_*` and
`structured_outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import InvalidInput, encode_utf8
from loaders import safe_json
from modules.api.request_models import GenerationFields
from modules.api.response_format import response_format_grammar
from modules.prompts.json_schema.grammar import gbnf_literal, json_grammar

_MOST_CHOICES = 1000


def reply_grammar(body: GenerationFields) -> tuple[str, list[str]]:
    """The grammar of a request ("" for none), and what it does not enforce. Raises: InvalidInput, InvalidSchema."""
    if (body.model_extra or {}).get("guided_regex"):
        raise InvalidInput("guided_regex is not supported. Send a grammar or a JSON schema instead.")
    found = {
        name: made
        for name, made in {
            "response_format": response_format_grammar(body.response_format),
            "json_schema": _schema(body.json_schema, "json_schema"),
            "guided_json": _schema(body.guided_json, "guided_json"),
            "guided_choice": _choice(body.guided_choice, "guided_choice"),
            "guided_grammar": (body.guided_grammar or "", []),
            "grammar": (body.grammar or "", []),
            "structured_outputs": _structured(body.structured_outputs),
        }.items()
        if made[0] or made[1]
    }
    grammars = {name: made for name, made in found.items() if made[0].strip()}
    if len(grammars) > 1:
        raise InvalidInput(f"{' and '.join(grammars)} cannot be combined. Send only one of them.")
    grammar = next((made[0] for made in grammars.values()), "")
    encode_utf8(grammar, "The grammar")
    return grammar, [note for made in found.values() for note in made[1]]


def _schema(schema: Any, name: str) -> tuple[str, list[str]]:
    if schema is None:
        return "", []
    if isinstance(schema, str):
        try:
            schema = safe_json.loads(schema)
        except ValueError:
            raise InvalidInput(f"{name} must be a JSON schema, but it is not valid JSON.") from None
    return json_grammar(schema)


def _choice(choices: Any, name: str) -> tuple[str, list[str]]:
    """Exactly one of several texts."""
    if choices is None:
        return "", []
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise InvalidInput(f"{name} must be a list of non-empty strings.")
    if len(choices) > _MOST_CHOICES:
        raise InvalidInput(f"{name} may have at most {_MOST_CHOICES:,} strings.")
    return "root ::= " + " | ".join(map(gbnf_literal, choices)), []


def _structured(given: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """The field `structured_outputs` of vLLM."""
    if given is None:
        return "", []
    asked = {key: value for key, value in given.items() if value is not None}
    match asked:
        case {"json": schema}:
            return _schema(schema, "structured_outputs.json")
        case {"json_object": True}:
            return json_grammar()
        case {"choice": choices}:
            return _choice(choices, "structured_outputs.choice")
        case {"grammar": str(grammar)}:
            return grammar, []
    if not asked:
        return "", []
    raise InvalidInput(
        "structured_outputs must contain json, json_object, choice or grammar; other kinds are not supported."
    )
