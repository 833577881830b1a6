"""What is computed for a chat before anybody asks for it: reading what is typed, the next versions of a reply, a title.

All of it is of the lowest class: it runs only while no request runs or waits in any model, and ends when one arrives.
There is one such work per chat at a time; the next one ends it. A model is neither loaded nor held for it. It must not
know how anything is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from errors import UserError
from loaders.base import Report
from loaders.cancel import CancelEvent
from loaders.prefix import common_prefix
from modules.chat.conversation import Conversation, Message
from modules.chat.model_title import wants_title, write_title
from modules.chat.own_settings import with_own_settings
from modules.chat.reply_settings import ReplySettings
from modules.chat.service import ChatService
from modules.chat.store.store import ConversationStore
from modules.chat.unsaved_reply import write_unsaved
from modules.chat.versions_ahead import Origin, VersionAhead, VersionsAhead
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.generation.stream import TextStream

log = logging.getLogger(__name__)

#: The most versions ahead, characters of a text that is read ahead, seconds for a title, and chats that are remembered.
MOST_VERSIONS, _LONGEST, _TITLE_SECONDS, _CHATS = 3, 200_000, 20.0, 64
_LOOK = 0.2  # seconds between two looks whether other models are used and this work is still wanted
#: What may follow the words that are typed: the tokens before it are the same in both cases.
ENDINGS = (" a", "\n1")

_EXTENSIONS = "Extensions are active, which may change prompts, so nothing is computed ahead."
_SAME = "With these settings every version would be the same, so none is written ahead."


@dataclass
class AheadCosts:
    """What was computed ahead for a chat, in tokens and seconds, and how much of it was used. `why`: why the last of it
    was not computed, "" if it was.
    """

    read_tokens: int = 0
    read_seconds: float = 0.0
    used_tokens: int = 0
    versions: int = 0
    version_tokens: int = 0
    version_seconds: float = 0.0
    used_versions: int = 0
    title_seconds: float = 0.0
    why: str = ""
    counted: tuple[str, int] = ("", 0)  # the reply, and its length, whose use was added last


class _Work:
    """One chat's work; `stop` ends it, from any thread."""

    def __init__(self) -> None:
        self.cancel = CancelEvent()

    def stop(self) -> None:
        self.cancel.set()

    def attach(self, stream: TextStream) -> None:
        """Cancel this stream when the work is to end."""
        self.cancel.listen(stream.cancel)


class WorkAhead:
    """May be used from several threads."""

    def __init__(self, chats: ChatService, store: ConversationStore, generator: Generator) -> None:
        self._chats = chats
        self._store = store
        self._generator = generator
        self._lock = threading.Lock()
        self._work: dict[str, _Work] = {}
        self._versions: dict[str, VersionsAhead] = {}
        self._costs: dict[str, AheadCosts] = {}
        self._closed = False

    # --- looking ---

    def costs(self, id: str) -> AheadCosts:
        """A copy of what was spent for this chat."""
        with self._lock:
            return replace(self._costs.get(id, AheadCosts()))

    def expects(self, conversation: Conversation) -> bool:
        """Whether further versions of its last reply were requested."""
        return self._fitting(conversation) is not None

    def ready(self, conversation: Conversation) -> int:
        """How many further versions of its last reply are written."""
        versions = self._fitting(conversation)
        return len(versions.ready) if versions else 0

    # --- doing ---

    def read(self, id: str, turn: ReplySettings, typed: str) -> None:
        """Read this chat with the words that are typed so far; returns at once."""
        if len(typed) <= _LONGEST and self._chats.writing(id) is None:
            self._begin(id, lambda work: self._read(work, id, turn, whole_words(typed)))

    def after_reply(self, id: str, turn: ReplySettings, *, versions: int = 0, title: bool = False) -> None:
        """A reply has been written: write a title, if the chat is new, and the next versions; returns at once."""
        conversation = self._chats.open(id)
        last = conversation.last()
        if last is None or last.role != "assistant" or last.meta.get("finish") not in ("stop", "length"):
            return
        turn = with_own_settings(turn, conversation)
        self._count_used(id, last)
        title = title and wants_title(conversation)
        wanted = self._want(conversation, turn) if versions > 0 and self._differ(id, turn) else None
        if title or wanted:
            self._begin(id, lambda work: self._write(work, id, turn, wanted, min(versions, MOST_VERSIONS), title=title))

    def stop(self, id: str) -> None:
        """End what is computed ahead for this chat; versions that are written stay, until the chat changes."""
        with self._lock:
            work = self._work.pop(id, None)
        if work:
            work.stop()

    def forget_unfit(self, conversation: Conversation) -> None:
        """A conversation may have changed: versions for what it was are dropped, and no more of them are written."""
        with self._lock:
            versions = self._versions.get(conversation.id)
            if versions is None or versions.path == _path(conversation):
                return
            del self._versions[conversation.id]
        self.stop(conversation.id)

    def forget(self, id: str) -> None:
        """This chat no longer exists: nothing of what was computed ahead for it is kept."""
        self.stop(id)
        with self._lock:
            self._versions.pop(id, None)
            self._costs.pop(id, None)
        self._generator.forget(id)

    def take_version(self, id: str, turn: ReplySettings) -> Conversation | None:
        """Store the next version that is written, and show it; None if there is none that would be written now: for the
        chat as it is, with these settings, its character, this model and its adapters. Raises: UserError.
        """
        conversation = self._chats.open(id)
        versions, turn = self._fitting(conversation), with_own_settings(turn, conversation)
        if not versions or versions.turn != _settings(turn):
            return None
        now = self._origin(conversation, turn)
        with self._lock:
            versions.ready = [each for each in versions.ready if each.origin == now]
            if not versions.ready:
                return None
            kept = versions.ready.pop(0)
        said = kept.message
        try:
            with self._chats.changing(id, conversation.revision) as conversation:
                parent, meta = versions.path[-1][0], said.meta
                made = conversation.add("assistant", said.text, parent, model=said.model, created=said.created, **meta)
        except BaseException:  # it is still there for the next attempt
            with self._lock:
                versions.ready.insert(0, kept)
            raise
        with self._lock:
            self._of(id).used_versions += 1
        self._store.records(id).keep(made.id, kept.record)
        return conversation

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._closed = True
            left = list(self._work.values())
            self._work.clear()
        for work in left:
            work.stop()

    # --- inside ---

    def _of(self, id: str) -> AheadCosts:
        """The costs of a chat, under the lock."""
        while len(self._costs) > _CHATS:
            del self._costs[next(iter(self._costs))]
        return self._costs.setdefault(id, AheadCosts())

    def _count_used(self, id: str, reply: Message) -> None:
        """Count what a reply used of what was read ahead; once, however often it is looked at."""
        used, seen = reply.meta.get("ahead_tokens"), (reply.id, len(reply.text))
        with self._lock:
            costs = self._of(id)
            if costs.counted != seen:
                costs.counted = seen
                costs.used_tokens += used if isinstance(used, int) else 0

    def _begin(self, id: str, do: Callable[[_Work], None]) -> None:
        """Do this in a thread of its own, instead of what is done for this chat now."""
        with self._lock:
            if self._closed:
                return
            before, work = self._work.get(id), _Work()
            self._work[id] = work
        if before:
            before.stop()
        threading.Thread(target=self._run, args=(id, work, do), name="work ahead", daemon=True).start()

    def _run(self, id: str, work: _Work, do: Callable[[_Work], None]) -> None:
        try:
            do(work)
        except UserError as error:  # nobody waits for it: whoever sends the message gets the error then
            log.debug("Nothing is computed ahead for %s: %s", id, error)
        except Exception:
            log.exception("Computing ahead failed")
        finally:
            with self._lock:
                if self._work.get(id) is work:
                    del self._work[id]

    def _session(self, id: str, name: str) -> ModelSession | None:
        """A session with the model of a chat, unless that is not loaded, or nothing can be computed ahead."""
        session = self._generator.session_if_loaded(name)
        why = ""
        if session and not session.model.supports("work_ahead"):
            why = session.model.unsupported["work_ahead"]
        elif self._generator.extensions.active:
            why = _EXTENSIONS
        with self._lock:
            self._of(id).why = why
        return None if why else session

    def _when_free(self, work: _Work, id: str, name: str) -> ModelSession | None:
        """As `_session`, as soon as no other model is used, which would answer more slowly. None if the work ends."""
        while (session := self._session(id, name)) and not work.cancel.is_set():
            if self._generator.wait_for_others(session.model, 0):
                return session
            self._generator.wait_for_others(session.model, _LOOK)  # then with a new session, which knows what begins
        return None

    def _read(self, work: _Work, id: str, turn: ReplySettings, words: str) -> None:
        conversation = self._chats.open(id)
        session = self._when_free(work, id, conversation.model)
        if not session or not (words or conversation.path()):
            return
        turn, known = with_own_settings(turn, conversation), []
        for ending in ENDINGS:
            history = [*conversation.path(), Message("", None, "user", words + ending, 0)]
            prompt, params = self._chats.prompt_after(session, conversation, history, turn)
            known.append(session.ids(prompt.text, params))
        ids = known[0][: common_prefix(*known)]
        if not ids or work.cancel.is_set():
            return
        stream = session.read(ids, f"{id}: reading ahead", work.cancel)
        for _ in stream:
            pass
        with self._lock:
            costs = self._of(id)
            costs.read_tokens += stream.report.read_tokens
            costs.read_seconds += _seconds(stream.report)
            costs.why = " ".join(stream.report.warnings)

    def _want(self, conversation: Conversation, turn: ReplySettings) -> VersionsAhead:
        """Where versions of a conversation's last reply are collected: with those that are written already."""
        wanted = VersionsAhead(_path(conversation), _settings(turn))
        with self._lock:
            kept = self._versions.pop(conversation.id, None)
            if kept and kept.path == wanted.path and kept.turn == wanted.turn:
                wanted = kept
            self._versions[conversation.id] = wanted
            while len(self._versions) > _CHATS:
                del self._versions[next(iter(self._versions))]
        return wanted

    def _write(
        self, work: _Work, id: str, turn: ReplySettings, wanted: VersionsAhead | None, versions: int, *, title: bool
    ) -> None:
        if title:
            self._entitle(work, id, turn)
        while wanted and len(wanted.ready) < versions and not work.cancel.is_set():
            if not self._write_version(work, id, turn, wanted):
                return

    def _entitle(self, work: _Work, id: str, turn: ReplySettings) -> None:
        conversation = self._chats.open(id)
        session = self._when_free(work, id, conversation.model)
        if not session or not wants_title(conversation):
            return
        streams: list[TextStream] = []

        def end() -> None:
            for each in streams:
                each.cancel()

        limit = threading.Timer(_TITLE_SECONDS, end)
        limit.daemon = True
        limit.start()

        def attach(stream: TextStream) -> None:
            streams.append(stream)
            work.attach(stream)

        try:
            title, report = write_title(session, conversation, turn, self._chats.prompt_after, attach)
        finally:
            limit.cancel()
        with self._lock:
            self._of(id).title_seconds += _seconds(report)
        if title and not work.cancel.is_set():
            self._chats.entitle(id, title)

    def _differ(self, id: str, turn: ReplySettings) -> bool:
        """Whether two replies with these settings may differ."""
        params = turn.params
        random = params.seed < 0 and params.do_sample and params.temperature > 0 and params.top_k != 1
        if not random:
            with self._lock:
                self._of(id).why = _SAME
        return random

    def _write_version(self, work: _Work, id: str, turn: ReplySettings, wanted: VersionsAhead) -> bool:
        """Write another version; False if it is not worth to go on."""
        conversation = self._chats.open(id)
        session = self._when_free(work, id, conversation.model)
        if not session or _path(conversation) != wanted.path:
            return False
        path = conversation.path()
        texts = [conversation.message(each).text for each in conversation.versions(path[-1].id)]
        conversation.end_at(path[-2].id)
        prompt, params = self._chats.prompt_after(session, conversation, path[:-1], turn)
        label, origin = f"{id}: version ahead", Origin.of(session, prompt, params)
        made, report = write_unsaved(session, conversation, prompt, params, turn, label=label, attach=work.attach)
        with self._lock:
            costs = self._of(id)
            costs.version_tokens += report.new_tokens
            costs.version_seconds += _seconds(report)
            if made is None or made.text in (*texts, *(each.message.text for each in wanted.ready)):
                costs.why = " ".join(each for each in report.warnings if each.startswith("Not computed"))
                return False
            wanted.ready.append(VersionAhead(made, turn.record(prompt), origin))
            costs.versions += 1
        return True

    def _origin(self, conversation: Conversation, turn: ReplySettings) -> Origin | None:
        """What another version of the last reply would be made from now; None if nothing is loaded for it."""
        session = self._session(conversation.id, conversation.model)
        if not session:
            return None
        prompt, params = self._chats.prompt_after(session, conversation, conversation.path()[:-1], turn)
        return Origin.of(session, prompt, params)

    def _fitting(self, conversation: Conversation) -> VersionsAhead | None:
        with self._lock:
            versions = self._versions.get(conversation.id)
        return versions if versions and versions.path == _path(conversation) else None


def whole_words(typed: str) -> str:
    """A text without its last word, which may still grow."""
    if typed[-1:].isspace():
        return typed.rstrip()
    parts = typed.rsplit(None, 1)
    return parts[0] if len(parts) == 2 else ""


def _settings(turn: ReplySettings) -> ReplySettings:
    """The settings, whatever revision the page shows."""
    return replace(turn, revision=None)


def _path(conversation: Conversation) -> list[tuple[str, str]]:
    """The messages that the last reply answers; none if the last message is not a reply."""
    path = conversation.path()
    answered = len(path) > 1 and path[-1].role == "assistant" and path[-2].role == "user"
    return [(each.id, each.text) for each in path[:-1]] if answered else []


def _seconds(report: Report) -> float:
    return report.prompt_seconds + report.decode_seconds
