"""A chat that is deleted for good: its files go, and no model keeps anything of it. In the trash, all is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errors import NotFound
from loaders.llamacpp.engine import disk_cache
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.llamacpp.engine.saved_state import SavedState
from modules.app import App
from modules.chat.conversation import Conversation
from modules.chat.store.archive import ChatArchive
from modules.chat.store.store import ConversationStore
from modules.chat.work_ahead import WorkAhead
from tests.chat.test_service import TURN, House, last
from tests.conftest import ROOT
from tests.fake_engine import FakeModel


def forgotten(home: House) -> list[str]:
    model = home.models.loaded
    assert isinstance(model, FakeModel)
    return model.forgotten


@pytest.fixture
def archive(home: House) -> ChatArchive:
    return ChatArchive(home.store, forget=WorkAhead(home.chats, home.store, home.generator).forget)


def asked(home: House, text: str = "Capital of France?") -> str:
    id = home.chats.new().id
    last(home.chats.send(id, text, TURN))
    return id


def left(home: House) -> list[Path]:
    return [path for path in home.logs.rglob("*") if path.is_file()]


def test_it_is_forgotten_when_it_leaves_the_trash_for_good(home: House, archive: ChatArchive) -> None:
    one, two = asked(home), asked(home)
    home.chats.delete(one)
    home.chats.delete(two)
    assert forgotten(home) == []
    assert len(left(home)) == 4, "two chats, and the prompts of their replies"
    archive.purge(one)
    assert forgotten(home) == [one]
    assert [each.id for each in archive.trash()] == [two]
    assert len(left(home)) == 2
    assert archive.restore(two).id == two
    assert forgotten(home) == [one]
    with pytest.raises(NotFound):
        archive.purge(two)
    assert home.said(two)


def test_all_of_the_trash_is_forgotten(home: House, archive: ChatArchive) -> None:
    kept, *gone = [asked(home) for _ in range(4)]
    for id in gone:
        home.chats.delete(id)
    assert archive.empty_trash() == 3
    assert sorted(forgotten(home)) == sorted(gone)
    assert archive.empty_trash() == 0
    assert home.said(kept)
    assert len(left(home)) == 2


def test_the_lists_say_which_chats_are_warm(home: House) -> None:
    archive = ChatArchive(home.store, warm=home.generator.warm_labels)
    one, two = asked(home), asked(home)
    model = home.models.loaded
    assert isinstance(model, FakeModel)
    model.warm = {one, f"{two}: reading ahead"}
    for infos in (archive.around(one), archive.everything()):
        assert {info.id: info.warm for info in infos} == {one: True, two: False}
    home.models.loaded = None
    assert not any(info.warm for info in archive.everything())


def test_a_chat_without_a_file_is_forgotten_at_once(home: House) -> None:
    """What was typed there may have been read ahead."""
    id = home.chats.new().id
    home.chats.delete(id)
    assert forgotten(home) == [id]


def test_what_gets_another_id_is_forgotten_under_its_old_one(home: House, archive: ChatArchive) -> None:
    id = asked(home)
    home.chats.delete(id)
    other = Conversation(id)
    other.add("user", "in its place")
    home.store.save(other)
    assert archive.restore(id).id == f"{id}-2"
    assert forgotten(home) == [id]
    home.chats.delete(id)
    home.store.save(Conversation(id))
    home.chats.delete(id)  # beside the other one in the trash
    assert forgotten(home) == [id, id]


def test_files_of_a_model_that_is_not_loaded_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "kv"))
    app = App.build(ROOT, ["--user-data-dir", str(tmp_path / "mine")])
    try:
        store = ConversationStore(app.paths)
        ids = [store.new_id("instruct") for _ in range(2)]
        cache = DiskCache(2**30, "a model")
        for number, id in enumerate(ids):
            made = Conversation(id)
            made.add("user", "Hello")
            store.save(made)
            cache.put(SavedState((number, *range(10, 400)), np.zeros(100, np.uint8), 0, id))
        cache.close()
        app.chats.delete(ids[0])
        assert DiskCache(2**30, "a model").labels == {*ids}
        app.archive.purge(ids[0])
        assert DiskCache(2**30, "a model").labels == {ids[1]}
    finally:
        app.close()
