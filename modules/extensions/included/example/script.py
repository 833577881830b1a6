"""The tutorial's example: every function that an extension may have, each with a small visible effect.

Copy this folder to extensions/ with a name of your own, and remove what you do not need. Start it with --extensions example, or in the Session tab.
docs/extensions.md explains it step by step.
"""

import gradio as gr
import numpy as np
from modules.logging_colors import logger

from modules import shared

#: What users can set in settings.yaml, as `example-shout: true` and so on. The first two are for the page.
params = {
    "display_name": "Example",
    "is_tab": False,
    "shout": False,
    "never_say": "",
    "more_surprise": 0.0,
    "reply_begins": "",
    "footer": "",
    "parrot": False,
}


class NeverSay:
    """A logits processor: called before every token with the ids so far and the scores of all tokens, shape (1, n)."""

    def __init__(self, word):
        spellings = (word, " " + word, word.capitalize(), " " + word.capitalize())
        self.tokens = sorted({shared.tokenizer.encode(spelling)[0] for spelling in spellings})

    def __call__(self, input_ids, scores):
        scores[:, self.tokens] = -np.inf
        return scores


def setup():
    """Called once, after the params are set from settings.yaml."""
    logger.info("The example extension is at work with %s", params)


def state_modifier(state):
    """Called when a reply begins, with its settings."""
    state["temperature"] = min(5.0, state["temperature"] + params["more_surprise"])
    return state


def history_modifier(history):
    """Called in a chat when a reply begins; changes affect what the model reads, not what is stored."""
    return history


def chat_input_modifier(text, visible_text, state):
    """Called in a chat with the new message: the text for the model, and the HTML for the page."""
    return text, visible_text


def input_modifier(string, state, is_chat=False):
    """Called with the new message in a chat, and elsewhere with the whole prompt."""
    return string


def bot_prefix_modifier(string, state):
    """Called in the chat modes with the start of the reply, such as "Assistant:"."""
    return f"{string} {params['reply_begins']}" if params["reply_begins"] else string


def tokenizer_modifier(state, prompt, input_ids, input_embeds):
    """Called with the prompt's token ids, shape (1, n)."""
    return prompt, input_ids, input_embeds


def logits_processor_modifier(processor_list, input_ids):
    """Called before the first token. Processors appended here are called for every token."""
    if params["never_say"]:
        processor_list.append(NeverSay(params["never_say"]))


def output_modifier(string, state, is_chat=False):
    """Called with the finished reply. In a chat it is HTML, and only the displayed text changes."""
    if params["shout"]:
        string = string.upper()
    return f"{string}\n\n{params['footer']}" if params["footer"] else string


def custom_generate_chat_prompt(user_input, state, **kwargs):
    """Called in a chat: returns the whole prompt, or None for the default."""
    return None


def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat=False):
    """Called instead of the model: an iterator of the reply so far, or None to use the model."""
    if not params["parrot"]:
        return None
    words = question.strip().splitlines()[-1].split()
    return (" ".join(words[:count]) for count in range(1, len(words) + 1))


def custom_tokenized_length(prompt):
    """Called to count a prompt's tokens; None for the model's tokenizer."""
    return None


def custom_css():
    """CSS for the page."""
    return "#example-shout label { letter-spacing: 0.04em; }"


def custom_js():
    """JavaScript for the page."""
    return "console.debug('the example extension is here');"


def ui():
    """Called while the page is built. Components created here appear next to the chat, or in a tab if `is_tab` is
    true.
    """
    shout = gr.Checkbox(params["shout"], label="Shout", info="Shows replies in capitals.", elem_id="example-shout")
    never = gr.Textbox(params["never_say"], label="Never say", info="A word that is banned in replies.")
    surprise = gr.Slider(0, 2, params["more_surprise"], step=0.1, label="More surprise", info="Added to the temperature.")
    begins = gr.Textbox(params["reply_begins"], label="Start of replies", info="In the chat modes; hidden.")
    footer = gr.Textbox(params["footer"], label="Footer", info="Shown below each reply; the model never sees it.")
    parrot = gr.Checkbox(params["parrot"], label="Parrot", info="Repeats the last line; the model is not used.")
    for name, component in (
        ("shout", shout), ("never_say", never), ("more_surprise", surprise), ("reply_begins", begins),
        ("footer", footer), ("parrot", parrot),
    ):  # fmt: skip
        component.change(lambda value, name=name: params.update({name: value}), component, None, show_progress="hidden")
