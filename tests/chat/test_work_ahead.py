"""What is computed for a chat before anybody asks: stored only when it is used, and ended when it no longer fits."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from errors import ConversationChanged, Unavailable
from loaders.base import Lora, Model, Request
from loaders.params import SamplingParams
from modules.chat.edits import ConversationEdits
from modules.chat.model_title import ASK, clean_title
from modules.chat.own_settings import OwnSettings
from modules.chat.reply_settings import ReplySettings
from modules.chat.work_ahead import WorkAhead, whole_words
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.library.model_leases import Leases, ModelLease
from tests.chat.test_service import House, house, last, until
from tests.fake_engine import FakeModel

TURN = ReplySettings(params=SamplingParams(max_new_tokens=60))


def text_of(request: Request) -> str:
    return bytes(each for each in request.ids if each < 256).decode()


def make(root: Path, model: FakeModel | None, characters: Path | None = None) -> tuple[House, WorkAhead]:
    home = house(root, model, characters)
    return home, WorkAhead(home.chats, home.store, home.generator)


def finish(ahead: WorkAhead) -> None:
    until(lambda: not ahead._work)


def numbered() -> FakeModel:
    """Each reply is another one; titles are titles."""
    numbers = itertools.count(1)
    return FakeModel(lambda request: "On numbers" if ASK in text_of(request) else f"Reply {next(numbers)}.")


def talked(home: House, *texts: str) -> str:
    id = home.chats.new().id
    for text in texts or ("Hello?",):
        last(home.chats.send(id, text, TURN))
    return id


def file_of(home: House, id: str) -> bytes:
    return (home.logs / f"{id}.json").read_bytes()


def test_what_is_typed_is_read_up_to_its_last_whole_word(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home, "first")
    before = file_of(home, id)
    ahead.read(id, TURN, "And what about the sec")
    finish(ahead)
    asked = model.requests[-1]
    assert asked.yields
    assert asked.max_tokens == 1
    assert text_of(asked).endswith("### Instruction:\nAnd what about the")
    last(home.chats.send(id, "And what about the second one?", TURN))
    sent = model.requests[-1]
    assert list(sent.ids[: len(asked.ids)]) == list(asked.ids), "the prompt begins with what was read"
    assert not sent.yields
    assert len(file_of(home, id)) > len(before)


@pytest.mark.parametrize(
    ("typed", "words"),
    [("", ""), ("one", ""), (" one", ""), ("one ", "one"), ("one two", "one"), ("one\n two\n", "one\n two")],
)
def test_the_last_word_may_still_grow(typed: str, words: str) -> None:
    assert whole_words(typed) == words


def test_more_typing_ends_what_was_being_read(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home)
    model.hold_after = 0
    ahead.read(id, TURN, "one two")
    until(lambda: len(model.requests) == 2)
    ahead.read(id, TURN, "one two three")
    until(lambda: len(model.requests) == 3)
    assert model.requests[1].cancel.is_set()
    ahead.stop(id)
    until(lambda: model.running == 0)


@pytest.mark.parametrize("why", ["no model", "a server", "an empty chat"])
def test_where_it_is_not_offered_nothing_is_asked_and_the_reason_is_told(tmp_path: Path, why: str) -> None:
    model = FakeModel(unsupported={"work_ahead": "A server does not say."} if why == "a server" else {})
    home, ahead = make(tmp_path, None if why == "no model" else model)
    id = home.chats.new().id
    ahead.read(id, TURN, "x" if why == "an empty chat" else "some words")
    finish(ahead)
    assert not model.requests
    assert ahead.costs(id).why == ("A server does not say." if why == "a server" else "")


def test_versions_are_stored_when_they_are_shown_and_not_before(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home)
    before = file_of(home, id)
    ahead.after_reply(id, TURN, versions=2)
    finish(ahead)
    conversation = home.chats.open(id)
    assert ahead.ready(conversation) == 2
    assert all(each.yields for each in model.requests[1:])
    assert file_of(home, id) == before
    assert conversation.revision == home.chats.open(id).revision
    for text in ("Reply 2.", "Reply 3."):
        shown = ahead.take_version(id, replace(TURN, revision=home.chats.open(id).revision))
        assert shown is not None
        stored = home.chats.open(id)
        assert stored.path()[-1].text == text
        assert stored.path()[-1].meta["finish"] == "stop"
        assert "unfinished" not in stored.path()[-1].meta
        assert home.chats.record(id, stored.path()[-1].id).text.endswith("### Response:\n")
    assert ahead.take_version(id, TURN) is None
    assert len(stored.versions(stored.path()[-1].id)) == 3
    assert home.chats.undo(id).path()[-1].text == "Reply 2."
    assert ahead.costs(id).used_versions == 2


def test_what_was_used_is_counted_once(tmp_path: Path) -> None:
    """Also if a message that was refused, or a second click, looks at the same reply again."""
    home, ahead = make(tmp_path, numbered())
    id = talked(home)
    with home.chats.changing(id, None) as conversation:
        reply = conversation.path()[-1]
        conversation.set_text(reply.id, reply.text, ahead_tokens=180)
    for _ in range(3):
        ahead.after_reply(id, TURN)
    assert ahead.costs(id).used_tokens == 180
    last(home.chats.continue_(id, TURN))
    with home.chats.changing(id, None) as conversation:
        conversation.set_text(reply.id, conversation.path()[-1].text, ahead_tokens=7)
    ahead.after_reply(id, TURN)
    assert ahead.costs(id).used_tokens == 187


def test_a_version_that_cannot_be_stored_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, ahead = make(tmp_path, numbered())
    id = talked(home)
    ahead.after_reply(id, TURN, versions=1)
    finish(ahead)

    def full(*_: object) -> None:
        raise Unavailable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(home.store, "save", full)
        with pytest.raises(Unavailable):
            ahead.take_version(id, TURN)
    assert ahead.costs(id).used_versions == 0
    assert ahead.ready(home.chats.open(id)) == 1
    shown = ahead.take_version(id, TURN)
    assert shown is not None
    assert shown.path()[-1].text == "Reply 2."


def test_a_deleted_chat_is_not_remembered(tmp_path: Path) -> None:
    home, ahead = make(tmp_path, model := numbered())
    id = talked(home)
    ahead.after_reply(id, TURN, versions=2)
    finish(ahead)
    ahead.forget(id)
    assert ahead.ready(home.chats.open(id)) == 0
    assert ahead.costs(id).versions == 0
    assert model.forgotten == [id]


@pytest.mark.parametrize(
    "change", ["edit", "message", "settings", "banned here", "banned by the character", "adapters", "reload", "nothing"]
)
def test_a_version_for_another_state_of_the_chat_is_not_used(tmp_path: Path, change: str) -> None:
    home, ahead = make(tmp_path, model := numbered(), tmp_path / "characters")
    turn = replace(TURN, mode="chat", character="Assistant") if "character" in change else TURN
    id = home.chats.new(turn.mode, turn.character).id
    last(home.chats.send(id, "Hello?", turn))
    ahead.after_reply(id, turn, versions=1)
    finish(ahead)
    assert ahead.ready(home.chats.open(id)) == 1
    if change == "banned here":
        ConversationEdits(home.chats, home.store).ban_strings(id, "Reply 2")
    elif change == "banned by the character":
        character = tmp_path / "characters" / "Assistant.yaml"
        character.parent.mkdir(exist_ok=True)
        character.write_text("name: AI\nbanned_strings: Reply 2\n", "utf-8")
    elif change == "adapters":
        model.loras = (Lora(tmp_path),)
    elif change == "reload":
        home.models.loaded = numbered()
    if change == "edit":
        ConversationEdits(home.chats, home.store).edit(id, home.chats.open(id).path()[0].id, "Something else?")
    elif change == "message":
        last(home.chats.send(id, "Go on.", TURN))
    elif change == "settings":
        turn = replace(turn, custom_system_message="Be brief.")
    assert (ahead.take_version(id, turn) is not None) == (change == "nothing")


def test_versions_end_when_the_next_message_is_typed(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home)
    model.hold_after = 3
    ahead.after_reply(id, TURN, versions=3)
    assert model.holding.wait(60)
    ahead.read(id, TURN, "no, I meant")
    until(model.requests[1].cancel.is_set)
    model.release.set()
    finish(ahead)
    assert ahead.ready(home.chats.open(id)) == 0, "half a reply is none"


@pytest.mark.parametrize("params", [{"do_sample": False}, {"seed": 5}, {"temperature": 0}])
def test_no_version_is_written_that_would_be_the_same(tmp_path: Path, params: dict[str, object]) -> None:
    model = FakeModel("Always this.")
    home, ahead = make(tmp_path, model)
    id = talked(home)
    ahead.after_reply(id, replace(TURN, params=TURN.params.changed(**params)), versions=3)
    finish(ahead)
    assert len(model.requests) == 1
    assert "would be the same" in ahead.costs(id).why
    ahead.after_reply(id, TURN, versions=3)
    finish(ahead)
    assert len(model.requests) == 2, "the first one shows that it is the same again"
    assert ahead.ready(home.chats.open(id)) == 0


def test_the_model_names_a_new_chat_and_a_page_that_shows_it_goes_on(tmp_path: Path) -> None:
    home, ahead = make(tmp_path, numbered())
    id = talked(home, "one")
    shown = home.chats.open(id).revision
    ahead.after_reply(id, TURN, title=True)
    finish(ahead)
    assert home.chats.open(id).title == "On numbers"
    assert [message.text for message in home.chats.open(id).path()] == ["one", "Reply 1."]
    last(home.chats.send(id, "two", replace(TURN, revision=shown)))
    with pytest.raises(ConversationChanged):
        home.chats.send(id, "three", replace(TURN, revision=shown))
    home.chats.undo(id)
    assert home.chats.open(id).title == "On numbers", "undo reverts what a person did"


def test_a_title_that_was_given_is_kept_and_old_chats_are_left_alone(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    named, old = talked(home), talked(home, *"abcd")
    home.chats.rename(named, "Mine")
    asked = len(model.requests)
    for id in (named, old):
        ahead.after_reply(id, TURN, title=True)
    finish(ahead)
    assert len(model.requests) == asked
    assert home.chats.open(named).title == "Mine"
    assert not home.chats.entitle(named, "Not mine")
    assert home.chats.open(old).title == ""


class Several:
    """A router over models in memory; requests name them."""

    def __init__(self, *models: FakeModel) -> None:
        self.models: Sequence[Model] = models
        self._leases = Leases()

    def choose(self, name: str = "") -> ModelLease:
        return self._leases.begin(self.loaded(name))

    choose_for_embeddings = choose

    def loaded(self, name: str = "") -> Model:
        return next((each for each in self.models if each.name == name), self.models[0])

    def wait_for_others(self, model: Model, seconds: float) -> bool:
        return all(self._leases.wait(each, seconds) for each in self.models if each is not model)


def two_models(root: Path, model: FakeModel) -> tuple[str, WorkAhead, FakeModel, Generator]:
    """A chat with this model, and another model beside it."""
    other = FakeModel(name="other")
    other.embed = lambda texts, _=None: np.zeros((len(texts), 1), np.float32)  # type: ignore[method-assign]
    home = house(root, model, router=Several(model, other))
    return talked(home), WorkAhead(home.chats, home.store, home.generator), other, home.generator


REQUESTS: dict[str, Callable[[ModelSession], object]] = {
    "a reply": lambda session: session.start("x", SamplingParams()),
    "the next token": lambda session: session.look("x", SamplingParams()),
    "vectors": lambda session: session.embed(["x"]),
}
WORK: dict[str, Callable[[WorkAhead, str], None]] = {
    "reading": lambda ahead, id: ahead.read(id, TURN, "some words"),
    "versions": lambda ahead, id: ahead.after_reply(id, TURN, versions=2),
    "a title": lambda ahead, id: ahead.after_reply(id, TURN, title=True),
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_request_to_another_model_ends_it(tmp_path: Path, work: str, request_of: str) -> None:
    model = numbered()
    id, ahead, _, generator = two_models(tmp_path, model)
    model.hold_after = 0
    WORK[work](ahead, id)
    until(lambda: len(model.requests) == 2)
    assert model.running == 1
    asking = generator.session("other")
    made = REQUESTS[request_of](asking)
    assert model.running == 0
    del asking, made
    finish(ahead)
    assert len(model.requests) == 2


@pytest.mark.parametrize("work", WORK)
def test_it_begins_when_no_other_model_is_used(tmp_path: Path, work: str) -> None:
    model = numbered()
    id, ahead, other, generator = two_models(tmp_path, model)
    asking = generator.session("other")
    reply = asking.start("x", SamplingParams())
    del asking
    WORK[work](ahead, id)
    time.sleep(0.05)
    assert ahead._work
    assert len(model.requests) == 1
    assert other.running == 1
    assert reply.text == ""
    reply.close()
    finish(ahead)
    assert len(model.requests) > 1
    assert not any(each.cancel.is_set() and work == "reading" for each in model.requests[1:])


def test_it_does_not_begin_if_another_model_got_a_request_meanwhile(tmp_path: Path) -> None:
    model = numbered()
    _, _, _, generator = two_models(tmp_path, model)
    early = generator.session_if_loaded()
    assert early
    generator.session("other").start("x", SamplingParams()).close()
    for session, ended in ((early, True), (generator.session_if_loaded(), False)):
        assert session
        cancel = threading.Event()
        list(session.read([65], "", cancel))
        assert cancel.is_set() == ended


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('Title: "Hats of the north"', "Hats of the north"),
        ("<think>\nA title is wanted.\n</think>\n\nHats", "Hats"),
        ("<think>\nA title is wanted, so", ""),
        ("**Über Hüte.**", "Über Hüte"),
        ("Here is one:\nHats", ""),
        ("word " * 13, ""),
        ("x" * 81, ""),
        ("?!", ""),
        ("<|im_end|>", ""),
        ("", ""),
    ],
)
def test_what_counts_as_a_title(said: str, title: str) -> None:
    assert clean_title(said) == title


def test_a_title_that_does_not_end_is_none(tmp_path: Path) -> None:
    home, ahead = make(tmp_path, FakeModel(lambda request: "An " * 40 if ASK in text_of(request) else "Yes."))
    id = talked(home, "one")
    ahead.after_reply(id, TURN, title=True)
    finish(ahead)
    assert home.chats.open(id).title == ""
    assert home.chats.list()[0].title == "one"


def test_after_the_end_nothing_begins(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home)
    model.hold_after = 0
    ahead.read(id, TURN, "some words")
    until(lambda: len(model.requests) == 2)
    ahead.close()
    until(lambda: model.running == 0)
    ahead.read(id, TURN, "more words")
    assert len(model.requests) == 2


def test_a_title_is_chosen_without_chance_whatever_the_chat_keeps(tmp_path: Path) -> None:
    model = numbered()
    home, ahead = make(tmp_path, model)
    id = talked(home)
    with home.chats.changing(id, home.chats.open(id).revision) as conversation:
        OwnSettings(TURN.params.changed(do_sample=True, temperature=1.9)).keep(conversation)
    before = len(model.requests)
    ahead.after_reply(id, TURN, title=True)
    finish(ahead)
    assert [request.params.do_sample for request in model.requests[before:]] == [False]
