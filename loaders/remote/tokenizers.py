"""Tokenizers of models elsewhere: the server's own, asked over its routes, or an estimate where it has none.

Both are `loaders.base.Tokenizer`. They must not know of requests.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from errors import InvalidToken, UserError, encode_utf8
from loaders.token_strings import is_byte_level, token_bytes

#: Names that control tokens of common models have; those of the template come in addition. Each is checked.
_COMMON = (
    "<s>", "</s>", "<pad>", "<unk>", "<bos>", "<eos>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>",
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<|python_tag|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[SYSTEM_PROMPT]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|start|>",
    "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5cUser\uff5c>",
    "<\uff5cAssistant\uff5c>",
)  # fmt: skip
_MARK = re.compile(r"<[|\uff5c]?[^\s<>'\"]{1,40}?[|\uff5c]?>|\[/?[A-Z_]{2,24}\]")
_MOST_MARKS = 200
_SHORT, _REMEMBERED = 64, 4096
_UNKNOWN_VOCABULARY = 1 << 19  # ids, where a server does not say how many there are: more than any model has

#: Bytes per token of an estimate: fewer than most vocabularies need, so that prompts rather fit.
BYTES_PER_TOKEN = 3


class ServerTokenizer:
    """The tokenizer of a server. May be used from several threads.

    `ask(text, add_bos, special)` returns the ids and, if the server tells them, their pieces: bytes, or strings as the
    vocabulary writes them; `tell(ids)` returns the text. Both raise UserError.
    """

    def __init__(
        self,
        ask: Callable[[str, bool, bool], tuple[list[int], Sequence[bytes | str] | None]],
        tell: Callable[[Sequence[int]], str],
        *,
        n_vocab: int = 0,
        bos_token: str = "",
        eos_token: str = "",
        chat_template: str | None = None,
        splits: bool = False,
    ) -> None:
        """`splits`: the server always takes the names of control tokens as those tokens, so they are cut in two."""
        self._ask, self._tell, self._splits = ask, tell, splits
        self.n_vocab = n_vocab or _UNKNOWN_VOCABULARY
        self.bos_token, self.eos_token, self.chat_template = bos_token, eos_token, chat_template
        self._pieces: dict[int, bytes] = {}
        self._encoded: dict[tuple[str, bool, bool], list[int]] = {}
        self._lock = threading.Lock()
        marks = _MARK.findall(chat_template or "")
        if splits:  # no way to tell <think> of some models, which is text, from a control token: only certain forms
            marks = [each for each in marks if each[1] in "|\uff5c"]
        names = self._find_control([bos_token, eos_token, *_COMMON, *marks])
        self.control = frozenset(names)
        self.special_ids = frozenset(names.values())
        self.end_ids = frozenset(names[each] for each in (eos_token,) if each in names)

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `special`: control tokens written out in the text become those tokens.

        Raises: UserError.
        """
        encode_utf8(text)
        if not special and self._splits and self.control:
            return self._encode_split(text, add_bos)
        if len(text) > _SHORT:
            return self._fetch(text, add_bos, special)
        key = text, add_bos, special
        if (found := self._encoded.get(key)) is None:
            found = self._fetch(text, add_bos, special)
            with self._lock:
                if len(self._encoded) >= _REMEMBERED:
                    self._encoded.clear()
                self._encoded[key] = found
        return list(found)

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken, UserError."""
        if not 0 <= token < self.n_vocab:
            raise InvalidToken(token, self.n_vocab)
        if token in self.special_ids and not special:
            return b""
        if (found := self._pieces.get(token)) is None:
            found = self._pieces[token] = self._tell([token]).encode()
        return found

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        return token in self.special_ids

    def learn(self, token: int, data: bytes) -> None:
        """A token's bytes, from an answer that has them."""
        self._pieces.setdefault(token, data)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids with the names of control tokens, by the server. Raises: UserError."""
        return self._tell(ids)

    def _fetch(self, text: str, add_bos: bool, special: bool) -> list[int]:
        ids, pieces = self._ask(text, add_bos, special)
        if pieces is not None and len(pieces) == len(ids):
            for token, piece in zip(ids, pieces, strict=True):
                if (data := self._bytes_of(piece)) is not None:
                    self._pieces.setdefault(token, data)
        return ids

    def _bytes_of(self, piece: bytes | str) -> bytes | None:
        """None if it cannot be told."""
        if isinstance(piece, bytes):
            return piece
        return None if self._byte_level is None else token_bytes(piece, byte_level=self._byte_level)

    @cached_property
    def _byte_level(self) -> bool | None:
        """How the vocabulary writes its tokens, by that of a space and a letter; None if it does neither as usual."""
        _, strings = self._ask("a a", False, False)
        return is_byte_level(str(strings[-1])) if strings else None

    def _encode_split(self, text: str, add_bos: bool) -> list[int]:
        ids: list[int] = []
        at = 0
        for mark in self._names.finditer(text):
            ids += self.encode(text[at : mark.start() + 1], add_bos=add_bos and not ids)
            at = mark.start() + 1
        return ids + self.encode(text[at:], add_bos=add_bos and not ids)

    @cached_property
    def _names(self) -> re.Pattern[str]:
        longest_first = sorted((name for name in self.control if len(name) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    def _find_control(self, names: Iterable[str]) -> dict[str, int]:
        """Those of the names that are control tokens: one token each, and several as plain text.

        In two questions where the server tells the pieces, else one by one. Raises: UserError.
        """
        found: dict[str, int] = {}
        unique = list(dict.fromkeys(each for each in names if each))[:_MOST_MARKS]
        both = [] if self._splits else [self._ask("\n".join(unique), False, special) for special in (True, False)]
        if both and both[0][1] is not None and both[1][1] is not None:
            plain = {*both[1][0]}
            pieces = dict(zip(both[0][1], both[0][0], strict=True))
            found = {
                name: pieces[data] for name in unique if (data := name.encode()) in pieces and pieces[data] not in plain
            }
            self._pieces.update({token: name.encode() for name, token in found.items()})
            return found
        for name in unique:
            with contextlib.suppress(UserError):
                ids = self._fetch(name, False, True)
                if len(ids) == 1 and (self._splits or len(self._fetch(name, False, False)) > 1):
                    found[name] = ids[0]
                    self._pieces[ids[0]] = name.encode()
        return found


class EstimatedTokenizer:
    """For servers without a tokenizer: every three bytes count as a token. Ids are those bytes, so texts come back."""

    n_vocab = 1 << (8 * BYTES_PER_TOKEN + 2)
    bos_token = eos_token = ""
    chat_template: str | None = None
    end_ids: frozenset[int] = frozenset()
    control: frozenset[str] = frozenset()
    special_ids: frozenset[int] = frozenset()

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """Raises: InvalidInput."""
        del add_bos, special
        data = encode_utf8(text)
        size = BYTES_PER_TOKEN
        parts = (data[at : at + size] for at in range(0, len(data), size))
        return [int.from_bytes(part, "big") | (len(part) << (8 * size)) for part in parts]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Raises: InvalidToken."""
        del special
        size, number = divmod(token, 1 << (8 * BYTES_PER_TOKEN))
        if not 0 < size <= BYTES_PER_TOKEN or number >= 1 << (8 * size):
            raise InvalidToken(token, self.n_vocab)
        return number.to_bytes(size, "big")

    def is_special(self, token: int) -> bool:
        del token
        return False

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return b"".join(map(self.piece, ids)).decode("utf-8", "replace")
