"""The original's helper functions with which extensions build components."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from modules.ui.parts.events import on
from modules.ui.texts import tr


def create_refresh_button(
    refresh_component: Any,
    refresh_method: Callable[[], Any] | None,
    refreshed_args: Callable[[], Mapping[str, Any]] | Mapping[str, Any],
    elem_class: str = "",
    interactive: bool = True,
) -> gr.Button:
    """A refresh button: it calls `refresh_method`, and the component gets the refreshed arguments."""
    button = gr.Button(tr("button.refresh"), size="sm", elem_classes=elem_class or None, interactive=interactive)

    def refresh() -> Any:
        if refresh_method is not None:
            refresh_method()
        return gr.update(**(refreshed_args() if callable(refreshed_args) else refreshed_args))

    on(button.click, refresh, None, [refresh_component])
    return button
