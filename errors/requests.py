"""Errors about requests: the prompt, the engine, templates, grammars, and the API (what ends a request before that:
modules/web/errors.py). Imports nothing but the kinds of errors.
"""

from __future__ import annotations

from errors.kinds import InvalidInput, Unavailable, UserError


class ModelClosed(Unavailable):
    """The model was unloaded while a request was waiting or running."""

    def __init__(self) -> None:
        self._say(
            "model_closed", {},
            "The model was unloaded while this request was running. Load a model, then send the request again."
        )  # fmt: skip


class EngineFailed(Unavailable):
    """The engine could not compute a step: this request ends, the others continue."""

    def __init__(self, why: str) -> None:
        self._say("engine_failed", {"why": why}, f"Generation failed: {why}")


class EngineDied(Unavailable):
    """The process in which the model ran has ended. `reason` is a clause."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self._say(
            "engine_died", {"reason": reason},
            f"The process of the model ended: {reason}. The model is loaded again by itself: send this again. If it "
            "ends twice within a minute, it is not loaded again: load it yourself."
        )  # fmt: skip


class NonFiniteLogits(EngineFailed):
    """The model computed NaN or infinity where a logit should be."""

    def __init__(self) -> None:
        super().__init__(
            "the model produced NaN logits. The file may be damaged, or the model may not work with this cache "
            "type: try cache_type f16."
        )


class OutOfGpuMemory(EngineFailed):
    """The GPU ran out of memory during a step."""

    def __init__(self) -> None:
        super().__init__(
            "the GPU ran out of memory. Close other programs that use it, or load the model with a smaller "
            "max_seq_len, chunk_size or cache_type."
        )
        self.told = "out_of_gpu_memory", {}


class Overloaded(Unavailable):
    """A server that takes no more requests now; perhaps after `seconds` (0: unknown)."""

    seconds = 0


class EmptyPrompt(InvalidInput):
    """The prompt contains no tokens."""

    def __init__(self) -> None:
        self._say("empty_prompt", {}, "The prompt is empty. Type some text first.")


class PromptTooLong(InvalidInput):
    """The prompt does not fit into the context. Both numbers are tokens; `more` says how to get a larger context."""

    def __init__(
        self, prompt_tokens: int, room: int, advice: str = "", *, more: str = "load the model with a larger n_ctx"
    ) -> None:
        usual = f"equest a shorter reply (max_new_tokens, max_tokens), or {more}."
        if room > 0:
            why, usual = f"only {room:,} fit into the context", f"Shorten it, r{usual}"
            key = "prompt_too_long"
        else:  # however short the prompt is
            why, usual = "the requested reply leaves no room for it in the context", f"R{usual}"
            key = "no_room_for_prompt"
        said = {"tokens": prompt_tokens, "room": room, "advice": advice or more}
        self.told = f"{key}_advice" if advice else key, said
        super().__init__(f"The prompt has {prompt_tokens:,} tokens, but {why}. {advice or usual}")


class InvalidToken(InvalidInput):
    """A token id that the model does not have."""

    def __init__(self, token: int, n_vocab: int) -> None:
        super().__init__(f"Invalid token id {token}: this model's ids range from 0 to {n_vocab - 1}.")


class Unsupported(InvalidInput):
    """The request needs something that this model or its loader does not support; the sentence says why."""


class IncompatibleAdapter(InvalidInput):
    """A LoRA adapter that does not fit this model."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The LoRA {name} cannot be used with this model: {why}.")


class Cancelled(UserError):
    """A computation that produces no reply (a score, a distribution) was cancelled."""

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")


class InvalidGrammar(InvalidInput):
    """A grammar that does not parse, or that cannot be used with this model."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Invalid grammar: {why}")


class GrammarTooComplex(InvalidInput):
    """A grammar that needs more computation or memory per step than a request may use."""

    def __init__(self) -> None:
        super().__init__(
            "The grammar is too complex. Simplify it: use fewer alternatives, optional parts and nested "
            "repetitions that match the same text."
        )


class TemplateFailed(InvalidInput):
    """A chat or instruction template that does not parse, or that raised an error."""

    def __init__(self, name: str, why: str, line: int | None = None) -> None:
        self.why, self.line = why, line
        place = f" on line {line}" if line else ""
        super().__init__(f"The template {name} failed{place}: {why}. Choose or edit a template in the Parameters tab.")


class TemplateTooSlow(TemplateFailed):
    """A template that was stopped because it ran too long. Other messages would not make it faster."""


class TooMany(InvalidInput):
    """A list in a request that is longer than allowed."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"A request may contain at most {limit} {what}. Split it into several requests.")


class InvalidSchema(InvalidInput):
    """A JSON schema that cannot be converted to a grammar; `place` is a path in it, `line` the line in its text."""

    def __init__(self, why: str, place: str = "", line: int | None = None) -> None:
        where = f" on line {line}" if line else ""
        where += f" at {place}" if place else ""
        super().__init__(f"Invalid JSON schema{where}: {why}.")
        self.why, self.place = why, place
