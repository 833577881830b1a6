"""The web UI: Gradio components, a theme, styles and scripts. No logic.

Importing this package does not import Gradio: that takes seconds, during which a model can load.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from modules.ui.gradio_stubs import skip_gradio_stubs

if TYPE_CHECKING:
    import gradio as gr

    from modules.app import App

__all__ = ["build_page", "launch"]

skip_gradio_stubs()  # everything imports Gradio through this package

#: Gradio sends nothing anywhere, and does not compute statistics of its last 10,000 events at each event: they are for
#: its monitoring page, which is off, and in the end each click would take seconds.
_NO_ANALYTICS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",  # events between two computations
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}


def launch(app: App) -> str:
    """Serve the page in its own thread and return its address. Raises: UserError if it cannot be served."""
    os.environ.update(_NO_ANALYTICS)
    from modules.ui.serve import serve_page

    return serve_page(app)


def build_page(app: App) -> gr.Blocks:
    """Build the page without serving it."""
    os.environ.update(_NO_ANALYTICS)
    from modules.ui import page

    return page.build_page(app)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What scripts for the original program use of its module of this name."""
        if name == "create_refresh_button":
            from modules.ui.parts.refresh_button import create_refresh_button

            return create_refresh_button
        from modules.extensions.compat import package_attribute

        return package_attribute(__name__, name)
