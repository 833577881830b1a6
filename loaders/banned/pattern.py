"""All strings of a list as one automaton: a character in, a state out, and whether one of the strings has ended.

States are computed when they are first needed and kept, so that a character costs one look-up however many strings
there are. Computing one costs a step for each node of the expressions. It must not know about tokens or replies.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from loaders.banned.budget import StepBudget
from loaders.banned.entries import BannedEntry, parse_banned_strings
from loaders.banned.regex import LINE, OTHER, RegexAutomaton, class_of

#: The dot that a small Turkish "i" keeps when the case is folded.
_DOT = "\u0307"
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
#: What is kept, beyond which all of it is computed again: nodes of states and moves, of some 50 bytes each.
_MOST_KEPT = 400_000
_STATE = 10  # what a state without nodes counts


class TextState:
    """What may still become one of the strings, begun at one place. `accepts`: one of them has ended here; `ends`: one
    of them has if the text ends here.
    """

    __slots__ = ("accepts", "before", "ends", "moves", "nodes", "trie")

    def __init__(self, trie: int, nodes: frozenset[int], before: str, *, accepts: bool, ends: bool) -> None:
        self.trie = trie  # -1: none of the plain strings
        self.nodes = nodes
        self.before = before
        self.accepts = accepts
        self.ends = ends
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
        self._kept = 0  # in the unit of _MOST_KEPT
        for entry in entries:
            if entry.regex:
                self._regex.add(entry.text)
            else:
                for text in spellings(entry.text):
                    self._add(text)

    def start(self, before: str, budget: StepBudget) -> TextState:
        """The state before the first character; `before` is the class of what precedes it. Raises: as `step`."""
        return self._state(0, frozenset(self._regex.starts), before, budget, begun=False)

    def step(self, state: TextState, char: str, budget: StepBudget) -> tuple[bool, TextState | None]:
        """Whether a string ended before this character, which it had to know; and the next state, if there is one.

        Raises: InvalidInput if the budget does not suffice.
        """
        budget.spend(1)
        move = state.moves.get(char)
        if move is None:
            move = state.moves[char] = self._move(state, char, budget)
            self._keep(1)
        return move

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

    def _move(self, state: TextState, char: str, budget: StepBudget) -> tuple[bool, TextState | None]:
        trie = state.trie
        for each in fold(char, self._ignore_case):
            trie = self._after(trie, each) if trie >= 0 else -1
        nodes, ended = frozenset[int](), False
        if state.nodes:
            open_ = [self._regex.nodes[each] for each in self._closure(state.nodes, state.before, class_of(char))]
            budget.spend(sum(node.cost for node in open_))
            ended = any(node.accepts for node in open_)
            taking = [node for node in open_ if node.takes and node.takes(char)]
            nodes = frozenset(each for node in taking for each in node.next)
        if trie < 0 and not nodes:
            return ended, None
        return ended, self._state(trie, nodes, class_of(char), budget, begun=True)

    def _state(self, trie: int, nodes: frozenset[int], before: str, budget: StepBudget, *, begun: bool) -> TextState:
        before = before if self._regex.looks_ahead else OTHER
        key = (trie, nodes, before)
        state = self._states.get(key)
        if state is None:
            accepts = begun and (trie in self._ends or self._accepts(nodes, before, None, budget))
            ends = accepts or (self._regex.looks_ahead and self._accepts(nodes, before, LINE, budget))
            self._keep(_STATE + len(nodes))
            state = self._states[key] = TextState(trie, nodes, before, accepts=accepts, ends=ends)
        return state

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > _MOST_KEPT:
            self._states, self._kept = {}, count

    def _accepts(self, nodes: frozenset[int], before: str, after: str | None, budget: StepBudget) -> bool:
        found = self._closure(nodes, before, after)
        budget.spend(len(found))
        return any(self._regex.nodes[each].accepts for each in found)

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
