"""Stop ends the reply at any time after the button appears, even before the reply itself has begun."""

from __future__ import annotations

from dataclasses import fields
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modules.chat.service import ReplyUpdate
from modules.chat.store.archive import ChatArchive
from modules.chat.work_ahead import WorkAhead
from modules.library.model_state import ModelState
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.screen import ChatScreen
from modules.ui.chat.view import ChatRef
from modules.ui.chat.window_state import CHARACTERS_PER_SECOND, WindowState, limit_rate
from tests.chat.test_service import TURN, House, house
from tests.fake_engine import FakeModel


@pytest.fixture
def home(tmp_path: Path) -> House:
    return house(tmp_path, FakeModel("Paris. " * 20, delay=0.001))


#: Components by their names: what an action changes can be read then.
SCREEN = ChatScreen(**{field.name: field.name for field in fields(ChatScreen)})


@pytest.fixture
def app(home: House) -> Any:
    """As much of an App as the chat's actions need."""
    models = SimpleNamespace(state=ModelState("loaded"))
    router = SimpleNamespace(several=False)
    ahead = WorkAhead(home.chats, home.store, home.generator)
    return SimpleNamespace(chats=home.chats, archive=ChatArchive(home.store), models=models, router=router, ahead=ahead)


@pytest.fixture
def actions(app: Any, monkeypatch: pytest.MonkeyPatch) -> ChatActions:
    monkeypatch.setattr(ChatActions, "reply_settings", lambda *_: TURN)
    return ChatActions(app, SCREEN, None)  # type: ignore[arg-type]  # the settings are given


def asked(window: WindowState, place: ChatRef, text: str) -> dict[Any, Any]:
    return {"window": window, "chat": place, "input": text}


@pytest.mark.parametrize("when", ["before it begins", "while it begins", "while it grows"])
def test_stop_is_never_lost(home: House, actions: ChatActions, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    window, place = WindowState(), ChatRef(home.chats.new().id)
    real = home.chats.send

    def begins(*given: Any) -> Any:
        reply = real(*given)
        if when == "while it begins":
            actions.stop(window, place)
        return reply

    monkeypatch.setattr(home.chats, "send", begins)
    for count, update in enumerate(actions.send(asked(window, place, "q"))):
        if count == 0:
            assert update["stop"] == {"visible": True, "__type__": "update"}
        if (count, when) in ((0, "before it begins"), (3, "while it grows")):
            actions.stop(window, place)
    assert len("".join(home.said(place.id)[1:])) < len("Paris. ") * 20
    assert home.said(place.id)[0] == "q"


@pytest.mark.parametrize("when", ["before it begins", "while it begins", "while it grows", "not"])
def test_stop_is_not_lost_when_the_model_writes_for_the_user(
    home: House, actions: ChatActions, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    window, place = WindowState(), ChatRef(home.chats.new().id)
    actions.stop(window, place)  # one that came too late for something else
    real = home.chats.impersonate

    def begins(*given: Any) -> Any:
        if when == "while it begins":
            actions.stop(window, place)
        return real(*given)

    monkeypatch.setattr(home.chats, "impersonate", begins)
    texts: list[str] = []
    for count, update in enumerate(actions.impersonate(asked(window, place, ""))):
        texts += [update["input"]] if isinstance(update["input"], str) else []
        if (count, when) in ((0, "before it begins"), (2, "while it grows")):
            actions.stop(window, place)
    whole = ("Paris. " * 20).rstrip()
    assert (max(texts, key=len, default="").rstrip() == whole) == (when == "not")
    assert update["send"]["visible"] is True, "the buttons are back"
    assert home.chats.writing(place.id) is None
    assert not home.chats.stop(place.id), "the conversation is free again"


def test_a_stop_that_came_too_late_is_not_for_the_next_reply(home: House, actions: ChatActions) -> None:
    window, place = WindowState(), ChatRef(home.chats.new().id)
    actions.stop(window, place)
    list(actions.send(asked(window, place, "q")))
    assert home.said(place.id) == ["q", ("Paris. " * 20).rstrip()]


def test_from_the_click_to_the_settled_screen(home: House, actions: ChatActions) -> None:
    """Each update names what it changes; those that come again and again change the last exchange alone."""
    window, place = WindowState(), ChatRef(home.chats.new().id)
    first, *growing, last = actions.send(asked(window, place, "q"))
    assert [bubble["content"][0]["text"] for bubble in first["tail"]] == ["q", ""]
    assert first["send"]["visible"] == "hidden"
    assert growing
    assert all(set(update) == {"tail"} for update in growing)
    assert last["chat"].revision == home.chats.open(place.id).revision
    assert last["send"]["visible"] is True
    assert not {"input", "returned"} & {*first, *last}, "what is typed meanwhile stays"


@pytest.mark.parametrize("kind", ["send", "regenerate", "continue_"])
def test_a_reply_of_another_chat_grows_unseen(home: House, actions: ChatActions, kind: str) -> None:
    """The user goes on to another chat; what the first one still says is neither shown there, nor when it ends."""
    window, other = WindowState(), home.chats.new()
    place = ChatRef(home.chats.new().id)
    list(actions.send(asked(window, place, "q")))
    place = ChatRef(place.id, home.chats.open(place.id).revision)
    updates = getattr(actions, kind)(asked(window, place, "q"))
    next(updates)
    actions.switch_to(window, other)
    *growing, last = updates
    assert growing == []
    assert last["chat"].id == other.id
    assert home.chats.writing(place.id) is None


@pytest.mark.parametrize("starting", [False, True], ids=["it grows", "it has not begun"])
def test_what_is_refused_is_given_back_and_what_runs_goes_on(
    home: House, actions: ChatActions, monkeypatch: pytest.MonkeyPatch, starting: bool
) -> None:
    """A second message, or a second click, while a reply is being written here."""
    shown: list[Exception] = []
    monkeypatch.setattr("modules.ui.chat.actions.show_error", shown.append)
    window, place = WindowState(), ChatRef(home.chats.new().id)
    updates = actions.send(asked(window, place, "q"))
    next(updates)
    if not starting:
        next(updates)
    (last,) = actions.send(asked(window, place, "another"))
    assert last["returned"] == "another"
    assert [type(error).__name__ for error in shown] == ["Conflict"]
    assert starting != ("chat" in last), "a screen that is about to change is not shown again as it was"
    if starting:
        assert list(actions.regenerate(asked(window, place, ""))) == [], "a second click"
    assert len(shown) == 1
    assert "send" in list(updates)[-1]
    assert home.said(place.id) == ["q", ("Paris. " * 20).rstrip()]
    assert not window.starting


@pytest.mark.parametrize("fails", ["open", "send", "writing"])
def test_a_send_that_fails_gives_its_text_back(
    home: House, actions: ChatActions, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Wherever it fails; once, not again at the next reply; and the page comes back."""
    monkeypatch.setattr("modules.ui.chat.actions.show_error", lambda _: None)
    window, place = WindowState(), ChatRef(home.chats.new().id)

    real = getattr(home.chats, fails)

    def broken(*_: Any) -> Any:
        monkeypatch.setattr(home.chats, fails, real)
        raise ValueError(fails)

    monkeypatch.setattr(home.chats, fails, broken)
    last = list(actions.send(asked(window, place, "q")))[-1]
    assert last["returned"] == "q"
    assert last["send"]["visible"] is True
    assert "returned" not in list(actions.send(asked(window, place, "q")))[-1]


def test_a_long_text_is_told_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the browser has to render in a second is bounded; the last update always comes."""
    clock = iter(range(10_000))
    monkeypatch.setattr("modules.ui.chat.window_state.time.monotonic", lambda: next(clock) / 100)
    texts = ["x" * (10 * count) for count in range(1000)]
    updates = [ReplyUpdate("id", "1", text, count == 999, 1) for count, text in enumerate(texts)]
    told = list(limit_rate(iter(updates)))
    assert told[-1].done
    seconds = 1000 / 100
    assert sum(len(update.text) for update in told) < 1.2 * CHARACTERS_PER_SECOND * seconds


def test_a_reply_that_ends_before_it_is_watched_is_shown_as_ended(home: House, actions: ChatActions) -> None:
    """Another window opens the chat while it grows, and Stop is pressed before that window begins to watch."""
    place = ChatRef(home.chats.new().id)
    with home.chats.send(place.id, "q", TURN) as reply:
        next(iter(reply))
        opened = actions.show(home.chats.open(place.id))["chat"]
        assert opened.writing
        home.chats.stop(place.id)
        for _ in reply:
            pass
    *_, settled = actions.watch(WindowState(), opened)
    assert not settled["chat"].writing
    assert settled["chat"].revision > opened.revision
    (shown,) = actions.watch(WindowState(), settled["chat"])
    assert set(shown) == {"tail"}


def test_a_reply_of_another_window_is_watched_to_its_end(home: House, actions: ChatActions) -> None:
    place = ChatRef(home.chats.new().id)
    with home.chats.send(place.id, "q", TURN) as reply:
        next(iter(reply))
        seen = actions.watch(WindowState(), actions.show(home.chats.open(place.id))["chat"])
        next(seen)
        assert set(next(seen)) == {"tail"}
        for _ in reply:
            pass
    *_, settled = seen
    assert (settled["chat"].writing, settled["send"]["visible"]) == (False, True)


def drain(reply: Any) -> None:
    with reply:
        for _ in reply:
            pass


@pytest.mark.parametrize("when", ["before it watches", "as it begins to watch", "between two updates"])
def test_a_window_that_watches_shows_all_messages_of_a_reply_that_begins_meanwhile(
    home: House, actions: ChatActions, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The earlier messages stand before the growing reply, whenever another device sends the next message."""
    place = ChatRef(home.chats.new().id)
    drain(home.chats.send(place.id, "first", TURN))
    screen = actions.show(home.chats.open(place.id))
    growing: list[Any] = []

    def sends(text: str) -> None:
        growing.append(home.chats.send(place.id, text, TURN))
        next(iter(growing[-1]))

    real = home.chats.writing

    def writing(id: str) -> ReplyUpdate | None:
        if not growing:
            sends("second")
        return real(id)

    if when == "before it watches":
        sends("second")
    elif when == "as it begins to watch":
        monkeypatch.setattr(home.chats, "writing", writing)
    else:
        sends("zeroth")
    seen = actions.watch(WindowState(), screen["chat"])
    texts: list[str] = []
    for update in islice(seen, 50):
        screen.update(update)
        texts = [each["content"][0]["text"] for each in [*screen["history"], *screen["tail"]] if each["role"] == "user"]
        if set(update) == {"tail"} and texts[-1:] == ["zeroth"]:
            drain(growing.pop())
            sends("second")
        elif set(update) == {"tail"} and texts[-1:] == ["second"]:
            break
    assert texts == [*["first"], *(["zeroth"] if when == "between two updates" else []), "second"]
    seen.close()
    drain(growing.pop())


def test_whatever_is_watched_ends_with_what_is_stored(home: House, actions: ChatActions) -> None:
    """The reply may begin after the chat was opened, and end at any moment of its being watched."""
    for told in range(4):
        window, place = WindowState(), ChatRef(home.chats.new().id)
        with home.chats.send(place.id, "q", TURN) as reply:
            next(iter(reply))
            updates = actions.watch(window, place)
            shown = list(islice(updates, told))
            home.chats.stop(place.id)
        shown += updates
        assert [update["send"]["visible"] for update in shown if "send" in update][-1] is True, told
        assert [update["chat"].writing for update in shown if "chat" in update][-1] is False, told
