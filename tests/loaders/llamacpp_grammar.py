"""llama.cpp's own engine for GBNF grammars: the reference with which ours is compared."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as C
import numpy as np
import numpy.typing as npt

#: llama_token_data as NumPy sees it
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaCppGrammar:
    """A GBNF grammar and a reply's position in it."""

    def __init__(self, vocab: Any, n_vocab: int, text: str) -> None:
        """Some grammars crash llama.cpp: validate with gbnf first. Raises: ValueError."""
        self._sampler: Any = C.llama_sampler_init_grammar(vocab, text.encode("utf-8", "replace"), b"root")
        if not self._sampler:
            raise ValueError("llama.cpp refuses it")
        self._all = np.zeros(n_vocab, CANDIDATE)
        self._all["id"] = np.arange(n_vocab)
        self._array = C.llama_token_data_array()

    def allows(self, token: int) -> bool:
        """Whether the reply may continue with this token."""
        return bool(self._apply(np.array([(token, 0.0, 0.0)], CANDIDATE))[0])

    def allowed(self) -> npt.NDArray[np.bool_]:
        """For every token whether the reply may continue with it, shape (n_vocab,)."""
        self._all["logit"] = 0.0
        return self._apply(self._all)

    def accept(self, token: int) -> None:
        C.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        if self._sampler:
            C.llama_sampler_free(self._sampler)
            self._sampler = None

    def _apply(self, candidates: np.ndarray[Any, Any]) -> npt.NDArray[np.bool_]:
        self._array.data = ctypes.cast(candidates.ctypes.data, C.llama_token_data_p)
        self._array.size = len(candidates)
        self._array.selected = -1
        self._array.sorted = False
        C.llama_sampler_apply(self._sampler, ctypes.byref(self._array))
        allowed: npt.NDArray[np.bool_] = candidates["logit"] != -np.inf
        return allowed
