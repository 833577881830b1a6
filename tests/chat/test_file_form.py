"""What a chat is called: the same in the list and above the chat."""

from __future__ import annotations

import pytest

from modules.chat.conversation import Conversation
from modules.chat.file_form import title_of
from modules.ui.chat_view import view


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
    assert view(conversation).title == title_of(conversation) == title


def test_a_chat_in_which_nothing_was_said() -> None:
    assert view(Conversation("instruct/20240115-13-45-59")).title == "New chat"
