"""Our grammars mean the same as llama.cpp's: the same tokens are allowed at every position of random texts."""

from __future__ import annotations

import codecs
import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from errors import UserError
from loaders import gbnf
from tests.loaders.llamacpp_grammar import LlamaCppGrammar

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def textual(demo_model: Any) -> np.ndarray:
    """The tokens of which both must say the same.

    llama.cpp lets control tokens stand for their names in any text, and bytes that are in no UTF-8; ours does neither.
    """
    tokenizer = demo_model.tokenizer
    pieces = [tokenizer.piece(token) for token in range(tokenizer.n_vocab)]
    return np.array([token in tokenizer.end_ids or bool(piece) for token, piece in enumerate(pieces)])


def state_of(data: bytes) -> str:
    """Whether these bytes are UTF-8 ("whole"), a valid beginning ("part"), or neither ("no"). NUL counts as invalid."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return "no"
    pending = decoder.getstate()[0]
    if b"\0" in data or (pending[:1] == b"\xed" and pending[1:2] >= b"\xa0"):  # a surrogate begins so
        return "no"
    return "part" if pending else "whole"


def disagree(done: bytes, piece: bytes, mine: bool) -> bool:
    """Whether a difference between the two is an error.

    If a token ends within a character, llama.cpp refuses some valid continuations for sets of all but these.
    """
    state = state_of(done + piece)
    return state == "whole" or (state == "part" and not mine)


def compare(model: Any, textual: np.ndarray, text: str, seed: int, steps: int) -> None:
    """Walk a random text of the grammar with both, and compare the masks at each position."""
    assert gbnf.check_grammar(text) == [], text
    tokenizer, chance = model.tokenizer, random.Random(seed)
    theirs = LlamaCppGrammar(tokenizer._vocab, tokenizer.n_vocab, text)
    ours = model._grammars.follow(text)
    try:
        done = b""
        for _ in range(steps):
            mine, other = ours.allowed() & textual, theirs.allowed() & textual
            differ = [
                token
                for token in np.flatnonzero(mine != other).tolist()
                if disagree(done, tokenizer.piece(token), bool(mine[token]))
            ]
            assert not differ, (
                text,
                done,
                [(token, tokenizer.piece(token), bool(mine[token])) for token in differ[:5]],
            )
            inside = [token for token in np.flatnonzero(mine & other).tolist() if token not in tokenizer.end_ids]
            if not inside:
                break
            # short ones more often: they lead deeper into a grammar
            some = chance.sample(inside, min(8, len(inside)))
            token = min(some, key=lambda token: len(tokenizer.piece(token)))
            refused = int(chance.choice(np.flatnonzero(~mine & ~other & textual)))
            assert not ours.allows(refused)
            assert ours.allows(token)
            ours.accept(token)
            theirs.accept(token)
            done += tokenizer.piece(token)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("path", sorted((ROOT / "grammars").glob("*.gbnf")), ids=lambda path: path.stem)
def test_the_shipped_ones(path: Path, demo_model: Any, textual: np.ndarray) -> None:
    for seed in range(4):
        compare(demo_model, textual, path.read_text(encoding="utf-8"), seed, 25)


@pytest.mark.parametrize(
    "text",
    [
        r'root ::= "a\x41é\U0001F600\n\t\r\"\\\[\]" "!"',
        'root ::= "é日本😀"+ [é-日]* [^a-zé]{2,3} .',
        "root ::= .{3}",
        r"root ::= [^\n]+ [\n] [-a] [a-] [\]-a]",
        r"root ::= [\uD800-\uDFFF] | [^\x00-\U0010FFFE] | [z-a] | [^z-a] | [\x00-a]",
        'root ::= "" | [] "a" | () "b"?',
        'root ::= ("a" | "ab") ("b" | "bc")? "c"*',
        'root ::= (("a"? "b"){2,3} | "ab"{2}){0,2} "." # comment\n  ',
        'root ::= a a\na ::= "x"{2}{3} | ("y"*)?',
        'root ::= <[28]> "x" <[30]>?',
        'root ::= !<[28]> !<[29]> "x"',
        'root ::= [a-z]* "end" [a-z]* "s"',
    ],
)
def test_all_that_the_language_has(text: str, demo_model: Any, textual: np.ndarray) -> None:
    for seed in range(3):
        compare(demo_model, textual, text, seed, 12)


LETTERS = st.sampled_from(
    ['"a"', '"ab"', '"b "', '"é"', '" a"', "[ab]", "[^a]", "[a-c ]", ".", '""', '"the"', "[ \\n]"]
)
MARKS = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{0,2}", "{1,}"])
#: Of groups: nested endless repetitions make llama.cpp's engine work for hours.
GROUP_MARKS = st.sampled_from(["", "", "?", "{2}"])
NAMES = ("root", "a", "b")


def expressions(names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    letters = st.builds(lambda item, mark: item + (mark if item != '""' else ""), LETTERS, MARKS)
    marked = letters | st.builds(lambda name, mark: name + mark, names, GROUP_MARKS)

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        lines = st.lists(inner, min_size=1, max_size=3).map(" ".join)
        return st.builds(
            lambda parts, mark: f"({' | '.join(parts)}){mark}", st.lists(lines, min_size=1, max_size=3), GROUP_MARKS
        )

    return st.lists(st.recursive(marked, grown, max_leaves=6), min_size=1, max_size=3).map(" ".join)


RULES = expressions(st.sampled_from(NAMES))
GRAMMARS = st.tuples(RULES, RULES, RULES).map(
    lambda rules: "".join(f"{name} ::= {rule}\n" for name, rule in zip(NAMES, rules, strict=True))
)


@settings(max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=GRAMMARS, seed=st.integers(0, 99))
def test_random_ones(text: str, seed: int, demo_model: Any, textual: np.ndarray) -> None:
    assume(not gbnf.check_grammar(text))
    try:
        compare(demo_model, textual, text, seed, 8)
    except UserError:
        assume(False)
