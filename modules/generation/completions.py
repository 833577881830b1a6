"""Several replies to one request: lists of prompts, n of each, the best of more, the prompt's own probabilities.

It starts streams and sums them up; it must not know of HTTP, nor how an answer is shaped.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from errors import InvalidInput, PromptTooLong, TooMany
from loaders.base import Finish, Model, Report, Token
from loaders.lists import quoted_strings, token_ids
from loaders.params import SamplingParams
from modules.extensions import Extensions, HookContext
from modules.families.reading import Reading
from modules.generation.echo import Echo
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.generation.stream import Piece, TextStream

#: How many replies one request may ask for.
MOST_REPLIES = 128

#: What a bias of -100 means to clients: never.
_NEVER = -100.0

#: The marks of models that can fill a gap, as their vocabularies spell them: prefix, suffix, middle.
_GAP_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<PRE>", "<SUF>", "<MID>"),
)


@dataclass(frozen=True)
class Ask:
    """What is wanted. `max_tokens` None: what the context leaves. `alternatives` None: no log-probabilities."""

    prompts: Sequence[str | Sequence[int]]
    params: SamplingParams = SamplingParams()
    stop: Sequence[str] = ()
    max_tokens: int | None = None
    n: int = 1
    best_of: int = 1
    alternatives: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    banned_strings: Sequence[str] = ()
    suffix: str = ""
    echo: bool = False
    stream: bool = False  # the reply is sent while it is written
    label: str = ""
    context: HookContext | None = None  # where extensions have begun with this already; `params` are theirs then
    reading: Reading | None = None  # how the replies are taken apart: what of them stays in the text for that
    thinking_budget: int | None = None  # tokens after which a thought is ended
    session: ModelSession | None = None  # where the prompt was made for a model already: that one answers

    @property
    def replies(self) -> int:
        """How many are written for it."""
        return len(self.prompts) * max(self.n, self.best_of)


@dataclass
class Answer:
    """One reply on its way. `echo` is there where the prompt is to be shown with it."""

    index: int
    stream: TextStream
    echo: Echo | None = None
    pieces: list[Piece] = field(default_factory=list)
    error: BaseException | None = None
    changed: str | None = None  # what extensions made of the reply

    @property
    def reply(self) -> str:
        """What was written after the prompt."""
        return self.stream.text if self.changed is None else self.changed

    @property
    def prompt(self) -> str:
        """What is shown before the reply."""
        return self.echo.text if self.echo else ""

    def prompt_tokens(self) -> list[Token]:
        """The tokens of it, if they are wanted; the first time, it waits for the model. Raises: UserError."""
        return self.echo.tokens() if self.echo else []

    @property
    def text(self) -> str:
        return self.prompt + self.reply

    @property
    def tokens(self) -> list[Token]:
        """The tokens of the reply: those of a stop string are not in it."""
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def starts(self) -> list[int]:
        """How many characters of the reply there are before each of its tokens."""
        return [start for piece in self.pieces for start in piece.starts]

    def cancel(self) -> None:
        """End it within one token; also the scoring of the prompt, which its other replies wait for, too."""
        self.stream.cancel()
        if self.echo:
            self.echo.cancel()

    @property
    def report(self) -> Report:
        return self.stream.report


@dataclass
class Answers:
    """All replies to one request, in their order, and what is to be said about all of them."""

    model: str
    answers: list[Answer]
    warnings: list[str]
    keep: int  # how many for each prompt
    per_prompt: int
    finished: Callable[[str], str] = str  # what extensions make of a reply

    def cancel(self) -> None:
        """End all of them within one token."""
        for answer in self.answers:
            answer.cancel()

    def close(self) -> None:
        for answer in self.answers:
            answer.cancel()
            answer.stream.close()

    def read(self, done: Callable[[], None]) -> None:
        """Read all to their ends, each in a thread of its own; `done` is called once, from the last of them."""
        left = len(self.answers)
        lock = threading.Lock()

        def one(answer: Answer) -> None:
            nonlocal left
            try:
                answer.prompt_tokens()
                answer.pieces.extend(answer.stream)
            except BaseException as error:
                answer.error = error
                self.cancel()
            finally:
                answer.stream.close()
                with lock:
                    left -= 1
                    last = not left
                if last:
                    done()

        for answer in self.answers:
            threading.Thread(target=one, args=(answer,), name="reply", daemon=True).start()

    def best(self) -> list[Answer]:
        """The replies to keep, numbered. Raises: UserError, when one of them failed."""
        for answer in self.answers:
            if answer.error:
                raise answer.error
        kept: list[Answer] = []
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
        """Tokens of all prompts (each once) and of all replies, those that were not kept included."""
        prompts = sum(answer.report.prompt_tokens for answer in self.answers[:: self.per_prompt])
        new = sum(answer.report.new_tokens for answer in self.answers)
        reused = sum(answer.report.reused_tokens for answer in self.answers[:: self.per_prompt])
        return {
            "prompt_tokens": prompts,
            "completion_tokens": new,
            "total_tokens": prompts + new,
            "prompt_tokens_details": {"cached_tokens": reused},
        }

    def all_warnings(self) -> list[str]:
        """What was asked for and could not be done, each sentence once."""
        said = [*self.warnings, *(each for answer in self.answers for each in answer.report.warnings)]
        return list(dict.fromkeys(said))


class Completions:
    """Starts replies to requests that ask for more than one thing. May be used from several threads."""

    def __init__(self, generator: Generator, extensions: Extensions | None = None) -> None:
        self._generator = generator
        self._extensions = extensions or Extensions()
        self._running: weakref.WeakSet[TextStream] = weakref.WeakSet()

    def start(self, ask: Ask) -> Answers:
        """Ask for all replies; they are in the queue when this returns. Raises: UserError, and then none is."""
        count = max(ask.n, ask.best_of)
        if ask.replies > MOST_REPLIES:
            raise TooMany("replies in one request", MOST_REPLIES)
        if not ask.prompts:
            raise InvalidInput("prompt is an empty list. Send at least one text.")
        # what has begun already has been asked about its knobs: those that are asked for now count
        session = ask.session or self._generator.session()
        begun = ask.context or self._extensions.begin(ask.params, words=session)
        context = replace(begun, params=ask.params) if ask.context else begun
        model, params = session.model, context.params
        alternatives = ask.alternatives
        if count > ask.n and alternatives is None:
            alternatives = 0  # the best one is the likeliest
        late = [each.name for each in self._extensions.having("output_modifier")] if ask.stream else []
        # refused here: the engine would say so when the reply has begun
        token_ids(params.custom_token_bans)
        quoted_strings(params.dry_sequence_breakers, bare=True)
        warnings = [f"The extension {name} could not change the reply: it was sent as it came." for name in late]
        bias = {token: float("-inf") if value <= _NEVER else value for token, value in ask.logit_bias.items()}
        bias.update(self._bans(model, ask.banned_strings, warnings))
        room = session.context(params)
        answers: list[Answer] = []
        prompts = [session.ids(self._gap(model, each, ask.suffix, warnings), params, context) for each in ask.prompts]
        limits = [_limit(ask, len(ids), room, warnings) for ids in prompts]
        try:
            for ids, limit in zip(prompts, limits, strict=True):
                echo = Echo(model, ids, ask.alternatives) if ask.echo else None
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
                    answers.append(Answer(len(answers), stream, echo))
        except BaseException:
            for answer in answers:
                answer.stream.close()
            raise
        return Answers(model.name, answers, warnings, ask.n, count, lambda text: self._extensions.output(text, context))

    def stop(self, whose: str = "") -> int:
        """End all requests whose label begins so; how many there were."""
        entries = [entry for entry in self._generator.queue() if entry.label.startswith(whose)]
        for entry in entries:
            entry.cancel.set()
        return len(entries)

    def end_thoughts(self) -> int:
        """Let all that think come to their answers; how many there were."""
        return sum(stream.end_thought() for stream in tuple(self._running))

    def _bans(self, model: Model, strings: Sequence[str], warnings: list[str]) -> dict[int, float]:
        """Strings that are one token are never chosen; longer ones cannot be kept out by a bias."""
        banned: dict[int, float] = {}
        for string in strings:
            if not string:
                continue
            spellings = {string, " " + string.lstrip(), string.capitalize(), " " + string.lstrip().capitalize()}
            found = [model.tokenizer.encode(each, add_bos=False, special=False) for each in spellings]
            single = [ids[0] for ids in found if len(ids) == 1]
            banned.update(dict.fromkeys(single, float("-inf")))
            if not single:
                warnings.append(f"banned_strings: {string[:60]!r} is more than one token, so it is not kept out.")
        return banned

    def _gap(self, model: Model, prompt: str | Sequence[int], suffix: str, warnings: list[str]) -> str | Sequence[int]:
        """The prompt with what is to follow the reply, in the form of models that fill gaps."""
        if not suffix:
            return prompt
        if not isinstance(prompt, str):
            warnings.append("suffix has no effect: it goes with a prompt that is a text, and this one is token ids.")
            return prompt
        for before, after, middle in _GAP_MARKS:
            ids = [model.tokenizer.encode(mark, add_bos=False, special=True) for mark in (before, after, middle)]
            if all(len(each) == 1 and model.tokenizer.is_special(each[0]) for each in ids):
                return f"{before}{prompt}{after}{suffix}{middle}"
        warnings.append("suffix has no effect: this model was not made to fill a gap.")
        return prompt


def _limit(ask: Ask, prompt_tokens: int, room: int, warnings: list[str]) -> int:
    """How many tokens the reply may have. Clients ask for more than fits as a matter of course: they get what fits.

    Raises: PromptTooLong, when not even one does.
    """
    left = room - prompt_tokens
    if left < 1:
        raise PromptTooLong(prompt_tokens, room - 1)
    if ask.max_tokens is None:
        return left
    if ask.max_tokens > left:
        warnings.append(f"max_tokens was lowered from {ask.max_tokens} to {left}: the context has no more room.")
    return min(ask.max_tokens, left)


def finish_reason(finish: Finish | None) -> str:
    """In OpenAI's words: who stopped it does not matter to them."""
    return "length" if finish is Finish.LENGTH else "stop"


def _likelihood(answer: Answer) -> float:
    """The mean log-probability of a reply's tokens."""
    values = [token.logprob or 0.0 for token in answer.tokens]
    return sum(values) / len(values) if values else float("-inf")
