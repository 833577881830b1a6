"""Starts a character's reply in a mood: text that only the model sees, between the character's name and its reply."""

from pathlib import Path

import gradio as gr

from modules import shared

params = {
    "display_name": "Character bias",
    "activate": True,
    "bias string": " *I am so happy*",
    "custom string": "",
    "use custom string": False,
}



def file():
    """The user's list of moods, else the one beside this script."""
    own = Path(shared.user_data_dir, "extensions", "character_bias", "bias_options.txt")
    return own if own.is_file() else Path(__file__).with_name(own.name)


def moods():
    """The moods in the file, one per line."""
    lines = file().read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip()]


def bot_prefix_modifier(string, state):
    """Add the mood after the character's name."""
    if not params["activate"]:
        return string
    chosen = params["custom string"] if params["use custom string"] else params["bias string"]
    return f"{string} {chosen.strip()} " if chosen.strip() else string


def ui():
    choices = moods()
    if params["bias string"] not in choices:
        choices.insert(0, params["bias string"])
    activate = gr.Checkbox(params["activate"], label="Activate character bias", elem_id="bias-activate")
    mood = gr.Dropdown(
        choices, value=params["bias string"], label="Mood", elem_id="bias-string",
        info="Inserted after the character's name in the chat modes, hidden. Your own list, one per line: "
        "extensions/character_bias/bias_options.txt.",
    )  # fmt: skip
    custom = gr.Checkbox(params["use custom string"], label="Use this text instead", elem_id="bias-use-custom")
    words = gr.Textbox(
        params["custom string"], show_label=False, placeholder="*I speak in rhymes*", elem_id="bias-custom"
    )
    for name, component in (
        ("activate", activate), ("bias string", mood), ("use custom string", custom), ("custom string", words),
    ):  # fmt: skip
        component.change(lambda value, name=name: params.update({name: value}), component, None, show_progress="hidden")
