"""A reply with reasoning in the chat: how it is saved, shown, sent back and continued."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest

from loaders.params import SamplingParams
from modules.chat.service import ReplySettings
from modules.families.saved_reply import ReplyWriter, split_reply
from modules.ui.chat.prompt_view import prompt_html
from modules.ui.chat.view import view_chat
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


def talk(home: House, template: str, params: SamplingParams | None = None) -> tuple[str, str]:
    conversation = home.chats.new()
    turn = ReplySettings(instruction_template=template, params=params or SamplingParams())
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
    bubbles = view_chat(conversation).tail
    assert [each["content"][0]["text"] for each in bubbles] == ["Hi", "hm", "Hello."]
    assert bubbles[1]["metadata"]["title"].startswith("Thought")
    assert "tokens" in bubbles[1]["metadata"]["title"] or "token" in bubbles[1]["metadata"]["title"]
    turn = ReplySettings(instruction_template=template)
    going_on = home.chats.prompt(id, turn, going_on=True).text
    assert going_on.endswith("Hello.")
    assert going_on.count("hm") == 1
    sent = home.chats.prompt(id, turn, "And?").text
    assert ("[hm]Hello." in sent) == ("reasoning_content" in template)
    assert "<think>\nhm" not in sent


@pytest.mark.parametrize(
    ("reply", "thought"),
    [
        ("<think>\nI close with `</think>`, see.\n</think>\n\nSo.", "I close with `</think>`, see."),
        ('<think>It is "</think>" then.</think>So.', 'It is "</think>" then.'),
        ("[THINK]Others write </think> there.[/THINK]So.", "Others write </think> there."),
    ],
)
def test_a_mark_that_a_thought_holds_does_not_end_it_later(tmp_path: Path, reply: str, thought: str) -> None:
    home = house(tmp_path, FakeModel(reply))
    id, text = talk(home, PLAIN + "{# [INST] #}" * reply.startswith("["))
    assert (split_reply(text).thought, split_reply(text).answer) == (thought, "So.")
    shown = [html.unescape(each["content"][0]["text"]) for each in view_chat(home.chats.open(id)).tail]
    assert shown[1:] == [thought, "So."]


def test_the_end_of_a_thought_in_the_forms_of_others() -> None:
    for text, kept in (
        ("<think>a</think>b", ("a", "b", True)),
        ("<think>\na\n</think>b\n</think>\n", ("a\n</think>b", "", True)),
        ("<think>a `</think>` b", ("a `</think>` b", "", False)),
        ("<think>a `</think> b", ("a `", "b", True)),
        ("<think></think>b", ("", "b", True)),
    ):
        found = split_reply(text)
        assert (found.thought, found.answer, found.done) == kept


def test_a_thought_alone_is_said_to_be_one(tmp_path: Path) -> None:
    home = house(tmp_path, FakeModel("hm"))
    id, text = talk(home, OPENS)
    assert text == "<think>\nhm"
    message = home.chats.open(id).path()[-1]
    assert "no answer" in str(message.meta["notes"])
    assert view_chat(home.chats.open(id)).tail[-1]["metadata"]["status"] == "done"
    assert home.chats.prompt(id, ReplySettings(instruction_template=OPENS), going_on=True).text.endswith("<think>\nhm")


def test_a_thought_is_ended_when_somebody_says_so(tmp_path: Path) -> None:
    model = FakeModel("a b c d e f g h")
    home = house(tmp_path, model)
    conversation = home.chats.new()
    with home.chats.send(conversation.id, "Hi", ReplySettings(instruction_template=OPENS)) as live:
        next(live)
        assert home.chats.stop(conversation.id, thought=True)
        end = model.requests[-1].processors[-1]
        logits = np.zeros(300, np.float32)
        ids = list(model.requests[-1].ids)
        for _ in range(len("\n</think>\n\n")):
            ids.append(int(end(ids, logits).argmax()))
        assert bytes(ids[len(model.requests[-1].ids) :]) == b"\n</think>\n\n"
        assert not home.chats.stop(conversation.id, thought=True)  # it is answering now


def test_what_was_changed_for_the_template_is_kept_with_the_prompt(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
    home = house(tmp_path, FakeModel("Hello."))
    conversation = home.chats.new()
    turn = ReplySettings(instruction_template=refuses, custom_system_message="Be terse.")
    with home.chats.send(conversation.id, "Hi", turn) as live:
        last = list(live)[-1]
    assert any("system message" in note for note in last.notes)
    record = home.chats.record(conversation.id, last.message_id)
    assert any("system message" in note for note in record.notes)
    assert "system message" in prompt_html(record, home.chats.open(conversation.id).path()[-1])


def test_a_long_reply_is_not_put_together_for_each_of_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joins of the text are counted: once for watchers, not once per token."""
    joined: list[int] = []
    text = ReplyWriter.text.fget
    assert text

    def counted(self: ReplyWriter) -> str:
        joined.append(len(text(self)))
        return text(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(ReplyWriter, "text", property(counted))
    monkeypatch.setattr("modules.chat.reply._GLANCED", 1)
    home = house(tmp_path, FakeModel("<think>\n" + "word " * 3_000 + "\n</think>\n\nSo.", context_length=20_000))
    params = SamplingParams(max_new_tokens=16_000)
    _, reply = talk(home, PLAIN, params)
    assert len(reply) > 11_000
    long = [each for each in joined if each > 5_000]
    assert len(long) < 10
