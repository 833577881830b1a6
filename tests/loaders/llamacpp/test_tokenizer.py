"""Texts of any kind and length are tokenized without crashing the program or delaying others."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import ModelClosed
from loaders import loader_named
from loaders.base import Model
from loaders.llamacpp.long_words import LONGEST, split_long_words
from loaders.llamacpp.tokenizer import LlamaTokenizer
from tests.conftest import keep_going
from tests.zoo import ggufs

#: Pre-tokenizers (tokenizer.ggml.pre) that recurse for each letter, each in a different way.
WAYS = ("gpt-4o", "deepseek-v3", "deepseek-llm", "tekken", "poro-chat", "falcon", "viking", "exaone-moe")
#: Text that may continue indefinitely.
ENDLESS = (
    "a",
    "aA",
    "a1",
    "7",
    " ",
    "\t",
    "\n",
    "!",
    "!\n",
    "!\x1c",
    "é",
    "e\u0301",
    "中",
    "\u3000 ",
    "😀",
    "ab ",
    "e\u0301 ",
    "A, b. ",
)

_READ_ALL = """
import sys
from types import SimpleNamespace
from loaders.llamacpp import native
from loaders.llamacpp.library import C
from loaders.llamacpp.tokenizer import LlamaTokenizer

native.initialize()
options = C.llama_model_default_params()
options.vocab_only = True
for path in sys.argv[3:]:
    vocab = C.llama_model_get_vocab(C.llama_model_load_from_file(path.encode(), options))
    tokenizer = LlamaTokenizer(SimpleNamespace(vocab=vocab, n_vocab=C.llama_vocab_n_tokens(vocab)), None)
    for text in eval(sys.argv[1]):
        print(path, ascii(text), flush=True)
        whole = text * (int(sys.argv[2]) // len(text))
        said = b"".join(map(tokenizer.piece, tokenizer.encode(whole)))
        assert said.decode("utf-8", "replace").replace("\\ufffd", "") in whole, said[:50]
"""


def test_no_text_ends_the_program_whatever_the_vocabulary(tmp_path: Path) -> None:
    files = []
    for way in WAYS:
        (tmp_path / way).mkdir()
        files.append(str(ggufs.make("llama", tmp_path / way, blocks=1, changes={"tokenizer.ggml.pre": way})))
    done = subprocess.run(
        [sys.executable, "-c", _READ_ALL, repr(ENDLESS), "60000", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()[-1:]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = ggufs.make("llama", tmp_path_factory.mktemp("small"), blocks=1)
    loader = loader_named("llama.cpp")
    return loader.load(path, loader.Options.parse({"n_ctx": 256}), keep_going)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*ENDLESS, "<|im_end|>", "\xa0", "\u2028"]), st.integers(1, 3 * LONGEST)), max_size=4
    )
)
def test_pieces_are_the_text_and_nothing_in_them_is_too_long(parts: list[tuple[str, int]]) -> None:
    text = "".join(part * count for part, count in parts)
    found = list(split_long_words(text))
    assert "".join(found) == text
    for piece in found:
        for kind in (r"[^ \t\n\r\v\f]+", r"\s+", r"(?:[^\W\d_]| )+"):
            assert max(map(len, re.findall(kind, piece)), default=0) <= LONGEST


@pytest.mark.parametrize("shift", range(-12, 13))
def test_a_cut_goes_through_no_control_token(shift: int) -> None:
    text = "x" * (LONGEST + shift) + "<|im_end|>" + "y" * LONGEST
    assert any("<|im_end|>" in piece for piece in split_long_words(text))


def test_texts_without_long_words_stay_whole() -> None:
    text = "All of this is one piece, however long it is.\n\n" * 5000
    assert list(split_long_words(text)) == [text]


def test_words_without_marks_are_parted_between_words() -> None:
    text = "one word after the other " * 400
    assert all(re.fullmatch(r"(^| )\w.*\w", piece) for piece in list(split_long_words(text))[:-1])


def test_chinese_is_cut_where_words_end() -> None:
    text = "他说了很多话，但是没有人听见。" * 400
    assert all(piece.endswith(("话", "见")) for piece in list(split_long_words(text))[:-1])


def test_whatever_stands_around_a_text_stands_around_a_long_one(small: Model) -> None:
    tokenizer, text = small.tokenizer, "a" * 3 * LONGEST
    bare, dressed = tokenizer.encode(text), tokenizer.encode(text, add_bos=True)
    begin = tokenizer.encode("", add_bos=True)
    assert dressed == begin + bare


def test_who_reads_a_long_text_holds_up_nobody_but_the_end(tmp_path: Path) -> None:
    loader = loader_named("llama.cpp")
    model = loader.load(ggufs.make("llama", tmp_path, blocks=1), loader.Options.parse({"n_ctx": 256}), keep_going)
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, LlamaTokenizer)
    others = [
        threading.Thread(target=lambda: tokenizer.encode("a"), daemon=True),
        threading.Thread(target=lambda: tokenizer.piece(5), daemon=True),
        threading.Thread(target=lambda: tokenizer.is_special(5), daemon=True),
    ]
    with tokenizer.looking():
        for each in others:
            each.start()
        for each in others:
            each.join(30)
            assert not each.is_alive()
        closing = threading.Thread(target=tokenizer.close, daemon=True)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()  # the vocabulary is still in use
    closing.join(30)
    assert not closing.is_alive()
    with pytest.raises(ModelClosed):
        tokenizer.encode("a")
    with pytest.raises(ModelClosed):
        tokenizer.piece(5)  # although it is known from before
    model.close()
