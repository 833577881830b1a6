"""The folder's tokenizer: bytes, control tokens, ends, templates, in byte-level and SentencePiece vocabularies."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput, InvalidToken

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")


def tokenizer(path: Path, n_vocab: int = 258) -> Any:
    from loaders.hf_common.tokenizer import FolderTokenizer

    return FolderTokenizer(path, n_vocab)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path: Path = card.write_folder(tmp_path / "model")
    return path


@pytest.mark.parametrize("text", ["Hello", " a\n\tb ", "naïve café", "日本語 🎉", "\x00\x7f\xad"])
def test_bytes_come_back(folder: Path, text: str) -> None:
    own = tokenizer(folder)
    ids = own.encode(text)
    assert b"".join(own.piece(i) for i in ids) == text.encode()
    assert len(ids) == len(text.encode())


def test_control_tokens(folder: Path) -> None:
    own = tokenizer(folder)
    assert own.encode("<|im_end|>") == [card.IM_END]
    assert own.encode("<|im_end|>", special=False) != [card.IM_END]
    assert own.piece(card.IM_END) == b""
    assert own.piece(card.IM_END, special=True) == b"<|im_end|>"
    assert own.is_special(card.IM_END)
    assert not own.is_special(65)
    assert own.end_ids == {card.IM_END}
    assert (own.bos_token, own.eos_token) == ("<|im_start|>", "<|im_end|>")


def test_what_is_not_there(folder: Path) -> None:
    own = tokenizer(folder)
    with pytest.raises(InvalidToken):
        own.piece(258)
    with pytest.raises(InvalidInput, match="lone surrogate"):
        own.encode("\ud800")


def test_ends_and_bos_from_the_other_files(folder: Path) -> None:
    assert tokenizer(folder).encode("a", add_bos=True) == tokenizer(folder).encode("a"), "no sign that it has one"
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [65, 999]}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": True, "bos_token": {"content": "<|im_start|>"}, "chat_template": "{{ x }}"})
    )
    own = tokenizer(folder)
    assert own.end_ids == {card.IM_END, 65}
    assert own.encode("a", add_bos=True)[0] == card.IM_START
    assert own.chat_template == "{{ x }}"


def test_templates(folder: Path) -> None:
    assert tokenizer(folder).chat_template is None
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert tokenizer(folder).chat_template == "d"
    (folder / "chat_template.jinja").write_text("j")
    assert tokenizer(folder).chat_template == "j"


def test_sentencepiece(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models

    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}, "▁": 257, "a": 258, "▁a": 259}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True))
    made.add_special_tokens([AddedToken("<s>")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.save(str(folder / "tokenizer.json"))
    own = tokenizer(folder, 261)
    assert own.piece(259) == b" a"
    assert own.piece(1 + 0xE2) == b"\xe2"
    assert own.piece(260) == b""
    assert own.piece(260, special=True) == b"<s>"


def test_a_long_text_lets_other_threads_go_on(folder: Path) -> None:
    """The library holds Python's lock while it tokenizes a single text: then this thread could not have counted."""
    own = tokenizer(folder)
    text = "Hello, world. " * 50_000
    found: list[list[int]] = []
    reading = threading.Thread(target=lambda: found.append(own.encode(text)))
    reading.start()
    turns = 0
    while reading.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 20
    assert b"".join(own.piece(i) for i in found[0]) == text.encode()
