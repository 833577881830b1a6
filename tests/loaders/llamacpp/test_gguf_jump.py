"""Vocabularies are skipped, and a file in which that fails is read in full."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from loaders.llamacpp import gguf
from loaders.llamacpp.gguf import read_header


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def file_with(path: Path, words: list[bytes], after: list[tuple[bytes, bytes]]) -> Path:
    pairs = [(b"general.architecture", struct.pack("<I", 8) + text(b"llama"))]
    pairs.append((b"tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(text, words))))
    pairs += after
    body = b"".join(text(key) + value for key, value in pairs)
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + body + bytes(32))
    return path


NUMBER = struct.pack("<II", 4, 7)
WORDS = [b"word%d" % number for number in range(3000)]


@pytest.mark.parametrize(
    "after",
    [
        [(b"tokenizer.ggml.bos_token_id", NUMBER)],
        [(b"general.quantization_version", NUMBER)],
        [(b"general.other", NUMBER), (b"tokenizer.ggml.bos_token_id", NUMBER)],
        [],
    ],
)
@pytest.mark.parametrize(
    "word", [b"tokenizer.", b"tokenizer.ggml.model", text(b"tokenizer.ggml.tokens"), b"\x15" + bytes(7) + b"tokenizer"]
)
def test_the_same_header_with_and_without_the_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: list[tuple[bytes, bytes]], word: bytes
) -> None:
    path = file_with(tmp_path / "a.gguf", [*WORDS, word, *WORDS], after)
    quick = read_header(path).metadata
    monkeypatch.setattr(gguf._Reader, "_jump", lambda *_: False)
    assert quick == read_header(path).metadata
    assert all(quick[key.decode()] == 7 for key, _ in after)


def test_it_does_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_with(tmp_path / "a.gguf", WORDS, [(b"tokenizer.ggml.bos_token_id", NUMBER)])
    jumped: list[bool] = []
    jump = gguf._Reader._jump
    monkeypatch.setattr(gguf._Reader, "_jump", lambda self, count: jumped.append(jump(self, count)) or jumped[-1])
    read_header(path)
    assert jumped == [True]
