"""One reply as extensions see it: `state`, the dictionary of settings that the original hands to its functions.

Made of sampling knobs and of what the chat knows; read back into knobs after an extension has changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import UserError
from loaders.params import SamplingParams


@dataclass
class HookContext:
    """Goes with one reply from its first hook to its last. `notes` are warnings for whoever asked."""

    params: SamplingParams
    is_chat: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
