"""The Training tab: a page to train LoRAs, and a page of perplexity."""

from __future__ import annotations

import gradio as gr

from modules.app import App
from modules.ui.lora_page import LoraPage
from modules.ui.perplexity_page import PerplexityPage


class TrainingTab:
    """The tab."""

    def __init__(self, app: App) -> None:
        with gr.Tabs(elem_id="training"):
            with gr.Tab("Train LoRA", id="train-lora", elem_id="tab-train-lora"):
                self._lora = LoraPage(app)
            with gr.Tab("Perplexity", id="perplexity", elem_id="tab-perplexity"):
                self._perplexity = PerplexityPage(app)

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect it; `tab` is its own."""
        self._lora.wire(page, tab)
        self._perplexity.wire(page, tab)
