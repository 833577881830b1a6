"""A reply with a thought in the chat: how it is written down, shown, sent back and gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modules.chat.service import Turn
from modules.ui.chat_view import view
from modules.ui.prompt_sheet import sheet_html
from tests.chat.test_service import House, house
from tests.fake_engine import FakeModel

MESSAGES = (
    "{% for m in messages %}<|im_start|>{{m.role}}\n{% if m.reasoning_content %}[{{m.reasoning_content}}]{% endif %}"
)
PLAIN = (
    MESSAGES + "{{m.content}}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS = PLAIN.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
HARMONY = (
    "{# <|channel|> <|message|> #}{% for m in messages %}<|start|>{{m.role}}<|message|>{{m.content}}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def talk(home: House, template: str) -> tuple[str, str]:
    conversation = home.chats.new()
    turn = Turn(instruction_template=template)
    with home.chats.send(conversation.id, "Hi", turn) as live:
        last = list(live)[-1]
    return conversation.id, last.text


@pytest.mark.parametrize(
    ("template", "reply"),
    [
        (PLAIN, "<think>\nhm\n</think>\n\nHello."),
        (OPENS, "hm\n</think>\n\nHello."),
        (HARMONY, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello."),
        (PLAIN + "{# [INST] #}", "[THINK]hm[/THINK]Hello."),
    ],
)
def test_it_is_written_down_in_one_form(tmp_path: Path, template: str, reply: str) -> None:
    home = house(tmp_path, FakeModel(reply))
    id, text = talk(home, template)
    assert text == "<think>\nhm\n</think>\n\nHello."
    conversation = home.chats.open(id)
    assert conversation.path()[-1].text == text
    bubbles = view(conversation).tail
    assert [each["content"][0]["text"] for each in bubbles] == ["Hi", "hm", "Hello."]
    assert bubbles[1]["metadata"]["title"].startswith("Thought")
    assert "tokens" in bubbles[1]["metadata"]["title"] or "token" in bubbles[1]["metadata"]["title"]
    turn = Turn(instruction_template=template)
    going_on = home.chats.prompt(id, turn, going_on=True).text
    assert going_on.endswith("Hello.")
    assert going_on.count("hm") == 1
    sent = home.chats.prompt(id, turn, "And?").text
    assert ("[hm]Hello." in sent) == ("reasoning_content" in template)
    assert "<think>\nhm" not in sent


def test_a_thought_alone_is_said_to_be_one(tmp_path: Path) -> None:
    home = house(tmp_path, FakeModel("hm"))
    id, text = talk(home, OPENS)
    assert text == "<think>\nhm"
    message = home.chats.open(id).path()[-1]
    assert "without an answer" in str(message.meta["notes"])
    assert view(home.chats.open(id)).tail[-1]["metadata"]["status"] == "done"
    assert home.chats.prompt(id, Turn(instruction_template=OPENS), going_on=True).text.endswith("<think>\nhm")


def test_a_thought_is_ended_when_somebody_says_so(tmp_path: Path) -> None:
    model = FakeModel("a b c d e f g h")
    home = house(tmp_path, model)
    conversation = home.chats.new()
    with home.chats.send(conversation.id, "Hi", Turn(instruction_template=OPENS)) as live:
        next(live)
        assert home.chats.stop(conversation.id, thought=True)
        end = model.requests[-1].processors[-1]
        logits = np.zeros(300, np.float32)
        ids = list(model.requests[-1].ids)
        for _ in range(len("\n</think>\n\n")):
            ids.append(int(end(ids, logits).argmax()))
        assert bytes(ids[len(model.requests[-1].ids) :]) == b"\n</think>\n\n"
        assert not home.chats.stop(conversation.id, thought=True)  # it answers by now


def test_what_was_changed_for_the_template_is_kept_with_the_prompt(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
    home = house(tmp_path, FakeModel("Hello."))
    conversation = home.chats.new()
    turn = Turn(instruction_template=refuses, custom_system_message="Be terse.")
    with home.chats.send(conversation.id, "Hi", turn) as live:
        last = list(live)[-1]
    assert any("system message" in note for note in last.notes)
    record = home.chats.record(conversation.id, last.message_id)
    assert any("system message" in note for note in record.notes)
    assert "system message" in sheet_html(record, home.chats.open(conversation.id).path()[-1])
