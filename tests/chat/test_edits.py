"""Editing, versions, branches, undo, search, trash, other programs' files: nothing is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from errors import ConversationChanged, InvalidInput, NotFound, NothingToDo
from modules.chat.conversation import Conversation
from modules.chat.edits import ConversationEdits
from modules.chat.formats.import_export import export_jsonl, import_chat
from modules.chat.store.archive import ChatArchive
from modules.chat.store.search import MOST, search_chats
from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths
from tests.chat.test_service import TURN, House

LINES = "\n".join(
    json.dumps(each)
    for each in (
        {"user_name": "Ann", "character_name": "Bob", "chat_metadata": {}},
        {"name": "Bob", "is_user": False, "mes": "Hello.", "swipes": ["Hello.", "Hi."], "swipe_id": 0},
        {"name": "Ann", "is_user": True, "mes": "Where?"},
        {"name": "Bob", "is_user": False, "mes": "Here.", "swipes": ["There.", "Here."], "swipe_id": 1},
        {"name": "Note", "is_user": False, "is_system": True, "mes": "hidden"},
    )
)


def asked(home: House, *texts: str) -> str:
    id = home.chats.new().id
    for text in texts:
        list(home.chats.send(id, text, TURN))
    return id


def test_any_message_can_be_edited_and_the_edit_undone(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?", "Two?")
    first = home.chats.open(id).path()[0]
    edits.edit(id, first.id, "Changed?")
    assert home.said(id) == ["Changed?", "Paris.", "Two?", "Paris."]
    home.chats.undo(id)
    assert home.said(id) == ["One?", "Paris.", "Two?", "Paris."]


def test_versions_of_either_side(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?")
    said = home.chats.open(id).path()[0]
    edits.version(id, said.id, "Other?")
    assert home.said(id) == ["Other?"]
    other = home.chats.open(id).path()[0]
    assert edits.swipe(id, other.id, -1).path()[-1].text == "Paris."
    assert [each.text for each in edits.swipe(id, said.id, 1).path()] == ["Other?"]
    assert [each.text for each in edits.swipe(id, other.id, 5).path()] == ["Other?"]


def test_a_greeting_in_other_words_is_a_greeting(home: House, edits: ConversationEdits) -> None:
    id = home.chats.new("chat", "Assistant").id
    edits.version(id, home.chats.open(id).path()[0].id, "Welcome.")
    assert home.chats.open(id).path()[0].is_greeting
    with pytest.raises(NothingToDo):
        home.chats.remove_last(id)
    assert home.said(id) == ["Welcome."]


def test_a_branch_is_a_conversation_of_its_own(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?", "Two?")
    reply = home.chats.open(id).path()[1]
    branch = edits.branch(id, reply.id)
    assert branch.id != id
    assert home.said(branch.id) == ["One?", "Paris."]
    list(home.chats.send(branch.id, "Three?", TURN))
    assert home.said(id) == ["One?", "Paris.", "Two?", "Paris."]


def test_removing_shows_another_version_and_can_be_undone(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?")
    list(home.chats.regenerate(id, TURN))
    last = home.chats.open(id).path()[-1]
    edits.remove(id, last.id)
    assert home.said(id) == ["One?", "Paris."]
    edits.remove(id, home.chats.open(id).path()[-1].id)
    assert home.said(id) == ["One?"]
    home.chats.undo(id)
    home.chats.undo(id)
    assert len(home.chats.open(id).versions(last.id)) == 2


def test_undo_takes_back_whatever_was_last(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?")
    edits.say(id, "user", "Dummy")
    edits.say(id, "assistant", "Reply")
    edits.replace_last(id, "Better")
    assert home.said(id) == ["One?", "Paris.", "Dummy", "Better"]
    for expected in (["Reply"], ["Dummy"], ["Paris."]):
        home.chats.undo(id)
        assert home.said(id)[-1:] == expected
    home.chats.undo(id)
    assert home.said(id) == []
    with pytest.raises(NothingToDo):
        home.chats.undo(id)


def test_a_stale_page_is_told_and_its_undo_is_not_used_up(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "One?")
    seen = home.chats.open(id).revision
    edits.say(id, "user", "from another tab", seen)
    with pytest.raises(ConversationChanged):
        edits.say(id, "user", "stale", seen)
    with pytest.raises(ConversationChanged):
        home.chats.undo(id, seen)
    home.chats.undo(id)
    assert home.said(id) == ["One?", "Paris."]


def test_impersonate_writes_the_users_words_and_stores_nothing(home: House) -> None:
    id = asked(home, "One?")
    assert list(home.chats.impersonate(id, "Tell me", TURN))[-1].startswith("Tell me")
    assert home.said(id) == ["One?", "Paris."]
    list(home.chats.send(id, "Two?", TURN))  # the place is free again


def test_search_over_all_chats(home: House) -> None:
    id = asked(home, "Where is the Eiffel tower?")
    asked(home, "What is a fox?")
    archive = ChatArchive(home.store)
    found = archive.search("eiffel TOWER")
    assert [each.info.id for each in found] == [id]
    assert "Eiffel" in found[0].excerpt
    assert not archive.search("nowhere at all")
    assert not archive.search("  ")


def test_search_finds_what_was_said_and_not_how_it_is_written(home: House, edits: ConversationEdits) -> None:
    id = asked(home, 'She said "Été", and\nwent.')
    archive = ChatArchive(home.store)
    for words in ('"été"', "ÉTÉ", '"Été", and', "went."):
        assert [each.info.id for each in archive.search(words)] == [id], words
    for words in ("tree", "revision", "internal", "role"):  # the file's own words
        assert not archive.search(words), words
    edits.version(id, home.store.open(id).path()[0].id, "Changed.")
    assert [each.info.id for each in archive.search("été")] == [id]  # an older version still says it
    (home.store.journal("instruct/Ångström").parent / "Ångström.json").write_text(
        json.dumps({"internal": [["Fünf", "Cinq"]], "visible": [["Fünf", "Cinq"]]}, indent=4)
    )
    assert [each.info.id for each in archive.search("FÜNF")] == ["instruct/Ångström"]  # the original escapes letters
    assert [each.info.id for each in archive.search("ångström")] == ["instruct/Ångström"]


def test_a_thousand_chats_are_listed_and_searched(tmp_path: Path) -> None:
    store = ConversationStore(Paths.under(tmp_path))
    for number in range(1000):
        made = Conversation(f"instruct/2024-{number:04}")
        parent = None
        for turn in range(10):
            parent = made.add("user" if turn % 2 == 0 else "assistant", f"words {number} " * 20, parent).id
        store.save(made)
    store.list("instruct")
    assert len(store.list("instruct")) == 1000
    assert [each.info.id for each in search_chats(store, "words 777")] == ["instruct/2024-0777"]
    assert len(search_chats(store, "words")) == MOST


def test_the_trash_gives_back(home: House) -> None:
    id = asked(home, "One?")
    home.chats.delete(id)
    archive = ChatArchive(home.store)
    assert [each.id for each in archive.trash()] == [id]
    assert archive.trash()[0].title == "One?"
    other = Conversation(id)
    other.add("user", "in its place")
    home.store.save(other)
    back = archive.restore(id)
    assert back.id == f"{id}-2"
    assert [each.text for each in back.path()] == ["One?", "Paris."]
    assert not archive.trash()
    with pytest.raises(NotFound):
        archive.restore(id)


def test_sillytaverns_lines_come_and_go(home: House) -> None:
    made = ChatArchive(home.store).import_chat(LINES, "instruct", "", "with Bob")
    assert home.said(made.id) == ["Hello.", "Where?", "Here."]
    path = home.chats.open(made.id).path()
    assert path[0].is_greeting
    assert len(made.versions(path[2].id)) == 2
    again = import_chat("instruct/x", export_jsonl(made, "Ann", "Bob"))
    assert [each.text for each in again.path()] == ["Hello.", "Where?", "Here."]
    assert [again.message(each).text for each in again.versions(again.path()[2].id)] == ["There.", "Here."]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}\n{"mes"', "\x00\xff", "null", '{"internal": 3}'])
def test_other_files_are_refused_in_words(home: House, text: str) -> None:
    with pytest.raises(InvalidInput, match="does not contain"):
        ChatArchive(home.store).import_chat(text, "instruct", "")


def test_five_hundred_random_changes_agree_with_their_own_history(home: House, edits: ConversationEdits) -> None:
    """Undo after any change restores exactly the state before it: the reference is a list of states."""
    chance = random.Random(7)
    id = asked(home, "One?")
    states = [_state(home, id)]
    for _ in range(500):
        path = home.chats.open(id).path()
        some = chance.choice(path) if path else None
        match chance.randrange(6):
            case 0:
                edits.say(id, chance.choice(("user", "assistant")), f"text {chance.random()}")
            case 1 if some:
                edits.edit(id, some.id, f"edited {chance.random()}")
            case 2 if some:
                edits.version(id, some.id, f"version {chance.random()}")
            case 3 if some:
                edits.swipe(id, some.id, chance.choice((-1, 1)))
            case 4 if some and len(path) > 6:
                edits.remove(id, some.id)
            case 5 if len(states) > 1:
                home.chats.undo(id)
                states.pop()
                assert _state(home, id) == states[-1]
                continue
            case _:
                continue
        states.append(_state(home, id))
        del states[:-25]


def _state(home: House, id: str) -> list[tuple[str, str | None, str, bool]]:
    conversation = home.store.open(id)
    shown = {each.id for each in conversation.path()}
    return sorted((each.id, each.parent, each.text, each.id in shown) for each in conversation)
