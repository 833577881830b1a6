"""All strings of a list as one automaton: a character in, a state out, and whether one of the strings has ended.

States are computed when they are first needed and kept, so that a character costs one look-up however many strings
there are. It must not know about tokens or replies.
"""

from __future__ import annotations

from functools import lru_cache

from loaders.banned.entries import BannedEntry, parse_banned_strings
from loaders.banned.regex import LINE, OTHER, RegexAutomaton, class_of

#: States that are kept; beyond, they are computed again.
_MOST_STATES = 20_000


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
        self._regex = RegexAutomaton(ignore_case)
        self._states: dict[tuple[int, frozenset[int], str], TextState] = {}
        for entry in entries:
            if entry.regex:
                self._regex.add(entry.text)
            else:
                self._add(entry.text)

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
        for char in map(self._fold, text):
            following = self._trie[at].get(char)
            if following is None:
                following = self._trie[at][char] = len(self._trie)
                self._trie.append({})
            at = following
        self._ends.add(at)

    def _fold(self, char: str) -> str:
        if not self._ignore_case:
            return char
        return next((each for each in (char.casefold(), char.lower()) if len(each) == 1), char)

    def _move(self, state: TextState, char: str) -> tuple[bool, TextState | None]:
        trie = self._trie[state.trie].get(self._fold(char), -1) if state.trie >= 0 else -1
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


@lru_cache(maxsize=16)
def compile_banned_strings(text: str, ignore_case: bool) -> BannedPattern | None:
    """The automaton of a list as users write it; None if it is empty. Raises: InvalidInput."""
    entries = parse_banned_strings(text)
    return BannedPattern(entries, ignore_case=ignore_case) if entries else None
