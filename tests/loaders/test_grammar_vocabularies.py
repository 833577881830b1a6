"""Grammars over small vocabularies of all kinds: duplicates, unused ids, no bytes, all bytes, no end token, several."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from loaders.grammar.messages import GrammarVocabulary, RequestKind, ResponseKind
from loaders.grammar.worker import GrammarWorker
from loaders.worker_process import limit_memory

BYTES = [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("texts", "control", "ends", "grammar", "tokens", "allowed"),
    [
        ([b"a", b"b", b"", b"a", b"</s>"], {4}, {4}, 'root ::= "a" "b"*', [], {0, 3}),
        ([b"a", b"b", b"", b"a", b"</s>"], {4}, {4}, 'root ::= "a" "b"*', [0], {1, 4}),
        ([b"a", b"b", b"", b"a", b"</s>"], {4}, {4}, 'root ::= "a"', [3], {4}),
        ([b"a", b"b", b"\xff", b"ab"], set(), set(), 'root ::= "a" "b"', [], {0, 3}),
        ([b"a", b"b", b"\xff", b"ab"], set(), set(), 'root ::= "a" "b"', [3], set()),
        ([*BYTES, b"<s>", b"</s>"], {256, 257}, {257}, 'root ::= "é"', [], {0xC3}),
        ([*BYTES, b"<s>", b"</s>"], {256, 257}, {257}, 'root ::= "é"', [0xC3], {0xA9}),
        ([b"a", b"<x>", b"<e>", b"<f>"], {1, 2, 3}, {2, 3}, "root ::= .? <x>", [], {0, 1}),
        ([b"a", b"<x>", b"<e>", b"<f>"], {1, 2, 3}, {2, 3}, "root ::= .? <x>", [1], {2, 3}),
        ([b"a", b"<x>", b"<e>", b"<f>"], {1, 2, 3}, {2, 3}, 'root ::= "a<x>"', [0], {1}),
    ],
)
def test_what_is_allowed(
    texts: list[bytes], control: set[int], ends: set[int], grammar: str, tokens: list[int], allowed: set[int]
) -> None:
    vocabulary = GrammarVocabulary(tuple(texts), frozenset(control), frozenset(ends))
    assert GrammarVocabulary.unpacked(vocabulary.packed()) == vocabulary
    worker = GrammarWorker(vocabulary)
    assert worker.answer(RequestKind.OPEN, 1, grammar.encode()) == (ResponseKind.YES, b"")
    for token in tokens:
        assert worker.answer(RequestKind.TRY, 1, token.to_bytes(4, "little")) == (ResponseKind.YES, b"")
    reply, mask = worker.answer(RequestKind.MASK, 1, b"")
    found = int.from_bytes(mask, "little")
    assert reply is ResponseKind.NO
    assert {token for token in range(len(texts) + 8) if found >> token & 1} == allowed


DIGITS = [b"1", b"2", b"<e>"]
CUT = [b"a", b"\xc3", b"<e>"]


@pytest.mark.parametrize(
    ("texts", "grammar", "tokens", "where"),
    [
        (DIGITS, 'root ::= "ab" [a-z]+', [], "at the start"),
        (DIGITS, "root ::= [a-z]", [], "at the start"),
        (DIGITS, "root ::= [\\x00]", [], "at the start"),
        (DIGITS, 'root ::= "1" "ab"', [0], "after 1 token."),
        (DIGITS, 'root ::= "1" [2a] "ab" | "2" "b"', [0, 1], "after 2 tokens."),
        (DIGITS, "root ::= <e>", [], "at the start"),
        (DIGITS, 'root ::= "1" <e>', [0], "after 1 token."),
        ([b"", b"", b"<e>"], 'root ::= "a"', [], "at the start"),
        (CUT, 'root ::= "é"', [1], "after 1 token."),
    ],
)
def test_what_the_vocabulary_cannot_write_is_said_and_not_called_complex(
    texts: list[bytes], grammar: str, tokens: list[int], where: str
) -> None:
    for ask, payload in ((RequestKind.MASK, b""), (RequestKind.TRY, bytes(4))):
        worker = GrammarWorker(GrammarVocabulary(tuple(texts), frozenset({2}), frozenset({2})))
        assert worker.answer(RequestKind.OPEN, 1, grammar.encode()) == (ResponseKind.YES, b"")
        for token in tokens:
            assert worker.answer(RequestKind.TRY, 1, token.to_bytes(4, "little")) == (ResponseKind.YES, b"")
        reply, said = worker.answer(ask, 1, payload)
        assert reply is ResponseKind.INVALID
        assert f"no token of this model's vocabulary matches what is required {where}".encode() in said


class _Resource(SimpleNamespace):
    """The module `resource` of a system that refuses some limits and does not know others."""

    RLIM_INFINITY = -1

    def __init__(self, refused: str, hard: int) -> None:
        super().__init__(set={}, hard=hard, refused=refused)
        if refused != "unknown":
            self.RLIMIT_AS = "RLIMIT_AS"
        self.RLIMIT_CORE = "RLIMIT_CORE"

    def getrlimit(self, _: str) -> tuple[int, int]:
        return 0, self.hard

    def setrlimit(self, kind: str, pair: tuple[int, int]) -> None:
        if kind == self.refused:
            raise ValueError("current limit exceeds maximum limit")
        self.set[kind] = pair


@pytest.mark.parametrize(
    ("refused", "hard", "expected"),
    [
        ("nothing", -1, {"RLIMIT_AS": (4 << 30, 4 << 30), "RLIMIT_CORE": (0, 0)}),
        ("nothing", 1 << 30, {"RLIMIT_AS": (1 << 30, 1 << 30), "RLIMIT_CORE": (0, 0)}),
        ("RLIMIT_AS", -1, {"RLIMIT_CORE": (0, 0)}),
        ("unknown", -1, {"RLIMIT_CORE": (0, 0)}),
        ("RLIMIT_CORE", -1, {"RLIMIT_AS": (4 << 30, 4 << 30)}),
    ],
)
def test_a_bound_that_is_refused_takes_no_other_away(
    monkeypatch: pytest.MonkeyPatch, refused: str, hard: int, expected: dict[str, Any]
) -> None:
    system: Any = _Resource(refused, hard)
    monkeypatch.setitem(sys.modules, "resource", system)
    limit_memory(4 << 30)
    assert system.set == expected


def test_without_the_module_there_are_no_bounds_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    limit_memory(4 << 30)
