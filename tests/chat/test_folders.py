"""Folders as a whole: renamed, removed, and back again, whatever happened to their chats meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from errors import BadFile, Conflict, InvalidInput, NotFound, NothingToDo, Unavailable
from modules.chat.conversation import Conversation
from modules.chat.edits import ConversationEdits
from modules.chat.folders import ChatFolders
from modules.chat.store import undo_history
from modules.chat.store.archive import ChatArchive
from tests.chat.test_service import TURN, House


@pytest.fixture
def folders(home: House) -> ChatFolders:
    return ChatFolders(home.chats, home.store)


def made(home: House, folder: str, mode: str = "instruct") -> str:
    chat = home.chats.new(mode, "Assistant")
    chat.add("user", f"About {folder or 'nothing'}.")
    chat.folder = folder
    home.store.save(chat)
    return chat.id


def places(home: House) -> dict[str, str]:
    return {info.id: info.folder for info in home.store.everything()}


def test_a_folder_is_renamed_in_all_modes_and_that_undone(home: House, folders: ChatFolders) -> None:
    ids = [made(home, "Trees"), made(home, "Trees", "chat"), made(home, "trees"), made(home, "")]
    before = places(home)
    change = folders.rename("Trees", "  Old \n oaks ")
    assert places(home) == dict(zip(ids, ["Old oaks", "Old oaks", "trees", ""], strict=True))
    assert ChatArchive(home.store).folders() == ["Old oaks", "trees"]
    assert set(change.moved) == set(ids[:2])
    assert folders.undo(change) == 2
    assert places(home) == before
    with pytest.raises(NothingToDo):
        home.chats.undo(ids[0])  # it has the steps that it had before
    with pytest.raises(NothingToDo, match="moved or deleted"):
        folders.undo(change)


def test_a_removed_folder_leaves_its_chats(home: House, folders: ChatFolders, edits: ConversationEdits) -> None:
    ids = [made(home, "Trees"), made(home, "Trees"), made(home, "Trees")]
    said = [home.said(id) for id in ids]
    edits.pin(ids[0], True)
    change = folders.remove("Trees")
    assert set(places(home).values()) == {""}
    assert [home.said(id) for id in ids] == said
    assert home.chats.open(ids[0]).pinned
    home.chats.undo(ids[1])  # as any change of this chat
    assert places(home)[ids[1]] == "Trees"
    assert folders.undo(change) == 2
    assert set(places(home).values()) == {"Trees"}


def test_a_folder_that_gets_the_name_of_another_comes_out_of_it_again(home: House, folders: ChatFolders) -> None:
    oak, pear = made(home, "Trees"), made(home, "Orchard")
    change = folders.rename("Trees", "Orchard")
    assert set(places(home).values()) == {"Orchard"}
    folders.undo(change)
    assert places(home) == {oak: "Trees", pear: "Orchard"}


def test_what_happened_since_is_kept(home: House, folders: ChatFolders, edits: ConversationEdits) -> None:
    same, said, moved, deleted = (made(home, "Trees") for _ in range(4))
    change = folders.rename("Trees", "Woods")
    edits.say(said, "assistant", "Indeed.")
    edits.move(moved, "Elsewhere")
    home.chats.delete(deleted)
    assert folders.undo(change) == 2
    assert places(home) == {same: "Trees", said: "Trees", moved: "Elsewhere"}
    assert home.said(said)[-1] == "Indeed."


def test_more_chats_than_undo_remembers_come_back(
    home: House, folders: ChatFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_history, "_CHATS", 3)
    for _ in range(7):
        made(home, "Trees")
    change = folders.remove("Trees")
    assert folders.undo(change) == 7
    assert set(places(home).values()) == {"Trees"}


@pytest.mark.parametrize(
    ("name", "to", "error", "said"),
    [
        ("Trees", "", InvalidInput, "cannot be empty"),
        ("Trees", " \n\t ", InvalidInput, "cannot be empty"),
        ("Trees", "x" * 61, InvalidInput, "60 characters"),
        ("Trees", "\ud800", InvalidInput, "name"),
        ("Trees", " Trees ", NothingToDo, "already"),
        ("Shrubs", "Trees", NotFound, "Shrubs"),
        ("", "Trees", NotFound, "no folder"),
    ],
)
def test_other_names_are_refused_in_words(
    home: House, folders: ChatFolders, name: str, to: str, error: type[Exception], said: str
) -> None:
    made(home, "Trees"), made(home, "")
    before = places(home)
    with pytest.raises(error, match=said):
        folders.rename(name, to)
    assert places(home) == before


@pytest.mark.parametrize("fails", ["a reply is written", "the disk is full"])
def test_all_or_nothing(home: House, folders: ChatFolders, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    ids = [made(home, "Trees") for _ in range(4)]
    if fails == "a reply is written":
        reply = home.chats.send(ids[2], "And?", TURN)
        with reply, pytest.raises(Conflict, match="in a chat of this folder"):
            folders.rename("Trees", "Woods")
    else:
        save, left = home.store.save, [2]

        def full(conversation: Conversation, expected_revision: int | None = None) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Unavailable("The disk is full.")
            save(conversation, expected_revision)

        monkeypatch.setattr(home.store, "save", full)
        with pytest.raises(Unavailable, match="full"):
            folders.rename("Trees", "Woods")
    assert set(places(home).values()) == {"Trees"}


def test_a_damaged_chat_stays_and_is_named(home: House, folders: ChatFolders) -> None:
    good, bad = made(home, "Trees"), made(home, "Trees")
    path = Path(home.logs / f"{bad}.json")
    path.write_text(path.read_text("utf-8").rstrip().removesuffix("}"), "utf-8")  # its beginning can be read
    written = path.read_bytes()
    change = folders.rename("Trees", "Woods")
    assert places(home)[good] == "Woods"
    assert path.read_bytes() == written
    assert path.name in change.left[0]
    with pytest.raises(BadFile):
        folders.rename("Trees", "Woods")  # nothing in it can be read


def test_random_changes_of_folders_agree_with_a_table(
    home: House, folders: ChatFolders, edits: ConversationEdits
) -> None:
    """The reference: a table of chats and their folders, and of the tables before each change."""
    chance, names = random.Random(7), ["Trees", "Woods", "Fruit", ""]
    table = {made(home, chance.choice(names)): "" for _ in range(12)}
    table = places(home)
    for _ in range(60):
        name, to = chance.choice(names[:3]), chance.choice(names[:3])
        if chance.random() < 0.4:
            id = chance.choice(list(table))
            edits.move(id, to)
            table[id] = to
        elif name in table.values() and name != to:
            removed = chance.random() < 0.3
            change = folders.remove(name) if removed else folders.rename(name, to)
            after = "" if removed else to
            assert places(home) == {id: after if where == name else where for id, where in table.items()}
            if chance.random() < 0.5:
                folders.undo(change)
            else:
                table = {id: after if where == name else where for id, where in table.items()}
        assert places(home) == table
