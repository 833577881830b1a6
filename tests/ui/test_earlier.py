"""Earlier messages that someone has asked for stay in the page, whatever is done or shown next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modules.chat.conversation import Conversation
from modules.chat.edits import ConversationEdits
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.view import MORE, SHOWN, ChatRef, split_exchange
from modules.ui.chat.window_state import WindowState
from tests.chat.test_service import House
from tests.ui.test_stopping import actions, app, asked, home  # noqa: F401

MESSAGES = 2 * (SHOWN + MORE)


class Shown:
    """A window with a long chat in which earlier messages were asked for, and what it shows."""

    def __init__(self, actions: ChatActions, id: str) -> None:  # noqa: F811
        self.actions, self.window, self.screen = actions, WindowState(), dict[str, Any]()
        self.take([actions.switch_to(self.window, actions.app.chats.open(id))])
        self.take([actions.show_older(self.window, self.chat)])

    @property
    def chat(self) -> ChatRef:
        return self.screen["chat"]  # type: ignore[no-any-return]

    @property
    def asked(self) -> dict[Any, Any]:
        return asked(self.window, self.chat, "once more")

    def take(self, updates: Any) -> None:
        for update in updates:
            self.screen.update(update)


def elsewhere(shown: Shown) -> Any:
    """Another window changes the chat."""
    shown.actions.app.edits.say(shown.chat.id, "user", "from elsewhere")
    return shown.actions.catch_up(shown.window, shown.chat, "")


def conflict(shown: Shown) -> Any:
    """Another window has changed the chat when something is changed here."""
    shown.actions.app.edits.say(shown.chat.id, "assistant", "from elsewhere")
    return [shown.actions.show_current_on_conflict(shown.actions.replace_last)(shown.chat, "text")]


def undo(shown: Shown) -> Any:
    shown.take([shown.actions.replace_last(shown.chat, "text")])
    return [shown.actions.undo(shown.chat, shown.window)]


def refused(shown: Shown) -> Any:
    """A message that cannot be sent comes back."""
    return shown.actions.send(asked(shown.window, shown.chat, "\ud800"))


def older_meanwhile(shown: Shown) -> Iterator[Any]:
    """Earlier messages are asked for while a reply grows."""
    shown.take([shown.actions.switch_to(shown.window, shown.actions.app.chats.new())])
    shown.take([shown.actions.switch_to(shown.window, shown.actions.app.chats.open("instruct/long"))])
    assert len(shown.screen["history"]) == SHOWN
    for at, update in enumerate(shown.actions.send(shown.asked)):
        yield update
        if at == 2:
            yield shown.actions.show_older(shown.window, shown.chat)


ACTIONS: dict[str, Callable[[Shown], Any]] = {
    "send": lambda shown: shown.actions.send(shown.asked),
    "a refused message": refused,
    "regenerate": lambda shown: shown.actions.regenerate(shown.asked),
    "continue": lambda shown: shown.actions.continue_(shown.asked),
    "older while a reply grows": older_meanwhile,
    "remove": lambda shown: [shown.actions.remove(shown.chat, "")],
    "replace": lambda shown: [shown.actions.replace_last(shown.chat, "text")],
    "insert": lambda shown: [shown.actions.insert_message("user")(shown.chat, "text")],
    "undo": undo,
    "ban strings": lambda shown: [shown.actions.ban_strings(shown.chat, '"testament"')],
    "the same chat again": lambda shown: [
        shown.actions.switch_to(shown.window, shown.actions.app.chats.open(shown.chat.id))
    ],
    "a change elsewhere": elsewhere,
    "a conflict": conflict,
}


@pytest.fixture
def shown(home: House, app: Any, actions: ChatActions) -> Shown:  # noqa: F811
    made = Conversation("instruct/long")
    parent = None
    for at in range(MESSAGES):
        parent = made.add("assistant" if at % 2 else "user", f"message {at}", parent).id
    home.store.save(made)
    app.edits = ConversationEdits(home.chats, home.store)
    return Shown(actions, made.id)


@pytest.mark.filterwarnings("ignore::UserWarning")  # without a page, gradio warns of what it cannot show there
@pytest.mark.parametrize("action", ACTIONS)
def test_earlier_messages_stay(shown: Shown, action: str) -> None:
    before = len(shown.screen["history"])
    assert before == SHOWN + MORE
    shown.take(ACTIONS[action](shown))
    earlier, _ = split_exchange(shown.actions.app.chats.open(shown.chat.id).path())
    assert shown.chat.skipped == len(earlier) - before
    assert len(shown.screen["history"]) == before
