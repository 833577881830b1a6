"""Forced tool calls: the grammar of a family's form accepts calls as its template writes them, and everything it allows
is parsed as a call that its schema allows.
"""

from __future__ import annotations

import json
import random
import re
from functools import cache
from typing import Any

import llguidance
import pytest

from errors import TemplateFailed
from loaders import gbnf
from loaders.grammar.lark import to_lark
from loaders.grammar.messages import GrammarVocabulary
from loaders.grammar.worker import GrammarTokenizer
from modules.chat.prompt.tool_grammar import tool_call_grammar
from modules.families.call_form import TOLD, CallForm
from modules.families.family import Family
from modules.families.reply_format import ReplyFormat
from modules.families.table import FAMILIES, GENERAL, family_of
from tests.families.test_published import BROKEN, SILENT, called, written
from tests.prompts.test_json_schema_suite import Matcher
from tests.published import templates

#: A schema of each kind that a form writes in its own way.
ARGUMENTS: dict[str, Any] = {
    "text": {"type": "string"},
    "short": {"type": "string", "minLength": 2, "maxLength": 5},
    "digits": {"type": "string", "pattern": "^[0-9]{3}$"},
    "part": {"type": "string", "pattern": "a/b"},
    "unit": {"enum": ["C", "F", "none"]},
    "mixed": {"enum": ["a", 1, True, None]},
    "count": {"type": "integer", "minimum": 1, "maximum": 20},
    "share": {"type": "number"},
    "ok": {"type": "boolean"},
    "nothing": {"type": "null"},
    "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "either": {"type": ["string", "integer"]},
    "any": {},
    "text_or_list": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
    "perhaps": {"type": ["boolean", "null"]},
    "list": {"type": "array", "items": {"type": "string"}},
    "some": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
    "deep": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "boolean"}}},
        "required": ["a"],
    },
    "free": {"type": "object"},
    "colour": {"$ref": "#/$defs/Colour"},
    "tree": {"$ref": "#/$defs/Tree"},
}
DEFS = {
    "Colour": {"type": "string", "enum": ["5", "red", "true"]},
    "Tree": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        "required": ["name"],
        "additionalProperties": False,
    },
}
#: What ends a value in JSON, and what a mark may begin with.
CLOSING = b"\"'}])<`\na"
WAYS = [(family, form) for family in (*FAMILIES, GENERAL) for form in family.forms or (TOLD,)]
NAMES = [f"{family.name}-{place}" for place, (family, _) in enumerate(WAYS)]


def tool(schema: Any, name: str = "get_weather") -> list[Any]:
    return [{"type": "function", "function": {"name": name, "parameters": schema}}]


def template_for(family: Family, form: CallForm) -> str:
    """A template with all signs of this form."""
    return f"tools {form.sign}" if form in family.forms else ""


@cache
def vocabulary(marks: tuple[str, ...]) -> GrammarTokenizer:
    """Bytes, and these as control tokens."""
    texts = (*(bytes([i]) for i in range(256)), b"<end>", *(mark.encode() for mark in marks))
    return GrammarTokenizer(GrammarVocabulary(texts, frozenset(range(256, len(texts))), frozenset([256])))


class Follower:
    def __init__(self, grammar: str, marks: tuple[str, ...] = ()) -> None:
        found, problems = gbnf.read_grammar(grammar)
        assert not problems, (problems, grammar)
        self.tokens = vocabulary(marks)
        lark = llguidance.LLMatcher.grammar_from_lark(to_lark(found, self.tokens.names))
        limits = llguidance.LLParserLimits(max_items_in_row=10_000, step_max_items=50_000, verbose_errors=False)
        self._matcher: Any = llguidance.LLMatcher(self.tokens.ll, lark, log_level=0, limits=limits)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def takes(self, text: str) -> bool:
        data = list(text.encode())
        self._matcher.reset()
        return self._matcher.try_consume_tokens(data) == len(data) and bool(self._matcher.is_accepting())

    def sampled(self, chance: random.Random) -> tuple[str, frozenset[int]]:
        """A random text and the positions of its control tokens. Closing characters are preferred."""
        self._matcher.reset()
        said, places = b"", set()
        while not self._matcher.is_accepting():
            mask = int.from_bytes(self._matcher.compute_bitmask(), "little")
            token = self._next(mask, said, chance)
            if token > 256:
                places.add(len(said.decode()))
            said += self.tokens.tokens[token].removeprefix(b"\xff")
            assert self._matcher.consume_token(token)
            assert len(said) < 5000, said
        return said.decode(), frozenset(places)

    def _next(self, mask: int, said: bytes, chance: random.Random) -> int:
        """A random allowed token."""
        going = [end[n] for end in self.ends for n in range(1, len(end)) if said.endswith(end[:n])]
        closing = [*range(257, len(self.tokens.tokens) - 1), *CLOSING]
        usual = [*range(32, 127), 10, *range(128, 256)]
        hurry = chance.random() < 0.3 + len(said) / 200
        for tokens in (*((going, closing) if hurry else ()), chance.sample(usual, 8), [*usual, *closing]):
            if allowed := [token for token in tokens if mask >> token & 1]:
                return chance.choice(allowed)
        raise AssertionError(said)

    ends: tuple[bytes, ...] = ()


def read(family: Family, schema: Any, text: str, marks: frozenset[int] = frozenset()) -> list[Any]:
    prefix = ">>>" if family.name == "functionary_v3_2" else "<|start|>assistant" if family.header else ""
    parser = ReplyFormat(family, prefix, "", {"get_weather": schema}).parser(marks)
    parts = [*parser.push(text), *parser.finish()]
    assert "".join(part.text for part in parts).strip() == "", text
    return [(part.call.name, json.loads(part.call.arguments)) for part in parts if part.call]


def quotes_marks(form: CallForm, text: str) -> bool:
    """Whether a mark is inside a JSON string, as a model that writes marks as text could do: it closes there."""
    ends = [part for part in re.split(r"\s+|(?<=>)(?=<)", form.after) if len(part) > 2]
    field = re.split("KEY", form.field[1])[0].strip()
    fields = text.count(re.split("KEY", form.field[0])[0]) if len(field) > 2 else 0
    return any(text.count(end) > (form.before + form.after).count(end) for end in ends) or (
        len(field) > 2 and text.count(field) > fields + form.after.count(field)
    )


@pytest.mark.parametrize(("family", "form"), WAYS, ids=NAMES)
def test_what_the_grammar_makes_is_read_back(family: Family, form: CallForm) -> None:
    chance = random.Random(f"{family.name} {form.before}")
    control = tuple(sorted({each for each in family.all_control if each.strip() == each}, key=len))
    ends = tuple(each.encode() for each in (form.field[1].rstrip(), form.quotes[1], "a/b") if len(each) > 2)
    shuffled = chance.sample(sorted(ARGUMENTS), len(ARGUMENTS))
    for names in (shuffled[at : at + 6] for at in range(0, len(shuffled), 6)):
        required = chance.sample(names, chance.randrange(3, len(names) + 1)) if len(names) > 3 else names
        schema = {"type": "object", "properties": {name: ARGUMENTS[name] for name in names}, "required": required,
                  "$defs": DEFS}  # fmt: skip
        notes: list[str] = []
        grammar = tool_call_grammar("required", tool(schema), ReplyFormat(family), notes, template_for(family, form))
        assert not notes
        follower = Follower(grammar, chance.choice([control, ()]))
        follower.ends = ends
        text, places = follower.sampled(chance)
        while quotes_marks(form, text):
            text, places = follower.sampled(chance)
        assert [name for name, _ in read(family, schema, text, places)] == ["get_weather"], text
        assert Matcher(schema).takes(read(family, schema, text, places)[0][1]), text


#: It writes the recipient before the channel, and its model may also do so after it.
OTHERWISE = {"openai-gpt-oss-120b"}


@pytest.mark.parametrize("name", sorted(templates().keys() - BROKEN - SILENT - OTHERWISE))
def test_a_template_s_own_call_is_taken(name: str) -> None:
    source = templates()[name]
    family = family_of(source)
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "where": {"enum": ["in", "out"]}},
    }
    given = {"city": "Oslo & 1 > 0", "days": 3, "where": "out"}
    try:
        _, reply = written(source, called(given))
    except TemplateFailed:  # it needs the arguments as text
        _, reply = written(source, called(json.dumps(given)))
    grammar = tool_call_grammar("required", tool(schema), ReplyFormat(family), [], source)
    form = family.form_for(source)
    if "tools" not in source:  # the tools and how to call them are described in other words
        assert form is TOLD
        return
    call = reply[reply.index(re.split("NAME|\n|\ue000", form.before)[0]) :].rstrip()
    assert Follower(grammar).takes(call), grammar
