"""Keeps a reply from ending, or starting a new line, before a minimum number of tokens."""

import gradio as gr
import numpy as np

from modules import shared

params = {
    "display_name": "Long replies",
    "activate": True,
    "min_length": 120,
}


class KeepWriting:
    """Bans newlines and the end of the reply for the first tokens."""

    def __init__(self, prompt_length, least):
        self.until = prompt_length + least
        newlines = {shared.tokenizer.encode(text)[-1] for text in ("\n", "\n\n")}
        self.tokens = sorted(newlines | set(shared.model.tokenizer.end_ids))

    def __call__(self, input_ids, scores):
        if input_ids.shape[-1] < self.until:
            scores[:, self.tokens] = -np.inf
        return scores


def logits_processor_modifier(processor_list, input_ids):
    if params["activate"] and params["min_length"] > 0:
        processor_list.append(KeepWriting(input_ids.shape[-1], params["min_length"]))


def ui():
    activate = gr.Checkbox(params["activate"], label="Activate long replies", elem_id="long-activate")
    least = gr.Slider(
        0, 1000, params["min_length"], step=10, label="Minimum length", elem_id="long-length",
        info="A reply does not end or start a new line before it has this many tokens.",
    )  # fmt: skip
    activate.change(lambda value: params.update(activate=value), activate, None, show_progress="hidden")
    least.release(lambda value: params.update(min_length=int(value)), least, None, show_progress="hidden")
