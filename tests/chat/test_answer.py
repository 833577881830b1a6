"""A reply taken apart: the same parts come out however the text is cut into pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.chat.answer import Answer, opens_thought

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def apart(pieces: list[str], **how: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    answer = Answer(**how)
    parts = [part for piece in pieces for part in answer.push(piece)] + answer.finish()
    return (
        "".join(part.text for part in parts if part.kind == "content"),
        "".join(part.text for part in parts if part.kind == "reasoning"),
        [(part.call.name, json.loads(part.call.arguments)) for part in parts if part.call],
    )


CASES: list[tuple[str, dict[str, Any], tuple[str, str, list[Any]]]] = [
    (" Hello <b>.", {}, (" Hello <b>.", "", [])),
    ("<think>\nHm.\n</think>\n\nParis.", {}, ("Paris.", "Hm.", [])),
    ("Hm.\n</think>Paris.", {"thinking": True}, ("Paris.", "Hm.", [])),
    ("<think>never ends", {}, ("", "never ends", [])),
    ("a < b and <thin", {}, ("a < b and <thin", "", [])),
    (CALL, {"tools": ["f"]}, ("", "", [("f", {"a": 1})])),
    (CALL, {}, (CALL, "", [])),
    ("Let me see." + CALL + "\n" + CALL, {"tools": ["f"]}, ("Let me see.", "", [("f", {"a": 1})] * 2)),
    ("<think>x</think>" + CALL, {"tools": ["f"]}, ("", "x", [("f", {"a": 1})])),
    ('{"name": "f", "parameters": {}}', {"tools": ["f"]}, ("", "", [("f", {})])),
    ('{"name": "g", "parameters": {}}', {"tools": ["f"]}, ('{"name": "g", "parameters": {}}', "", [])),
    ('{"name": "f", "age": 3}', {"tools": ["f"]}, ('{"name": "f", "age": 3}', "", [])),
    ('{"name": "f", "arguments": {}, "x": 1}', {"tools": ["f"]}, ('{"name": "f", "arguments": {}, "x": 1}', "", [])),
    (CALL, {"tools": ["g"]}, ('\n{"name": "f", "arguments": {"a": 1}}\n', "", [])),
    ("Let me see. \n" + CALL + "\n", {"tools": ["f"]}, ("Let me see.", "", [("f", {"a": 1})])),
    ("No call. \n", {"tools": ["f"]}, ("No call. \n", "", [])),
    ("<think> \nA \n b \n </think> c ", {}, ("c ", "A \n b", [])),
    ('{"colour": "red"}', {"tools": ["f"]}, ('{"colour": "red"}', "", [])),
    ('[TOOL_CALLS] [{"name": "f", "arguments": {}}]', {"tools": ["f"]}, ("", "", [("f", {})])),
    ("<tool_call>not JSON</tool_call>", {"tools": ["f"]}, ("not JSON", "", [])),
    ("", {"tools": ["f"]}, ("", "", [])),
]


@pytest.mark.parametrize(("text", "how", "parts"), CASES)
def test_whole_or_letter_by_letter(text: str, how: Any, parts: Any) -> None:
    assert apart([text], **how) == parts
    assert apart(list(text), **how) == parts


@given(st.sampled_from(CASES), st.lists(st.integers(0, 80)))
def test_cuts_make_no_difference(case: Any, cuts: list[int]) -> None:
    text, how, parts = case
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert apart(pieces, **how) == parts


@pytest.mark.parametrize(
    ("before", "begun", "opened"),
    [
        ("Hi", "", False), ("Hi<think>\n", "", True), ("Hi", "<think>\nI wonder", True), ("<think>", "so", True),
        ("Hi", "<think>a</think>b", False), ("<think>\n", "a</think>b", False), ("<think> of Hi", "b", False),
    ],
)  # fmt: skip
def test_a_thought_that_the_reply_goes_on_with(before: str, begun: str, opened: bool) -> None:
    assert opens_thought(begun, before) is opened


@given(st.text())
def test_text_without_marks_is_left_as_it_is(text: str) -> None:
    if "<" not in text:
        assert apart(list(text))[0] == text
