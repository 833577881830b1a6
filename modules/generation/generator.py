"""The way from a prompt to a stream of text, for everybody: chat, Default, Notebook, API.

It finds the model, checks that prompt and reply fit into the context, sums up what the model cannot honour, and keeps
the list of what is running. It must not know of conversations, of templates or of HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from errors import EmptyPrompt, InvalidToken, PromptTooLong
from loaders.base import Model, Report, Request
from loaders.params import SamplingParams, quoted_strings
from modules.generation.prompt_ids import check_text, prompt_ids
from modules.generation.stream import TextStream


class ModelSource(Protocol):
    """Where the loaded model is to be had."""

    def current(self) -> Model:
        """Raises: NoModelLoaded."""
        ...


@dataclass(frozen=True)
class Running:
    """A request as the queue's view shows it."""

    label: str
    tokens: int
    tokens_per_second: float
    waiting: bool


@dataclass(eq=False)
class _Entry:
    """A request from the moment it is asked until its end. Holds no stream: one that nobody reads has to go."""

    label: str
    cancel: threading.Event = field(default_factory=threading.Event)
    report: Report = field(default_factory=Report)

    def view(self) -> Running:
        report = self.report
        speed = (report.new_tokens - 1) / report.decode_seconds if report.decode_seconds > 0 else 0.0
        waiting = not report.new_tokens and not report.queued_seconds
        return Running(self.label, report.new_tokens, max(0.0, speed), waiting)


class Generator:
    """Starts replies. May be used from several threads."""

    def __init__(self, models: ModelSource) -> None:
        self._models = models
        self._lock = threading.RLock()  # a stream may be let go of, and dropped, anywhere: also inside
        self._entries: list[_Entry] = []

    def max_prompt(self, params: SamplingParams, max_tokens: int | None = None) -> int:
        """The most tokens that a prompt may have with these settings. Raises: NoModelLoaded."""
        return _room(self._models.current(), params, max_tokens)

    def count(self, text: str) -> int:
        """How many tokens a text has, start token not counted. Raises: NoModelLoaded, InvalidInput."""
        check_text(text)
        return len(self._models.current().tokenizer.encode(text, add_bos=False, special=True))

    def count_prompt(self, text: str, params: SamplingParams) -> int:
        """How many tokens a text has as a prompt: with the start token, if one is put first."""
        return len(prompt_ids(self._models.current().tokenizer, text, add_bos=params.add_bos_token))

    def running(self) -> list[Running]:
        """Every request that has been asked for and has not ended, oldest first."""
        with self._lock:
            entries = list(self._entries)
        return [entry.view() for entry in entries]

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
    ) -> TextStream:
        """Ask for a reply; it is in the queue when this returns. `max_tokens` replaces `params.max_new_tokens`.

        Raises: NoModelLoaded, ModelClosed, EmptyPrompt, PromptTooLong, InvalidInput.
        """
        entry = _Entry(label)
        with self._lock:
            self._entries.append(entry)
        try:
            return self._start(entry, prompt, params, list(stop), max_tokens, alternatives, logit_bias)
        except BaseException:
            self._drop(entry)
            raise

    def _start(
        self,
        entry: _Entry,
        prompt: str | Sequence[int],
        params: SamplingParams,
        stop: list[str],
        max_tokens: int | None,
        alternatives: int | None,
        logit_bias: Mapping[int, float] | None,
    ) -> TextStream:
        model = self._models.current()
        stop += quoted_strings(params.custom_stopping_strings)
        ids = self._ids(model, prompt, params)
        room = _room(model, params, max_tokens)
        if len(ids) > room:
            raise PromptTooLong(len(ids), room)
        if params.auto_max_new_tokens and max_tokens is None:
            new = _context(model, params) - len(ids)
        else:
            new = params.max_new_tokens if max_tokens is None else max_tokens
        negative = params.negative_prompt if params.guidance_scale != 1 and model.supports("guidance_scale") else ""
        request = Request(
            ids=ids,
            params=params,
            max_tokens=new,
            negative_ids=prompt_ids(model.tokenizer, negative, add_bos=params.add_bos_token) if negative else (),
            logit_bias=dict(logit_bias or {}),
            alternatives=alternatives,
            cancel=entry.cancel,
            label=entry.label,
        )
        tokens = model.generate(request)
        entry.report = tokens.report
        return TextStream(
            tokens,
            model.tokenizer,
            entry.cancel,
            stop=stop,
            skip_special=params.skip_special_tokens,
            tokens_per_second=params.max_tokens_second,
            warnings=warnings(model, params),
            model=model.name,
            ended=lambda: self._drop(entry),
        )

    def _ids(self, model: Model, prompt: str | Sequence[int], params: SamplingParams) -> list[int]:
        if isinstance(prompt, str):
            ids = prompt_ids(model.tokenizer, prompt, add_bos=params.add_bos_token)
        else:
            ids = list(prompt)
            for token in (min(ids), max(ids)) if ids else ():
                if not 0 <= token < model.tokenizer.n_vocab:
                    raise InvalidToken(token, model.tokenizer.n_vocab)
        if not ids:
            raise EmptyPrompt
        return ids

    def _drop(self, entry: _Entry) -> None:
        with self._lock:
            if entry in self._entries:
                self._entries.remove(entry)


def warnings(model: Model, params: SamplingParams) -> list[str]:
    """One sentence for each knob that is turned and that this model cannot honour."""
    found = []
    for name, value in params.differing().items():
        knob = SamplingParams.knobs()[name]
        if not knob.is_neutral(value) and not model.supports(name):
            found.append(f"{name} has no effect: {model.unsupported[name]}")
    return found


def _context(model: Model, params: SamplingParams) -> int:
    return min(params.truncation_length or model.context_length, model.context_length)


def _room(model: Model, params: SamplingParams, max_tokens: int | None) -> int:
    """What the context leaves to the prompt, besides the reply's room."""
    automatic = params.auto_max_new_tokens and max_tokens is None
    reply = 1 if automatic else params.max_new_tokens if max_tokens is None else max(max_tokens, 0)
    return max(0, _context(model, params) - reply)
