"""Chats as they come: rows with nothing to learn, weights, older forms of calls, thoughts in any marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput
from loaders.hf.tokenizer import FolderTokenizer
from modules.training import chats
from modules.training.examples import from_rows
from modules.training.formats import RowUnfit
from modules.training.lora_settings import LoraSettings

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
        from_rows(rows, "x", None, SETTINGS, tokenizer, plain)
    found = from_rows(rows, "x", None, SETTINGS.changed(leave_out_unfit=True), tokenizer, plain)
    assert len(found.examples) == 1
    assert any("left out: row 2 has no message" in note for note in found.notes(SETTINGS))
    with pytest.raises(InvalidInput):
        from_rows(rows[1:], "x", None, SETTINGS.changed(leave_out_unfit=True), tokenizer, plain)


def test_a_weight_of_nothing_is_not_learned() -> None:
    said = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "one", "weight": 0},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "two", "weight": 1},
    ]  # fmt: skip
    (found,) = chats.marked(chats.messages({"messages": said}), plain)
    assert [found.text[begin:end] for begin, end in found.spans] == ["two"]
    with pytest.raises(RowUnfit, match="weight 0"):
        chats.messages({"messages": said[:2]})


@pytest.mark.parametrize(
    "turn",
    [
        {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}]'},
    ],
)
def test_calls_of_older_rows(turn: Any) -> None:
    said = chats.messages(
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
    made = chats.for_template({"role": "assistant", **message}, asks)
    assert made == {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}
    silent = chats.for_template({"role": "assistant", **message}, "[INST]")
    assert "hm" in silent["content"]  # learned with the answer
