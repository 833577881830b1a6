"""With several models, the model indicator names all of them, and each chat has a menu to choose one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from modules.chat.edits import ConversationEdits
from modules.chat.store.archive import ChatArchive
from modules.chat.work_ahead import WorkAhead
from modules.library.model_state import ModelState
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.screen import ChatScreen
from modules.ui.chat.view import ChatRef
from modules.ui.parts.page_header import chip_text
from tests.chat.test_service import House, house
from tests.fake_engine import FakeModel
from tests.ui.conftest import Web, new_root, start, window
from tests.zoo.ggufs import make

SCREEN = ChatScreen(**{field.name: field.name for field in fields(ChatScreen)})
NAMES = ["a.gguf", "b.gguf"]


@pytest.fixture
def home(tmp_path: Path) -> House:
    return house(tmp_path, FakeModel())


def app(home: House, several: bool) -> Any:
    """The parts of App that the chat's actions need."""
    return SimpleNamespace(
        chats=home.chats,
        archive=ChatArchive(home.store),
        edits=ConversationEdits(home.chats, home.store),
        models=SimpleNamespace(state=ModelState("loaded")),
        router=SimpleNamespace(several=several, names=lambda: NAMES),
        ahead=WorkAhead(home.chats, home.store, home.generator),
    )


def test_a_chat_keeps_the_model_that_is_chosen_for_it(home: House) -> None:
    actions = ChatActions(app(home, several=True), SCREEN, None)  # type: ignore[arg-type]  # no reply is generated
    place = ChatRef(home.chats.new().id)
    shown = actions.choose_model(place, "b.gguf")
    assert shown["model"]["value"] == "b.gguf"
    assert [name for _, name in shown["model"]["choices"]] == ["", *NAMES]
    assert home.chats.open(place.id).model == "b.gguf"
    shown = actions.choose_model(shown["chat"], "gone.gguf")
    assert shown["model"]["choices"][-1] == ("gone", "gone.gguf")
    assert actions.choose_model(shown["chat"], "")["model"]["value"] == ""
    assert home.chats.open(place.id).model == ""


def test_one_model_needs_no_menu(home: House) -> None:
    actions = ChatActions(app(home, several=False), SCREEN, None)  # type: ignore[arg-type]
    assert "model" not in actions.show(home.chats.open(home.chats.new().id))


def test_the_chip_names_all() -> None:
    models = {name: FakeModel(name=name) for name in NAMES}
    entries = [SimpleNamespace(name=name, model=model) for name, model in models.items()]
    manager = SimpleNamespace(
        state=ModelState("loaded", "a.gguf", "fake"),
        loaded=models["a.gguf"],
        memory=SimpleNamespace(all=entries),
    )
    catalog: Any = SimpleNamespace(find=lambda _: SimpleNamespace(size=4e8))
    shown = chip_text(SimpleNamespace(models=manager, catalog=catalog))  # type: ignore[arg-type]
    assert shown.startswith("a · fake · 4k")
    assert shown.endswith(", b")
    manager.loaded, manager.state = None, ModelState(idle="a.gguf")
    assert "a" in chip_text(SimpleNamespace(models=manager, catalog=catalog)).split()[0]  # type: ignore[arg-type]


@pytest.fixture
def two(tmp_path: Path, visits: BrowserContext) -> Iterator[Web]:
    """The page of a server with two small models of the zoo, of which one fits at a time."""
    root = new_root(tmp_path, make("llama", tmp_path))
    (root / "models" / "zoo-gemma2.gguf").symlink_to(make("gemma2", tmp_path))
    # the most probable tokens of a random model may be no text at all
    (root / "settings.yaml").write_text("preset: simple-1\nseed: 4\nmax_new_tokens: 60\nban_eos_token: true\n")
    served = start(root, "--load-on-demand")
    served.app.models.load("zoo-llama.gguf")
    yield from window(visits, served)
    served.app.close()


def test_each_chat_is_answered_by_its_model(two: Web) -> None:
    page, models = two.page, two.app.models

    def choose(name: str) -> None:
        two.new_chat()
        page.locator("#chat-model input").click()
        page.get_by_role("option", name=name, exact=True).click()
        page.wait_for_function(f"document.querySelector('#chat-model input').value === '{name}'")

    page.locator("#controls-toggle").click()
    choose("zoo-gemma2")
    two.ask("Hello")
    assert models.state.name == "zoo-gemma2.gguf"
    expect(page.locator("#chip")).to_contain_text("zoo-gemma2")
    first = two.app.chats.list()[0]
    choose("zoo-llama")
    two.ask("Hello")
    assert models.state.name == "zoo-llama.gguf"
    page.locator(f'#chat-list [data-pick="{first.id}"]').click()
    expect(page.locator("#chat-model input")).to_have_value("zoo-gemma2")
