"""Drafts: the texts in Default and Notebook, stored on disk from the first character on.

One file each. The writer is a page (a browser tab): its changes are applied in the order in which it numbered them. If
another page has changed the draft meanwhile, nothing is lost: the later page continues in a new draft. It must not know
of models.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from errors import BadFile, NotFound, NothingToDo, Unavailable
from loaders import safe_json
from modules.config.atomic import write_json
from modules.config.paths import safe_child
from modules.prompts.line_ends import merge_line_ends

_OPEN = 200  # how many are kept in memory
_STEPS, _MOST = 50, 4_000_000  # of undo: how many, and how many characters in total


@dataclass(frozen=True, slots=True)
class Draft:
    """A text and its history. `before` and `after` are the texts that Undo and Redo restore, the nearest one last."""

    id: str
    text: str = ""
    revision: int = 0
    writer: str = ""
    number: float = 0.0  # of the writer's last change
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Drafts:
    """The drafts of one folder. May be used from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Draft] = OrderedDict()

    def new(self, kind: str, text: str = "") -> Draft:
        """A draft without a file, which is created with its first character. `kind` is the prefix of its id."""
        id = f"{kind}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        with self._lock:
            return self._keep(Draft(id, text))

    def open(self, id: str) -> Draft:
        """A draft as stored. Raises: NotFound, InvalidName, BadFile."""
        with self._lock:
            return self._read(id)

    def latest(self, kind: str) -> Draft | None:
        """The draft of this kind that was changed last; unreadable ones are skipped."""
        files = self._folder.glob(f"{kind}-*.json") if self._folder.is_dir() else ()
        for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                return self.open(path.stem)
            except (BadFile, NotFound):
                continue
        return None

    def type(self, id: str, field: str, writer: str, number: float, revision: int) -> Draft:
        """Store the contents of a page's text field. Changes older than the page's last one are ignored.

        `revision` is the one that the page has. If another page has changed the draft since, the returned draft is a
        new one. Raises: UserError.
        """
        with self._changing(id) as (draft, put):
            if writer == draft.writer and number <= draft.number:
                return draft
            text = merge_line_ends(draft.text, field)
            if text == draft.text:
                return draft
            if writer != draft.writer and revision != draft.revision:
                kind = draft.id.partition("-")[0]
                fresh = Draft(f"{kind}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", text)
                return put(replace(fresh, revision=1, writer=writer, number=number))
            return put(replace(draft, text=text, writer=writer, number=number, revision=draft.revision + 1))

    def put(self, id: str, text: str, writer: str = "") -> Draft:
        """Replace the whole text; Undo restores the old one. Raises: UserError."""
        with self._changing(id) as (draft, put):
            if draft.text == text:
                return draft
            before = _limited((*draft.before, draft.text)) if draft.text else draft.before
            return put(_moved(draft, text, before, (), writer))

    def begin(self, id: str, text: str, writer: str = "", *, again: bool = False) -> Draft:
        """The model is about to continue this text. Undo restores it; `again`: Redo restores the current text.

        Raises: UserError.
        """
        with self._changing(id) as (draft, put):
            before = draft.before if again else _limited((*draft.before, text))
            after = _limited((*draft.after, draft.text)) if again and draft.text != text else ()
            return put(_moved(draft, text, before, after, writer))

    def grow(self, id: str, text: str) -> Draft:
        """Store what the model has written so far. Raises: UserError."""
        with self._changing(id) as (draft, put):
            return put(replace(draft, text=text, revision=draft.revision + 1))

    def undo(self, id: str, writer: str = "") -> Draft:
        """The text before the model's last run. Raises: NothingToDo, UserError."""
        with self._changing(id) as (draft, put):
            if not draft.before:
                raise NothingToDo("Nothing to undo: the model has not written anything here.")
            after = _limited((*draft.after, draft.text))
            return put(_moved(draft, draft.before[-1], draft.before[:-1], after, writer))

    def redo(self, id: str, writer: str = "") -> Draft:
        """The text that the last Undo or Regenerate replaced. Raises: NothingToDo, UserError."""
        with self._changing(id) as (draft, put):
            if not draft.after:
                raise NothingToDo("Nothing to redo.")
            before = _limited((*draft.before, draft.text))
            return put(_moved(draft, draft.after[-1], before, draft.after[:-1], writer))

    # --- files ---

    @contextmanager
    def _changing(self, id: str) -> Iterator[tuple[Draft, Callable[[Draft], Draft]]]:
        with self._lock:
            yield self._read(id), self._write

    def _read(self, id: str) -> Draft:
        if id in self._open:
            return self._open[id]
        path = safe_child(self._folder, id, ".json")
        if not path.is_file():
            raise NotFound("This text no longer exists: its file was moved or deleted. Reload the page.")
        try:
            values = safe_json.loads(path.read_text(encoding="utf-8"))
            before, after = (tuple(map(str, values.get(name, ()))) for name in ("before", "after"))
            draft = Draft(id, str(values["text"]), int(values.get("revision", 0)), before=before, after=after)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(path, f"it is not a valid draft file ({error})") from None
        return self._keep(draft)

    def _keep(self, draft: Draft) -> Draft:
        """Keep it in memory; the least recently used one is dropped, and read again when needed."""
        self._open[draft.id] = draft
        self._open.move_to_end(draft.id)
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return draft

    def _write(self, draft: Draft) -> Draft:
        values = {"text": draft.text, "revision": draft.revision, "before": draft.before, "after": draft.after}
        path = safe_child(self._folder, draft.id, ".json")
        try:
            write_json(path, values)
        except OSError as error:
            raise Unavailable(
                f"The text could not be saved to {path} ({error.strerror}). It is still in the page: copy it, or "
                "free some disk space and keep writing."
            ) from None
        return self._keep(draft)


def _moved(draft: Draft, text: str, before: tuple[str, ...], after: tuple[str, ...], writer: str) -> Draft:
    writer = writer or draft.writer
    number = draft.number if writer == draft.writer else 0.0
    return replace(
        draft, text=text, revision=draft.revision + 1, before=before, after=after, writer=writer, number=number
    )


def _limited(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The last ones, as many as are kept."""
    kept: list[str] = []
    room = _MOST
    for text in reversed(texts[-_STEPS:]):
        room -= len(text)
        if room < 0 and kept:
            break
        kept.insert(0, text)
    return tuple(kept)
