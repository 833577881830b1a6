"""The page in the browser: gradio's components, a theme, a little style and script. No logic.

Importing this package imports no gradio: that takes seconds, and a model can be loaded meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
