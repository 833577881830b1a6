"""Grammars over small vocabularies of all kinds: doubles, empty places, no bytes, all bytes, no end token, several."""

from __future__ import annotations

import pytest

from loaders.grammar.messages import Ask, Reply, Vocabulary
from loaders.grammar.worker import Worker

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
    vocabulary = Vocabulary(tuple(texts), frozenset(control), frozenset(ends))
    assert Vocabulary.unpacked(vocabulary.packed()) == vocabulary
    worker = Worker(vocabulary)
    assert worker.answer(Ask.OPEN, 1, grammar.encode()) == (Reply.YES, b"")
    for token in tokens:
        assert worker.answer(Ask.TRY, 1, token.to_bytes(4, "little")) == (Reply.YES, b"")
    reply, mask = worker.answer(Ask.MASK, 1, b"")
    found = int.from_bytes(mask, "little")
    assert reply is Reply.NO
    assert {token for token in range(len(texts) + 8) if found >> token & 1} == allowed
