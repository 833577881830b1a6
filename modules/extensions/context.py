"""One reply as extensions see it: `state`, the dictionary of settings that the original passes to its functions.

It is built from sampling parameters and from the chat, and converted back after an extension has changed it.
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


class ModelAccess(Protocol):
    """What scripts may use of one model, from text to tokens and replies: `modules.generation.session.ModelSession`."""

    model: Model

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def ids(self, prompt: str, params: SamplingParams) -> list[int]: ...
    def max_prompt(self, params: SamplingParams) -> int: ...
    def said(self, prompt: str, params: SamplingParams, stop: Sequence[str]) -> Iterator[str]: ...


#: The model access of the function that runs in this thread: scripts import a tokenizer instead of being given one, and
#: it must be that of the model which answers their request.
_in_use: ContextVar[ModelAccess | None] = ContextVar("words", default=None)


def current_model_access() -> ModelAccess | None:
    """The model of the request that an extension works on in this thread; None outside of any."""
    return _in_use.get()


@contextmanager
def use_model_access(words: ModelAccess | None) -> Iterator[None]:
    """While inside, a script's imported functions use this model; None means the loaded one."""
    before = _in_use.set(words)
    try:
        yield
    finally:
        _in_use.reset(before)


#: The program's own prompt, while an extension is asked for another.
_usual: ContextVar[str | None] = ContextVar("usual prompt", default=None)


def default_chat_prompt() -> str | None:
    """The chat's prompt without the extension that is asked in this thread; None if none is asked."""
    return _usual.get()


@contextmanager
def offer_default_prompt(prompt: str | None) -> Iterator[None]:
    """While inside, a script that builds a chat's prompt can start from the default one."""
    before = _usual.set(prompt)
    try:
        yield
    finally:
        _usual.reset(before)


@dataclass
class HookContext:
    """Accompanies one reply from its first hook to its last. `notes` are warnings for the client."""

    params: SamplingParams
    is_chat: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    words: ModelAccess | None = None  # the model that answers


def make_state(params: SamplingParams, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the original's names."""
    knobs = {name: list(value) if isinstance(value, tuple) else value for name, value in params.model_dump().items()}
    return {**knobs, **facts}


def params_from_state(state: Mapping[str, Any], params: SamplingParams, notes: list[str]) -> SamplingParams:
    """The sampling parameters as the state has them now; invalid values are not applied, with a note."""
    before = make_state(params, {})
    changed = {name: state[name] for name in before if name in state and state[name] != before[name]}
    for name, value in changed.items():
        try:
            params = params.changed(**{name: value})
        except UserError as error:
            notes.append(f"An extension's state_modifier set {name} to an invalid value: {error}")
    return params
