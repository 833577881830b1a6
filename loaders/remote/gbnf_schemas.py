"""Writes a grammar that has JSON schemas and free texts inside as GBNF alone, which other servers read.

Our grammars may say `%json {...}` and `%text {...}`, which only our own matcher knows. The rules of a schema come from
llama.cpp's own converter, in the package llama-cpp-python. It must not know of servers and requests.
"""

from __future__ import annotations

import json
import re
from typing import Any

from loaders import gbnf, safe_json
from loaders.grammar.free_text import free_text_problem
from loaders.remote.gbnf_texts import text_rules

_INSERTED = re.compile(r"%(json|text)\s*\{")
#: Texts and sets of characters, which are kept, or the name of a rule.
_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-zA-Z][\w-]*')


def has_insertions(text: str) -> bool:
    """Whether a grammar has what is not GBNF."""
    return _INSERTED.search(text) is not None


def write_schemas_as_rules(text: str) -> str:
    """The same grammar in GBNF alone. Raises: ValueError, if it cannot be written so."""
    written, rules, at = list[str](), list[str](), 0
    names: dict[tuple[str, str], str] = {}
    while found := _INSERTED.search(text, at):
        value, end = safe_json.decode_first(text, found.end() - 1)
        key = found[1], text[found.end() - 1 : end]
        if key not in names:
            names[key] = name = _unused(f"{'schema' if found[1] == 'json' else 'text'}{len(rules) + 1}", text)
            rules.append(_rules(value, name) if found[1] == "json" else _text_rules(value, name))
        written += [text[at : found.start()], names[key]]
        at = end
    whole = "\n".join(["".join([*written, text[at:]]).rstrip(), *rules]) + "\n"
    if problems := gbnf.check_grammar(whole):
        raise ValueError(str(problems[0]))
    return whole


def _unused(name: str, text: str) -> str:
    while name in text:
        name += "x"
    return name


def _text_rules(value: Any, name: str) -> str:
    """Raises: ValueError."""
    if why := free_text_problem(value):
        raise ValueError(why)
    return text_rules(value, name)


def _rules(schema: Any, name: str) -> str:
    """The rules of a schema; its first has this name, the others begin with it. Raises: ValueError."""
    try:
        from llama_cpp.llama_grammar import json_schema_to_gbnf
    except (ImportError, OSError) as error:  # a broken library too
        raise ValueError(f"llama-cpp-python is needed for it: {error}") from None
    try:
        made = json_schema_to_gbnf(json.dumps(schema))
    except Exception as error:  # the converter has no errors of its own
        raise ValueError(str(error)) from None

    def renamed(part: re.Match[str]) -> str:
        if not part[0][0].isalpha():
            return part[0]
        return name if part[0] == "root" else f"{name}-{part[0]}"

    return _PARTS.sub(renamed, made).rstrip()
