"""Tokenizes with a folder's tokenizer.json. Knows nothing of engines; only `tokenizers` is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from errors import InvalidToken, ModelFileError, encode_utf8
from loaders import safe_json
from loaders.token_strings import token_bytes

#: Control tokens that end a turn in some model family, even if a folder's files do not say so; and those that separate
#: files and repositories in code models, after which another text begins. llama.cpp stops at the same ones.
_TURN_ENDS = frozenset(
    ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|end_of_text|>", "<EOT>")
    + ("<|return|>", "<|call|>", "<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<PAD>", "<|file_sep|>")
    + ("<|repo_name|>", "<|fim_repo|>", "<fim-repo>", "<REPO>", "<reponame>")
)
_LONG = 10_000  # characters: shorter texts take some milliseconds


class FolderTokenizer:
    """The tokenizer of a Hugging Face folder. May be used from several threads."""

    def __init__(self, path: Path, n_vocab: int) -> None:
        """`n_vocab`: the model's number of ids, 0 if unknown. Raises: ModelFileError."""
        file = path / "tokenizer.json"
        if not file.is_file():
            raise ModelFileError(path.name, "it has no tokenizer.json, which this loader requires. Download it again.")
        try:
            text = file.read_text(encoding="utf-8")
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
            self._literal = tokenizers.Tokenizer.from_str(text)  # treats control tokens as plain text
            parts = safe_json.loads(text)
        except Exception as error:  # the library raises plain Exceptions
            raise ModelFileError(path.name, f"its tokenizer.json cannot be read ({str(error)[:100]}).") from error
        for each in (self._tokenizer, self._literal):
            each.no_padding()
            each.no_truncation()
        self._literal.encode_special_tokens = True
        known = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self.n_vocab = min(n_vocab or known, known)  # models pad their output layer
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token: each.content for token, each in added.items()}
        self.special_ids = frozenset(token for token, each in added.items() if each.special)
        self.control = frozenset(self._added[token] for token in self.special_ids)
        decoder = json.dumps(parts.get("decoder"))
        self._byte_level = '"ByteLevel"' in decoder
        own = _read(path / "tokenizer_config.json")
        config, generation = _read(path / "config.json"), _read(path / "generation_config.json")
        self.bos_token = self._name(own.get("bos_token"), config.get("bos_token_id"))
        self.eos_token = self._name(own.get("eos_token"), config.get("eos_token_id"))
        self.bos_id: int | None = self._tokenizer.token_to_id(self.bos_token) if self.bos_token else None
        self.end_ids = self._ends(own, config, generation)
        first = self._tokenizer.encode("a", add_special_tokens=True).ids[:1]
        declared = own.get("add_bos_token")
        self.adds_bos = declared if isinstance(declared, bool) else first == [self.bos_id]
        self.chat_template = _template(path, own)

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `add_bos` puts the start token first if this model uses one.

        `special`: control tokens written out in the text become those tokens. Raises: InvalidInput.
        """
        encode_utf8(text)  # raises the error with the position
        tokenizer = self._tokenizer if special else self._literal
        ids: list[int] = _encoded(tokenizer, text).ids
        return [self.bos_id, *ids] if add_bos and self.adds_bos and self.bos_id is not None else ids

    def encode_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text without a start token, and the characters (begin, end) of each.

        Raises: InvalidInput.
        """
        encode_utf8(text)  # raises the error with the position
        found = _encoded(self._tokenizer, text)
        return found.ids, found.offsets

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken."""
        if not 0 <= token < self.n_vocab:
            raise InvalidToken(token, self.n_vocab)
        if token in self.special_ids and not special:
            return b""
        if token in self._added:
            return bytes(self._added[token].encode())
        text: object = self._tokenizer.id_to_token(token)
        if text is None:  # an unused id of the vocabulary
            return b""
        assert isinstance(text, str)
        return token_bytes(text, byte_level=self._byte_level)

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        return token in self.special_ids

    def _name(self, declared: Any, token: Any) -> str:
        """A control token's text, from tokenizer_config.json or else from the id in config.json."""
        if isinstance(declared, dict):
            declared = declared.get("content")
        if isinstance(declared, str):
            return declared
        token = token[0] if isinstance(token, list) and token else token
        return (self._tokenizer.id_to_token(token) or "") if isinstance(token, int) else ""

    def _ends(self, *files: dict[str, Any]) -> frozenset[int]:
        ids: set[int] = {token for token in self.special_ids if self._added[token] in _TURN_ENDS}
        for file in files:
            declared = file.get("eos_token_id")
            ids.update(token for token in (declared if isinstance(declared, list) else [declared]) if token is not None)
        if self.eos_token and (eos := self._tokenizer.token_to_id(self.eos_token)) is not None:
            ids.add(eos)
        return frozenset(token for token in ids if isinstance(token, int) and 0 <= token < self.n_vocab)


def _encoded(tokenizer: tokenizers.Tokenizer, text: str) -> Any:
    """Tokenize with the library. For a single text it holds Python's lock, and all threads would wait."""
    if len(text) < _LONG:
        return tokenizer.encode(text, add_special_tokens=False)
    return tokenizer.encode_batch([text], add_special_tokens=False)[0]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object from an optional file."""
    try:
        found = safe_json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _template(path: Path, own: dict[str, Any]) -> str | None:
    try:
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    found = own.get("chat_template") or _read(path / "chat_template.json").get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) else None
