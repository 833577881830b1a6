"""Colors each word of a reply by how certain the model was: by perplexity, by probability, or by both.

Perplexity here is exp(entropy) of the distribution that the token was drawn from: the number of equally likely tokens
between which the model would be equally uncertain. Both values are of the model's own distribution, before the
samplers.
"""

import html
import threading
from collections import deque

import gradio as gr
import numpy as np

from modules import shared

params = {
    "display_name": "Perplexity colors",
    "active": True,
    "color_by_perplexity": True,
    "color_by_probability": False,
    "ppl_scale": 15.0,
    "probability_dropdown": False,
}


class Watcher:
    """Reads each distribution and changes nothing. The token at a position is known when the next one is requested."""

    def __init__(self, prompt_length):
        self.start = prompt_length
        self.seen = []  # (probabilities, perplexity) at each position
        self.ids = []

    def __call__(self, input_ids, scores):
        self.ids = [int(each) for each in np.asarray(input_ids)[0, self.start :]]
        row = np.asarray(scores, np.float32)[0]
        share = np.exp(row - row.max())
        share /= share.sum()
        entropy = -float((share * np.log(share + 1e-12)).sum())
        best = np.argpartition(share, -10)[-10:]
        best = best[np.argsort(-share[best])]
        self.seen.append(
            (share.astype(np.float16), float(np.exp(entropy)), [(int(each), float(share[each])) for each in best])
        )
        if len(self.ids) and len(self.seen) > 1:  # only the probability of the chosen token is still needed
            share, perplexity, top = self.seen[len(self.ids) - 1]
            if share is not None:
                self.seen[len(self.ids) - 1] = (None, perplexity, top, float(share[self.ids[-1]]))

    def words(self):
        """(text, probability, perplexity, best) of each known token."""
        found = []
        for token, seen in zip(self.ids, self.seen, strict=False):
            probability = seen[3] if len(seen) > 3 else float(seen[0][token])
            found.append((shared.tokenizer.decode([token]), probability, seen[1], seen[2]))
        return found


_lock = threading.Lock()
_watchers = deque(maxlen=16)  # of the last replies: several may be in progress


def logits_processor_modifier(processor_list, input_ids):
    if params["active"]:
        watcher = Watcher(input_ids.shape[-1])
        with _lock:
            _watchers.append(watcher)
        processor_list.append(watcher)


def output_modifier(string, state, is_chat=False):
    """The reply with its words in color; only in a chat, where it is shown as HTML."""
    if not (params["active"] and is_chat):
        return string
    with _lock:
        watchers = list(_watchers)
    for watcher in reversed(watchers):
        words = watcher.words()
        said = html.escape("".join(text for text, *_ in words).strip())
        if words and said and (string.strip().startswith(said) or said in string):
            return colored(string, words)
    return string


def colored(string, words):
    """The string with each word found in it, in order, wrapped in a color. Lines and Markdown are kept."""
    made, at = [], 0
    for text, probability, perplexity, best in words:
        plain = html.escape(text).strip()
        place = string.find(plain, at) if plain else -1
        if place < 0 or place - at > 40 or not any(each.isalnum() for each in plain):
            continue
        title = f"{probability:.1%}, perplexity {perplexity:.1f}"
        if params["probability_dropdown"]:
            others = ", ".join(f"{shared.tokenizer.decode([token]).strip()} {share:.0%}" for token, share in best[:5])
            title += f"; {others}"
        style = f'style="color:{color(probability, perplexity)}" title="{html.escape(title, quote=True)}"'
        made += [string[at:place], f"<span {style}>{plain}</span>"]
        at = place + len(plain)
    return "".join([*made, string[at:]])


def color(probability, perplexity):
    """A hue from green (certain) to red (a guess); if both count, the less certain value decides."""
    doubt = 0.0
    if params["color_by_perplexity"]:
        doubt = max(doubt, min(1.0, np.log(max(perplexity, 1.0)) / np.log(1 + params["ppl_scale"])))
    if params["color_by_probability"]:
        doubt = max(doubt, 1 - probability)
    return f"hsl({round(130 * (1 - doubt))}, 70%, 45%)"


def ui():
    active = gr.Checkbox(
        params["active"], label="Color replies", info="Green: certain. Red: a guess.", elem_id="ppl-active"
    )
    by_perplexity = gr.Checkbox(
        params["color_by_perplexity"], label="By perplexity", info="How many tokens the model hesitated between."
    )
    by_probability = gr.Checkbox(
        params["color_by_probability"], label="By probability", info="How likely the chosen token was."
    )
    scale = gr.Slider(1, 100, params["ppl_scale"], step=1, label="Perplexity shown in red")
    others = gr.Checkbox(
        params["probability_dropdown"], label="Show alternatives", info="As a tooltip on each word."
    )
    for name, component in (
        ("active", active), ("color_by_perplexity", by_perplexity), ("color_by_probability", by_probability),
        ("ppl_scale", scale), ("probability_dropdown", others),
    ):  # fmt: skip
        component.change(lambda value, name=name: params.update({name: value}), component, None, show_progress="hidden")
