"""Chats in training data: rows with nothing to learn, weights, older forms of calls, reasoning in any marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput
from loaders.hf_common.tokenizer import FolderTokenizer
from modules.training.data import chats
from modules.training.data.chat_writer import ChatWriter
from modules.training.data.examples import examples_from_rows
from modules.training.data.formats import RowUnfit
from modules.training.lora.settings import LoraSettings
from tests.prompts.test_message_forms import render
from tests.published import templates

SETTINGS = LoraSettings(add_eos_token=False)


def plain(said: Sequence[dict[str, Any]], reply: bool, _tools: Any = None) -> str:
    return "".join(f"[{each['role']}]{each['content']}" for each in said) + ("[assistant]" if reply else "")


def test_rows_with_nothing_to_learn_are_left_out_where_that_is_wanted(hf_folder: Path) -> None:
    tokenizer = FolderTokenizer(hf_folder, 0)
    rows: list[Any] = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}]},
    ]
    with pytest.raises(InvalidInput, match="Row 2"):
        examples_from_rows(rows, "x", None, SETTINGS, tokenizer, plain)
    found = examples_from_rows(rows, "x", None, SETTINGS.changed(leave_out_unfit=True), tokenizer, plain)
    assert len(found.examples) == 1
    assert any("skipped: row 2 has no" in note for note in found.notes(SETTINGS))
    with pytest.raises(InvalidInput):
        examples_from_rows(rows[1:], "x", None, SETTINGS.changed(leave_out_unfit=True), tokenizer, plain)


def test_a_weight_of_nothing_is_not_learned() -> None:
    said = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "one", "weight": 0},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "two", "weight": 1},
    ]  # fmt: skip
    (found,) = chats.mark_chat(chats.read_messages({"messages": said}), plain)
    assert [found.text[begin:end] for begin, end in found.spans] == ["two"]
    with pytest.raises(RowUnfit, match="weight 0"):
        chats.read_messages({"messages": said[:2]})


@pytest.mark.parametrize(
    "turn",
    [
        {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}]'},
    ],
)
def test_calls_of_older_rows(turn: Any) -> None:
    said = chats.read_messages(
        {"conversations": [{"from": "human", "value": "x"}, turn, {"from": "observation", "value": "5"}]}
    )
    assert [each["role"] for each in said] == ["user", "assistant", "tool"]
    assert said[1]["content"] == ""
    assert [each["function"] for each in said[1]["tool_calls"]] == [{"name": "f", "arguments": {"a": 1}}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>\nhm\n</think>\n\nYes."},
        {"content": "Yes.", "reasoning_content": "hm"},
        {"content": "Yes.", "thinking": "hm"},
        {"content": "[THINK]hm[/THINK]Yes."},
    ],
)
def test_thoughts_go_to_the_template_by_its_names(message: Any) -> None:
    """The same table as chat and API: whatever marks a row has them in."""
    asks = "{{ m.reasoning_content }} [INST]"
    made = chats.to_training_message({"role": "assistant", **message}, asks)
    assert made == {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}
    silent = chats.to_training_message({"role": "assistant", **message}, "[INST]")
    assert "hm" in silent["content"]  # learned with the answer


#: A template, and how it writes the call (the text of the arguments is a value there).
CALLS = {
    "Qwen-Qwen2.5-7B-Instruct": '{"name": "f", "arguments": {"city": "Oslo"}}',
    "Qwen3-Coder": "<parameter=city>\nOslo\n</parameter>",
    "GLM-4.6": "<arg_value>Oslo</arg_value>",
    "llama-cpp-deepseek-r1": '```json\n{"city": "Oslo"}\n```',
    "google-gemma-2-2b-it": '{"name": "f", "arguments": {"city": "Oslo"}}',
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_learned_is_what_the_template_writes_in_a_chat(name: str) -> None:
    row = {
        "tools": [{"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}],
        "messages": [
            {"role": "system", "content": "Sierra"},
            {"role": "user", "content": "Alpha"},
            {"role": "assistant", "content": None,
             "tool_calls": [{"id": "c1", "type": "function",
                             "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "Fivedegrees"},
            {"role": "assistant", "content": "Bravo"},
            {"role": "system", "content": "Tango"},
            {"role": "user", "content": "Charlie"},
            {"role": "assistant", "content": "Delta"},
        ],
    }  # fmt: skip
    write = ChatWriter(render, templates()[name], "<BOS>", "<EOS>")
    found = chats.mark_chat(chats.read_messages(row), write, chats.read_tools(row))
    learned = [each.text[begin:end] for each in found for begin, end in each.spans]
    assert [word for text, word in zip(learned, (CALLS[name], "Bravo", "Delta"), strict=True) if word not in text] == []
    assert all(word in found[-1].text for word in ("Sierra", "Alpha", "Fivedegrees", "Tango", "Charlie"))
    assert not any(word in text for word in ("Sierra", "Alpha", "Fivedegrees", "Tango", "Charlie") for text in learned)
