"""Tests how a model can continue from its cache: with any number of tokens, with single ones, or not at all.

Full attention can always continue. For recurrent layers, windows and a folder's own code this is unknown: a state may
be stored under another name, inside the layers, or be ignored if several tokens follow it. So a short text is read
whole and in chunks, once, when the model loads, and the logits are compared. Windows and chunks are shortened
meanwhile, so that the text exceeds them: a model behaves at its window of 4,096 tokens as at one of 16. It must not
know of requests, sampling or options.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from loaders.huggingface.cache import CacheUsage, TransformersCache, cache_argument_name

log = logging.getLogger(__name__)

#: The text, long enough for a chunk that is longer than the chunks of linear attention (64).
_TEXT = (
    "The old bridge was closed last spring, when the river rose higher than anyone in the town could remember. People "
    "who worked on the other side had to drive forty miles, or take the small ferry that left each hour from seven in "
    "the morning until nine at night. Nobody complained about that as much as the baker, whose bread was cold when it "
    "came to the market. In June the engineers said that two of the five pillars would have to be built again."
)
_LENGTH = 112

#: Its parts: the first, single tokens in between or at its end, and all the others as one chunk.
_FIRST, _SINGLES, _CLOSE = 27, 6, 3

#: Windows and chunks while comparing; config values and the layers' own copies of them.
_SHORT = 16
_WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size", "local_attention")
_CHUNKS = ("chunk_size", "mamba_chunk_size")

#: By dtype: the tolerated difference of logits, in standard deviations, and as a part of the effect that the earlier
#: text has on them.
_FLOOR = {torch.float32: 0.001, torch.float16: 0.005}
_PART = {torch.float32: 0.001, torch.float16: 0.05}
_COARSE_FLOOR, _COARSE_PART, _QUANTIZED_PART = 0.02, 0.1, 0.25

#: Text in chunks may differ by this factor more than single tokens do: both round, and neither like the whole text.
_TIMES = 4

#: How its cache may be used, in the order of the tests.
_WAYS = (CacheUsage(), CacheUsage(positions=True), CacheUsage("own"), CacheUsage("all"))

#: Only this many columns of the vocabulary are compared.
_COLUMNS = 4096


@dataclass(frozen=True)
class Continuation:
    """The result. `follow` is as in `Decoder`; `note` is the message for the user, "" if there is none.

    `way` is as in `TransformersCache`. Some models count positions from 0 in each forward pass unless they are told
    them. If the config contains a window that the model does not have, as in a folder that was made from another
    family's, only a cache that keeps all keys is right.
    """

    follow: int | None = None
    cuts: bool = True
    note: str = ""
    way: CacheUsage = CacheUsage()


def is_known_to_continue(model: Any) -> bool:
    """Whether it is known without a test that this model can continue: full attention only, in transformers' own
    code.
    """
    if getattr(model, "_is_stateful", True) or not type(model).__module__.startswith("transformers.models."):
        return False
    if cache_argument_name(model) != "past_key_values":
        return False
    try:
        layers = DynamicCache(config=model.config).layers
    except Exception:
        return False
    return all(type(layer) is DynamicLayer for layer in layers)


def probe_continuation(model: Any, encode: Callable[[str], Sequence[int]], n_ctx: int) -> Continuation:
    """Compare, with a text of at most `n_ctx` tokens. Raises: what the model raises when it reads a whole text."""
    ids = list(encode(_TEXT))[: min(n_ctx, _LENGTH)]
    if len(ids) <= _FIRST + 2 * _SINGLES:
        return Continuation(0, False, _without_cache("the context is too short to test its cache"))
    try:
        with _short_windows(model):
            return _compared(model, ids)
    except Exception:  # some kernels do not support such a short window
        log.debug("comparing with short windows", exc_info=True)
        return _compared(model, ids)


def _compared(model: Any, ids: list[int]) -> Continuation:
    reader = _Reader(model, ids)
    if not cache_argument_name(model):
        return Continuation(0, False, _without_cache("transformers does not support a cache for this model"))
    alone = reader.off_by(lambda: reader.rows(ids[_FIRST:]), slice(_FIRST, None))
    floor = _FLOOR.get(model.dtype, _COARSE_FLOOR)
    part = _QUANTIZED_PART if getattr(model, "is_quantized", False) else _PART.get(model.dtype, _COARSE_PART)
    singles, way = float("inf"), _WAYS[0]
    for reader.way in _WAYS:
        by = reader.off_by(reader.one_by_one, slice(_FIRST, _FIRST + _SINGLES))
        if by < singles / 2:  # clearly better, not by rounding
            singles, way = by, reader.way
        if singles <= floor:
            break
    if singles > max(floor, part * alone):
        return Continuation(0, False, _without_cache(f"with its cache, the logits are {_off(singles)}"))
    reader.way = way
    limit = max(floor, _TIMES * singles)
    pieces = reader.off_by(reader.in_pieces, slice(_FIRST, None))
    if pieces <= limit:
        return Continuation(None, reader.cuts(limit), way=way)
    return Continuation(
        1,
        reader.cuts(limit),
        "prompts are processed whole and nothing is reused from earlier prompts: in chunks, this model's logits "
        f"are {_off(pieces)}",
        way,
    )


def _off(by: float) -> str:
    if by == float("inf"):
        return "not available"
    return f"off by {by:.2g} standard deviations"


def _without_cache(why: str) -> str:
    return f"no cache, which is slow: all tokens are processed again for each new one; {why}"


class _Reader:
    """One text, read whole and in other ways. Only logits are compared."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        self._model = model
        self._ids = ids
        self.way = CacheUsage()
        self._whole = self.rows(ids)
        self._spread = float(self._whole.std()) or 1.0

    def off_by(self, read: Callable[[], torch.Tensor], where: slice) -> float:
        """How far these logits are from those of the whole text there, in standard deviations; infinite on an error.

        The median over the positions counts, not their mean: rounding alone sends a token to another expert
        occasionally. The positions right after the split count separately, because a lost state shows there most.
        """
        try:
            rows, whole = read(), self._whole[where]
        except Exception:
            log.debug("trying another way of processing", exc_info=True)
            return float("inf")
        off = (rows - whole).pow(2).mean(-1).sqrt().nan_to_num(float("inf")) / self._spread
        return max(float(part.median()) for part in (off[:_CLOSE], off[_CLOSE:]) if len(part))

    def rows(self, ids: list[int], cache: TransformersCache | None = None) -> torch.Tensor:
        """The logits of all these tokens, for some of the columns."""
        logits = (cache or TransformersCache(self._model, keeps=False)).read(ids)[0]
        return logits[:, :: -(-logits.shape[-1] // _COLUMNS)].float().cpu()

    def _cache(self) -> TransformersCache:
        return TransformersCache(self._model, way=self.way)

    def _begun(self) -> TransformersCache:
        """A cache with the first part; another text was read since, which must not matter."""
        cache = self._cache()
        self.rows(self._ids[:_FIRST], cache)
        self.rows(self._ids[_SINGLES:_FIRST], self._cache())
        return cache

    def one_by_one(self) -> torch.Tensor:
        cache = self._begun()
        return torch.cat([self.rows([token], cache) for token in self._ids[_FIRST : _FIRST + _SINGLES]])

    def in_pieces(self) -> torch.Tensor:
        cache, last = self._begun(), len(self._ids) - _SINGLES
        pieces = [self._ids[_FIRST:last], *([token] for token in self._ids[last:])]
        return torch.cat([self.rows(piece, cache) for piece in pieces])

    def cuts(self, limit: float) -> bool:
        """Whether a cache that reports a truncation was truncated."""
        cache, end = self._cache(), len(self._ids) - 1
        self.rows(self._ids[:end], cache)
        self.rows(self._ids[:1], cache)
        if not cache.cut(end - 1):
            return True  # it reports it each time
        return self.off_by(lambda: self.rows(self._ids[end - 1 : end], cache), slice(end - 1, end)) <= limit


@contextlib.contextmanager
def _short_windows(model: Any) -> Iterator[None]:
    """Windows and chunks of a few tokens, in the config and in the layers; afterwards everything is restored."""
    before: list[tuple[Any, str, int]] = []
    config = model.config.get_text_config(decoder=True)
    for holder in (config, *model.modules()):
        for name in (*_WINDOWS, *_CHUNKS):
            value = vars(holder).get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > _SHORT:
                before.append((holder, name, value))
    try:
        for holder, name, _ in before:
            setattr(holder, name, _SHORT)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
