"""The form that a reply is to have, by whichever field a client says so: each becomes a GBNF grammar.

`response_format` (see response_format.py), llama-server's `json_schema` and `grammar`, vLLM's `guided_*` and
`structured_outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import InvalidInput, utf8
from loaders import plain_json
from modules.api.fields import Generation
from modules.api.response_format import form_grammar
from modules.prompts.json_grammar import json_grammar, literal

_MOST_CHOICES = 1000


def formed(body: Generation) -> tuple[str, list[str]]:
    """The grammar of a request ("" for none), and what of it could not be said. Raises: InvalidInput, InvalidSchema."""
    if (body.model_extra or {}).get("guided_regex"):
        raise InvalidInput(
            "guided_regex: no regular expression can bind a reply here. Send a grammar, or a JSON schema."
        )
    found = {
        name: made
        for name, made in {
            "response_format": form_grammar(body.response_format),
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
        raise InvalidInput(f"{' and '.join(grammars)} exclude each other. Send one of them.")
    grammar = next((made[0] for made in grammars.values()), "")
    utf8(grammar, "The grammar")
    return grammar, [note for made in found.values() for note in made[1]]


def _schema(schema: Any, name: str) -> tuple[str, list[str]]:
    if schema is None:
        return "", []
    if isinstance(schema, str):
        try:
            schema = plain_json.loads(schema)
        except ValueError:
            raise InvalidInput(f"{name} is a JSON schema, and this text is not JSON.") from None
    return json_grammar(schema)


def _choice(choices: Any, name: str) -> tuple[str, list[str]]:
    """One of some texts, to the letter."""
    if choices is None:
        return "", []
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise InvalidInput(f"{name} is a list of texts, none of them empty.")
    if len(choices) > _MOST_CHOICES:
        raise InvalidInput(f"{name} has more than {_MOST_CHOICES:,} texts.")
    return "root ::= " + " | ".join(map(literal, choices)), []


def _structured(given: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """VLLM's `structured_outputs`."""
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
        "structured_outputs holds json, json_object, choice or grammar; nothing else can bind a reply here."
    )
