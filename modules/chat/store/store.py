"""Stores conversations: logs/instruct/ID.json and logs/chat/CHARACTER/ID.json, one file each.

A conversation's id is its file's path below logs/ without the suffix ("instruct/20240115-13-45-59"), which contains its
mode and character (its scope). Writes are atomic, and a write that is based on an older state is refused. A file that
cannot be read is left alone and reported; the others are not affected. This module knows nothing of prompts or models.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from errors import BadFile, ConversationChanged, InvalidName, NotFound, Unavailable, UserError
from modules.chat.conversation import Conversation
from modules.chat.formats.conversation_file import (
    InvalidConversation,
    conversation_title,
    dump_conversation,
    folder_in,
    parse_conversation,
    read_summary,
)
from modules.chat.store.journal import journal_path, read_journal
from modules.chat.store.prompt_log import PromptLog, prompt_log_of
from modules.config.atomic import write_bytes
from modules.config.paths import Paths, safe_child

_HEAD = 4096  # bytes that contain `about`
_LOCKS = 16
_NOT_IN_TRASH = "This conversation is no longer in the trash."


@dataclass(frozen=True)
class ConversationInfo:
    """A conversation as listed. `problem` says why its file cannot be read. `warm`: a model has kept its state, so its
    next reply begins without reading it again.
    """

    id: str
    title: str
    updated: float  # seconds since the epoch
    messages: int
    problem: str | None = None
    pinned: bool = False
    folder: str = ""
    warm: bool = False


def scope_of(mode: str, character: str) -> str:
    """The folder of this mode's conversations: "instruct", or "chat/CHARACTER"."""
    return "instruct" if mode == "instruct" else f"chat/{character}"


def kind_and_character(id: str) -> tuple[str, str]:
    """What a conversation's id says of its scope: "instruct" and "", or "chat" and its character."""
    kind, _, character = id.rpartition("/")[0].partition("/")
    return kind, character


class ConversationStore:
    """The conversations on disk. May be used from several threads."""

    def __init__(self, paths: Paths) -> None:
        self._logs = paths.logs
        self._locks = [threading.RLock() for _ in range(_LOCKS)]
        self._listing = threading.Lock()
        self._seen: dict[Path, tuple[tuple[int, int], ConversationInfo]] = {}
        self._given: set[str] = set()  # ids of the last second that have no file yet
        self._given_at = ""
        self._moving = threading.Lock()  # guards moves to a free name: two would find the same one
        self._written: dict[Path, int | None] = {}  # the revision last seen or written here
        self._strangers: dict[Path, int] = {}

    def new_id(self, scope: str) -> str:
        """An id that no other conversation has. Raises: InvalidName."""
        folder = self._folder(scope)
        stamp = time.strftime("%Y%m%d-%H-%M-%S")
        with self._listing:
            if stamp != self._given_at:
                self._given, self._given_at = set(), stamp
            number = 1
            while True:
                stem = stamp if number == 1 else f"{stamp}-{number}"
                id = f"{scope}/{stem}"
                if id not in self._given and not (folder / f"{stem}.json").exists():
                    self._given.add(id)
                    return id
                number += 1

    def everything(self) -> list[ConversationInfo]:
        """The conversations of all scopes, newest first."""
        found = [info for scope in self._scopes() for info in self.list(scope)]
        return sorted(found, key=lambda info: (info.updated, info.id), reverse=True)

    def text(self, id: str) -> str:
        """The contents of a conversation's file; "" if it cannot be read."""
        try:
            return self._path(id).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, InvalidName):
            return ""

    def trash(self) -> list[ConversationInfo]:
        """The contents of the trash, newest first, with their former ids."""
        found = []
        for scope in self._scopes(self._logs / "trash"):
            for path, (changed, _) in self._files(self._logs.joinpath("trash", *scope.split("/"))):
                head = path.read_bytes()[:_HEAD].decode("utf-8", "ignore")
                title = (read_summary(head) or {}).get("title") or path.stem
                found.append(ConversationInfo(f"{scope}/{path.stem}", str(title), changed / 1e9, 0))
        return sorted(found, key=lambda info: (info.updated, info.id), reverse=True)

    def purge(self, id: str) -> None:
        """Delete a conversation in the trash, and all that is stored beside it, for good.

        Raises: NotFound, InvalidName, Unavailable.
        """
        path = self._in_trash(id)
        with self._moving:
            try:
                path.unlink()
            except FileNotFoundError:
                raise NotFound(_NOT_IN_TRASH) from None
            except OSError as error:
                raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None
            with contextlib.suppress(OSError):
                journal_path(path).unlink()
            prompt_log_of(path).delete()

    def restore(self, id: str) -> str:
        """Restore a conversation from the trash; returns its new id. Raises: NotFound, InvalidName, Unavailable."""
        path = self._in_trash(id)
        scope, stem = id.rpartition("/")[::2]
        with self._moving:
            if not path.is_file():
                raise NotFound(_NOT_IN_TRASH)
            for number in itertools.count(1):
                target = self._path(f"{scope}/{stem}{f'-{number}' if number > 1 else ''}")
                with self._lock(target):  # locked, so that nothing is saved between the check and the move
                    if target.exists():
                        continue
                    _move(path, target, "restored")
                    break
        return f"{scope}/{target.stem}"

    def open(self, id: str) -> Conversation:
        """Read a conversation, including what a crash left of a reply in progress.

        Raises: NotFound, InvalidName, BadFile.
        """
        path = self._path(id)
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
            created = _begun(path.stem) or path.stat().st_mtime
        except FileNotFoundError:
            raise NotFound("This conversation no longer exists. Choose another one, or start a new chat.") from None
        except UnicodeDecodeError:
            raise BadFile(path, "it is not UTF-8 text") from None
        except OSError as error:
            raise BadFile(path, error.strerror or "access was denied") from None
        try:
            conversation = parse_conversation(id, text, created)
        except InvalidConversation as error:
            raise BadFile(path, str(error)) from None
        conversation.revision = _revision(io.BytesIO(data))
        growing = read_journal(journal_path(path))
        if growing and growing[0] in conversation and len(growing[1]) > len(conversation.message(growing[0]).text):
            conversation.set_text(*growing, unfinished=True)
        return conversation

    def save(self, conversation: Conversation, expected_revision: int | None = None) -> None:
        """Write a conversation and increase its revision. `expected_revision`: what it must still be on disk.

        Raises: ConversationChanged, Unavailable, InvalidName.
        """
        path = self._path(conversation.id)
        with self._lock(path):
            stored = self.revision(conversation.id)
            self._notice(path, stored)
            if expected_revision is not None and stored is not None and stored != expected_revision:
                raise ConversationChanged
            before = conversation.revision
            conversation.revision = max(before, stored or 0) + 1
            try:
                # a lone surrogate, as in older files, becomes its JSON escape
                write_bytes(path, dump_conversation(conversation).encode("utf-8", "backslashreplace"))
            except OSError as error:
                conversation.revision = before
                raise Unavailable(
                    f"The conversation could not be saved to {path} ({error.strerror}). The last saved version is "
                    "kept. Free some disk space, then send the message again."
                ) from None
            self._written[path] = conversation.revision
            with contextlib.suppress(OSError):
                journal_path(path).unlink()

    def count(self) -> int:
        """How many conversations there are, in all scopes."""
        return sum(1 for scope in self._scopes() for _ in self._files(self._folder(scope)))

    def revision(self, id: str) -> int | None:
        """The revision on disk; None without a file. Another program's file has a number, too.

        Raises: InvalidName.
        """
        try:
            with self._path(id).open("rb") as file:
                return _revision(file)
        except OSError:
            return None

    def external_writes(self, id: str) -> int:
        """How many writes of other programs to a conversation were noticed. Raises: InvalidName."""
        path = self._path(id)
        with self._lock(path):
            self._notice(path, self.revision(id))
            return self._strangers.get(path, 0)

    def delete(self, id: str) -> Path:
        """Move a conversation to logs/trash; returns its new path. Raises: NotFound, InvalidName, Unavailable."""
        path = self._path(id)
        with self._moving, self._lock(path):
            if not path.is_file():
                raise NotFound("This conversation no longer exists.")
            folder = self._logs.joinpath("trash", *id.split("/")[:-1])
            number = 1
            while (target := folder / f"{path.stem}{f'-{number}' if number > 1 else ''}.json").exists():
                number += 1
            _move(path, target, "moved to the trash")
            return target

    def journal(self, id: str) -> Path:
        """The journal for a reply in this conversation. Raises: NotFound, InvalidName."""
        return journal_path(self._path(id))

    def records(self, id: str) -> PromptLog:
        """The prompts of this conversation's replies. Raises: NotFound, InvalidName."""
        return prompt_log_of(self._path(id))

    def list(self, scope: str) -> list[ConversationInfo]:
        """The conversations of a scope: the pinned ones, then the others, newest first. Raises: InvalidName."""
        found = []
        for path, fingerprint in self._files(self._folder(scope)):
            with self._listing:
                known = self._seen.get(path)
            if known is None or known[0] != fingerprint:
                known = (fingerprint, self._info(f"{scope}/{path.stem}", path, fingerprint[0] / 1e9))
                with self._listing:
                    self._seen[path] = known
            found.append(known[1])
        return sorted(found, key=lambda info: (info.pinned, info.updated, info.id), reverse=True)

    # --- inside ---

    def _folder(self, scope: str) -> Path:
        match scope.split("/"):
            case ["instruct"]:
                return self._logs / "instruct"
            case ["chat", character]:
                return safe_child(self._logs / "chat", character)
        raise NotFound(f"There is no conversation folder named {scope[:80]!r}.")

    def _scopes(self, root: Path | None = None) -> Iterator[str]:
        root = root or self._logs
        chats = sorted(each.name for each in (root / "chat").glob("*") if each.is_dir())
        yield "instruct"
        for name in chats:
            with contextlib.suppress(InvalidName):  # no character can have this name, so it contains nothing of ours
                safe_child(root / "chat", name)
                yield f"chat/{name}"

    def _path(self, id: str) -> Path:
        scope, _, stem = id.rpartition("/")
        return safe_child(self._folder(scope), stem, ".json")

    def _in_trash(self, id: str) -> Path:
        return self._logs / "trash" / self._path(id).relative_to(self._logs)

    def _lock(self, path: Path) -> contextlib.AbstractContextManager[Any]:
        return self._locks[hash(path) % _LOCKS]

    def _notice(self, path: Path, stored: int | None) -> None:
        """Record a revision that was not written here. Under the path's lock."""
        if self._written.setdefault(path, stored) != stored:
            self._strangers[path] = self._strangers.get(path, 0) + 1
            self._written[path] = stored

    def _files(self, folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Each conversation's file with its time and size, which change when it is written."""
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    with contextlib.suppress(OSError):
                        stat = entry.stat()
                        yield Path(entry.path), (stat.st_mtime_ns, stat.st_size)

    def _info(self, id: str, path: Path, updated: float) -> ConversationInfo:
        stem = path.stem
        try:
            self._path(id)
            with path.open("rb") as file:
                about = read_summary(file.read(_HEAD).decode("utf-8", "ignore"))
            if about is not None:
                messages, pinned = about.get("messages"), about.get("pinned") is True
                count = messages if isinstance(messages, int) else 0
                changed = about.get("updated")
                when = float(changed) if isinstance(changed, int | float) else _begun(stem) or updated
                title = str(about.get("title") or stem)
                return ConversationInfo(id, title, when, count, pinned=pinned, folder=folder_in(about))
            conversation = self.open(id)
        except (UserError, OSError) as error:  # also InvalidName: a file system may contain names that are invalid here
            id, stem = (each.encode("utf-8", "replace").decode() for each in (id, stem))
            return ConversationInfo(id, stem, updated, 0, str(error))
        when = _begun(stem) or updated
        return ConversationInfo(id, conversation_title(conversation), when, len(conversation.path()))


def _begun(stem: str) -> float:
    """When a conversation was begun, from its file's name: unlike the file's own time, copies keep it. 0: unknown."""
    try:
        return time.mktime(time.strptime(stem[:17], "%Y%m%d-%H-%M-%S"))
    except (ValueError, OverflowError):
        return 0.0


def _move(path: Path, target: Path, how: str) -> None:
    """Move a conversation and its other files. Raises: Unavailable."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    except OSError as error:
        raise Unavailable(f"{path} cannot be {how} ({error.strerror}).") from None
    with contextlib.suppress(OSError):
        journal_path(path).replace(journal_path(target))
    prompt_log_of(path).move(prompt_log_of(target))


def _revision(file: BinaryIO) -> int:
    """A file's revision. Another program's file has none: a number is derived from its text."""
    head = file.read(_HEAD)
    about = read_summary(head.decode("utf-8", "ignore"))
    if about is None:
        return int.from_bytes(hashlib.blake2b(head + file.read(), digest_size=6).digest(), "big")
    revision = about.get("revision")
    return revision if isinstance(revision, int) and revision >= 0 else 0
