"""The Training tab: the LoRA page and the perplexity page."""

from __future__ import annotations

import gradio as gr

from modules.app import App
from modules.ui.texts import tr
from modules.ui.training.lora_page import LoraPage
from modules.ui.training.perplexity_page import PerplexityPage


class TrainingTab:
    """The tab."""

    def __init__(self, app: App) -> None:
        with gr.Tabs(elem_id="training", elem_classes="pages", overflow_behavior="wrap"):
            with gr.Tab(tr("tab.train_lora"), id="train-lora", elem_id="tab-train-lora"):
                self._lora = LoraPage(app)
            with gr.Tab(tr("tab.perplexity"), id="perplexity", elem_id="tab-perplexity"):
                self._perplexity = PerplexityPage(app)

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect the events; `tab` is its own tab."""
        self._lora.wire(page, tab)
        self._perplexity.wire(page, tab)
