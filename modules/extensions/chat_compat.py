"""The functions of the original's `modules.chat`, `modules.ui` and `modules.ui_chat` with which scripts let the model
answer in the chat of a page, and change what it shows.

A script connects them to its own buttons: `gather_interface_values` makes a state from the page's components, and the
others take it. It must not know pages or how chats are stored.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from errors import UserError
from loaders.params import SamplingParams
from modules.extensions.context import default_chat_prompt

History = dict[str, Any]

#: The original's names of what its functions get: of a reply, and of showing a chat again.
REPLY_INPUTS = ("Chat input", "interface_state")
SHOW_INPUTS = ("history", "name1", "character_menu", "mode", "chat_style")


class ChatAccess(Protocol):
    """What scripts may do with chats: `modules.chat.script_chats.ScriptChats`."""

    def reply(
        self, text: str, state: Mapping[str, Any], params: SamplingParams, *, regenerate: bool, going_on: bool
    ) -> Iterator[History]: ...
    def save(self, history: Mapping[str, Any], id: str) -> None: ...
    def character(self, id: str) -> str: ...
    def with_names(self, text: str, user: str, character: str) -> str: ...


def chat_functions(chats: Callable[[], ChatAccess]) -> dict[str, Callable[..., Any]]:
    """The functions of `modules.chat`, by name."""

    def generate_chat_reply(
        text: str, state: Mapping[str, Any], regenerate: bool = False, _continue: bool = False, *_: Any, **_others: Any
    ) -> Iterator[History]:
        params = state_params(state)
        yield from chats().reply(text, state, params, regenerate=regenerate, going_on=_continue)

    def generate_chat_reply_wrapper(
        text: str, state: Mapping[str, Any], regenerate: bool = False, _continue: bool = False, *_: Any
    ) -> Iterator[tuple[str, History]]:
        for history in generate_chat_reply(text, state, regenerate, _continue):
            yield redraw_html(history), history

    def save_history(history: Mapping[str, Any], unique_id: str, *_: Any) -> None:
        chats().save(history, unique_id)

    def replace_character_names(text: str, name1: str, name2: str) -> str:
        return chats().with_names(text, name1, name2)

    return {
        "generate_chat_prompt": generate_chat_prompt,
        "generate_chat_reply": generate_chat_reply,
        "generate_chat_reply_wrapper": generate_chat_reply_wrapper,
        "redraw_html": redraw_html,
        "replace_character_names": replace_character_names,
        "save_history": save_history,
    }


def ui_functions(inputs: Sequence[str], chats: Callable[[], ChatAccess]) -> dict[str, Callable[..., Any]]:
    """The functions of `modules.ui`, by name. `inputs`: the names of the page's fields, filled while it is built."""

    def gather_interface_values(*values: Any) -> dict[str, Any]:
        state = dict(zip(inputs, values, strict=False))
        if name := state.get("unique_id"):
            state["name2"] = state["character_menu"] = chats().character(str(name))
        return state

    def apply_interface_values(state: Mapping[str, Any], *_: Any, **_others: Any) -> list[Any]:
        return [state.get(name) for name in inputs]

    return {
        "apply_interface_values": apply_interface_values,
        "gather_interface_values": gather_interface_values,
        "list_interface_input_elements": lambda *_: list(inputs),
    }


def generate_chat_prompt(_user_input: str, _state: Any = None, **_: Any) -> str:
    """The default prompt of the chat: available while an extension is asked for its own."""
    prompt = default_chat_prompt()
    if prompt is None:
        raise RuntimeError("chat.generate_chat_prompt can only be called in custom_generate_chat_prompt")
    return prompt


def redraw_html(history: Mapping[str, Any], *_: Any, **_others: Any) -> str:
    """The visible texts of a history as HTML. The page itself shows a chat as soon as it has changed."""
    rows = history.get("visible") if isinstance(history, Mapping) else None
    said = [text for row in rows or () for text in row if text]
    return "".join(f"<div class='message'>{text}</div>" for text in said)


def paragraphs(text: str, *_: Any) -> str:
    """A text as HTML that shows it unchanged."""
    parts = html.escape(text).split("\n\n")
    return "".join("<p>" + part.replace("\n", "<br>") + "</p>" for part in parts)


def state_params(state: Mapping[str, Any]) -> SamplingParams:
    """The sampling parameters in a state; each invalid value is left out."""
    given = {name: state[name] for name in SamplingParams.model_fields if state.get(name) is not None}
    try:
        return SamplingParams.parse(given)
    except UserError:
        params = SamplingParams()
    for name, value in given.items():
        try:
            params = params.changed(**{name: value})
        except UserError:
            continue
    return params
