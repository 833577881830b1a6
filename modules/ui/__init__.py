"""The page in the browser: gradio's components, a theme, a little style and script. No logic.

Importing this package imports no gradio: that takes seconds, and a model can be loaded meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

    from modules.app import App

__all__ = ["build_page", "launch"]


def launch(app: App) -> str:
    """Serve the page in a thread of its own and return its address. Raises: UserError, when it cannot be served."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from modules.ui.serve import serve

    return serve(app)


def build_page(app: App) -> gr.Blocks:
    """Make the page without serving it."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from modules.ui import page

    return page.build_page(app)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What scripts for the original program use of its module of this name."""
        if name == "create_refresh_button":
            from modules.ui.for_scripts import create_refresh_button

            return create_refresh_button
        from modules.extensions.original import beside

        return beside(__name__, name)
