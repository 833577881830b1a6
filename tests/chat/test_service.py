"""Chats: sending, stopping, crashes, two windows at once. In all cases, messages are kept."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from errors import (
    Conflict,
    ConversationChanged,
    EngineFailed,
    InvalidInput,
    NoModelLoaded,
    NotFound,
    NothingToDo,
    PromptTooLong,
    TemplateFailed,
    Unavailable,
    UnknownName,
)
from loaders.base import Finish
from loaders.params import SamplingParams
from modules.chat.characters import Characters
from modules.chat.conversation import Conversation
from modules.chat.edits import ConversationEdits
from modules.chat.reply import ReplyUpdate
from modules.chat.service import ChatService, ReplySettings
from modules.chat.store import journal, prompt_log
from modules.chat.store.store import ConversationStore
from modules.config.atomic import write_json
from modules.config.paths import Paths
from modules.generation.generator import Generator, Router
from modules.prompts.templates import Templates
from tests.fake_engine import FakeModel, FakeModels

ROOT = Path(__file__).resolve().parents[2]
TURN = ReplySettings(params=SamplingParams(max_new_tokens=200))


@dataclass
class House:
    """The services over a temporary folder; templates and characters are the shipped ones."""

    chats: ChatService
    store: ConversationStore
    models: FakeModels
    generator: Generator
    logs: Path

    def said(self, id: str) -> list[str]:
        return [message.text for message in self.chats.open(id).path()]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def house(root: Path, model: FakeModel | None, characters: Path | None = None, router: Router | None = None) -> House:
    """`characters`: their folder, instead of the shipped one; `router`: without one, `model` answers all requests."""
    shipped = Paths.under(ROOT)
    paths = replace(
        Paths.under(root),
        instruction_templates=shipped.instruction_templates,
        characters=characters or shipped.characters,
    )
    models, store = FakeModels(model), ConversationStore(paths)
    generator = Generator(models, router=router)
    chats = ChatService(store, Characters(paths), Templates(paths), generator)
    return House(chats, store, models, generator, paths.logs)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel("Paris.")


@pytest.fixture
def home(tmp_path: Path, model: FakeModel) -> House:
    return house(tmp_path, model)


def turn(**values: Any) -> ReplySettings:
    return replace(TURN, **values)


def last(updates: Any) -> ReplyUpdate:
    return list(updates)[-1]


# --- a conversation ---


def test_a_message_is_answered_and_kept(home: House) -> None:
    id = home.chats.new().id
    updates = list(home.chats.send(id, "Capital of France?", TURN))
    assert [update.text for update in updates] == ["P", "Pa", "Par", "Pari", "Paris", "Paris.", "Paris."]
    assert [update.done for update in updates] == [False] * 6 + [True]
    assert updates[-1].report is not None
    assert updates[-1].report.finish is Finish.STOP
    again = house(home.logs.parent, None)
    conversation = again.chats.open(id)
    assert [message.text for message in conversation.path()] == ["Capital of France?", "Paris."]
    assert conversation.revision == updates[-1].revision
    reply = conversation.path()[-1]
    assert (reply.model, reply.meta["new_tokens"], reply.meta["seed"]) == ("fake", 6, 4711)
    assert "unfinished" not in reply.meta
    assert again.chats.list()[0].title == "Capital of France?"
    assert again.chats.latest().id == id


def test_history_is_in_the_prompt(home: House, model: FakeModel) -> None:
    id = home.chats.new().id
    for text in ("one", "two"):
        last(home.chats.send(id, text, turn(custom_system_message="Be kind.")))
    assert model.prompt == (
        "<s>Be kind.\n\n### Instruction:\none\n\n### Response:\nParis.\n\n### Instruction:\ntwo\n\n### Response:\n"
    )


@pytest.mark.parametrize("history", [0, 3])
def test_a_prompt_is_tokenized_once(
    home: House, model: FakeModel, monkeypatch: pytest.MonkeyPatch, history: int
) -> None:
    """It is counted while it is built, and run with the same ids."""
    id = home.chats.new().id
    for number in range(history):
        last(home.chats.send(id, f"Question {number}?", TURN))
    seen: list[str] = []
    encode = model.tokenizer.encode
    monkeypatch.setattr(model.tokenizer, "encode", lambda text, **how: [seen.append(text), encode(text, **how)][-1])
    reply = last(home.chats.send(id, "Capital of France?", TURN))
    assert seen.count(home.chats.record(id, reply.message_id).text) == 1


def test_the_models_own_template_is_used(home: House) -> None:
    own = "{% for m in messages %}({{ m.content }}){% endfor %}{% if add_generation_prompt %}>{% endif %}"
    home.models.loaded = model = FakeModel(chat_template=own)
    last(home.chats.send(home.chats.new().id, "hi", TURN))
    assert model.prompt == "<s>(hi)>"


def test_a_new_chat_with_a_character_has_a_greeting_but_no_file_yet(home: House, model: FakeModel) -> None:
    conversation = home.chats.new("chat", "Assistant", "Ann")
    assert conversation.id.startswith("chat/Assistant/")
    assert conversation.path()[0].is_greeting
    assert home.chats.list("chat", "Assistant") == []
    last(home.chats.send(conversation.id, "Hi", turn(mode="chat", name1="Ann")))
    assert "\nAnn: Hi\nAI:" in model.prompt
    last(
        home.chats.send(
            conversation.id, "So", turn(mode="chat", name1="Ann", user_bio="{{user}} climbs with {{char}}.")
        )
    )
    assert "\n\nAnn climbs with AI.\n\n" in model.prompt
    assert "conversation between Ann and AI" in model.prompt
    stored = json.loads((home.logs / f"{conversation.id}.json").read_text())
    assert stored["internal"][0][0] == "<|BEGIN-VISIBLE-CHAT|>"
    assert stored["internal"][1] == ["Hi", "Paris."]


def test_in_chat_mode_it_does_not_speak_for_the_user(home: House) -> None:
    home.models.loaded = FakeModel(" Sure.\nYou: And")
    id = home.chats.new("chat", "Assistant").id
    updates = list(home.chats.send(id, "Hi", turn(mode="chat")))
    assert updates[-1].text == "Sure."
    assert all(update.text == "Sure."[: len(update.text)] for update in updates)


def test_regenerate_makes_a_version_and_shows_it(home: House, model: FakeModel) -> None:
    id = home.chats.new().id
    first = last(home.chats.send(id, "q", TURN))
    model.reply = "Lyon."
    second = last(home.chats.regenerate(id, TURN))
    conversation = home.chats.open(id)
    assert home.said(id) == ["q", "Lyon."]
    assert conversation.versions(second.message_id) == [first.message_id, second.message_id]
    assert "Paris" not in model.prompt
    assert home.chats.select(id, first.message_id).path()[-1].text == "Paris."
    assert home.said(id) == ["q", "Paris."]


def test_continue_goes_on_in_the_same_message(home: House, model: FakeModel) -> None:
    id = home.chats.new().id
    last(home.chats.send(id, "q", TURN))
    model.reply = " It is."
    updates = list(home.chats.continue_(id, TURN))
    assert updates[0].text == "Paris. "
    assert home.said(id) == ["q", "Paris. It is."]
    assert model.prompt.endswith("### Response:\nParis.")
    assert len(home.chats.open(id)) == 2


def test_start_with(home: House, model: FakeModel) -> None:
    model.reply = " thing!"
    id = home.chats.new().id
    assert last(home.chats.send(id, "q", turn(start_with="Sure"))).text == "Sure thing!"
    assert model.prompt.endswith("### Response:\nSure")
    assert last(home.chats.regenerate(id, turn(start_with="No"))).text == "No thing!"


def test_remove_last_gives_the_text_back(home: House) -> None:
    id = home.chats.new().id
    for text in ("one", "two"):
        last(home.chats.send(id, text, TURN))
    text, conversation = home.chats.remove_last(id)
    assert text == "two"
    assert [message.text for message in conversation.path()] == ["one", "Paris."] == home.said(id)


def test_rename_and_delete(home: House) -> None:
    id = home.chats.new().id
    last(home.chats.send(id, "q", TURN))
    home.chats.rename(id, "  My\n talk ")
    assert home.chats.list()[0].title == "My talk"
    home.chats.delete(id)
    assert home.chats.list() == []
    with pytest.raises(NotFound):
        home.chats.open(id)
    fresh = home.chats.new().id
    home.chats.delete(fresh)
    with pytest.raises(NotFound):
        home.chats.open(fresh)


def test_what_has_nothing_to_act_on_is_a_sentence(home: House) -> None:
    id = home.chats.new("chat", "Assistant").id
    for act in (home.chats.regenerate, home.chats.continue_):
        with pytest.raises(NothingToDo):
            act(id, turn(mode="chat"))
    with pytest.raises(NothingToDo):
        home.chats.remove_last(id)
    with pytest.raises(NothingToDo):
        home.chats.send(id, " \n", TURN)
    with pytest.raises(InvalidInput):
        home.chats.rename(id, "  ")
    with pytest.raises(NotFound):
        home.chats.send("instruct/20200101-00-00-00", "q", TURN)
    with pytest.raises(UnknownName):
        home.chats.new("chat", "Nobody")


def test_updates_are_throttled_when_asked(home: House, model: FakeModel) -> None:
    model.reply = "x" * 100
    id = home.chats.new().id
    slow = list(home.chats.send(id, "q", turn(params=SamplingParams(max_updates_second=0.5))))
    assert [update.done for update in slow] == [False, True]
    silent = list(home.chats.regenerate(id, turn(params=SamplingParams(stream=False))))
    assert [(update.done, update.text) for update in silent] == [(True, "x" * 100)]


# --- stopping ---


def test_stop_from_another_window_keeps_what_is_there(home: House, model: FakeModel) -> None:
    model.reply, model.hold_after = "abcdef", 3
    id = home.chats.new().id
    updates: list[ReplyUpdate] = []
    thread = threading.Thread(target=lambda: updates.extend(home.chats.send(id, "q", TURN)))
    thread.start()
    assert model.holding.wait(5)
    assert home.said(id) == ["q", "abc"]  # another window sees it grow
    writing = home.chats.writing(id)
    assert writing is not None
    assert writing.text == "abc"
    assert home.chats.stop(id)
    thread.join(5)
    assert updates[-1].done
    assert updates[-1].text == "abc"
    assert updates[-1].report
    assert updates[-1].report.finish is Finish.CANCELLED
    assert home.said(id) == ["q", "abc"]
    assert (model.running, home.generator.queue(), home.chats.writing(id)) == (0, [], None)
    assert not home.chats.stop(id)


def test_stop_before_the_first_word_leaves_the_question(home: House, model: FakeModel) -> None:
    model.hold_after = 0
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    home.chats.stop(id)
    assert last(reply).text == ""
    assert home.said(id) == ["q"]
    model.hold_after = None
    assert last(home.chats.regenerate(id, TURN)).text == "Paris."
    assert home.said(id) == ["q", "Paris."]


@pytest.mark.parametrize(("reply", "note"), [("", "empty reply"), ([b"", b"", b""], "only control tokens")])
def test_a_regeneration_that_brings_nothing_shows_the_old_reply_again(
    home: House, model: FakeModel, reply: str | list[bytes], note: str
) -> None:
    id = home.chats.new().id
    last(home.chats.send(id, "q", TURN))
    model.reply = reply
    update = last(home.chats.regenerate(id, replace(TURN, params=SamplingParams(max_new_tokens=2))))
    assert update.text == ""
    assert note in update.notes[-1]
    assert home.said(id) == ["q", "Paris."]


@pytest.mark.parametrize("how", ["close", "forget", "raise"])
def test_a_reader_who_goes_away_ends_it_and_nothing_is_lost(home: House, model: FakeModel, how: str) -> None:
    model.hold_after = 2
    id = home.chats.new().id

    def read() -> None:
        with home.chats.send(id, "q", TURN) as reply:
            next(reply), next(reply)
            if how == "raise":
                raise RuntimeError

    reply = home.chats.send(id, "q", TURN) if how != "raise" else None
    if reply is None:
        with pytest.raises(RuntimeError):
            read()
    else:
        next(reply), next(reply)
        if how == "close":
            reply.close()
        del reply
        gc.collect()
    assert (model.running, home.generator.queue()) == (0, [])
    until(lambda: home.chats.writing(id) is None)  # a destructor leaves the end to another thread
    assert home.said(id) == ["q", "Pa"]
    model.hold_after = None
    last(home.chats.send(id, "again", TURN))


@pytest.mark.parametrize("how", ["forget", "close", "collect"])
def test_a_reply_may_end_in_its_own_journals_thread(
    home: House, model: FakeModel, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The garbage collector may run in any thread, and an object that it frees ends there."""
    model.hold_after = 2
    id = home.chats.new().id
    held: list[Any] = []
    ended = threading.Event()

    def write(path: Path, value: Any) -> None:
        if held and threading.current_thread().name == "journal":
            if how == "close":
                held[0].close()
            held.clear()
            gc.collect()
            ended.set()
        write_json(path, value)

    monkeypatch.setattr(journal, "write_json", write)
    reply = home.chats.send(id, "q", TURN)
    next(reply), next(reply)
    held.append(reply)
    if how == "collect":  # a reference cycle, so that only the collector finds it
        reply.itself = reply  # type: ignore[attr-defined]
    del reply
    assert ended.wait(60)
    until(lambda: home.chats.writing(id) is None)
    assert home.said(id) == ["q", "Pa"]
    until(lambda: not list(home.logs.rglob("*.growing.json")))
    model.hold_after = None
    last(home.chats.send(id, "again", TURN))


@pytest.mark.parametrize("part", ["_stream", "_journal", "_store", "_opening"])
def test_whatever_goes_wrong_at_the_end_the_chat_is_free_again(home: House, model: FakeModel, part: str) -> None:
    class Broken:
        is_running_here = False

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    next(reply)
    getattr(reply, part).close() if part == "_journal" else None  # its thread ends with the test
    setattr(reply, part, Broken())
    with pytest.raises(RuntimeError):
        reply.close()
    assert home.chats.writing(id) is None
    last(home.chats.send(id, "again", TURN))


def test_a_model_that_speaks_no_word_to_a_message(home: House, model: FakeModel) -> None:
    model.reply = ""
    id = home.chats.new().id
    update = last(home.chats.send(id, "q", TURN))
    assert (update.text, update.done) == ("", True)
    assert home.said(id) == ["q"]


# --- failures ---


def test_an_engine_that_fails_keeps_what_came(home: House, model: FakeModel) -> None:
    model.fail_after = 3
    id = home.chats.new().id
    with pytest.raises(EngineFailed):
        list(home.chats.send(id, "q", TURN))
    assert home.said(id) == ["q", "Par"]
    assert "told to fail" in home.chats.open(id).path()[-1].meta["error"]
    assert home.chats.writing(id) is None


def test_a_model_unloaded_meanwhile_is_a_sentence_and_keeps_what_came(home: House, model: FakeModel) -> None:
    model.delay = 0.01
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    next(reply)
    model.close()
    with pytest.raises(Unavailable, match="unloaded while this request was running"):
        list(reply)
    assert home.said(id)[0] == "q"


@pytest.mark.parametrize(
    ("error", "values", "then"),
    [
        (PromptTooLong, {"params": SamplingParams(max_new_tokens=4000)}, FakeModel()),
        (PromptTooLong, {"custom_system_message": "long " * 2000}, FakeModel()),
        (TemplateFailed, {"instruction_template": "{% if %}"}, FakeModel()),
        (InvalidInput, {"params": SamplingParams(custom_stopping_strings="x")}, FakeModel()),
        (NoModelLoaded, {}, None),
    ],
)
def test_what_cannot_be_answered_changes_nothing(
    home: House, error: type[Exception], values: dict[str, Any], then: FakeModel | None
) -> None:
    id = home.chats.new().id
    last(home.chats.send(id, "q", TURN))
    before = (home.logs / f"{id}.json").read_bytes()
    home.models.loaded = then
    if then:
        then.larger_context = "ask the server"
    with pytest.raises(error) as failure:
        home.chats.send(id, "a message of some length " * 8, turn(**values))
    assert error is not PromptTooLong or str(failure.value).endswith("or ask the server.")
    assert (home.logs / f"{id}.json").read_bytes() == before
    home.models.loaded = FakeModel("Yes")
    assert last(home.chats.send(id, "now", TURN)).text == "Yes"


def test_a_first_message_that_is_refused_leaves_the_chat_usable(home: House) -> None:
    id = home.chats.new("chat", "Assistant").id
    with pytest.raises(TemplateFailed):
        home.chats.send(id, "q", turn(mode="chat", chat_template="{{ 1 / 0 }}"))
    last(home.chats.send(id, "q", turn(mode="chat")))
    assert home.said(id)[1:] == ["q", "Paris."]


def test_half_a_character_is_a_sentence(home: House) -> None:
    with pytest.raises(InvalidInput, match="lone surrogate"):
        home.chats.send(home.chats.new().id, "a \ud83d", TURN)


def test_a_conversation_that_cannot_be_saved_at_the_end_has_its_reply_beside_it(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(3):
        next(reply)
    monkeypatch.setattr("modules.chat.store.store.write_bytes", full)
    with pytest.raises(Unavailable, match="No space left"):
        list(reply)
    monkeypatch.undo()
    assert home.said(id) == ["q", "Paris."]
    assert home.chats.writing(id) is None


# --- two at once ---


def test_a_second_message_during_a_reply_is_told_to_wait(home: House, model: FakeModel) -> None:
    model.hold_after = 1
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    acts: list[Callable[[], object]] = [
        lambda: home.chats.send(id, "me too", TURN),
        lambda: home.chats.regenerate(id, TURN),
        lambda: home.chats.remove_last(id),
        lambda: home.chats.rename(id, "x"),
        lambda: home.chats.delete(id),
    ]
    for act in acts:
        with pytest.raises(Conflict, match="press Stop"):
            act()
    other = home.chats.new().id
    model.hold_after = None
    assert last(home.chats.send(other, "q", TURN)).text == "Paris."  # other conversations go on
    reply.close()


def test_of_many_senders_at_once_one_is_heard(home: House, model: FakeModel) -> None:
    model.delay = 0.002
    id = home.chats.new().id
    refused, done = [], []

    def send(number: int) -> None:
        try:
            done.append(last(home.chats.send(id, f"q{number}", TURN)))
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(refused) == 8
    assert len(home.said(id)) == 2 * len(done)


def test_a_stale_page_is_told_and_overwrites_nothing(home: House) -> None:
    id = home.chats.new().id
    revision = last(home.chats.send(id, "q", turn(revision=0))).revision
    last(home.chats.send(id, "q2", turn(revision=revision)))
    for act in (
        lambda: home.chats.send(id, "old", turn(revision=revision)),
        lambda: home.chats.regenerate(id, turn(revision=revision)),
        lambda: home.chats.remove_last(id, revision),
    ):
        with pytest.raises(ConversationChanged):
            act()
    assert home.said(id) == ["q", "Paris.", "q2", "Paris."]


def test_another_program_writing_meanwhile_costs_neither_its_words_nor_the_reply(home: House, model: FakeModel) -> None:
    model.hold_after = 3
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    next(reply), next(reply), next(reply)
    other = ConversationStore(Paths.under(home.logs.parent))
    theirs = other.open(id)
    theirs.title = "theirs"
    other.save(theirs, theirs.revision)
    reply.close()
    conversation = home.chats.open(id)
    assert (conversation.title, home.said(id)) == ("theirs", ["q", "Par"])


# --- crashes ---

_STREAMING = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.chat.test_service import house, turn
from tests.fake_engine import FakeModel
home = house(Path(sys.argv[1]), FakeModel("x" * 5000, delay=0.005))
id = home.chats.new().id
print(id, flush=True)
for update in home.chats.send(id, "q", turn()):
    print(len(update.text), flush=True)
"""


def test_killed_while_streaming_it_loses_less_than_a_second(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _STREAMING, str(tmp_path), str(ROOT)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    seen: list[tuple[float, int]] = []
    with process:
        assert process.stdout
        id = process.stdout.readline().strip()
        for line in process.stdout:
            seen.append((time.monotonic(), int(line)))
            if seen[-1][0] - seen[0][0] > 0.9:
                process.kill()
                break
    killed = time.monotonic()
    home = house(tmp_path, FakeModel(" and on"))
    question, answer = home.said(id)
    a_second_before = max((length for at, length in seen if at <= killed - 1), default=1)
    assert question == "q"
    assert len(answer) >= a_second_before
    assert set(answer) == {"x"}
    assert home.chats.open(id).path()[-1].meta["unfinished"] is True
    assert last(home.chats.continue_(id, TURN)).text == answer + " and on"


def test_killed_before_the_first_word_the_question_stands_alone(home: House, model: FakeModel) -> None:
    model.hold_after = 0
    id = home.chats.new().id
    reply = home.chats.send(id, "q", TURN)
    again = house(home.logs.parent, None)  # as after a crash: the file exists, and nothing writes
    assert again.said(id) == ["q"]
    reply.close()


# --- long conversations ---


def long_one(home: House, messages: int) -> str:
    conversation = Conversation(home.store.new_id("instruct"))
    parent = None
    for number in range(messages):
        role = "assistant" if number % 2 else "user"
        parent = conversation.add(role, f"This is message number {number}. " * 8, parent).id
    home.store.save(conversation)
    return conversation.id


def per_update(home: House, id: str) -> float:
    """Microseconds per update, including the fake engine's part, which is always the same."""
    reply = home.chats.send(id, "and now?", turn(params=SamplingParams(max_new_tokens=1000)))
    next(reply)
    started = time.perf_counter()
    for _ in range(500):
        next(reply)
    seconds = time.perf_counter() - started
    reply.close()
    return seconds / 500 * 1e6


def test_an_update_costs_the_same_however_long_the_conversation_is(home: House, model: FakeModel) -> None:
    model.reply = "word " * 200
    short, long = long_one(home, 2), long_one(home, 1000)
    times: dict[str, list[float]] = {short: [], long: []}
    for _ in range(7):  # alternately, so that both see the same load
        for id in times:
            times[id].append(per_update(home, id))
    # 1.2 is the requirement (bench measures it); here the machine may be busy
    assert median(times[long]) < 2 * median(times[short]) + 20


def test_beginning_and_saving_a_thousand_messages_is_quick(home: House) -> None:
    id = long_one(home, 1000)
    started = time.process_time()
    last(home.chats.send(id, "and now?", TURN))
    assert time.process_time() - started < 2  # about 0.1 s on an idle machine


def test_latest_passes_over_what_is_broken(home: House) -> None:
    id = home.chats.new().id
    last(home.chats.send(id, "q", TURN))
    text = (home.logs / f"{id}.json").read_text()
    (home.logs / "instruct" / "20990101-00-00-00.json").write_text("{")
    (home.logs / "instruct" / "20990101-00-00-01.json").write_text(text[:-50])
    assert home.chats.latest().id == id
    assert len(home.chats.list()) == 3


def test_stopped_while_the_prompt_was_still_being_built(home: House, model: FakeModel) -> None:
    id = home.chats.new().id

    def reply(_request: object) -> str:
        home.chats.stop(id)
        return "Paris."

    model.reply = reply
    assert last(home.chats.send(id, "q", TURN)).text == ""
    assert home.said(id) == ["q"]


def test_what_the_model_got_is_kept_for_each_reply(home: House, model: FakeModel) -> None:
    id = home.chats.new().id
    first = last(home.chats.send(id, "Question one", turn()))
    first_prompt = model.prompt.removeprefix("<s>")
    again = last(home.chats.regenerate(id, turn(start_with="Well")))
    record = home.chats.record(id, first.message_id)
    assert record.text == first_prompt
    assert [record.text[part.start : part.end] for part in record.parts if part.kind == "user"] == ["Question one"]
    assert 0 < record.tokens <= record.room
    begun = home.chats.record(id, again.message_id)
    assert [begun.text[part.start : part.end] for part in begun.parts if part.kind == "begun"] == ["Well"]
    with pytest.raises(NotFound, match="not available"):
        home.chats.record(id, "99")
    branch = ConversationEdits(home.chats, home.store).branch(id, again.message_id)
    assert home.chats.record(branch.id, again.message_id) == begun


def test_records_go_with_their_chat_and_are_bounded(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_log, "MOST", 3)
    id = home.chats.new().id
    made = [last(home.chats.send(id, f"Question {n}", turn())).message_id for n in range(5)]
    assert home.chats.record(id, made[-1]).mode == "instruct"
    with pytest.raises(NotFound):
        home.chats.record(id, made[0])
    home.chats.delete(id)
    with pytest.raises(NotFound):
        home.chats.record(id, made[-1])
    home.store.restore(id)
    assert "Question 4" in home.chats.record(id, made[-1]).text


def test_a_broken_record_is_a_sentence(home: House) -> None:
    id = home.chats.new().id
    made = last(home.chats.send(id, "Question", turn())).message_id
    (file,) = home.logs.rglob("*.json.gz")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(NotFound, match="not available"):
        home.chats.record(id, made)


def test_what_is_pinned_stands_first(home: House) -> None:
    ids = [home.chats.new().id for _ in range(3)]
    for id in ids:
        last(home.chats.send(id, "Hello", turn()))
    ConversationEdits(home.chats, home.store).pin(ids[0], True)
    assert next(iter(home.chats.list())).id == ids[0]
    assert home.chats.open(ids[0]).pinned
    ConversationEdits(home.chats, home.store).pin(ids[0], False)
    assert not any(info.pinned for info in home.chats.list())
