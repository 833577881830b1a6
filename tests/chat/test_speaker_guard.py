"""The first words of a reply: another speaker's name ends it, anything else is passed on completely."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.chat.speaker_guard import SpeakerGuard, guard_speaker
from tests.chat.test_service import House, house, turn
from tests.fake_engine import FakeModel


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def home(tmp_path: Path, model: FakeModel) -> House:
    return house(tmp_path, model)


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("text", "shown", "speaker"),
    [
        ("You: I speak", "", "You"),
        ("You are right: yes", "You are right: yes", ""),
        ("Yo", "Yo", ""),
        ("Well. You: no", "Well. You: no", ""),
        ("", "", ""),
    ],
)
def test_every_cut_of_the_text_says_the_same(text: str, shown: str, speaker: str, size: int) -> None:
    opening = SpeakerGuard(("You", " "))
    given = "".join(opening.push(text[at : at + size]) for at in range(0, len(text), size)) + opening.rest()
    assert (given, opening.speaker) == (shown, speaker)


def test_what_the_user_says_next_does_not_begin_with_the_character() -> None:
    assert list(guard_speaker("", [" A", "I", ": Hm"], ("AI",))) == ["", ""]
    assert list(guard_speaker("", [" A", "I"], ("AI",))) == ["", "", "AI"]
    assert list(guard_speaker("Oh", [" A", "I: x"], ())) == ["Oh A", "Oh AI: x"]


@pytest.mark.parametrize("mode", ["chat", "chat-instruct"])
def test_a_reply_that_begins_as_the_user_is_none(home: House, model: FakeModel, mode: str) -> None:
    model.reply = " You: I speak for you"
    id = home.chats.new("chat", "Assistant").id
    updates = list(home.chats.send(id, "Hi", turn(mode=mode)))
    assert [update.text for update in updates] == [""]
    assert "speaking as You" in updates[-1].notes[-1]
    assert home.said(id)[1:] == ["Hi"]
    assert model.running == 0
    model.reply = "You"  # it was no name after all
    assert list(home.chats.regenerate(id, turn(mode=mode)))[-1].text == "You"
    assert home.said(id)[1:] == ["Hi", "You"]


def test_in_instruct_mode_nobody_has_a_name(home: House, model: FakeModel) -> None:
    model.reply = "You: a pronoun."
    id = home.chats.new().id
    assert list(home.chats.send(id, "Hi", turn()))[-1].text == "You: a pronoun."
