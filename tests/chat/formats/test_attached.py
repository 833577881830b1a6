"""Files and tool calls that the original keeps beside a message: the model gets them, the page shows them, and the file
stays as it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.chat.conversation import Message
from modules.chat.edits import ConversationEdits
from modules.chat.formats.attached import attachments, full_text
from modules.chat.formats.conversation_file import dump_conversation, parse_conversation
from modules.chat.service import ReplySettings
from modules.families.saved_calls import parse_saved_parts
from modules.ui.chat.view import bubble_owners, view_chat
from tests.chat.test_calls import TEMPLATE
from tests.chat.test_service import house
from tests.fake_engine import FakeModel

NOTES = {"name": "notes.txt", "type": "text/plain", "content": "The code word is heron.\n```\n=====\n"}
PAGE = {"name": "Birds", "type": "text/html", "content": "Herons stand.", "url": "https://birds.example/x"}
PICTURE = {"name": "a.png", "type": "image/png", "image_data": "AAAA", "image_id": "1"}
STEPS = [
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what": "heron"}'}},
            {"id": "c2", "type": "function", "function": {"name": "day", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "3 herons"},
    {"role": "tool", "tool_call_id": "c2", "content": "Monday"},
]


def opened(tmp_path: Path, rows: list[list[str]], metadata: dict[str, Any]) -> tuple[Any, str]:
    """The services over a log of the original's, and the chat's id."""
    home = house(tmp_path, FakeModel("Yes."))
    path = tmp_path / "logs" / "instruct" / "20260115-13-45-59.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"internal": rows, "visible": rows, "metadata": metadata}), "utf-8")
    return home, "instruct/20260115-13-45-59"


@pytest.mark.parametrize("mode", ["instruct", "chat", "chat-instruct"])
def test_the_model_reads_the_files(tmp_path: Path, mode: Any) -> None:
    home, id = opened(
        tmp_path, [["Which word?", "Heron."], ["Sure?", ""]], {"user_0": {"attachments": [NOTES, PAGE, PICTURE]}}
    )
    turn = ReplySettings(mode=mode, character="Assistant", instruction_template=TEMPLATE)
    prompt = home.chats.prompt(id, turn)
    before, told, after = prompt.text.partition("The code word is heron.\n```\n=====")
    assert told
    assert before.rindex("Which word?") < before.rindex("notes.txt")
    assert after.index("https://birds.example/x") < after.index("Herons stand.") < after.index("Heron.")
    assert [note for note in prompt.notes if "1 attached picture is not passed" in note]


def test_a_file_without_a_word(tmp_path: Path) -> None:
    rows = [["", "A text about herons."]]
    home, id = opened(tmp_path, rows, {"user_0": {"attachments": [NOTES]}})
    assert [each.role for each in home.chats.open(id).path()] == ["user", "assistant"]
    assert "heron.\n" in home.chats.prompt(id, ReplySettings(instruction_template=TEMPLATE), "And?").text
    text = dump_conversation(home.chats.open(id))
    assert json.loads(text)["internal"] == rows
    assert [each.role for each in parse_conversation(id, text, 0).path()] == ["user", "assistant"]


def test_another_version_of_the_question_keeps_the_files(tmp_path: Path) -> None:
    home, id = opened(tmp_path, [["Which word?", "Heron."]], {"user_0": {"attachments": [NOTES], "timestamp": "x"}})
    asked = home.chats.open(id).path()[0]
    ConversationEdits(home.chats, home.store).version(id, asked.id, "Which bird?")
    again = home.chats.open(id).path()
    assert [each.text for each in again] == ["Which bird?"]
    assert attachments(again[0]) == attachments(asked)
    assert "heron.\n" in home.chats.prompt(id, ReplySettings(instruction_template=TEMPLATE)).text


@pytest.mark.parametrize("begun", ["", "<think>\nhm\n</think>\n\n"])
def test_the_model_gets_calls_and_results(tmp_path: Path, begun: str) -> None:
    home, id = opened(tmp_path, [["Herons?", begun + "There are 3."]], {"assistant_0": {"tool_sequence": STEPS}})
    prompt = home.chats.prompt(id, ReplySettings(instruction_template=TEMPLATE), "Sure?")
    thought = "(hm)" if begun else ""
    assert prompt.text == (
        f'<|user|>Herons?<|assistant|>{thought}I look.[find {{"what": "heron"}}][day {{}}]<|tool|>3 herons'
        "<|tool|>Monday<|assistant|>There are 3.<|user|>Sure?<|assistant|>"
    )


def test_the_page_shows_them_and_the_file_keeps_them(tmp_path: Path) -> None:
    metadata = {"user_0": {"attachments": [NOTES, PICTURE]}, "assistant_0": {"tool_sequence": STEPS}}
    rows = [["Which word?", "Heron."]]
    home, id = opened(tmp_path, rows, metadata)
    shown = view_chat(home.chats.open(id)).tail
    titles = [each.get("metadata", {}).get("title", "") for each in shown]
    calls = ["Called find", "Called day", "Result of find", "Result of day"]
    assert titles == ["", "Attached: notes.txt", "Attached: a.png", "", *calls, ""]
    assert NOTES["content"] in shown[1]["content"][0]["text"]
    assert len(bubble_owners(home.chats.open(id).path())) == len(shown)
    value = json.loads(dump_conversation(home.chats.open(id)))
    assert (value["internal"], value["visible"]) == (rows, rows)
    for key, note in metadata.items():
        assert {name: value["metadata"][key][name] for name in note} == note


@pytest.mark.parametrize(
    "note",
    [
        {"attachments": None},
        {"attachments": "x"},
        {"attachments": [None, 3, [], {}, {"content": None}, {"name": "x"}, {"content": 5}]},
        {"tool_sequence": {}},
        {"tool_sequence": [None, 3, {}, {"tool_calls": 3}, {"tool_calls": [None, {}, {"function": {"name": 3}}]}]},
        "x",
    ],
)
def test_what_is_none_of_it_is_passed_over(note: Any) -> None:
    for role in ("user", "assistant"):
        message = Message("1", None, role, "Text.", 0, meta={"original": note})  # type: ignore[arg-type]
        assert full_text(message) == "Text."
        assert attachments(message) == []


def test_odd_calls_are_kept_as_far_as_they_go() -> None:
    steps = [
        {"tool_calls": [{"function": {"name": "f", "arguments": "{not JSON"}}]},
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": "Hm."},
    ]
    message = Message("1", None, "assistant", "Text.", 0, meta={"original": {"tool_sequence": steps}})
    parts = parse_saved_parts(full_text(message))
    assert [(each.kind, each.text or each.name) for each in parts] == [
        ("call", "f"), ("result", "f"), ("text", "Hm.\n\nText.")
    ]  # fmt: skip
