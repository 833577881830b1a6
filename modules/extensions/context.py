"""One reply as extensions see it: `state`, the dictionary of settings that the original hands to its functions.

Made of sampling knobs and of what the chat knows; read back into knobs after an extension has changed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from errors import UserError
from loaders.base import Model
from loaders.params import SamplingParams


class Words(Protocol):
    """The way from text to tokens and to replies, over one model: `modules.generation.session.ModelSession`."""

    model: Model

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def ids(self, prompt: str, params: SamplingParams) -> list[int]: ...
    def max_prompt(self, params: SamplingParams) -> int: ...
    def said(self, prompt: str, params: SamplingParams, stop: Sequence[str]) -> Iterator[str]: ...


#: Whose function is running in this thread: scripts import a tokenizer instead of being given one, and what they
#: encode has to go to the model that the request they work on goes to.
_in_use: ContextVar[Words | None] = ContextVar("words", default=None)


def words_in_use() -> Words | None:
    """The model of the request that an extension works on in this thread; None outside of any."""
    return _in_use.get()


@contextmanager
def using(words: Words | None) -> Iterator[None]:
    """While inside, a script's imported functions speak to this model; None leaves it to the one that is loaded."""
    before = _in_use.set(words)
    try:
        yield
    finally:
        _in_use.reset(before)


#: The prompt that the program made itself, while an extension is asked for one of its own.
_usual: ContextVar[str | None] = ContextVar("usual prompt", default=None)


def usual_prompt() -> str | None:
    """What the chat's prompt is without the extension that is asked in this thread; None where none is asked."""
    return _usual.get()


@contextmanager
def instead_of(prompt: str | None) -> Iterator[None]:
    """While inside, a script that makes a chat's prompt can begin with the usual one."""
    before = _usual.set(prompt)
    try:
        yield
    finally:
        _usual.reset(before)


@dataclass
class HookContext:
    """Goes with one reply from its first hook to its last. `notes` are warnings for whoever asked."""

    params: SamplingParams
    is_chat: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    words: Words | None = None  # the model that answers


def state_of(params: SamplingParams, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the original's names."""
    knobs = {name: list(value) if isinstance(value, tuple) else value for name, value in params.model_dump().items()}
    return {**knobs, **facts}


def params_from(state: Mapping[str, Any], params: SamplingParams, notes: list[str]) -> SamplingParams:
    """The knobs as the state has them now; what cannot be is left as it was, with a note."""
    before = state_of(params, {})
    changed = {name: state[name] for name in before if name in state and state[name] != before[name]}
    for name, value in changed.items():
        try:
            params = params.changed(**{name: value})
        except UserError as error:
            notes.append(f"An extension's state_modifier set {name} to what it cannot be: {error}")
    return params
