"""One request's way from a prompt to a stream of text, with the one model that it started with.

It checks that prompt and reply fit into the context, and collects what the model cannot honour. A session never asks
which model is loaded: if its own is unloaded or replaced, the request ends with ModelClosed, and no other model gets a
prompt that was built for this one. It must not know of conversations, templates or HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, InvalidInput, InvalidToken, PromptTooLong, TooMany, encode_utf8
from loaders.banned.pattern import compile_banned_strings
from loaders.base import Model, Request, TokenStream
from loaders.list_parsing import parse_quoted_strings
from loaders.params import SamplingParams
from loaders.token_healing import split_prompt
from modules.extensions import Extensions, HookContext
from modules.families.reply_format import ReplyFormat
from modules.generation.extension_stream import stream_extension_reply
from modules.generation.logits_snapshot import LogitsSnapshot
from modules.generation.prompt_ids import encode_prompt
from modules.generation.prompt_text import escape_control_tokens
from modules.generation.stream import TextStream
from modules.generation.text import check_stop_strings
from modules.generation.thought_budget import ThoughtBudget
from modules.generation.yielding_work import YieldingWork
from modules.library.model_leases import ModelLease

#: How many texts one embedding request may contain.
_MOST_INPUTS = 2048


@dataclass(frozen=True)
class Embeddings:
    """`vectors` has the shape (texts, dimensions); `tokens` is how many were read."""

    vectors: npt.NDArray[np.float32]
    tokens: int
    model: str


class ModelSession:
    """One model for the duration of one request. May be used from several threads."""

    def __init__(
        self,
        model: Model,
        extensions: Extensions | None = None,
        kept: Mapping[str, Any] | None = None,
        lease: ModelLease | None = None,
        yielding: YieldingWork | None = None,
    ) -> None:
        """`kept`: start values of knobs for this model, instead of the defaults; `lease`: what holds it; `yielding`:
        what all models compute while nobody waits.
        """
        self.model = model
        self._yielding = yielding or YieldingWork()
        self._requests = self._yielding.requests(model)
        self._lease = lease
        self._extensions = extensions or Extensions()
        self._kept = dict(kept or {})
        #: The prompt that was tokenized last: it is counted while it is built, and then run.
        self._last: tuple[str, bool, list[int]] | None = None

    @property
    def name(self) -> str:
        """The model's name in the list of models."""
        return self._lease.name if self._lease else self.model.name

    @property
    def notes(self) -> list[str]:
        """Why it is another model than the request named, if so."""
        return [self._lease.note] if self._lease and self._lease.note else []

    def params(self, params: SamplingParams) -> SamplingParams:
        """The knobs, with this model's start values where they are at their defaults."""
        knobs = SamplingParams.knobs()
        turned = {name: value for name, value in self._kept.items() if getattr(params, name) == knobs[name].default}
        return params.changed(**turned) if turned else params

    def max_prompt(self, params: SamplingParams, max_tokens: int | None = None) -> int:
        """The maximum length of a prompt in tokens with these settings. Raises: ModelClosed."""
        return _room(self.model, self.params(params), max_tokens)

    def count(self, text: str) -> int:
        """How many tokens a text has, without a start token. Raises: InvalidInput."""
        encode_utf8(text)
        return len(self.model.tokenizer.encode(text, add_bos=False, special=True))

    def count_prompt(self, text: str, params: SamplingParams) -> int:
        """How many tokens a text has as a prompt: with the start token, if one is added."""
        known = self._extensions.count(text, self)
        if known is not None:
            return known
        return len(self._encoded(text, params))

    def ids(self, prompt: str | Sequence[int], params: SamplingParams, context: HookContext | None = None) -> list[int]:
        """A prompt as the model gets it; with a `context`, as changed by extensions.

        Raises: EmptyPrompt, InvalidInput.
        """
        if context is None or not context.state or not isinstance(prompt, str):
            return self._ids(prompt, params)
        if not context.is_chat:
            changed = self._extensions.prompt(prompt, context)
            prompt = prompt if changed == prompt else changed  # the tokenizer, which knows its control tokens
        return self._checked(self._extensions.ids(prompt, self._ids(prompt, params), context))

    def said(self, prompt: str, params: SamplingParams, stop: Sequence[str]) -> Iterator[str]:
        """Yields the whole reply so far, without extensions: for extensions that write replies with the model's help.

        Raises: as `start`.
        """
        context = HookContext(params, words=self)
        with self.start(prompt, params, stop=stop, label="extension", context=context) as stream:
            for _ in stream:
                yield stream.text

    def literally(self, params: SamplingParams) -> Callable[[Any], Any]:
        """A function that turns control tokens in messages into plain text, unless the knobs allow them."""
        if self.params(params).control_tokens_in_messages:
            return lambda value: value
        return escape_control_tokens(self.model.tokenizer)

    def context(self, params: SamplingParams) -> int:
        """How many tokens prompt and reply may have together. Raises: ModelClosed."""
        return _context(self.model, self.params(params))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without a start token. Raises: InvalidInput, Unsupported."""
        self.model.require("tokens")
        encode_utf8(text)
        return self.model.tokenizer.encode(text, add_bos=False, special=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. Raises: InvalidToken, Unsupported."""
        self.model.require("tokens")
        return self._text_of(ids)

    def _text_of(self, ids: Sequence[int]) -> str:
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
        """The most likely tokens after a prompt with their probabilities, and warnings.

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
    ) -> LogitsSnapshot:
        """The model's logits after a prompt, kept for any number of inspections. Raises: UserError, Cancelled."""
        model, params = self.model, self.params(params)
        ids = self._ids(prompt, params)
        self._yielding.give_way(model)
        negative = _negative_ids(model, params)
        began = time.monotonic()
        logits = model.next_logits(
            Request(ids, params, negative_ids=negative, cancel=cancel or threading.Event(), label=label)
        )
        return LogitsSnapshot(
            model=model,
            text=prompt if isinstance(prompt, str) else "",
            ids=ids,
            params=params,
            logits=logits,
            seconds=time.monotonic() - began,
            warnings=(*unsupported_warnings(model, params), *_caveats(model, "logits")),
        )

    def embed(self, inputs: Sequence[str | Sequence[int]], cancel: threading.Event | None = None) -> Embeddings:
        """One vector per text. Raises: Unsupported, PromptTooLong, InvalidInput, Cancelled."""
        model = self.model
        if not inputs:
            raise InvalidInput("input is empty. Send at least one string.")
        if len(inputs) > _MOST_INPUTS:
            raise TooMany("texts", _MOST_INPUTS)
        ids = [self._ids(each, SamplingParams()) for each in inputs]
        self._yielding.give_way(model)
        vectors = []
        for each in ids:  # one by one, so that cancelling takes effect after a text even if the engine does not check
            if cancel and cancel.is_set():
                raise Cancelled
            vectors.append(model.embed([each], cancel))
        return Embeddings(np.concatenate(vectors), sum(map(len, ids)), self.name)

    def read(self, ids: Sequence[int], label: str, cancel: threading.Event) -> TokenStream:
        """Read a prompt while nothing else is computed, so that it need not be read later.

        It ends if another model has got a request since this session began. Raises: UserError.
        """
        request = Request(ids, max_tokens=1, label=label, cancel=cancel, yields=True)
        self._yielding.add(self.model, cancel, self._requests)
        return self.model.generate(request)

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
        lasting: bool = False,
        yields: bool = False,
        context: HookContext | None = None,
        keep: Callable[[str], bool] | None = None,
        reading: ReplyFormat | None = None,
        thinking_budget: int | None = None,
    ) -> TextStream:
        """Start a reply; it is queued when this returns. `max_tokens` replaces `params.max_new_tokens`.

        `context`: set if extensions have already processed this request; its knobs count. `keep`: the control tokens
        that stay in the text. `lasting`: its state may be kept on disk. `yields`: it runs only while nothing else does,
        and not if another model has got a request since this session began. `reading`: how it is parsed, so that its
        reasoning can be ended, after `thinking_budget` tokens at the latest; not possible with a grammar. Raises:
        ModelClosed, EmptyPrompt, PromptTooLong, InvalidInput.
        """
        extensions = self._extensions
        context = context or extensions.begin(params, words=self)
        params = self.params(context.params)
        model = self.model
        stop = check_stop_strings([*stop, *parse_quoted_strings(params.custom_stopping_strings)])
        compile_banned_strings(params.banned_strings, params.banned_strings_ignore_case)  # the engine would raise late
        if extensions.has("custom_generate_reply") and context.state:
            question = prompt if isinstance(prompt, str) else self._text_of(prompt)
            if writer := extensions.reply(question, question, context, stop):
                return stream_extension_reply(*writer, context, stop)
        ids = self.ids(prompt, params, context)
        room = _room(model, params, max_tokens)
        if len(ids) > room:
            raise PromptTooLong(len(ids), room, more=model.larger_context)
        if params.auto_max_new_tokens and max_tokens is None:
            new = _context(model, params) - len(ids)
        else:
            new = params.max_new_tokens if max_tokens is None else max_tokens
        thought = None
        changing = extensions.processors(ids, context) if context.state else ()
        if not model.supports("processors"):
            if changing or thinking_budget is not None:
                what = "thinking_budget has" if thinking_budget is not None else "Extensions that change logits have"
                context.notes.append(f"{what} no effect: {model.unsupported['processors']}")
            changing = ()
        elif reading and not params.grammar_string.strip():
            thought = ThoughtBudget(reading, model.tokenizer, thinking_budget)
        begun = b""
        if params.token_healing and model.supports("token_healing"):
            if params.grammar_string.strip():
                context.notes.append("token_healing has no effect with a grammar.")
            else:
                kept, begun = split_prompt(ids, model.tokenizer)
                ids, new = kept, new + len(ids) - len(kept)
        request = Request(
            ids=ids,
            params=params,
            max_tokens=new,
            begun=begun,
            negative_ids=_negative_ids(model, params),
            logit_bias=dict(logit_bias or {}),
            alternatives=alternatives,
            processors=(*changing, *([thought] if thought else ())),
            label=label,
            lasting=lasting,
            yields=yields,
        )
        if yields:
            self._yielding.add(model, request.cancel, self._requests)
        else:
            self._yielding.give_way(model)
        return TextStream(
            model.generate(request),
            model.tokenizer,
            request.cancel,
            stop=stop,
            skip_special=params.skip_special_tokens,
            keep=keep,
            tokens_per_second=params.max_tokens_second,
            warnings=unsupported_warnings(model, params),
            notes=context.notes,
            model=model.name,
            thought=thought,
        )

    def _ids(self, prompt: str | Sequence[int], params: SamplingParams) -> list[int]:
        if isinstance(prompt, str):
            ids = self._encoded(prompt, params)
            if not ids:
                raise EmptyPrompt
            return ids
        return self._checked(list(prompt))

    def _encoded(self, text: str, params: SamplingParams) -> list[int]:
        add_bos = self.params(params).add_bos_token
        last = self._last
        # the same object: equal texts may differ in which parts are control tokens
        if last is None or last[0] is not text or last[1] != add_bos:
            last = self._last = text, add_bos, encode_prompt(self.model.tokenizer, text, add_bos=add_bos)
        return list(last[2])

    def _checked(self, ids: list[int]) -> list[int]:
        n_vocab = self.model.tokenizer.n_vocab
        for token in (min(ids), max(ids)) if ids else ():
            if not 0 <= token < n_vocab:
                raise InvalidToken(token, n_vocab)
        if not ids:
            raise EmptyPrompt
        return ids


def unsupported_warnings(model: Model, params: SamplingParams) -> list[str]:
    """One sentence for each changed knob that this model cannot honour."""
    found = []
    for name, value in params.differing().items():
        knob = SamplingParams.knobs()[name]
        if not knob.is_neutral(value) and not model.supports(name):
            found.append(f"{name} has no effect: {model.unsupported[name]}")
    return found


def _caveats(model: Model, ability: str) -> list[str]:
    return [model.caveats[ability]] if ability in model.caveats else []


def _negative_ids(model: Model, params: SamplingParams) -> Sequence[int]:
    """The ids of the negative prompt; none if it has no effect."""
    if params.guidance_scale == 1 or not params.negative_prompt or not model.supports("guidance_scale"):
        return ()
    return encode_prompt(model.tokenizer, params.negative_prompt, add_bos=params.add_bos_token)


def _context(model: Model, params: SamplingParams) -> int:
    return min(params.truncation_length or model.context_length, model.context_length)


def _room(model: Model, params: SamplingParams, max_tokens: int | None) -> int:
    """What the context leaves for the prompt, after the reply's share."""
    automatic = params.auto_max_new_tokens and max_tokens is None
    reply = 1 if automatic else params.max_new_tokens if max_tokens is None else max(max_tokens, 0)
    return max(0, _context(model, params) - reply)
