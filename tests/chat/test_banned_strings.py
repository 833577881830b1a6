"""Banned strings of a chat and of a character, and the phrases that a model repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import InvalidInput
from loaders.banned.entries import write_entry
from loaders.banned.pattern import compile_banned_strings
from loaders.banned.text_scan import TextPosition, TextScan
from loaders.params import SamplingParams
from modules.chat.characters import Characters
from modules.chat.conversation import Conversation
from modules.chat.phrases import count_phrases
from modules.chat.reply_settings import ReplySettings
from modules.config.paths import Paths


@pytest.fixture
def characters(tmp_path: Path) -> Characters:
    paths = Paths.under(tmp_path)
    paths.ensure()
    return Characters(paths)


def test_those_of_page_character_and_chat_count_together(characters: Characters) -> None:
    characters.save("Ann", called="Ann", greeting="", context="", banned_strings="shivers\n/spines?/")
    chat = Conversation("chat/Ann/1", meta={"banned_strings": "my dear"})
    params = SamplingParams(banned_strings='["a testament", "shivers"]')
    turn = ReplySettings(mode="chat", character="Ann", params=params)
    assert turn.ban(params, chat, characters).banned_strings == "a testament\nshivers\n/spines?/\nmy dear"
    instruct = ReplySettings(character="Ann", params=params)
    assert instruct.ban(params, chat, characters).banned_strings == "a testament\nshivers\nmy dear"
    assert instruct.ban(params, Conversation("instruct/1"), characters) is params


def test_a_characters_file_keeps_them(characters: Characters) -> None:
    (characters.folder / "Bob.yaml").write_text("name: Bob\ncontext: x\nbanned_strings:\n- ' hm'\n- well\n", "utf-8")
    assert characters.load("Bob").banned_strings == '" hm"\nwell'
    characters.save("Bob", called="Bob", greeting="", context="x", banned_strings="")
    assert characters.load("Bob").banned_strings == ""
    with pytest.raises(InvalidInput, match="not a regular expression"):
        characters.save("Bob", called="Bob", greeting="", context="x", banned_strings="/(/")


def chat(number: int, *replies: str, user: str = "Go on", model: str = "m") -> Conversation:
    made = Conversation(f"instruct/{number}")
    parent = None
    for reply in replies:
        parent = made.add("user", user, parent).id
        parent = (
            made.add("assistant", reply, parent, model=model).id if model else made.add("assistant", reply, parent).id
        )
    return made


def test_phrases_are_counted_once_a_reply_and_the_longest_stand_for_the_shorter() -> None:
    chats = [
        chat(1, "It was a testament to courage. A testament to hope.", "The plan was a testament to all."),
        chat(2, "This is a testament to us; and the old castle wall stood."),
        chat(3, "There was the old castle wall!", "We saw the old castle wall again.", user="was a testament to"),
    ]
    found = count_phrases(chats, "m")
    assert (found.replies, found.chats) == (5, 3)
    assert [(each.text, each.replies, each.chats) for each in found.phrases] == [("the old castle wall", 3, 2)]
    assert count_phrases(chats[:2], "m").phrases[0].text == "a testament to"
    assert count_phrases(chats, "another").replies == 0
    assert count_phrases(chats).replies == 5


@pytest.mark.parametrize(
    "reply",
    [
        "Yes, dearest friend of mine, certainly.", "A castle  in\nthe\tmist stands here.",
        "It was cold - bitterly cold - outside.",
        "He said 'wherever you wander' to her.", "I don’t know whether I can’t.", "*softly* the evening_falls over us",
        "Wherever/whenever you two want, 100% free of charge", "Größe in der STRASSE nebenan",
        "the cafe\u0301 around the corner",
    ],
)  # fmt: skip
def test_a_phrase_that_is_offered_is_found_where_it_was_counted(reply: str) -> None:
    texts = [reply, reply.replace("’", "'"), reply.upper()]
    for phrase in count_phrases([chat(number, text) for number, text in enumerate(texts)], "m").phrases:
        pattern = compile_banned_strings(write_entry(phrase.text), True)
        assert pattern
        for text in texts:
            assert TextScan(pattern).advance(TextPosition(), text.encode(), 0)[1] == 0, phrase.text
    assert count_phrases([chat(number, "We are here, and the evening falls") for number in range(3)], "m").phrases
