"""One request's way from a prompt to a stream of text, over the one model that it was begun with.

It checks that prompt and reply fit into the context, and sums up what the model cannot honour. A session never asks
which model is loaded: when its own is unloaded or replaced meanwhile, the request ends with ModelClosed, and no other
model gets a prompt that was made for this one. It must not know of conversations, of templates or of HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, InvalidInput, InvalidToken, PromptTooLong, TooMany, utf8
from loaders.base import Model, Request
from loaders.lists import quoted_strings
from loaders.params import SamplingParams
from modules.extensions import Extensions, HookContext
from modules.families.reading import Reading
from modules.generation.place import Place
from modules.generation.prompt_ids import prompt_ids
from modules.generation.prompt_text import literally
from modules.generation.stream import TextStream
from modules.generation.thought_end import ThoughtEnd
from modules.generation.told import told

#: How many texts one request may have embedded.
_MOST_INPUTS = 2048


@dataclass(frozen=True)
class Embeddings:
    """`vectors` has the shape (texts, dimensions); `tokens` is how many were read."""

    vectors: npt.NDArray[np.float32]
    tokens: int
    model: str


class ModelSession:
    """One model, for the length of one request. May be used from several threads."""

    def __init__(
        self, model: Model, extensions: Extensions | None = None, kept: Mapping[str, Any] | None = None
    ) -> None:
        """`kept`: start values of knobs for this model, in place of the defaults."""
        self.model = model
        self._extensions = extensions or Extensions()
        self._kept = dict(kept or {})

    def params(self, params: SamplingParams) -> SamplingParams:
        """The knobs with this model's start values where they stand at their defaults."""
        knobs = SamplingParams.knobs()
        turned = {name: value for name, value in self._kept.items() if getattr(params, name) == knobs[name].default}
        return params.changed(**turned) if turned else params

    def max_prompt(self, params: SamplingParams, max_tokens: int | None = None) -> int:
        """The most tokens that a prompt may have with these settings. Raises: ModelClosed."""
        return _room(self.model, self.params(params), max_tokens)

    def count(self, text: str) -> int:
        """How many tokens a text has, start token not counted. Raises: InvalidInput."""
        utf8(text)
        return len(self.model.tokenizer.encode(text, add_bos=False, special=True))

    def count_prompt(self, text: str, params: SamplingParams) -> int:
        """How many tokens a text has as a prompt: with the start token, if one is put first."""
        known = self._extensions.count(text, self)
        if known is not None:
            return known
        return len(prompt_ids(self.model.tokenizer, text, add_bos=self.params(params).add_bos_token))

    def ids(self, prompt: str | Sequence[int], params: SamplingParams, context: HookContext | None = None) -> list[int]:
        """A prompt as the model gets it; with a `context`, as extensions want it to be.

        Raises: EmptyPrompt, InvalidInput.
        """
        if context is None or not context.state or not isinstance(prompt, str):
            return self._ids(prompt, params)
        if not context.is_chat:
            changed = self._extensions.prompt(prompt, context)
            prompt = prompt if changed == prompt else changed  # which knows its control tokens
        return self._checked(self._extensions.ids(prompt, self._ids(prompt, params), context))

    def said(self, prompt: str, params: SamplingParams, stop: Sequence[str]) -> Iterator[str]:
        """The reply so far, again and again, without extensions: for those that write replies by the model's help.

        Raises: as `start`.
        """
        context = HookContext(params, words=self)
        with self.start(prompt, params, stop=stop, label="extension", context=context) as stream:
            for _ in stream:
                yield stream.text

    def literally(self, params: SamplingParams) -> Callable[[Any], Any]:
        """What makes text of the control tokens in messages, unless the knobs say that they count."""
        if self.params(params).control_tokens_in_messages:
            return lambda value: value
        return literally(self.model.tokenizer)

    def context(self, params: SamplingParams) -> int:
        """How many tokens prompt and reply may have together. Raises: ModelClosed."""
        return _context(self.model, self.params(params))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, start token not included. Raises: InvalidInput."""
        utf8(text)
        return self.model.tokenizer.encode(text, add_bos=False, special=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. Raises: InvalidToken."""
        tokenizer = self.model.tokenizer
        return b"".join(tokenizer.piece(token, special=True) for token in ids).decode("utf-8", "replace")

    def next_tokens(
        self,
        prompt: str,
        params: SamplingParams,
        count: int,
        *,
        sampled: bool = False,
        label: str = "",
        cancel: threading.Event | None = None,
    ) -> tuple[dict[str, float], list[str]]:
        """The likeliest tokens after a prompt with their probabilities, and what could not be honoured.

        `sampled`: after the samplers, so that only what could be chosen is left. Raises: UserError.
        """
        place = self.look(prompt, params, label=label, cancel=cancel)
        found: dict[str, float] = {}
        notes = list(place.warnings)
        distribution = place.distribution(params, sampled=sampled, count=count)
        for candidate in distribution.candidates:
            text = place.model.tokenizer.piece(candidate.token.id, special=True).decode("utf-8", "replace")
            found.setdefault(text, candidate.probability)
        return found, [*notes, *distribution.notes]

    def look(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        label: str = "",
        cancel: threading.Event | None = None,
    ) -> Place:
        """What the model offers after a prompt, kept for as many looks as one likes. Raises: UserError, Cancelled."""
        model, params = self.model, self.params(params)
        ids = self._ids(prompt, params)
        negative = _negative_ids(model, params)
        began = time.monotonic()
        logits = model.next_logits(
            Request(ids, params, negative_ids=negative, cancel=cancel or threading.Event(), label=label)
        )
        return Place(
            model=model,
            text=prompt if isinstance(prompt, str) else "",
            ids=ids,
            params=params,
            logits=logits,
            seconds=time.monotonic() - began,
            warnings=tuple(warnings(model, params)),
        )

    def embed(self, inputs: Sequence[str | Sequence[int]], cancel: threading.Event | None = None) -> Embeddings:
        """One vector for each text. Raises: Unsupported, PromptTooLong, InvalidInput, Cancelled."""
        model = self.model
        if not inputs:
            raise InvalidInput("input is empty. Send at least one text.")
        if len(inputs) > _MOST_INPUTS:
            raise TooMany("texts", _MOST_INPUTS)
        ids = [self._ids(each, SamplingParams()) for each in inputs]
        vectors = []
        for each in ids:  # one by one, so that it ends after a text even where the engine does not ask
            if cancel and cancel.is_set():
                raise Cancelled
            vectors.append(model.embed([each], cancel))
        return Embeddings(np.concatenate(vectors), sum(map(len, ids)), model.name)

    def start(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        alternatives: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
        label: str = "",
        context: HookContext | None = None,
        keep: Callable[[str], bool] | None = None,
        reading: Reading | None = None,
        thinking_budget: int | None = None,
    ) -> TextStream:
        """Ask for a reply; it is in the queue when this returns. `max_tokens` replaces `params.max_new_tokens`.

        `context`: where extensions have begun with this reply already; its knobs are the ones that count. `keep`: the
        control tokens that stay in the text. `reading`: how it is taken apart, so that its thought can be ended, after
        `thinking_budget` tokens at the latest. A grammar leaves no room for that.
        Raises: ModelClosed, EmptyPrompt, PromptTooLong, InvalidInput.
        """
        extensions = self._extensions
        context = context or extensions.begin(params, words=self)
        params = self.params(context.params)
        model = self.model
        stop = [*stop, *quoted_strings(params.custom_stopping_strings)]
        if extensions.has("custom_generate_reply") and context.state:
            question = prompt if isinstance(prompt, str) else self.decode(prompt)
            if writer := extensions.reply(question, question, context, stop):
                return told(*writer, context, stop)
        ids = self.ids(prompt, params, context)
        room = _room(model, params, max_tokens)
        if len(ids) > room:
            raise PromptTooLong(len(ids), room)
        if params.auto_max_new_tokens and max_tokens is None:
            new = _context(model, params) - len(ids)
        else:
            new = params.max_new_tokens if max_tokens is None else max_tokens
        thought = None
        if reading and not params.grammar_string.strip():
            thought = ThoughtEnd(reading, model.tokenizer, thinking_budget)
        changing = extensions.processors(ids, context) if context.state else ()
        request = Request(
            ids=ids,
            params=params,
            max_tokens=new,
            negative_ids=_negative_ids(model, params),
            logit_bias=dict(logit_bias or {}),
            alternatives=alternatives,
            processors=(*changing, *([thought] if thought else ())),
            label=label,
        )
        return TextStream(
            model.generate(request),
            model.tokenizer,
            request.cancel,
            stop=stop,
            skip_special=params.skip_special_tokens,
            keep=keep,
            tokens_per_second=params.max_tokens_second,
            warnings=warnings(model, params),
            notes=context.notes,
            model=model.name,
            thought=thought,
        )

    def _ids(self, prompt: str | Sequence[int], params: SamplingParams) -> list[int]:
        if isinstance(prompt, str):
            ids = prompt_ids(self.model.tokenizer, prompt, add_bos=self.params(params).add_bos_token)
            if not ids:
                raise EmptyPrompt
            return ids
        return self._checked(list(prompt))

    def _checked(self, ids: list[int]) -> list[int]:
        n_vocab = self.model.tokenizer.n_vocab
        for token in (min(ids), max(ids)) if ids else ():
            if not 0 <= token < n_vocab:
                raise InvalidToken(token, n_vocab)
        if not ids:
            raise EmptyPrompt
        return ids


def warnings(model: Model, params: SamplingParams) -> list[str]:
    """One sentence for each knob that is turned and that this model cannot honour."""
    found = []
    for name, value in params.differing().items():
        knob = SamplingParams.knobs()[name]
        if not knob.is_neutral(value) and not model.supports(name):
            found.append(f"{name} has no effect: {model.unsupported[name]}")
    return found


def _negative_ids(model: Model, params: SamplingParams) -> Sequence[int]:
    """The ids of the negative prompt; none where it does not act."""
    if params.guidance_scale == 1 or not params.negative_prompt or not model.supports("guidance_scale"):
        return ()
    return prompt_ids(model.tokenizer, params.negative_prompt, add_bos=params.add_bos_token)


def _context(model: Model, params: SamplingParams) -> int:
    return min(params.truncation_length or model.context_length, model.context_length)


def _room(model: Model, params: SamplingParams, max_tokens: int | None) -> int:
    """What the context leaves to the prompt, besides the reply's room."""
    automatic = params.auto_max_new_tokens and max_tokens is None
    reply = 1 if automatic else params.max_new_tokens if max_tokens is None else max(max_tokens, 0)
    return max(0, _context(model, params) - reply)
