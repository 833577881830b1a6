"""A page for what does not stand yet: it says in a sentence what it will do, and shows no dead buttons."""

from __future__ import annotations

import gradio as gr

from modules.ui.words import escape


def later(title: str, *sentences: str) -> gr.HTML:
    """A heading and plain sentences."""
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return gr.HTML(f"<div class='later'><h1>{escape(title)}</h1>{text}</div>", padding=False)
