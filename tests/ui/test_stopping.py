"""Stop, pressed at any time after the button is there, ends the reply: also before the reply itself has begun."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from modules.chat.archive import Archive
from modules.chat.service import Update
from modules.chat.turn import Turn
from modules.ui.chat_turns import Turns
from modules.ui.chat_view import Place
from modules.ui.chat_window import CHARACTERS_PER_SECOND, Draft, Window, paced
from tests.chat.test_service import TURN, House, house
from tests.fake_engine import FakeModel


@pytest.fixture
def home(tmp_path: Path) -> House:
    return house(tmp_path, FakeModel("Paris. " * 20, delay=0.001))


@pytest.fixture
def turns(home: House, monkeypatch: pytest.MonkeyPatch) -> Turns:
    monkeypatch.setattr(Turns, "turn", lambda *_: TURN)
    return Turns(home)  # type: ignore[arg-type]  # of the App it needs the chats alone


@pytest.mark.parametrize("when", ["before it begins", "while it begins", "while it grows"])
def test_stop_is_never_lost(home: House, turns: Turns, when: str) -> None:
    window, place = Window(), Place(home.chats.new().id)
    turns.begin(turns.begin_send)(window, place, "q")

    def start(id: str, text: str, turn: Turn) -> Any:
        reply = home.chats.send(id, text, turn)
        if when == "while it begins":
            turns.stop(window, place)
        return reply

    if when == "before it begins":
        turns.stop(window, place)
    for count, _ in enumerate(turns.stream(start)(window, place, Draft("q", wanted=True))):
        if when == "while it grows" and count == 2:
            turns.stop(window, place)
    assert len("".join(home.said(place.id)[1:])) < len("Paris. ") * 20
    assert home.said(place.id)[0] == "q"


@pytest.mark.parametrize("when", ["before it begins", "while it begins", "while it grows", "not"])
def test_stop_is_not_lost_when_the_model_writes_for_the_user(
    home: House, turns: Turns, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    window, place = Window(), Place(home.chats.new().id)
    turns.stop(window, place)  # one that came too late for something else
    turns.begin_impersonate(window, place)
    real = home.chats.impersonate

    def begins(*given: Any) -> Any:
        if when == "while it begins":
            turns.stop(window, place)
        return real(*given)

    monkeypatch.setattr(home.chats, "impersonate", begins)
    if when == "before it begins":
        turns.stop(window, place)
    texts = []
    for text in turns.impersonate(window, place, ""):
        texts += [text] if isinstance(text, str) else []
        if when == "while it grows" and len(texts) == 2:
            turns.stop(window, place)
    whole = ("Paris. " * 20).rstrip()
    assert (max(texts, key=len, default="").rstrip() == whole) == (when == "not")
    assert home.chats.writing(place.id) is None
    assert not home.chats.stop(place.id), "the conversation is free again"


def test_a_stop_that_came_too_late_is_not_for_the_next_reply(home: House, turns: Turns) -> None:
    window, place = Window(), Place(home.chats.new().id)
    turns.stop(window, place)
    turns.begin(turns.begin_send)(window, place, "q")
    list(turns.stream(home.chats.send)(window, place, Draft("q", wanted=True)))
    assert home.said(place.id) == ["q", ("Paris. " * 20).rstrip()]


def test_a_long_text_is_told_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the browser has to render in a second is bounded; the last update always comes."""
    clock = iter(range(10_000))
    monkeypatch.setattr("modules.ui.chat_window.time.monotonic", lambda: next(clock) / 100)
    texts = ["x" * (10 * count) for count in range(1000)]
    updates = [Update("id", "1", text, count == 999, 1) for count, text in enumerate(texts)]
    told = list(paced(iter(updates)))
    assert told[-1].done
    seconds = 1000 / 100
    assert sum(len(update.text) for update in told) < 1.2 * CHARACTERS_PER_SECOND * seconds


def test_a_reply_that_ends_before_it_is_watched_is_shown_as_ended(home: House) -> None:
    """Another window opens the chat while it grows, and Stop is pressed before that window begins to watch."""
    models = SimpleNamespace(state=SimpleNamespace(phase="loaded"))
    app: Any = SimpleNamespace(chats=home.chats, archive=Archive(home.store), models=models)
    turns = Turns(app)
    place = Place(home.chats.new().id)
    with home.chats.send(place.id, "q", TURN) as reply:
        next(iter(reply))
        opened = turns.screen(home.chats.open(place.id))
        assert opened[0].writing
        home.chats.stop(place.id)
        for _ in reply:
            pass
    seen = list(turns.watch(Window(), opened[0]))
    settled = turns.settle_watched(opened[0], seen[-1][1])
    assert not settled[0].writing
    assert settled[0].revision > opened[0].revision
    assert turns.settle_watched(settled[0], False)[0] == gr.skip()
