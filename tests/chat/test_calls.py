"""Tool calls in a chat: saved, shown, sent back to the model, exported and imported."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from modules.chat.conversation import Conversation
from modules.chat.edits import ConversationEdits
from modules.chat.formats.conversation_file import dump_conversation, parse_conversation
from modules.chat.formats.import_export import export_jsonl, import_chat
from modules.chat.service import ReplySettings
from modules.families.saved_calls import (
    format_call,
    format_result,
    join_saved_parts,
    parse_saved_parts,
    to_template_messages,
)
from modules.ui.chat.view import view_chat
from tests.chat.test_service import house
from tests.fake_engine import FakeModel

CALLED = "\n\n".join(
    [
        "Let me look.",
        format_call("get_weather", {"city": "Oslo"}, "c1"),
        format_result("get_weather", "5 <b>degrees</b>\n```", "c1"),
        "It is cold.",
    ]
)
TEMPLATE = (
    "{% for m in messages %}<|{{m.role}}|>{% if m.reasoning_content %}({{m.reasoning_content}}){% endif %}{{m.content}}"
    "{% for c in m.tool_calls or [] %}[{{c.function.name}} {{c.function.arguments|tojson}}]{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat(text: str = CALLED) -> Conversation:
    made = Conversation("instruct/x")
    said = made.add("user", "Weather?")
    made.add("assistant", text, said.id)
    return made


def test_it_is_shown_in_folded_parts() -> None:
    bubbles = view_chat(chat("<think>\nhm\n</think>\n\n" + CALLED)).tail
    titles = [each.get("metadata", {}).get("title", "") for each in bubbles]
    assert titles == ["", "Thought", "", "Called get_weather", "Result of get_weather", ""]
    assert "5 <b>degrees</b>" in bubbles[4]["content"][0]["text"]  # in code: as it stands


def test_the_file_tells_of_parts_and_the_rows_stay_text() -> None:
    text = dump_conversation(chat())
    value = json.loads(text)
    kinds = [each["type"] for each in value["tree"]["messages"][1]["parts"]]
    assert kinds == ["text", "call", "result", "text"]
    assert value["internal"][0][1] == CALLED
    assert parse_conversation("instruct/x", text, 0).path()[-1].text == CALLED


def test_the_model_gets_calls_and_results(tmp_path: Path) -> None:
    home = house(tmp_path, FakeModel("Yes."))
    made = home.chats.new()
    with home.chats.send(made.id, "Weather?", ReplySettings(instruction_template=TEMPLATE)) as live:
        list(live)
    now = home.chats.open(made.id)
    ConversationEdits(home.chats, home.store).edit(made.id, now.path()[-1].id, CALLED, now.revision)
    prompt = home.chats.prompt(made.id, ReplySettings(instruction_template=TEMPLATE), "Sure?")
    assert prompt.text == (
        '<|user|>Weather?<|assistant|>Let me look.[get_weather {"city": "Oslo"}]<|tool|>5 <b>degrees</b>\n```'
        "<|assistant|>It is cold.<|user|>Sure?<|assistant|>"
    )


def test_sillytaverns_lines_come_and_go() -> None:
    lines = [json.loads(line) for line in export_jsonl(chat(), "Ann", "Bob").splitlines()]
    invoked = lines[3]["extra"]["tool_invocations"][0]
    assert (invoked["name"], json.loads(invoked["parameters"])) == ("get_weather", {"city": "Oslo"})
    assert "5 <b>" in invoked["result"]
    back = import_chat("instruct/y", "\n".join(map(json.dumps, lines)))
    assert [each.role for each in back.path()] == ["user", "assistant"]
    assert [(each.kind, each.text, each.value) for each in parse_saved_parts(back.path()[-1].text)] == [
        (each.kind, each.text, each.value) for each in parse_saved_parts(CALLED)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "I write <tool_call> as a word.",
        '```\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n```',
        '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
        "<tool_call>\n{not JSON}\n</tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {}}',
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert [each.text for each in parse_saved_parts(text)] == [text]
    assert to_template_messages("assistant", text, TEMPLATE) == [{"role": "assistant", "content": text}]


def test_parts_come_back_whatever_they_hold() -> None:
    dice = random.Random(3)
    for _ in range(200):
        hard = "".join(dice.choices(["a", "\n", "</tool_call>", "</tool_response>", "`", '"', "<tool_call>"], k=8))
        text = "\n\n".join([format_call("f", {"x": hard}, "1"), format_result("f", hard, "1"), "Done."])
        assert join_saved_parts(parse_saved_parts(text)) == text
        assert [each.kind for each in parse_saved_parts(text)] == ["call", "result", "text"]
