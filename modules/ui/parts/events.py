"""Connects controls to functions and shows their errors: one place for both.

Every event is private to the page (no endpoint for others), shows no overlay, and does not wait: several people may
stream at once. A handler returns `{component: value}` for what it changes; everything else stays as it is. This module
must not know any tab.
"""

from __future__ import annotations

import contextlib
import functools
import html
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypedDict, Unpack

import gradio as gr

from errors import UserError
from modules.ui.parts.error_text import error_text
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

log = logging.getLogger(__name__)

#: A handler's result: components with their new values.
Updates = dict[Any, Any]

#: The input of a handler whose inputs are a set: components with their values.
Values = Mapping[Any, Any]

#: How many handlers may run at once, over all users. A streaming reply occupies one.
HANDLERS = 64

_STILL = "still"


def event_anchor() -> gr.HTML:
    """The component on which gradio shows the status of events: create it first in a page.

    Otherwise gradio sets the status of every output of every event and searches the whole page for all of them at each
    event: with 200 outputs in a page of 1,000 components, a page took 12 s to load instead of 4.
    """
    return gr.HTML("", visible=False, elem_id=_STILL)


def _noted() -> list[gr.components.Component] | None:
    root = gr.context.Context.root_block
    blocks = root.blocks.values() if root else ()
    return next(([each] for each in blocks if isinstance(each, gr.HTML) and each.elem_id == _STILL), None)


def show_warning(message: object) -> None:
    """Show a sentence as a toast. It may contain text from a user or a file, so it is escaped."""
    gr.Warning(html.escape(translated(message), quote=False), duration=12, title=tr("toast.note"))


def show_info(message: str, button: str = "") -> None:
    """Show that something was done. `button`: the text of one of the page's to continue with; the toast has it, too."""
    said, seconds = html.escape(message, quote=False), 4
    if button:
        said, seconds = f"{said} <button>{html.escape(button)}</button>", 12  # gradio drops any attribute: see page.js
    gr.Info(said, duration=seconds, title=tr("toast.done"))


def show_error(error: Exception) -> None:
    """Show an error to the user: our own sentences unchanged, anything else without its traceback."""
    if isinstance(error, UserError):
        show_warning(error_text(error))
    else:
        log.error("The page met an error", exc_info=error)
        show_warning(tr("toast.unexpected"))


class EventOptions(TypedDict, total=False):
    """Options of an event.

    `js`: what the browser does at once, with the inputs. `latest`: while one call runs, only the last of several
    further ones counts; every choice is so (see `_acts`). `several`: it may run several times at once, as where a
    click on an entry of a list does something to that entry: each one counts. Otherwise the page ignores the second
    call. `queue`: False for what is quick and must not wait.
    """

    js: str | None
    latest: bool
    several: bool
    queue: bool


def handler(function: Callable[..., Any], outputs: Any = True) -> Callable[..., Any]:
    """Wrap a function: its error becomes a toast, and its outputs, if any, do not change."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return _or_skip(function(*args, **kwargs), outputs)
        except Exception as error:
            show_error(error)
            return gr.skip() if outputs else None  # gradio complains about values without outputs

    return guarded


def stream_handler(function: Callable[..., Iterator[Any]], outputs: Any = True) -> Callable[..., Iterator[Any]]:
    """The same for a generator: what it has shown until its error stays."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            with contextlib.closing(function(*args, **kwargs)) as updates:  # type: ignore[type-var]  # a generator
                for update in updates:
                    yield update if update != {} else _or_skip(update, outputs)
        except Exception as error:
            show_error(error)

    return guarded


def on(
    triggers: Any,
    function: Callable[..., Any] | None,
    inputs: Any = None,
    outputs: Any = None,
    **how: Unpack[EventOptions],
) -> Any:
    """Connect triggers (one or several events) to a function. A set of inputs reaches it as a dict: `Values`."""
    events = triggers if isinstance(triggers, list) else [triggers]
    if not how.get("several") and not any(map(_acts, events)):
        how = {"latest": True, **how}
    return gr.on(events, _guarded(function, outputs), inputs, outputs, queue=how.get("queue", True), **_options(how))


def then(
    before: Any,
    function: Callable[..., Any] | None,
    inputs: Any = None,
    outputs: Any = None,
    **how: Unpack[EventOptions],
) -> Any:
    """Continue after an event, whether it succeeded or not."""
    return before.then(_guarded(function, outputs), inputs, outputs, **_options(how))


def _acts(trigger: Any) -> bool:
    """Whether an event is an action, which a second click must not repeat. Any other chooses something, by a click on
    an entry of a list or in a menu: if one chooses again before the answer, the latest choice counts.
    """
    lists = isinstance(getattr(trigger, "__self__", None), gr.HTML)
    return trigger.event_name == "submit" or (trigger.event_name == "click" and not lists)


def _guarded(function: Callable[..., Any] | None, outputs: Any) -> Callable[..., Any] | None:
    if function is None:
        return None
    guard = stream_handler if inspect.isgeneratorfunction(function) else handler
    return guard(function, outputs)


def _or_skip(made: Any, outputs: Any) -> Any:
    """A handler's result; an empty dict means no change."""
    several = isinstance(outputs, Collection) and len(outputs) > 1
    return gr.skip() if several and isinstance(made, dict) and not made else made


def _options(how: EventOptions) -> dict[str, Any]:
    mode = "always_last" if how.get("latest") else "multiple" if how.get("several") else "once"
    return {
        "js": how.get("js"),
        "trigger_mode": mode,
        "show_progress": "hidden",
        "show_progress_on": _noted(),
        "api_visibility": "private",
        "concurrency_limit": None,
    }
