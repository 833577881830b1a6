"""Searches all conversations for words in messages, in any version and branch, in titles and in names of folders.

Only texts are searched: the keys of the file format do not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from modules.chat.formats.conversation_file import conversation_texts
from modules.chat.store.store import ConversationInfo, ConversationStore

#: The most results; users refine the search instead of reading more.
MOST = 100


@dataclass(frozen=True)
class SearchResult:
    """A conversation with a match, and the text around it."""

    info: ConversationInfo
    excerpt: str


def search_chats(store: ConversationStore, words: str) -> list[SearchResult]:
    """The newest conversations of all scopes that contain all the words, ignoring case, at most MOST."""
    wanted = words.casefold().split()
    found: list[SearchResult] = []
    if not wanted:
        return found
    for info in store.everything():
        written = store.text(info.id)
        if not _may_hold(f"{info.title}\n{info.folder}\n{written}", wanted):
            continue
        texts = [info.title, info.folder, *conversation_texts(written)]
        if all(any(word in text.casefold() for text in texts) for word in wanted):
            found.append(SearchResult(info, _excerpt(texts[1:], wanted[0])))
            if len(found) == MOST:
                break
    return found


def _may_hold(written: str, wanted: Sequence[str]) -> bool:
    """A quick check of the raw file: parsing every file's JSON would take ten times as long."""
    if "\\u" in written:  # another program escaped characters as numbers: only parsing tells
        return True
    plain = written.casefold()
    return all(json.dumps(word, ensure_ascii=False)[1:-1] in plain for word in wanted)


def _excerpt(texts: Sequence[str], word: str) -> str:
    """The text around the first match of a word; "" if only the title matches."""
    for text in texts:
        at = text.casefold().find(word)
        if at >= 0:
            start, end = max(at - 30, 0), at + 60
            piece = " ".join(text[start:end].split())
            return f"{'…' if start else ''}{piece}{'…' if end < len(text) else ''}"
    return ""
