"""Search in all conversations: for what was said, in any version and branch, and for titles.

What is not said is not found: the words that a file is written with are none of anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from modules.chat.file_form import texts_in
from modules.chat.store import Info, Store

#: Nobody reads more than this; whoever seeks adds a word.
MOST = 100


@dataclass(frozen=True)
class Found:
    """A conversation in which something was found, and the words around it."""

    info: Info
    excerpt: str


def search(store: Store, words: str) -> list[Found]:
    """The newest conversations of all scopes that hold all the words, in whatever case, at most MOST."""
    wanted = words.casefold().split()
    found: list[Found] = []
    if not wanted:
        return found
    for info in store.everything():
        written = store.text(info.id)
        if not _may_hold(f"{info.title}\n{written}", wanted):
            continue
        texts = [info.title, *texts_in(written)]
        if all(any(word in text.casefold() for text in texts) for word in wanted):
            found.append(Found(info, _excerpt(texts[1:], wanted[0])))
            if len(found) == MOST:
                break
    return found


def _may_hold(written: str, wanted: Sequence[str]) -> bool:
    """A quick look at the file as it stands: reading every file's JSON would take ten times as long."""
    if "\\u" in written:  # another program wrote letters as numbers: only reading tells
        return True
    plain = written.casefold()
    return all(json.dumps(word, ensure_ascii=False)[1:-1] in plain for word in wanted)


def _excerpt(texts: Sequence[str], word: str) -> str:
    """The words around the first place where a word is said; "" where only the title holds it."""
    for text in texts:
        at = text.casefold().find(word)
        if at >= 0:
            start, end = max(at - 30, 0), at + 60
            piece = " ".join(text[start:end].split())
            return f"{'…' if start else ''}{piece}{'…' if end < len(text) else ''}"
    return ""
