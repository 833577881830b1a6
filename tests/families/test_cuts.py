"""How a stream is cut makes no difference, whatever it contains; a call cut off by the length limit is not a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.families.reply_format import ReplyFormat
from modules.families.table import FAMILIES, GENERAL, family_named
from tests.families.test_replies import TOOLS, read

#: Text between marks.
BETWEEN = [
    "Hello.", " ", "\n", "`", "```\n", '"', "'", "<", "</", "<|", "[", "hm", "f", "f()", "[f()]", "{}", '{"city": "',
    '"}', '{"name": "f", "arguments": {}}', "functions.f:0", "<parameter=city>", "</parameter>", "<function=f>",
    "</function>", "<arg_value>", '<invoke name="f">', "</invoke>", "assistant", "analysis", "all\n",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reply", "called"),
    [
        ("qwen_coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nOs", False),
        ("qwen_coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n", False),
        ("qwen_coder", "<tool_call>\n<function=get_weather>\n", False),
        ("glm", "<tool_call>get_weather", False),
        ("glm", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n", False),
        ("qwen", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}', True),
        ("qwen", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}', False),
        ("mistral", '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}', True),
    ],
)
def test_a_call_that_a_length_limit_cuts_is_none(name: str, reply: str, called: bool) -> None:
    """Half of the arguments would be a different call than the model was writing."""
    for pieces in ([reply], list(reply)):
        parser = ReplyFormat(family_named(name), tools=TOOLS).parser()
        parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish(cut=True)
        assert bool([part for part in parts if part.call]) == called
        assert called or "".join(part.text for part in parts) == reply


@given(st.data())
def test_marks_in_any_order_are_read_the_same_wherever_they_are_cut(data: st.DataObject) -> None:
    """Replies that no model should write: marks and parts of them, as text and as control tokens."""
    family = data.draw(st.sampled_from([*FAMILIES, GENERAL]))
    headers = family.header.openings if family.header else ()
    prefix = data.draw(st.sampled_from(["", *(each.opening for each in family.all_thoughts), *headers]))
    pieces = data.draw(st.lists(st.sampled_from([*family.marks, *BETWEEN]), max_size=9))
    marks: set[int] = set()
    if data.draw(st.booleans()):
        marks = {sum(map(len, pieces[:n])) for n, each in enumerate(pieces) if each in family.marks}
    tools = TOOLS if data.draw(st.booleans()) else {}
    found = []
    for cut in (["".join(pieces)], pieces, list("".join(pieces))):
        parser = ReplyFormat(family, prefix, tools=tools).parser(marks)
        parts = [part for piece in cut for part in parser.push(piece)] + parser.finish()
        texts = {kind: "".join(part.text for part in parts if part.kind == kind) for kind in ("text", "thought")}
        found.append((texts, [(part.call.name, part.call.arguments) for part in parts if part.call]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        (["hm", "<tool_call>", '{"name": "f", "arguments": {}}', "</tool_call>", "</think>", "So."], ("So.", "hm", 1)),
        (["hm", "<tool_call>", "no call", "</think>", "So."], ("So.", "hm<tool_call>no call", 0)),
    ],
)
def test_a_call_within_a_thought_is_found_wherever_it_is_cut(pieces: list[str], wanted: tuple[str, str, int]) -> None:
    marks = {sum(map(len, pieces[:n])) for n, each in enumerate(pieces) if each[0] == "<"}
    for cut in (["".join(pieces)], pieces, list("".join(pieces))):
        parser = ReplyFormat(family_named("qwen"), "<think>", tools=TOOLS).parser(marks)
        parts = [part for piece in cut for part in parser.push(piece)] + parser.finish()
        texts = ["".join(part.text for part in parts if part.kind == kind) for kind in ("text", "thought")]
        assert (*texts, sum(part.call is not None for part in parts)) == wanted


def test_a_mark_that_may_become_a_longer_one_waits_for_it() -> None:
    reply = "{}[<|end|><|begin|>assistantHi.<|end|>"
    assert read(family_named("solar"), "<|think|>", [reply]) == read(family_named("solar"), "<|think|>", list(reply))


def test_a_control_token_is_a_mark_wherever_it_stands() -> None:
    reply = "See `x:\n<|tool_call_start|>[f()]<|tool_call_end|>"
    place = reply.index("<|")
    for marks, wanted in (
        ((), ("See `x:\n<|tool_call_start|>[f()]<|tool_call_end|>", [])),
        ((place,), ("See `x:", [("f", {})])),
    ):
        reading = ReplyFormat(family_named("lfm"), tools=TOOLS)
        for pieces in ([reply], list(reply)):
            parser = reading.parser(frozenset(marks))
            parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
            if not marks:  # the backtick is closed by the line's end
                assert [part.call.name for part in parts if part.call] == ["f"]
                continue
            assert "".join(part.text for part in parts if part.kind == "text") == wanted[0]
            assert [part.call.name for part in parts if part.call] == ["f"]
