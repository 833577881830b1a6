"""A prompt that ends inside a word: what is given back, what may follow, and what its reader gets."""

from __future__ import annotations

from loaders.base import Model, Request, Token
from loaders.params import SamplingParams
from loaders.token_healing import BegunText, split_prompt
from tests.fake_engine import ByteTokenizer


def test_only_the_word_at_the_end_is_given_back(demo_model: Model) -> None:
    tokenizer = demo_model.tokenizer
    for text, begun in (
        ("The capital of France is Par", b" Par"), ("Photosynth", b"ynth"), ("The sky is blue. ", b""), ("Well,", b""),
        ("one", b""), ("café naïv", " naïv".encode()),
    ):  # fmt: skip
        ids = tokenizer.encode(text)
        kept, given = split_prompt(ids, tokenizer)
        assert given == begun
        assert b"".join(map(tokenizer.piece, kept)) + given == text.encode()


def test_any_split_of_the_text_is_possible_and_nothing_else() -> None:
    tokenizer = ByteTokenizer()
    text = BegunText(b"abc", tokenizer)
    for byte in b"abc":
        allowed = text.allowed()
        assert [token for token in range(tokenizer.n_vocab) if allowed[token]] == [byte]
        text.accept(byte)
        assert text.strip(Token(byte, bytes([byte]))).data == b""
    assert text.left == b""
    text.accept(100)
    assert text.strip(Token(100, b"d")).data == b"d"
    text.rewind(3)
    assert text.left == b"bc"


def test_the_reply_completes_the_word(demo_model: Model) -> None:
    tokenizer = demo_model.tokenizer
    kept, begun = split_prompt(tokenizer.encode("x = incompreh"), tokenizer)
    params = SamplingParams(do_sample=False)
    text = b"".join(token.data for token in demo_model.generate(Request(kept, params, 6, begun=begun)))
    assert text.startswith(b"ension")
    # a banned string may begin in the part that is written already
    avoiding = params.changed(banned_strings="incomprehension")
    text = b"".join(token.data for token in demo_model.generate(Request(kept, avoiding, 6, begun=begun)))
    assert not text.startswith(b"ension")
