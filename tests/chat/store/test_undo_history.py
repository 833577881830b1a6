"""Undo restores the previous state, whoever wrote it, and loses neither a greeting nor another program's changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import ConversationChanged, NothingToDo, Unavailable
from modules.chat.characters import Characters
from modules.chat.edits import ConversationEdits
from modules.chat.store.archive import ChatArchive
from modules.config.atomic import write_json
from modules.config.paths import Paths
from tests.chat.test_edits import asked
from tests.chat.test_service import TURN, House, house, turn
from tests.fake_engine import FakeModel


def rewritten(home: House, id: str, *rows: list[str]) -> None:
    """What the original leaves of a file: its rows, and nothing of our tree."""
    path = home.logs / f"{id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"internal": rows, "visible": rows}, indent=4))


@pytest.mark.parametrize("first", ["send", "rename"])
def test_before_the_first_change_stood_the_greetings(tmp_path: Path, first: str) -> None:
    paths = Paths.under(tmp_path)
    home, characters = house(tmp_path, FakeModel("Paris."), paths.characters), Characters(paths)
    card = {"name": "Aria", "first_mes": "Ahoy.", "alternate_greetings": ["Land!"]}
    characters.import_card(json.dumps(card).encode(), "aria.json")
    id = home.chats.new("chat", "Aria").id
    if first == "send":
        list(home.chats.send(id, "Hi", turn(mode="chat", character="Aria")))
    else:
        home.chats.rename(id, "A talk")
    home.chats.undo(id)
    conversation = home.chats.open(id)
    (greeting,) = conversation.path()
    assert (greeting.text, greeting.is_greeting, conversation.title) == ("Ahoy.", True, "")
    assert [conversation.message(each).text for each in conversation.versions(greeting.id)] == ["Ahoy.", "Land!"]


def crashed(home: House, tmp_path: Path) -> tuple[House, str]:
    """A chat whose reply is only in the journal, after a restart of the program."""
    id = asked(home, "hi")
    reply = home.chats.open(id).path()[-1]
    conversation = home.store.open(id)
    conversation.set_text(reply.id, "", unfinished=True)
    home.store.save(conversation)
    write_json(home.store.journal(id), {"message": reply.id, "text": "a long answer"})
    return house(tmp_path, FakeModel()), id


def test_a_recovered_reply_outlives_undo(home: House, tmp_path: Path) -> None:
    again, id = crashed(home, tmp_path)
    again.chats.rename(id, "named")
    again.chats.undo(id)
    assert again.said(id) == ["hi", "a long answer"]


def test_a_recovered_reply_goes_out_with_its_chat(home: House, tmp_path: Path) -> None:
    again, id = crashed(home, tmp_path)
    _, data = ChatArchive(again.store).export_chat(id)
    assert json.loads(data)["internal"] == [["hi", "a long answer"]]


def test_a_full_disk_costs_no_step(home: House, edits: ConversationEdits, monkeypatch: pytest.MonkeyPatch) -> None:
    id = asked(home, "One?")
    edits.say(id, "user", "Two?")
    edits.say(id, "assistant", "Two.")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("modules.chat.store.store.write_bytes", full)
        with pytest.raises(Unavailable, match="No space left"):
            home.chats.undo(id)
    home.chats.undo(id)
    assert home.said(id) == ["One?", "Paris.", "Two?"]


def test_what_another_program_wrote_is_not_taken_back(home: House, edits: ConversationEdits) -> None:
    id = asked(home, "q1")
    rewritten(home, id, ["q1", "Paris."], ["q2", "a2"])
    with pytest.raises(NothingToDo, match="Another program"):
        home.chats.undo(id)
    edits.say(id, "user", "q3")
    home.chats.undo(id)
    assert home.said(id) == ["q1", "Paris.", "q2", "a2"]
    with pytest.raises(NothingToDo):  # not beyond it either
        home.chats.undo(id)


def test_what_another_program_wrote_during_a_reply_is_not_taken_back(home: House) -> None:
    id = asked(home, "q1")
    reply = home.chats.send(id, "mine", TURN)
    next(reply)
    rewritten(home, id, ["q1", "Paris."], ["theirs", "a2"])
    list(reply)
    with pytest.raises(NothingToDo, match="Another program"):
        home.chats.undo(id)
    assert "theirs" in home.said(id)


def test_a_page_behind_another_program_is_told(home: House, edits: ConversationEdits) -> None:
    id = "instruct/My story"
    rewritten(home, id, ["q1", "a1"], ["q2", "a2"])
    seen = home.chats.open(id)
    picked = seen.path()[3]
    rewritten(home, id, ["q0", "a0"], ["q1", "a1"], ["q2", "a2"])
    with pytest.raises(ConversationChanged):
        edits.edit(id, picked.id, "changed", seen.revision)
    assert home.said(id) == ["q0", "a0", "q1", "a1", "q2", "a2"]
    now = home.chats.open(id)
    edits.edit(id, now.path()[5].id, "changed", now.revision)
    assert home.said(id)[-1] == "changed"


def test_a_file_whose_head_was_moved_can_be_changed(home: House) -> None:
    id = asked(home, "q")
    path = home.logs / f"{id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))  # an editor may order keys like this
    home.chats.rename(id, "named", home.chats.open(id).revision)
    assert home.chats.open(id).title == "named"
