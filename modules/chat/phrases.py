"""The phrases that a model repeats over the user's chats: what could be banned.

A phrase counts once per reply, and the user's own phrases do not count. The work is bounded however many chats there
are. It must not know how a phrase is banned.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from errors import UserError
from modules.chat.conversation import Conversation
from modules.chat.store.store import ConversationStore

#: Words in a phrase.
SHORTEST, LONGEST = 3, 8
#: Replies that must contain a phrase, and the share of its replies that a longer one needs to stand for it.
_REPLIES, _SUBSUMED = 3, 0.8
#: Chats that are read, newest first, and characters of all replies together.
_MOST_CHATS, _MOST_TEXT = 500, 4_000_000
_TELLING = 5  # letters that one of a phrase's words must have

_WORD = r"\w+(?:['’-]\w+)*"
#: Words with one space between them: as a ban finds them, which takes a phrase literally.
_WORDS = re.compile(rf"{_WORD}(?: {_WORD})*")


@dataclass(frozen=True, slots=True)
class RepeatedPhrase:
    """A phrase as it was written first, and how many replies in how many chats contain it."""

    text: str
    replies: int
    chats: int


@dataclass(frozen=True, slots=True)
class PhraseCount:
    """The phrases, most frequent first, of so many replies in so many chats."""

    phrases: tuple[RepeatedPhrase, ...]
    replies: int
    chats: int


class PhraseMeter:
    """Counts over the chats of a store."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store

    def count(self, model: str = "", most: int = 40) -> PhraseCount:
        """The `most` frequent phrases in the replies of a model; "": of all models."""
        return count_phrases(self._chats(), model, most)

    def _chats(self) -> Iterator[Conversation]:
        for info in self._store.everything()[:_MOST_CHATS]:
            with suppress(UserError):
                yield self._store.open(info.id)


def count_phrases(chats: Iterable[Conversation], model: str = "", most: int = 40) -> PhraseCount:
    """As `PhraseMeter.count`."""
    replies, said, left = list[tuple[int, list[list[str]]]](), set[str](), _MOST_TEXT
    for number, chat in enumerate(chats):
        for message in chat:
            if message.role == "user":
                said.update(_words(message.text[:left]))
            elif not message.is_greeting and (not model or message.model == model) and left > 0:
                left -= len(message.text)
                replies.append((number, list(_parts(message.text))))
    found = _repeated(replies, said)
    found.sort(key=lambda each: (-each.chats, -each.replies, each.text))
    return PhraseCount(tuple(found[:most]), len(replies), len({number for number, _ in replies}))


def _words(text: str) -> Iterator[str]:
    """The shortest phrases of a text, folded."""
    for words in _parts(text):
        for phrase in _phrases(words, SHORTEST):
            yield _folded(phrase)


def _parts(text: str) -> Iterator[list[str]]:
    return (found[0].split(" ") for found in _WORDS.finditer(text))


def _phrases(words: list[str], length: int) -> Iterator[list[str]]:
    return (words[at : at + length] for at in range(len(words) - length + 1))


def _folded(words: list[str]) -> str:
    return " ".join(words).casefold().replace("’", "'")


def _repeated(replies: list[tuple[int, list[list[str]]]], said: set[str]) -> list[RepeatedPhrase]:
    """Longer phrases are only looked for where the shorter ones in them are frequent."""
    kept: dict[str, RepeatedPhrase] = {}
    frequent: set[str] | None = None
    for length in range(SHORTEST, LONGEST + 1):
        counts, spelled, where = Counter[str](), dict[str, str](), defaultdict[str, set[int]](set)
        for number, parts in replies:
            seen: dict[str, str] = {}
            for words in parts:
                for phrase in _phrases(words, length):
                    folded = _folded(phrase)
                    inner = (_folded(phrase[:-1]), _folded(phrase[1:]))
                    if frequent is None or frequent.issuperset(inner):
                        seen.setdefault(folded, " ".join(phrase))
            for folded, text in seen.items():
                if frequent is not None or folded not in said:
                    counts[folded] += 1
                    spelled.setdefault(folded, text)
                    where[folded].add(number)
        frequent = {folded for folded, count in counts.items() if count >= _REPLIES}
        for folded in frequent:
            for inner_text in (folded.partition(" ")[2], folded.rpartition(" ")[0]):
                shorter = kept.get(inner_text)
                if shorter and counts[folded] >= _SUBSUMED * shorter.replies:
                    del kept[inner_text]
        kept |= {each: RepeatedPhrase(spelled[each], counts[each], len(where[each])) for each in frequent}
        if not frequent:
            break
    return [each for text, each in kept.items() if any(len(word) >= _TELLING for word in text.split())]
