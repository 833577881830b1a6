"""How a control of the page is wired to a function, and what becomes of a UserError: one place for both.

Every event of ours is private to the page (no endpoint for others), shows no overlay, and waits for nobody: several
people may stream at once. This module must not know any tab.
"""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from errors import UserError

log = logging.getLogger(__name__)

#: How many handlers run at once, over all users. A reply that streams occupies one.
HANDLERS = 64

_UNEXPECTED = "Something went wrong here, and it is written in the log. Reload the page and try again."


_STILL = "still"


def still() -> gr.HTML:
    """The component on which gradio may note how events go: make it first in a page.

    Gradio notes that on every output of every event, and looks all of them up in the whole page again at each event:
    with 200 outputs in a page of 1,000 components a page took 12 s to come up instead of 4.
    """
    return gr.HTML("", visible=False, elem_id=_STILL)


def _noted() -> list[gr.components.Component] | None:
    root = gr.context.Context.root_block
    blocks = root.blocks.values() if root else ()
    return next(([each] for each in blocks if isinstance(each, gr.HTML) and each.elem_id == _STILL), None)


def tell(message: object) -> None:
    """Show a sentence as a toast. Raised text may hold what a user or a file wrote, so it is escaped."""
    gr.Warning(html.escape(str(message), quote=False), duration=12, title="Please note")


def say(message: str) -> None:
    """Show that something was done."""
    gr.Info(html.escape(message, quote=False), duration=4, title="Done")


def report(error: Exception) -> None:
    """Tell the user what went wrong: our own sentences as they stand, anything else without its traceback."""
    if isinstance(error, UserError):
        tell(error)
    else:
        log.error("The page met an error", exc_info=error)
        tell(_UNEXPECTED)


def handler(function: Callable[..., Any], outputs: Any = True) -> Callable[..., Any]:
    """Let a function fail in words: its error becomes a toast and its outputs, if it has any, stay as they are."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            report(error)
            return gr.skip() if outputs else None  # gradio complains of values that nothing shows

    return guarded


def on(
    triggers: Any,
    function: Callable[..., Any] | None,
    inputs: Sequence[Any] | Any = None,
    outputs: Sequence[Any] | Any = None,
    *,
    js: str | None = None,
    latest: bool = False,
    queue: bool = True,
) -> Any:
    """Wire triggers (an event, or several) to a function. `latest`: while one runs, only the last of many counts."""
    return gr.on(
        triggers if isinstance(triggers, list) else [triggers],
        function if function is None else handler(function, outputs),
        inputs,
        outputs,
        js=js,
        trigger_mode="always_last" if latest else "once",
        show_progress="hidden",
        show_progress_on=_noted(),
        api_visibility="private",
        concurrency_limit=None,
        queue=queue,
    )


def then(
    before: Any,
    function: Callable[..., Any] | None,
    inputs: Sequence[Any] | Any = None,
    outputs: Sequence[Any] | Any = None,
    *,
    js: str | None = None,
    stream: bool = False,
    several: bool = False,
) -> Any:
    """Go on after an event, whatever became of it. A stream sees to its own errors: it is no plain function.

    `several`: it may run while it runs already; else the page leaves the second one out.
    """
    return before.then(
        function if function is None or stream else handler(function, outputs),
        inputs,
        outputs,
        js=js,
        trigger_mode="multiple" if several else "once",
        show_progress="hidden",
        show_progress_on=_noted(),
        api_visibility="private",
        concurrency_limit=None,
    )
