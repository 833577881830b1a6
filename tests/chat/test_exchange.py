"""Other programs' chats: what they write is read, and what goes out comes back."""

from __future__ import annotations

import json

import pytest

from modules.chat.conversation import Conversation
from modules.chat.exchange import read_chat, to_lines


def texts(conversation: Conversation) -> list[str]:
    return [each.text for each in conversation.path()]


@pytest.mark.parametrize("key", ["internal", "data"])
def test_the_originals_file_in_one_line(key: str) -> None:
    assert texts(read_chat("instruct/x", json.dumps({key: [["hi", "hello"]]}))) == ["hi", "hello"]


def test_line_separators_inside_a_text_cut_nothing() -> None:
    made = Conversation("instruct/x")
    made.add("user", "a\u2028b\x85c\u2029d")
    assert texts(read_chat("instruct/y", to_lines(made, "Ann", "Bob"))) == ["a\u2028b\x85c\u2029d"]


def test_no_words_are_no_word() -> None:
    lines = [
        {"name": "Ann", "is_user": True, "mes": None},
        {"name": "Bob", "is_user": False, "mes": None, "swipes": ["One.", None, "Three."], "swipe_id": 2},
    ]
    made = read_chat("instruct/x", "\r\n".join(map(json.dumps, lines)))
    assert texts(made) == ["Three."]
    assert "None" not in [each.text for each in made]
