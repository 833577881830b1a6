"""Several replies to one request: lists of prompts, `n` and `best_of`, and the prompt's own log-probabilities.

It starts streams and collects their results; it must not know of HTTP or the format of a response.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from errors import InvalidInput, PromptTooLong, TooMany, without_frames
from loaders.base import Finish, Model, Report, Token
from loaders.list_parsing import parse_quoted_strings, parse_token_ids
from loaders.params import SamplingParams
from loaders.pushed_stream import Loop
from modules.extensions import HookContext
from modules.families.reply_format import ReplyFormat
from modules.generation.echo import PromptLogprobs
from modules.generation.generator import Generator
from modules.generation.reply_reader import PieceReader, ReplyReader
from modules.generation.session import ModelSession
from modules.generation.stream import TextPiece, TextStream

#: How many replies one request may ask for.
MOST_REPLIES = 128

#: A bias of -100 means "never" to clients.
_NEVER = -100.0

#: The marks of fill-in-the-middle models, as in their vocabularies: prefix, suffix, middle.
_GAP_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<PRE>", "<SUF>", "<MID>"),
)


@dataclass(frozen=True)
class GenerationRequest:
    """One request. `max_tokens` None: what the context leaves. `alternatives` None: no log-probabilities."""

    prompts: Sequence[str | Sequence[int]]
    params: SamplingParams = SamplingParams()
    stop: Sequence[str] = ()
    max_tokens: int | None = None
    n: int = 1
    best_of: int = 1
    alternatives: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    suffix: str = ""
    echo: bool = False
    stream: bool = False  # the reply is sent while it is written
    label: str = ""
    context: HookContext | None = None  # if extensions have already processed the request; `params` are theirs then
    reading: ReplyFormat | None = None  # how the replies are parsed, which decides what stays in the text
    thinking_budget: int | None = None  # tokens after which reasoning is ended
    session: ModelSession | None = None  # the model that the prompt was built for, which must answer
    model: str = ""  # the model that is to answer, where there is no session yet
    tool_grammar: str = ""  # forces a tool call; in `params` only if nothing else is forced
    notes: Sequence[str] = ()  # warnings about the request

    @property
    def replies(self) -> int:
        """How many replies are generated for it."""
        return len(self.prompts) * max(self.n, self.best_of)


@dataclass
class Completion:
    """One reply in progress. `echo` is set if the prompt is to be returned with it."""

    index: int
    stream: TextStream
    echo: PromptLogprobs | None = None
    pieces: list[TextPiece] = field(default_factory=list)
    error: BaseException | None = None
    changed: str | None = None  # the reply as changed by extensions

    @property
    def reply(self) -> str:
        """The generated text."""
        return self.stream.text if self.changed is None else self.changed

    @property
    def prompt(self) -> str:
        """The prompt to return before the reply."""
        return self.echo.text if self.echo else ""

    def prompt_tokens(self) -> list[Token]:
        """The prompt's tokens, if requested; the first call waits for the model. Raises: UserError."""
        return self.echo.tokens() if self.echo else []

    @property
    def text(self) -> str:
        return self.prompt + self.reply

    @property
    def tokens(self) -> list[Token]:
        """The tokens of the reply, without those of a stop string."""
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def starts(self) -> list[int]:
        """How many characters of the reply precede each of its tokens."""
        return [start for piece in self.pieces for start in piece.starts]

    def cancel(self) -> None:
        """End it within one token; also the scoring of the prompt, which its other replies wait for, too."""
        self.stream.cancel()
        if self.echo:
            self.echo.cancel()

    @property
    def report(self) -> Report:
        return self.stream.report


class _Collector:
    """A PieceReader for replies that are returned as a whole."""

    def __init__(self, answer: Completion) -> None:
        self.take = answer.pieces.extend

    def end(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


@dataclass
class CompletionBatch:
    """All replies to one request in order, and the warnings about them."""

    model: str
    answers: list[Completion]
    warnings: list[str]
    keep: int  # replies per prompt
    per_prompt: int
    finished: Callable[[str], str] = str  # the reply as changed by extensions

    def cancel(self) -> None:
        """End all of them within one token."""
        for answer in self.answers:
            answer.cancel()

    def close(self) -> None:
        for answer in self.answers:
            answer.cancel()
            answer.stream.close()

    def read(
        self,
        done: Callable[[], None],
        reader: Callable[[Completion], PieceReader] | None = None,
        loop: Loop | None = None,
    ) -> None:
        """Read all replies to their ends, see ReplyReader; without a `reader` the pieces are collected."""
        ReplyReader(self.answers, reader or _Collector, done).begin(loop)

    def best(self) -> list[Completion]:
        """The replies to return, numbered. Raises: UserError if one of them failed."""
        for answer in self.answers:
            if answer.error:
                raise without_frames(answer.error)
        kept: list[Completion] = []
        for start in range(0, len(self.answers), self.per_prompt):
            group = self.answers[start : start + self.per_prompt]
            if self.keep < len(group):
                group = sorted(group, key=_likelihood, reverse=True)[: self.keep]
            kept += group
        for index, answer in enumerate(kept):
            answer.index = index
            changed = self.finished(answer.stream.text)
            answer.changed = changed if changed != answer.stream.text else None
        return kept

    def usage(self) -> dict[str, Any]:
        """Tokens of all prompts (each once) and of all replies, including those that are not returned."""
        prompts = sum(answer.report.prompt_tokens for answer in self.answers[:: self.per_prompt])
        new = sum(answer.report.new_tokens for answer in self.answers)
        reused = sum(answer.report.reused_tokens for answer in self.answers[:: self.per_prompt])
        drafted = sum(answer.report.drafted_tokens for answer in self.answers)
        accepted = sum(answer.report.accepted_tokens for answer in self.answers)
        guessed = {"accepted_prediction_tokens": accepted, "rejected_prediction_tokens": drafted - accepted}
        return {
            "prompt_tokens": prompts,
            "completion_tokens": new,
            "total_tokens": prompts + new,
            "prompt_tokens_details": {"cached_tokens": reused},
            **({"completion_tokens_details": guessed} if drafted else {}),
        }

    def all_warnings(self) -> list[str]:
        """What was requested and could not be done, each sentence once."""
        said = [*self.warnings, *(each for answer in self.answers for each in answer.report.warnings)]
        return list(dict.fromkeys(said))


class CompletionService:
    """Starts replies to requests for one or several replies. May be used from several threads."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._extensions = generator.extensions
        self._running: weakref.WeakSet[TextStream] = weakref.WeakSet()

    def start(self, ask: GenerationRequest) -> CompletionBatch:
        """Start all replies; they are queued when this returns. Raises: UserError, and then none is started."""
        count = max(ask.n, ask.best_of)
        if ask.replies > MOST_REPLIES:
            raise TooMany("replies in one request", MOST_REPLIES)
        if not ask.prompts:
            raise InvalidInput("prompt is an empty list. Send at least one string.")
        # if the knobs were already checked, the ones given now count
        session = ask.session or self._generator.session(ask.model)
        begun = ask.context or self._extensions.begin(ask.params, words=session)
        context = replace(begun, params=ask.params) if ask.context else begun
        model, params = session.model, context.params
        if not all(isinstance(each, str) for each in ask.prompts):
            model.require("tokens")
        alternatives = ask.alternatives
        if count > ask.n and alternatives is None:
            alternatives = 0  # the best one is the most likely one
        late = [each.name for each in self._extensions.having("output_modifier")] if ask.stream else []
        # checked here: the engine would raise only after the reply has begun
        parse_token_ids(params.custom_token_bans)
        parse_quoted_strings(params.dry_sequence_breakers, bare=True)
        warnings = [*ask.notes, *session.notes]
        warnings += [f"The extension {name} could not modify the reply, which was sent unchanged." for name in late]
        bias = {token: float("-inf") if value <= _NEVER else value for token, value in ask.logit_bias.items()}
        room = session.context(params)
        answers: list[Completion] = []
        prompts = [session.ids(self._gap(model, each, ask.suffix, warnings), params, context) for each in ask.prompts]
        limits = [_limit(ask, len(ids), room, warnings, model.larger_context) for ids in prompts]
        try:
            for ids, limit in zip(prompts, limits, strict=True):
                echo = PromptLogprobs(model, ids, ask.alternatives) if ask.echo else None
                for number in range(count):
                    seed = params.seed + number if params.seed >= 0 else -1
                    stream = session.start(
                        ids,
                        params,
                        stop=ask.stop,
                        max_tokens=limit,
                        alternatives=alternatives,
                        logit_bias=bias,
                        label=ask.label,
                        reading=ask.reading,
                        thinking_budget=ask.thinking_budget,
                        keep=ask.reading.family.keeps if ask.reading else None,
                        context=replace(context, params=params.changed(seed=seed)) if number else context,
                    )
                    self._running.add(stream)
                    answers.append(Completion(len(answers), stream, echo))
        except BaseException:
            for answer in answers:
                answer.stream.close()
            raise
        return CompletionBatch(
            session.name, answers, warnings, ask.n, count, lambda text: self._extensions.output(text, context)
        )

    def stop(self, whose: str = "") -> int:
        """Stop all requests whose label begins with this; returns how many there were."""
        entries = [entry for entry in self._generator.queue() if entry.label.startswith(whose)]
        for entry in entries:
            entry.cancel.set()
        return len(entries)

    def end_thoughts(self) -> int:
        """End the reasoning of all such requests; returns how many there were."""
        return sum(stream.end_thought() for stream in tuple(self._running))

    def _gap(self, model: Model, prompt: str | Sequence[int], suffix: str, warnings: list[str]) -> str | Sequence[int]:
        """The prompt with the text after the gap, in the form of fill-in-the-middle models."""
        if not suffix:
            return prompt
        if not isinstance(prompt, str):
            warnings.append("suffix has no effect: it requires a text prompt, and this prompt is token ids.")
            return prompt
        for before, after, middle in _GAP_MARKS:
            ids = [model.tokenizer.encode(mark, add_bos=False, special=True) for mark in (before, after, middle)]
            if all(len(each) == 1 and model.tokenizer.is_special(each[0]) for each in ids):
                return f"{before}{prompt}{after}{suffix}{middle}"
        warnings.append("suffix has no effect: this is not a fill-in-the-middle model.")
        return prompt


def _limit(ask: GenerationRequest, prompt_tokens: int, room: int, warnings: list[str], more: str) -> int:
    """The reply's token limit. Clients commonly ask for more than fits: they get what fits. `more`: see PromptTooLong.

    Raises: PromptTooLong if not even one token fits.
    """
    left = room - prompt_tokens
    if left < 1:
        raise PromptTooLong(prompt_tokens, room - 1, more=more)
    if ask.max_tokens is None:
        return left
    if ask.max_tokens > left:
        warnings.append(
            f"max_tokens was lowered from {ask.max_tokens} to {left}, which is all that the context has left."
        )
    return min(ask.max_tokens, left)


def finish_reason(finish: Finish | None) -> str:
    """In OpenAI's terms, which do not distinguish who stopped it."""
    return "length" if finish is Finish.LENGTH else "stop"


def _likelihood(answer: Completion) -> float:
    """The mean log-probability of a reply's tokens."""
    values = [token.logprob or 0.0 for token in answer.tokens]
    return sum(values) / len(values) if values else float("-inf")
