"""The JSON Schema test suite (json_schema_suite/, MIT), applied to the grammars created from its schemas.

What a schema allows can be written, what it forbids cannot, or a sentence says so. Properties may be written in one
order only, and a whole number without a fraction: an instance counts as allowed in whichever way it is written.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llguidance
import pytest

from errors import InvalidSchema
from loaders import gbnf
from loaders.grammar.lark import to_lark
from loaders.grammar.messages import GrammarVocabulary
from loaders.grammar.worker import GrammarTokenizer
from modules.prompts.json_schema.grammar import json_grammar

CASES = json.loads((Path(__file__).parent / "json_schema_suite" / "cases.json").read_text("utf-8"))
#: Schemas at other addresses, which are not downloaded.
ELSEWHERE = "only references within the schema"
#: What the format keyword says is enforced here, and the suite's main part holds it to be a remark: ten instances.
BEYOND = "draft2020-12/format"
#: A vocabulary of its own, which nobody fetches, might leave keywords out: one instance, and a warning.
UNKNOWN = "is not loaded"


@cache
def bytewise() -> GrammarTokenizer:
    """A vocabulary of bytes, so that every text has one tokenization."""
    return GrammarTokenizer(
        GrammarVocabulary((*(bytes([i]) for i in range(256)), b"<end>"), frozenset([256]), frozenset([256]))
    )


class Matcher:
    def __init__(self, schema: Any, *, literally: bool = True) -> None:
        text, self.notes = json_grammar(schema, literally=literally)
        grammar, problems = gbnf.read_grammar(text)
        assert not problems
        lark = llguidance.LLMatcher.grammar_from_lark(to_lark(grammar, bytewise().names))
        limits = llguidance.LLParserLimits(max_items_in_row=10_000, step_max_items=50_000, verbose_errors=False)
        self._matcher: Any = llguidance.LLMatcher(bytewise().ll, lark, log_level=0, limits=limits)
        self.error = str(self._matcher.get_error()) if self._matcher.is_error() else ""

    def takes(self, value: Any) -> bool:
        self._matcher.reset()
        data = json.dumps(value, ensure_ascii=False).encode()
        return bool(self._matcher.try_consume_tokens(list(data)) == len(data) and self._matcher.is_accepting())


def ways(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        yield from (dict(each) for each in itertools.islice(itertools.permutations(value.items()), 120))
    whole = [int(each) if isinstance(each, float) and each.is_integer() else each for each in [value]]
    yield from whole
    if isinstance(value, list):
        yield [int(each) if isinstance(each, float) and each.is_integer() else each for each in value]


def dated(name: str, schema: Any) -> Any:
    """The suite's folders say which draft counts."""
    if name.startswith("draft7") and isinstance(schema, dict):
        return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return schema


@pytest.mark.parametrize("part", sorted({case[0] for case in CASES}))
def test_what_a_schema_says_is_kept_to_or_told(part: str) -> None:
    wrong = []
    for name, about, schema, instances in CASES:
        if name != part:
            continue
        try:
            matcher = Matcher(dated(name, schema))
        except InvalidSchema as error:
            if ELSEWHERE not in str(error) and any(valid for _, valid in instances):
                wrong.append(("refused", about, str(error)))
            continue
        if matcher.error:
            wrong += [("refused", about, matcher.error)] if any(valid for _, valid in instances) else []
            continue
        for value, valid in instances:
            taken = any(matcher.takes(each) for each in ways(value))
            if (taken and not valid and not matcher.notes) or (
                valid and not taken and part != BEYOND and UNKNOWN not in str(matcher.notes)
            ):
                wrong.append((taken, about, value))
    assert not wrong


def test_the_suite_is_whole() -> None:
    assert sum(len(instances) for *_, instances in CASES) == 2212
