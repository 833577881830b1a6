"""The service for conversations. Its callers hold an id and a revision, not contents.

One reply at a time is written into a conversation; any other change waits for its end or raises Conflict. What cannot
be answered (no model, a prompt that does not fit) is refused before anything is changed. This module must not know how
anything is shown: text in, text out, no HTML.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from errors import BadFile, ConversationChanged, InvalidInput, NotFound, NothingToDo, encode_utf8
from loaders.params import SamplingParams
from modules.chat.active_replies import ActiveReplies
from modules.chat.characters import Characters, insert_names
from modules.chat.conversation import Conversation, Message
from modules.chat.formats.conversation_file import dump_conversation, parse_conversation
from modules.chat.hooks import ChatHooks
from modules.chat.own_settings import with_own_settings
from modules.chat.prompt.build import ChatPrompt
from modules.chat.prompt_maker import PromptMaker
from modules.chat.reply import ActiveReply, Reply, ReplyUpdate
from modules.chat.reply_plan import ReplyPlan
from modules.chat.reply_settings import ReplySettings
from modules.chat.speaker_guard import guard_speaker
from modules.chat.store.prompt_log import PromptRecord
from modules.chat.store.store import ConversationInfo, ConversationStore, scope_of
from modules.chat.store.undo_history import UndoHistory
from modules.extensions import HookContext
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.prompts.templates import Templates

__all__ = ["ChatService", "ReplySettings", "ReplyUpdate"]

_LONGEST_TITLE = 200
_NO_MESSAGE = "Type a message first."
_FRESH = 512  # the most new, empty chats that are remembered


class ChatService:
    """The conversations of this installation. May be used from several threads."""

    def __init__(
        self, store: ConversationStore, characters: Characters, templates: Templates, generator: Generator
    ) -> None:
        self._store = store
        self._characters = characters
        self._generator = generator
        self._hooks = ChatHooks(generator.extensions)
        self._prompt = PromptMaker(templates, characters, self._hooks).make
        self._lock = threading.RLock()  # guards `_fresh`
        self._live = ActiveReplies()
        self._fresh: dict[str, tuple[str, ...]] = {}  # id to greetings
        self._past = UndoHistory()
        self._entitled: dict[str, tuple[int, int]] = {}  # id to the revisions before and after a title was added

    # --- looking ---

    def list(self, mode: str = "instruct", character: str = "") -> list[ConversationInfo]:
        """The conversations of this mode (and character), newest first."""
        return self._store.list(scope_of(mode, character))

    def open(self, id: str) -> Conversation:
        """A conversation as it is now, with a reply in progress; read-only. Raises: NotFound, InvalidName, BadFile."""
        conversation = self._load(id)
        live = self._live.get(id)
        if live and live.message_id in conversation and live.text:
            conversation.set_text(live.message_id, live.text)
        return conversation

    def latest(self, mode: str = "instruct", character: str = "", name1: str = "You") -> Conversation:
        """The conversation of this mode that was changed last, or a new one. Damaged ones are skipped."""
        for info in self.list(mode, character):
            if info.problem is None:
                with suppress(BadFile, NotFound):  # a list reads only the beginning of a file
                    return self.open(info.id)
        return self.new(mode, character, name1)

    def writing(self, id: str) -> ReplyUpdate | None:
        """The reply that is being written into this conversation, if there is one."""
        live = self._live.get(id)
        return live.update(id) if live and live.message_id else None

    def prompt(self, id: str, turn: ReplySettings, text: str = "", *, going_on: bool = False) -> ChatPrompt:
        """The prompt that would be sent with this message (empty: to answer the last message).

        `going_on`: to continue the last reply, if there is one. Raises: UserError.
        """
        conversation = self._load(id)
        path, session = conversation.path(), self._generator.session(conversation.model)
        turn = with_own_settings(turn, conversation)
        if going_on and path and path[-1].role == "assistant":
            return self._prompt(session, path[:-1], turn, begun=path[-1].text)
        if text.strip():
            path.append(Message("", None, "user", text, 0))
        return self._prompt(session, path, turn, begun=turn.start_with)

    def prompt_after(
        self, session: ModelSession, conversation: Conversation, history: Sequence[Message], turn: ReplySettings
    ) -> tuple[ChatPrompt, SamplingParams]:
        """The prompt after these messages and the parameters of the reply, without extensions. Raises: UserError."""
        prompt = self._prompt(session, history, turn, turn.start_with)
        return prompt, turn.ban(turn.params, conversation, self._characters)

    def record(self, id: str, message_id: str) -> PromptRecord:
        """The exact prompt of a reply. Raises: NotFound, InvalidName."""
        return self._store.records(id).load(message_id)

    # --- changing ---

    def new(self, mode: str = "instruct", character: str = "", name1: str = "You") -> Conversation:
        """A new conversation, in the chat modes with the character's greeting; its first message creates its file.

        Raises: UnknownName, InvalidName, BadFile.
        """
        greetings: tuple[str, ...] = ()
        if mode != "instruct":
            who = self._characters.load(character)
            begun = (who.greeting, *who.greetings)
            greetings = tuple(insert_names(each.strip(), name1, who.name) for each in begun if each.strip())
        id = self._store.new_id(scope_of(mode, character))
        with self._lock:
            self._fresh[id] = greetings
            while len(self._fresh) > _FRESH:
                self._fresh.pop(next(iter(self._fresh)))
        return self._load(id)

    def send(self, id: str, text: str, turn: ReplySettings) -> Reply:
        """Send a message and start a reply: generation has begun when this returns.

        Raises: UserError, and then nothing has been changed.
        """
        if not text.strip() and not self._hooks.may_write_messages:
            raise NothingToDo(_NO_MESSAGE)
        encode_utf8(text, "The message")
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            session = self._generator.session(conversation.model)
            turn, context = self._hooks.begin(with_own_settings(turn, conversation), path, session)
            text, shown = self._hooks.message(text, context)
            if not text.strip():
                raise NothingToDo(_NO_MESSAGE)
            history = [*path, Message("", None, "user", text, 0)]
            plan = ReplyPlan(session, self._prompt(session, history, turn, turn.start_with, context=context), turn)
            parent = path[-1].id if path else None

            def place() -> Message:
                return plan.place(conversation, conversation.add("user", text, parent, **shown).id)

            return self._reply(plan, conversation, live, context, place)

    def regenerate(self, id: str, turn: ReplySettings) -> Reply:
        """Generate a new reply to the user's last message, as a new version; the old one is kept.

        Raises: UserError, and then nothing has been changed.
        """
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            old = path.pop() if path and path[-1].role == "assistant" else None
            if not path:
                raise NothingToDo("Nothing to regenerate yet. Send a message first.")
            session = self._generator.session(conversation.model)
            turn, context = self._hooks.begin(with_own_settings(turn, conversation), path, session)
            prompt = self._prompt(session, path, turn, turn.start_with, context=context, regenerate=True)
            plan, before = ReplyPlan(session, prompt, turn), old.id if old else None
            return self._reply(
                plan, conversation, live, context, lambda: plan.place(conversation, path[-1].id), before=before
            )

    def continue_(self, id: str, turn: ReplySettings) -> Reply:
        """Let the model continue its last reply.

        Raises: UserError, and then nothing has been changed.
        """
        with self._working(id, turn.revision) as (conversation, live):
            path = conversation.path()
            if len(path) < 2 or path[-1].role != "assistant" or path[-1].is_greeting:
                raise NothingToDo("There is no reply to continue yet. Send a message first.")
            reply = path.pop()
            session = self._generator.session(conversation.model)
            turn, context = self._hooks.begin(with_own_settings(turn, conversation), path, session)
            prompt = self._prompt(session, path, turn, reply.text, context=context, _continue=True)

            def place() -> Message:
                return conversation.set_text(reply.id, reply.text, unfinished=True)

            return self._reply(ReplyPlan(session, prompt, turn), conversation, live, context, place)

    def stop(self, id: str, *, thought: bool = False) -> bool:
        """Stop the reply that is being written here, or only its `thought`, whoever requested it; False if there is
        none.
        """
        return self._live.stop(id, thought=thought)

    def keep(self) -> None:
        """Save all replies that are being written."""
        self._live.keep()

    def close(self) -> None:
        """Stop all replies, and wait briefly until they are stored; the journals keep those without a reader."""
        self._live.close()

    def remove_last(self, id: str, revision: int | None = None) -> tuple[str, Conversation]:
        """Remove the last message of the user and its replies. Raises: NothingToDo, Conflict, NotFound, BadFile.

        Returns its text, and the conversation.
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
        """Undo the last change of this conversation. Raises: NothingToDo, Conflict, BadFile."""
        with self._live.held(id):
            now = self._load(id)
            if not self._is_current(now, revision):
                raise ConversationChanged
            before = parse_conversation(id, self._past.last(id, self._store.external_writes(id)), time.time())
            before.revision = now.revision
            self._store.save(before, now.revision)
            self._past.drop(id)  # only after saving: a full disk must not lose the undo step
            return before

    def impersonate(self, id: str, text: str, turn: ReplySettings) -> Iterator[str]:
        """Let the model write the user's next message, continuing what is already typed. Nothing is stored.

        Raises, at the first step: UserError. Closing the iterator, or `stop`, ends it.
        """
        encode_utf8(text, "The message")
        with self._live.held(id) as live:
            conversation = self._load(id)
            path, session = conversation.path(), self._generator.session(conversation.model)
            turn, context = self._hooks.begin(with_own_settings(turn, conversation), path, session)
            prompt = self._prompt(session, path, turn, text, role="user", context=context, impersonate=True)
            label = f"{id}: you"
            with session.start(prompt.text, turn.params, stop=prompt.stop, label=label, context=context) as stream:
                live.attach(stream)
                yield from guard_speaker(text, (piece.text for piece in stream), prompt.others)

    def rename(self, id: str, title: str, revision: int | None = None) -> Conversation:
        """Set a conversation's title. Raises: InvalidInput, Conflict, NotFound, BadFile."""
        encode_utf8(title, "The title")
        title = " ".join(title.split())
        if not title:
            raise InvalidInput("A title cannot be empty. Enter at least one letter.")
        with self.changing(id, revision) as conversation:
            conversation.title = title[:_LONGEST_TITLE]
        return conversation

    def entitle(self, id: str, title: str) -> bool:
        """Give a conversation without a title one that nobody has asked for; False if it has one.

        It is no change that `undo` reverts, and who shows the revision before it may go on. Raises: UserError.
        """
        with self._live.held(id):
            conversation = self._load(id)
            if conversation.title or not conversation.revision:
                return False
            conversation.title, before = title[:_LONGEST_TITLE], conversation.revision
            self._store.save(conversation, before)
            self._entitled[id] = before, conversation.revision
        return True

    def delete(self, id: str) -> None:
        """Move a conversation to logs/trash. Raises: Conflict, NotFound, Unavailable."""
        with self._live.held(id):
            with self._lock:
                fresh = self._fresh.pop(id, None)
            left = fresh is None or self._store.revision(id) is not None
            if not left or self._store.delete(id).stem != id.rpartition("/")[2]:
                self._generator.forget(id)  # there is nothing in the trash by whose id it could be forgotten later

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
        """It has a file now. Locked, because `new` iterates over all without one."""
        with self._lock:
            self._fresh.pop(id, None)

    def _drop_unborn(self, conversation: Conversation) -> None:
        """An empty reply that a crash left does not count as a message."""
        last = conversation.last()
        live = self._live.get(conversation.id)
        if last and not last.text and last.meta.get("unfinished") and not (live and live.message_id == last.id):
            others = [each for each in conversation.versions(last.id) if each != last.id]
            conversation.remove(last.id)
            if others:
                conversation.select(others[-1])

    @contextmanager
    def _working(self, id: str, revision: int | None) -> Iterator[tuple[Conversation, ActiveReply]]:
        """The conversation, reserved; it stays reserved if the block succeeds, for the reply that was started in it."""
        live = self._live.reserve(id)
        try:
            conversation = self._load(id)
            if not self._is_current(conversation, revision):
                raise ConversationChanged
            yield conversation, live
        except BaseException:
            self._live.release(id, live)
            raise

    def _is_current(self, conversation: Conversation, revision: int | None) -> bool:
        """Whether this is the conversation's revision, except for a title that was added since."""
        return revision in (None, conversation.revision) or (
            self._entitled.get(conversation.id) == (revision, conversation.revision)
        )

    @contextmanager
    def changing(self, id: str, revision: int | None) -> Iterator[Conversation]:
        """A conversation to change while inside; it is saved afterwards, and `undo` restores its previous state.

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
        """Store its current state for `undo`. Not its file, which may lack greetings or what a crash left."""
        self._past.keep(conversation.id, dump_conversation(conversation), self._store.external_writes(conversation.id))

    def _reply(
        self,
        plan: ReplyPlan,
        conversation: Conversation,
        live: ActiveReply,
        context: HookContext,
        place: Callable[[], Message],
        *,
        before: str | None = None,
    ) -> Reply:
        """Start the engine, then store the message: both take time, and run in parallel."""
        id, params = conversation.id, plan.turn.params
        context = replace(context, params=plan.turn.ban(context.params, conversation, self._characters))
        stream = plan.start(params, context, id, lasting=True)
        self._keep(conversation)
        try:
            message = place()
            self._store.save(conversation, conversation.revision)
        except BaseException:
            self._past.drop(id)
            stream.close()
            raise
        reply = plan.reply(
            conversation,
            message,
            stream,
            self._store,
            live=live,
            before=before,
            pause=1 / params.max_updates_second if params.max_updates_second > 0 else 0.0,
            silent=not params.stream,
            shown=lambda text: self._hooks.shown(text, context),
            released=lambda: self._live.release(id, live),
        )
        self._born(id)
        self._store.records(id).keep(message.id, plan.turn.record(plan.prompt))
        return reply
