"""All strings of a list as one automaton: a character in, a state out, and whether one of the strings has ended.

States are computed when they are first needed and kept, so that a character costs one look-up however many strings
there are. It must not know about tokens or replies.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from loaders.banned.entries import BannedEntry, parse_banned_strings
from loaders.banned.regex import LINE, OTHER, RegexAutomaton, class_of

#: States that are kept; beyond, they are computed again.
_MOST_STATES = 20_000
#: The dot that a small Turkish "i" keeps when the case is folded.
_DOT = "\u0307"
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")


class TextState:
    """What may still become one of the strings, begun at one place. `accepts`: one of them has ended here."""

    __slots__ = ("accepts", "before", "moves", "nodes", "trie")

    def __init__(self, trie: int, nodes: frozenset[int], before: str, *, accepts: bool) -> None:
        self.trie = trie  # -1: none of the plain strings
        self.nodes = nodes
        self.before = before
        self.accepts = accepts
        self.moves: dict[str, tuple[bool, TextState | None]] = {}


class BannedPattern:
    """Made once for a list; may be used by several threads."""

    def __init__(self, entries: list[BannedEntry], *, ignore_case: bool) -> None:
        """Raises: InvalidInput for a regular expression that cannot be used."""
        self._ignore_case = ignore_case
        self._trie: list[dict[str, int]] = [{}]
        self._ends: set[int] = set()
        self._dotted: set[int] = set()  # the nodes after an "i", which may be written with a dot of its own
        self._regex = RegexAutomaton(ignore_case)
        self._states: dict[tuple[int, frozenset[int], str], TextState] = {}
        for entry in entries:
            if entry.regex:
                self._regex.add(entry.text)
            else:
                for text in spellings(entry.text):
                    self._add(text)

    def start(self, before: str) -> TextState:
        """The state before the first character; `before` is the class of what precedes it."""
        return self._state(0, frozenset(self._regex.starts), before, begun=False)

    def step(self, state: TextState, char: str) -> tuple[bool, TextState | None]:
        """Whether a string ended before this character, which it had to know; and the next state, if there is one."""
        move = state.moves.get(char)
        if move is None:
            move = state.moves[char] = self._move(state, char)
        return move

    def ends(self, state: TextState) -> bool:
        """Whether one of the strings ends here if the text does."""
        return state.accepts or self._accepts(state.nodes, state.before, LINE)

    def _add(self, text: str) -> None:
        at = 0
        for char in "".join(fold(char, self._ignore_case) for char in text):
            at = self._after(at, char, add=True)
        self._ends.add(at)

    def _after(self, at: int, char: str, *, add: bool = False) -> int:
        """The node after one folded character; -1 if no string continues with it."""
        following = self._trie[at].get(char)
        if following is not None:
            return following
        if char == _DOT and at in self._dotted:
            return at
        if not add:
            return -1
        following = self._trie[at][char] = len(self._trie)
        self._trie.append({})
        if char == "i" and self._ignore_case:
            self._dotted.add(following)
        return following

    def _move(self, state: TextState, char: str) -> tuple[bool, TextState | None]:
        trie = state.trie
        for each in fold(char, self._ignore_case):
            trie = self._after(trie, each) if trie >= 0 else -1
        nodes, ended = frozenset[int](), False
        if state.nodes:
            after = class_of(char)
            open_ = self._closure(state.nodes, state.before, after)
            ended = any(self._regex.nodes[each].accepts for each in open_)
            taking = [node for each in open_ if (node := self._regex.nodes[each]).takes and node.takes(char)]
            nodes = frozenset(each for node in taking for each in node.next)
        if trie < 0 and not nodes:
            return ended, None
        return ended, self._state(trie, nodes, class_of(char), begun=True)

    def _state(self, trie: int, nodes: frozenset[int], before: str, *, begun: bool) -> TextState:
        before = before if self._regex.looks_ahead else OTHER
        key = (trie, nodes, before)
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= _MOST_STATES:
                self._states = {}
            accepts = begun and (trie in self._ends or self._accepts(nodes, before, None))
            state = self._states[key] = TextState(trie, nodes, before, accepts=accepts)
        return state

    def _accepts(self, nodes: frozenset[int], before: str, after: str | None) -> bool:
        return any(self._regex.nodes[each].accepts for each in self._closure(nodes, before, after))

    def _closure(self, nodes: frozenset[int], before: str, after: str | None) -> set[int]:
        return self._regex.closure(nodes, lambda node: node.passes is None or node.passes(before, after))


def fold(char: str, ignore_case: bool) -> str:
    """What is compared of a character: its parts, so that an accent may be part of a letter or follow it, and without
    its case if wished: "ß" is "ss", and all four forms of the Turkish "i" are "i".
    """
    parts = unicodedata.normalize("NFD", char)
    return unicodedata.normalize("NFD", parts.casefold()).replace("\u0131", "i") if ignore_case else parts


def spellings(text: str) -> set[str]:
    """A text with its apostrophes inside of words as they are, as typed, and as printed."""
    return {text, *(_APOSTROPHE.sub(each, text) for each in "'’")}


@lru_cache(maxsize=16)
def compile_banned_strings(text: str, ignore_case: bool) -> BannedPattern | None:
    """The automaton of a list as users write it; None if it is empty. Raises: InvalidInput."""
    entries = parse_banned_strings(text)
    return BannedPattern(entries, ignore_case=ignore_case) if entries else None
