"""What a chat may keep (parameters, a system message), in every way of generating, and where it must survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from errors import InvalidInput
from loaders.base import Request
from loaders.params import SamplingParams
from modules.chat.background import BackgroundReply
from modules.chat.edits import ConversationEdits
from modules.chat.own_settings import KEY, OwnSettings
from modules.chat.reply_settings import ReplySettings
from modules.chat.store.archive import ChatArchive
from modules.chat.store.search import search_chats
from tests.chat.test_service import House
from tests.fake_engine import FakeModel

PAGE = SamplingParams(temperature=0.25, top_k=7, max_new_tokens=200)
OWN = SamplingParams(temperature=1.5, min_p=0.2, max_new_tokens=200)
MINE, USUAL = "Speak like a pirate.", "Be brief."

#: The ways of generating in a chat that has a message and a reply.
WAYS: dict[str, Callable[[House, str, ReplySettings], object]] = {
    "send": lambda home, id, turn: list(home.chats.send(id, "And of Spain?", turn)),
    "in the background": lambda home, id, turn: list(BackgroundReply(home.chats.send(id, "And of Spain?", turn))),
    "regenerate": lambda home, id, turn: list(home.chats.regenerate(id, turn)),
    "continue": lambda home, id, turn: list(home.chats.continue_(id, turn)),
    "impersonate": lambda home, id, turn: list(home.chats.impersonate(id, "And", turn)),
}


def begun(home: House, mode: str) -> str:
    id = home.chats.new(mode, "Assistant").id
    list(home.chats.send(id, "Capital of France?", turn(mode)))
    return id


def turn(mode: str) -> ReplySettings:
    return ReplySettings(mode=mode, params=PAGE, custom_system_message=USUAL)  # type: ignore[arg-type]


def last_request(home: House) -> tuple[Request, str]:
    model = home.models.loaded
    assert isinstance(model, FakeModel)
    request = model.requests[-1]
    return request, b"".join(model.tokenizer.piece(each, special=True) for each in request.ids).decode()


@pytest.mark.parametrize("mode", ["instruct", "chat", "chat-instruct"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_generating_uses_what_the_chat_keeps(
    home: House, edits: ConversationEdits, way: str, mode: str
) -> None:
    own, other = begun(home, mode), begun(home, mode)
    edits.keep_params(own, OWN)
    edits.set_system_message(own, MINE)
    for id, params, system in ((own, OWN, True), (other, PAGE, False)):
        WAYS[way](home, id, turn(mode))
        request, prompt = last_request(home)
        assert {name: getattr(request.params, name) for name in ("temperature", "min_p", "top_k")} == {
            name: getattr(params, name) for name in ("temperature", "min_p", "top_k")
        }
        assert (MINE in prompt) is system
        usual = USUAL in prompt  # in chat-instruct it is about the task; what the chat keeps is the context there
        assert usual is (mode == "chat-instruct" or (mode == "instruct" and not system))
        shown = home.chats.prompt(id, turn(mode), going_on=True)
        assert (MINE in str(shown.text)) is system
    edits.reset_settings(own)
    WAYS[way](home, own, turn(mode))
    request, prompt = last_request(home)
    assert (request.params.temperature, MINE in prompt) == (0.25, False)


@pytest.mark.parametrize("place", ["the file", "a branch", "JSON", "JSONL", "undo", "the trash"])
def test_what_a_chat_keeps_survives(home: House, edits: ConversationEdits, place: str) -> None:
    id, archive = begun(home, "instruct"), ChatArchive(home.store)
    edits.keep_params(id, OWN)
    edits.set_system_message(id, MINE)
    if place == "a branch":
        edits.move(id, "Geography")
        id = edits.branch(id, home.chats.open(id).path()[0].id).id
        assert home.chats.open(id).folder == "Geography"
    elif place in ("JSON", "JSONL"):
        _, data = archive.export_chat(id, lines=place == "JSONL")
        id = archive.import_chat(data.decode(), "instruct", "").id
    elif place == "undo":
        edits.reset_settings(id)
        home.chats.undo(id)
    elif place == "the trash":
        home.chats.delete(id)
        id = archive.restore(id).id
    assert OwnSettings.of(home.store.open(id)) == OwnSettings(OWN, MINE)


def test_other_programs_find_the_chat_as_it_was(home: House, edits: ConversationEdits) -> None:
    id = begun(home, "instruct")
    file = home.logs / f"{id}.json"
    before = json.loads(file.read_text("utf-8"))
    edits.keep_params(id, OWN)
    edits.move(id, "Geography")
    after = json.loads(file.read_text("utf-8"))
    assert after[KEY] == {"params": {"temperature": 1.5, "min_p": 0.2, "max_new_tokens": 200}}
    assert {key: after[key] for key in ("internal", "visible", "metadata")} == {
        key: before[key] for key in ("internal", "visible", "metadata")
    }
    for key in (KEY, "about", "tree"):  # what the original writes back is not ours any more, and is read all the same
        del after[key]
    file.write_text(json.dumps(after), "utf-8")
    assert not OwnSettings.of(home.store.open(id))
    assert home.said(id)[0] == "Capital of France?"


@pytest.mark.parametrize(
    ("kept", "used", "told"),
    [
        ({"params": {"temperature": 1.5, "top_k": "many", "no_such": 1}}, 1.5, 2),
        ({"params": {}}, SamplingParams().temperature, 0),
        ({"params": "hot", "system": 3}, 0.25, 0),
        (["hot"], 0.25, 0),
        (None, 0.25, 0),
    ],
)
def test_what_is_not_valid_is_not_used_and_said(home: House, kept: object, used: float, told: int) -> None:
    id = begun(home, "instruct")
    chat = home.store.open(id)
    chat.meta[KEY] = kept
    home.store.save(chat)
    *_, last = home.chats.send(id, "Hello", turn("instruct"))
    assert last_request(home)[0].params.temperature == used
    assert len([note for note in last.notes if "this chat keeps" in note.lower()]) == told


def test_chats_are_put_into_folders(home: House, edits: ConversationEdits) -> None:
    ids = [begun(home, "instruct") for _ in range(3)] + [begun(home, "chat")]
    edits.move(ids[0], "  Old   times ")
    edits.move(ids[1], "geography")
    edits.move(ids[3], "Old times")
    archive = ChatArchive(home.store)
    assert archive.folders() == ["geography", "Old times"]
    assert {info.id: info.folder for info in archive.everything()} == dict(
        zip(ids, ["Old times", "geography", "", "Old times"], strict=True)
    )
    assert {found.info.id for found in search_chats(home.store, "old times")} == {ids[0], ids[3]}
    edits.move(ids[1], "")
    assert archive.folders() == ["Old times"]
    home.chats.undo(ids[1])
    assert home.chats.open(ids[1]).folder == "geography"
    with pytest.raises(InvalidInput, match="60 characters"):
        edits.move(ids[0], "x" * 61)


def test_a_chat_without_a_message_can_keep_them(home: House, edits: ConversationEdits) -> None:
    id = home.chats.new("chat", "Assistant").id
    edits.set_system_message(id, "{{char}} is a pirate, {{user}} is the captain.")
    list(home.chats.send(id, "Hello", replace(turn("chat"), name1="Ann")))
    assert "AI is a pirate, Ann is the captain." in last_request(home)[1]
