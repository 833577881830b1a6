"""A chat's title is the same in the list and above the chat."""

from __future__ import annotations

import pytest

from modules.chat.conversation import Conversation
from modules.chat.formats.conversation_file import conversation_title
from modules.ui.chat.view import view_chat


@pytest.mark.parametrize(
    ("id", "title"),
    [
        ("instruct/My story", "My story"),  # the original renames files
        ("instruct/20240115-13-45-59", "hi"),
    ],
)
def test_the_heading_says_what_the_list_says(id: str, title: str) -> None:
    conversation = Conversation(id)
    conversation.add("user", "hi")
    assert view_chat(conversation).title == conversation_title(conversation) == title


def test_a_chat_in_which_nothing_was_said() -> None:
    assert view_chat(Conversation("instruct/20240115-13-45-59")).title == "New chat"
