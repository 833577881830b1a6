"""Forms with JSON schemas and free texts inside, as GBNF: llama.cpp's matcher accepts what these do, no more."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loaders import gbnf
from loaders.remote.gbnf_schemas import has_insertions, write_schemas_as_rules
from loaders.remote.gbnf_texts import text_rules
from modules.chat.prompt.tool_grammar import tool_call_grammar
from modules.families.reply_format import ReplyFormat
from tests.chat.prompt.test_call_grammar import NAMES, WAYS, Follower, template_for, tool
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
    [
        'root ::= "a" %json {"$ref": "https://127.0.0.1:1/x"}',
        "root ::= %json {",
        "root ::= %text {",
        'root ::= %text {"end": ""}',
        'root ::= %text {"end": ".", "patterns": ["a+"]}',
        'root ::= %text {"end": "</parameter>", "maxLength": 2000}',
        'root ::= %text {"end": "ab", "never": ["a"]}',
    ],
)
def test_what_cannot_be_written_is_a_reason(grammar: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        write_schemas_as_rules(grammar)


LETTERS = "ab<>/\n\u00e9\U0001f389"
#: As forced calls write it for a text that must not begin as another value.
FIRST = r"(?:(?:[^\s\[\{\(0-9+\-.IN](?s:.)*)?)"
MARKS = st.text(LETTERS, min_size=1, max_size=4)


def means(value: dict[str, Any], text: str) -> bool:
    """Whether `%text` with this value is this text, by its definition."""
    inner = text[: -len(value["end"])]
    marks = (value["end"], *value.get("never", ()))
    return (
        text.endswith(value["end"])
        and not any(mark in text[:-1] for mark in marks)
        and value.get("minLength", 0) <= len(inner) <= value.get("maxLength", len(inner))
        and not (inner and inner[0] in value.get("not_first", ""))
    )


@given(
    MARKS,
    st.lists(MARKS, max_size=3),
    st.integers(0, 4),
    st.none() | st.integers(4, 7),
    st.booleans(),
    st.lists(st.text(LETTERS, max_size=9), min_size=1, max_size=12),
)
@example("<<", ["<"], 0, None, True, ["", "<"])
@settings(max_examples=150, deadline=None)
def test_a_text_up_to_its_end_means_the_same(
    end: str, never: list[str], low: int, high: int | None, excludes: bool, texts: list[str]
) -> None:
    """Overlapping marks, counted characters, and a first character that must not be."""
    value: dict[str, Any] = {"end": end, "never": never, "minLength": low}
    value |= {} if high is None else {"maxLength": high}
    value |= {"patterns": [r"(?:(?:[^\sa<-=\-](?s:.)*)?)"]} if excludes else {}
    try:
        rules = text_rules(value, "root")
    except ValueError as error:
        assert str(error) == "no text is allowed"
        rules = 'root ::= "nothing"'
    assert not gbnf.check_grammar(rules)
    follower = Follower(rules)
    shown = {**value, "not_first": "\n a<=-" if excludes else ""}
    for text in [*texts, *(each + end for each in texts)]:
        assert follower.takes(text) == means(shown, text), (rules, text)


@pytest.mark.parametrize(
    ("value", "good", "bad"),
    [
        ({"end": "</a>"}, ["</a>", "x</a>", "<</a</a>", "\n<b></b>\u00e9\U0001f389</a>"], ["", "</a></a>", "</a>x"]),
        ({"end": "</a>", "never": ["<b"]}, ["<a</a>", "<</a>"], ["<b</a>", "x<b>"]),
        ({"end": "\n</a>\n", "maxLength": 3}, ["abc\n</a>\n", "\n\n</a>\n"], ["abcd\n</a>\n", "a</a>\n"]),
        ({"end": "</a>", "patterns": [FIRST]}, ["</a>", "a 1</a>"], ["1</a>", " a</a>", "-</a>"]),
    ],
)  # fmt: skip
def test_llama_cpp_reads_a_text_up_to_its_end(
    value: dict[str, Any], good: list[str], bad: list[str], demo_model: Any
) -> None:
    written = write_schemas_as_rules(f'root ::= "<a>" %text {json.dumps(value)} "."\ntext1 ::= "x"\n')
    for text in good:
        assert accepts(demo_model, written, f"<a>{text}."), text
    for text in bad:
        assert not accepts(demo_model, written, f"<a>{text}."), text


TOOL = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 20},
        "note": {"type": ["string", "null"]},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def forced(family: Any, form: Any) -> str:
    """The grammar of a forced call of this tool."""
    return tool_call_grammar("required", tool(TOOL), ReplyFormat(family), [], template_for(family, form))


def can_say(model: Any, text: str) -> bool:
    """Whether its vocabulary has the bytes of a text: some of rare characters are missing in the demo model's."""
    tokenizer = model.tokenizer
    pieces = [tokenizer.piece(token, special=True) for token in tokenizer.encode(text)]
    return b"".join(pieces) == text.encode()


CALLS = {
    name: (form, grammar)
    for (family, form), name in zip(WAYS, NAMES, strict=True)
    if "%text" in (grammar := forced(family, form))
}


@pytest.mark.parametrize("name", CALLS)
def test_a_forced_call_of_a_family_that_writes_texts_without_quotes(name: str, demo_model: Any) -> None:
    """llama.cpp accepts the calls that our own matcher makes up, and none that is cut or goes on."""
    form, grammar = CALLS[name]
    written = write_schemas_as_rules(grammar)
    assert not has_insertions(written)
    follower, chance = Follower(grammar), random.Random(1)
    follower.ends = tuple(each.encode() for each in (form.field[1].rstrip(), form.quotes[1]) if len(each) > 2)
    made = [follower.sampled(chance)[0] for _ in range(8)]
    calls = [each for each in made if can_say(demo_model, each)][:3]
    assert len(calls) == 3
    for call in calls:
        assert accepts(demo_model, written, call), (call, written)
        assert not accepts(demo_model, written, call[:-2]), call
        assert not accepts(demo_model, written, f"{call}<"), call
