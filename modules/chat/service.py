"""Everything that one can do with conversations. Who shows them holds an id and a revision, no contents.

One reply at a time is written into a conversation; everything else that changes it waits for that to end, or is told
so. What cannot be answered (no model, a prompt that does not fit) is refused before anything is changed.
This module must not know how anything is shown: text in, text out, no HTML.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from errors import BadFile, ConversationChanged, InvalidInput, NotFound, NothingToDo, utf8
from modules.chat.characters import Characters, with_names
from modules.chat.conversation import Conversation, Message, Role
from modules.chat.file_form import from_text, to_text
from modules.chat.hooks import ChatHooks
from modules.chat.opening import grown
from modules.chat.past import Past
from modules.chat.prompt import Prompt, build
from modules.chat.records import Record
from modules.chat.reply import Live, Reply, Update
from modules.chat.store import Info, Store, scope_of
from modules.chat.turn import Turn
from modules.chat.under_way import UnderWay
from modules.extensions import Extensions, HookContext
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.prompts.templates import Templates

__all__ = ["Chats", "Turn", "Update"]

_LONGEST_TITLE = 200
_FRESH = 512  # chats that nobody has written into yet, kept in mind at most


class Chats:
    """The conversations of this installation. May be used from several threads."""

    def __init__(
        self,
        store: Store,
        characters: Characters,
        templates: Templates,
        generator: Generator,
        extensions: Extensions | None = None,
    ) -> None:
        self._store = store
        self._characters = characters
        self._templates = templates
        self._generator = generator
        self._hooks = ChatHooks(extensions or Extensions())
        self._lock = threading.RLock()  # over `_fresh`
        self._live = UnderWay()
        self._fresh: dict[str, tuple[str, ...]] = {}  # id to greetings
        self._past = Past()

    # --- looking ---

    def list(self, mode: str = "instruct", character: str = "") -> list[Info]:
        """The conversations of this mode (and character), newest first."""
        return self._store.list(scope_of(mode, character))

    def open(self, id: str) -> Conversation:
        """A conversation as it stands, with a reply that is being written as far as it has come. Only to look at.

        Raises: NotFound, InvalidName, BadFile.
        """
        conversation = self._load(id)
        live = self._live.get(id)
        if live and live.message_id in conversation and live.text:
            conversation.set_text(live.message_id, live.text)
        return conversation

    def latest(self, mode: str = "instruct", character: str = "", name1: str = "You") -> Conversation:
        """The conversation of this mode that was written to last, or a new one. One that is broken is passed over."""
        for info in self.list(mode, character):
            if info.problem is None:
                with suppress(BadFile, NotFound):  # a list looks at the beginning of a file only
                    return self.open(info.id)
        return self.new(mode, character, name1)

    def writing(self, id: str) -> Update | None:
        """The reply that is being written into this conversation right now, if one is."""
        live = self._live.get(id)
        return live.update(id) if live and live.message_id else None

    def prompt(self, id: str, turn: Turn, text: str = "", *, going_on: bool = False) -> Prompt:
        """What the model would get if this were sent now (nothing: as if the last message were to be answered).

        `going_on`: as if the last reply were to be continued, if there is one. Raises: UserError.
        """
        path = self._load(id).path()
        session = self._generator.session()
        if going_on and path and path[-1].role == "assistant":
            return self._prompt(session, path[:-1], turn, begun=path[-1].text)
        if text.strip():
            path.append(Message("", None, "user", text, 0))
        return self._prompt(session, path, turn, begun=turn.start_with)

    def record(self, id: str, message_id: str) -> Record:
        """What the model got for a reply, to the letter. Raises: NotFound, InvalidName."""
        return self._store.records(id).load(message_id)

    # --- changing ---

    def new(self, mode: str = "instruct", character: str = "", name1: str = "You") -> Conversation:
        """A new conversation, with the character's greeting in the chat modes. Its file comes with its first message.

        Raises: UnknownName, InvalidName, BadFile.
        """
        greetings: tuple[str, ...] = ()
        if mode != "instruct":
            who = self._characters.load(character)
            begun = (who.greeting, *who.greetings)
            greetings = tuple(with_names(each.strip(), name1, who.name) for each in begun if each.strip())
        id = self._store.new_id(scope_of(mode, character))
        with self._lock:
            self._fresh[id] = greetings
            while len(self._fresh) > _FRESH:
                self._fresh.pop(next(iter(self._fresh)))
        return self._load(id)

    def send(self, id: str, text: str, turn: Turn) -> Reply:
        """Say something and have it answered. The iterator gives `Update`s; the reply is under way when this returns.

        Raises: UserError, and then nothing has been changed.
        """
        if not text.strip():
            raise NothingToDo("There is nothing to send. Write a message first.")
        utf8(text, "The message")
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            session = self._generator.session()
            turn, context = self._hooks.begin(turn, path, session)
            text, shown = self._hooks.message(text, context)
            history = [*path, Message("", None, "user", text, 0)]
            prompt = self._prompt(session, history, turn, turn.start_with, context=context)
            parent = path[-1].id if path else None

            def place() -> Message:
                said = conversation.add("user", text, parent, **shown)
                return conversation.add("assistant", turn.start_with, said.id, unfinished=True)

            return self._reply(session, conversation, live, prompt, turn, context, place)

    def regenerate(self, id: str, turn: Turn) -> Reply:
        """Have the last message of the user answered anew; the reply becomes a new version, the old one stays.

        Raises: UserError, and then nothing has been changed.
        """
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            old = path.pop() if path and path[-1].role == "assistant" else None
            if not path:
                raise NothingToDo("There is no message of yours to be answered yet. Write one first.")
            session = self._generator.session()
            turn, context = self._hooks.begin(turn, path, session)
            prompt = self._prompt(session, path, turn, turn.start_with, context=context, regenerate=True)

            def place() -> Message:
                return conversation.add("assistant", turn.start_with, path[-1].id, unfinished=True)

            before = old.id if old else None
            return self._reply(session, conversation, live, prompt, turn, context, place, before)

    def continue_(self, id: str, turn: Turn) -> Reply:
        """Let the model go on with its last reply.

        Raises: UserError, and then nothing has been changed.
        """
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            if len(path) < 2 or path[-1].role != "assistant" or path[-1].is_greeting:
                raise NothingToDo("There is no reply to continue. Send a message first.")
            reply = path.pop()
            session = self._generator.session()
            turn, context = self._hooks.begin(turn, path, session)
            prompt = self._prompt(session, path, turn, reply.text, context=context, _continue=True)

            def place() -> Message:
                return conversation.set_text(reply.id, reply.text, unfinished=True)

            return self._reply(session, conversation, live, prompt, turn, context, place)

    def stop(self, id: str, *, thought: bool = False) -> bool:
        """End the reply that is being written here, or its `thought` alone, whoever asked; False without one."""
        return self._live.stop(id, thought=thought)

    def keep(self) -> None:
        """Write down all replies that are being written, as far as they have come."""
        self._live.keep()

    def close(self) -> None:
        """End all replies, and wait a moment until they are stored; the journals keep those that nobody reads."""
        self._live.close()

    def remove_last(self, id: str, revision: int | None = None) -> tuple[str, Conversation]:
        """Take out the last message of the user with its replies. Returns what it said, and the conversation now.

        Raises: NothingToDo, Conflict, NotFound, BadFile.
        """
        with self.changing(id, revision) as conversation:
            taken = conversation.remove_last()
        return (taken[0].text if taken[0].role == "user" else ""), conversation

    def select(self, id: str, message_id: str, revision: int | None = None) -> Conversation:
        """Show another version of a message. Raises: Conflict, NotFound, BadFile."""
        with self.changing(id, revision) as conversation:
            conversation.select(message_id)
        return conversation

    def undo(self, id: str, revision: int | None = None) -> Conversation:
        """Take back the last change of this conversation, whatever it was. Raises: NothingToDo, Conflict, BadFile."""
        with self._live.held(id):
            now = self._load(id)
            if revision is not None and revision != now.revision:
                raise ConversationChanged
            before = from_text(id, self._past.last(id, self._store.strangers(id)), time.time())
            before.revision = now.revision
            self._store.save(before, now.revision)
            self._past.drop(id)  # only now: a full disk costs no step
            return before

    def impersonate(self, id: str, text: str, turn: Turn) -> Iterator[str]:
        """Let the model write the user's next message, from what is begun of it. Nothing is stored.

        Raises, at the first step: UserError. Closing the iterator, or `stop`, ends it.
        """
        utf8(text, "The message")
        with self._live.held(id) as live:
            path = self._load(id).path()
            session = self._generator.session()
            turn, context = self._hooks.begin(turn, path, session)
            prompt = self._prompt(session, path, turn, text, role="user", context=context, impersonate=True)
            label = f"{id}: you"
            with session.start(prompt.text, turn.params, stop=prompt.stop, label=label, context=context) as stream:
                live.attach(stream)
                yield from grown(text, (piece.text for piece in stream), prompt.others)

    def rename(self, id: str, title: str, revision: int | None = None) -> Conversation:
        """Give a conversation a title. Raises: InvalidInput, Conflict, NotFound, BadFile."""
        utf8(title, "The title")
        title = " ".join(title.split())
        if not title:
            raise InvalidInput("A title needs at least one letter.")
        with self.changing(id, revision) as conversation:
            conversation.title = title[:_LONGEST_TITLE]
        return conversation

    def pin(self, id: str, pinned: bool, revision: int | None = None) -> Conversation:
        """Let a conversation stand above the others in the list, or no longer. Raises: Conflict, NotFound, BadFile."""
        with self.changing(id, revision) as conversation:
            conversation.pinned = pinned
        return conversation

    def delete(self, id: str) -> None:
        """Move a conversation to logs/trash. Raises: Conflict, NotFound, Unavailable."""
        with self._live.held(id):
            with self._lock:
                fresh = self._fresh.pop(id, None)
            if fresh is None or self._store.revision(id) is not None:
                self._store.delete(id)

    # --- inside ---

    def _load(self, id: str) -> Conversation:
        greetings = self._fresh.get(id)
        if greetings is None or self._store.revision(id) is not None:
            conversation = self._store.open(id)
            self._drop_unborn(conversation)
            return conversation
        conversation = Conversation(id)
        made = [conversation.add("assistant", each, greeting=True) for each in greetings]
        if made:
            conversation.select(made[0].id)
        return conversation

    def _born(self, id: str) -> None:
        """It has a file now. Under the lock: `new` goes through all that have none."""
        with self._lock:
            self._fresh.pop(id, None)

    def _drop_unborn(self, conversation: Conversation) -> None:
        """A reply that a crash ended before its first word is no message."""
        last = conversation.last()
        live = self._live.get(conversation.id)
        if last and not last.text and last.meta.get("unfinished") and not (live and live.message_id == last.id):
            others = [each for each in conversation.versions(last.id) if each != last.id]
            conversation.remove(last.id)
            if others:
                conversation.select(others[-1])

    @contextmanager
    def _working(self, id: str, revision: int | None) -> Iterator[tuple[Conversation, Live]]:
        """The conversation, reserved; it stays so when the block ends well, for the reply that was started in it."""
        live = self._live.reserve(id)
        try:
            conversation = self._load(id)
            if revision is not None and revision != conversation.revision:
                raise ConversationChanged
            yield conversation, live
        except BaseException:
            self._live.release(id, live)
            raise

    @contextmanager
    def changing(self, id: str, revision: int | None) -> Iterator[Conversation]:
        """The conversation, to be changed in the block and saved after it; `undo` leads back to what it was.

        Raises: Conflict, ConversationChanged, NotFound, BadFile, Unavailable.
        """
        with self._working(id, revision) as (conversation, live):
            self._keep(conversation)
            try:
                yield conversation
                self._store.save(conversation, conversation.revision)
            except BaseException:
                self._past.drop(id)
                raise
        self._born(id)
        self._live.release(id, live)

    def _keep(self, conversation: Conversation) -> None:
        """Remember it as it is for `undo`. Not its file: greetings, or what a crash left, may not be in that yet."""
        self._past.keep(conversation.id, to_text(conversation), self._store.strangers(conversation.id))

    def _prompt(
        self,
        session: ModelSession,
        history: Sequence[Message],
        turn: Turn,
        begun: str,
        role: Role = "assistant",
        context: HookContext | None = None,
        **how: bool,
    ) -> Prompt:
        """Without a `context` extensions are not asked: nothing is going to be sent. `how` is told to them."""
        count = partial(session.count_prompt, params=turn.params)
        stage = turn.stage(session.model, self._templates, self._characters)
        path = self._hooks.history(history, context)
        spoken = role == "assistant" and turn.mode != "instruct" and not how.get("_continue")
        prompt = build(
            path,
            stage,
            render=self._templates.render,
            count=count,
            room=session.max_prompt(turn.params),
            begun=begun,
            role=role,
            lead=self._hooks.lead(stage.name2, context) if spoken else "",
            literally=session.literally(turn.params),
        )
        return self._hooks.prompt(prompt, path, context, count, **how)

    def _reply(
        self,
        session: ModelSession,
        conversation: Conversation,
        live: Live,
        prompt: Prompt,
        turn: Turn,
        context: HookContext,
        place: Callable[[], Message],
        before: str | None = None,
    ) -> Reply:
        """Start the engine, then store what was said: the disk and the prompt's processing take the same time."""
        id, params = conversation.id, turn.params
        start = partial(session.start, stop=prompt.stop, keep=prompt.keeps, reading=prompt.reading)
        stream = start(prompt.text, params, label=id, context=context)
        self._keep(conversation)
        try:
            message = place()
            self._store.save(conversation, conversation.revision)
        except BaseException:
            self._past.drop(id)
            stream.close()
            raise
        live.message_id, live.text = message.id, message.text
        live.attach(stream)
        self._born(id)
        self._store.records(id).keep(message.id, turn.record(prompt))
        return Reply(
            conversation,
            live,
            stream,
            self._store,
            before=before,
            pause=1 / params.max_updates_second if params.max_updates_second > 0 else 0.0,
            silent=not params.stream,
            notes=prompt.notes,
            others=prompt.others,
            reading=prompt.reading,
            about={"mode": turn.mode, "dropped": prompt.dropped, "params": params.differing()},
            shown=lambda text: self._hooks.shown(text, context),
            released=lambda: self._live.release(id, live),
        )
