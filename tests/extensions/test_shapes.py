"""Extensions of the shapes in which people have them from the original: all import, draw themselves and take part.

Each is written for this test, with the imports, functions and events of one or more of the original's folders; what
needs packages of its own (speech, translation, retrieval) is here with the package left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest

from loaders.params import SamplingParams
from modules.app import App
from modules.chat.service import ReplySettings
from modules.ui import build_page
from tests.extensions.conftest import Home

Make = Callable[..., Home]

#: As gallery: an accordion of pictures in which a click chooses a character.
CHOOSER = """
from pathlib import Path

import gradio as gr

from modules.html_generator import get_image_cache
from modules.shared import gradio, settings

def custom_css():
    return ".shelf { gap: 1em }"

def tiles():
    return [[f"<b>{file.stem}</b>", file.stem] for file in sorted(Path("characters").glob("*.yaml"))]

def picked(event: gr.SelectData):
    return event.value[1]

def custom_js():
    return "console.log(1)"

def ui():
    with gr.Accordion("Shelf", open=settings.get("chooser-open", False)):
        again = gr.Button("Again")
        filter_box = gr.Textbox("", label="Filter")
        shelf = gr.Dataset(components=[gr.HTML(visible=False)], samples=tiles(), samples_per_page=20)
    again.click(lambda: gr.Dataset(samples=tiles()), [], shelf)
    filter_box.change(lambda text: gr.Dataset(samples=tiles()), filter_box, shelf)
    shelf.select(picked, None, gradio["character_menu"])
"""

#: As send_pictures and multimodal: an upload becomes the next message, and the model answers.
SENDER = """
import base64
from io import BytesIO

import gradio as gr

from modules import chat, shared, ui_chat
from modules.ui import gather_interface_values
from modules.utils import gradio

input_hijack = {"state": False, "value": ["", ""]}

def chat_input_modifier(text, visible_text, state):
    if input_hijack["state"]:
        input_hijack["state"] = False
        return input_hijack["value"]
    return text, visible_text

def ui():
    upload = gr.Image(label="Send a picture", type="pil")
    upload.upload(
        lambda picture, name1: input_hijack.update({"state": True, "value": [f"*{name1} sends a picture*"] * 2}),
        [upload, shared.gradio["name1"]], None,
    ).then(gather_interface_values, gradio(shared.input_elements), gradio("interface_state")).then(
        chat.generate_chat_reply_wrapper, gradio(ui_chat.inputs), gradio("display", "history"), show_progress=False
    ).then(lambda: None, None, upload, show_progress=False)
"""

#: As silero_tts and coqui_tts: the shown reply is changed, a button changes and stores the whole history.
SPEAKER = """
import html
import time
from pathlib import Path

import gradio as gr

from modules import chat, shared, ui_chat
from modules.logging_colors import logger
from modules.utils import gradio

params = {"activate": True, "voice": "one", "show_text": False}
voices = Path("extensions/speaker/voices.json")

def setup():
    logger.debug("ready")

def state_modifier(state):
    state["stream"] = False
    return state

def input_modifier(string, state):
    shared.processing_message = "*Is recording...*"
    return string

def history_modifier(history):
    if len(history["internal"]) > 0:
        history["visible"][-1] = [history["visible"][-1][0], history["visible"][-1][1]]
    return history

def output_modifier(string, state):
    shared.processing_message = "*Is typing...*"
    return f"<i>{html.unescape(string)}</i>"

def toggle(history):
    return {"internal": history["internal"], "visible": history["visible"]}

def ui():
    with gr.Accordion("Speaker"):
        activate = gr.Checkbox(value=params["activate"], label="Activate")
        voice = gr.Dropdown(value=params["voice"], choices=["one", "two"], label="Voice")
        convert = gr.Button("Replace")
    convert.click(toggle, gradio("history"), gradio("history")).then(
        chat.save_history, gradio("history", "unique_id", "character_menu", "mode"), None
    ).then(chat.redraw_html, gradio(ui_chat.reload_arr), gradio("display"))
    activate.change(lambda value: params.update({"activate": value}), activate, None)
    voice.change(lambda value: params.update({"voice": value}), voice, None)
"""

#: As whisper_stt and google_translate: text goes into the page's own box, and that is sent.
WRITER = """
import gradio as gr

from modules import shared

input_hijack = {"state": False, "value": ["", ""]}
params = {"activate": True, "language string": "ja"}

def input_modifier(string):
    return string

def output_modifier(string):
    return string

def bot_prefix_modifier(string):
    return string

def ui():
    with gr.Row():
        said = gr.Textbox(label="Said")
        submit = gr.Checkbox(label="Submit", value=False)
    said.change(lambda text, at_once: [text, None], [said, submit], [shared.gradio["textbox"], said]).then(
        None, submit, None, js="(check) => { if (check) document.getElementById('Generate').click() }"
    )
"""

#: As example, long_replies, superbooga: tokens, processors, and the prompt that would have been made.
PROMPTER = """
import gradio as gr
import torch
from transformers import LogitsProcessor

from modules import chat, shared
from modules.logging_colors import logger
from modules.text_generation import decode, encode, generate_reply
from modules.utils import gradio

params = {"display_name": "Prompter", "is_tab": True, "least": 5}
seen = []

class Least(LogitsProcessor):
    def __init__(self, newline):
        self.newline = newline

    def __call__(self, input_ids, scores):
        assert isinstance(scores, torch.Tensor)
        scores[..., self.newline] = -torch.inf
        return scores

def tokenizer_modifier(state, prompt, input_ids, input_embeds):
    seen.append(input_ids.shape[-1])
    return prompt, input_ids, input_embeds

def logits_processor_modifier(processor_list, input_ids):
    processor_list.append(Least(int(encode("\\n", add_special_tokens=False)[0][-1])))
    return processor_list

def custom_generate_chat_prompt(user_input, state, **kwargs):
    user_input = user_input + " (briefly)"
    return chat.generate_chat_prompt(user_input, state, **kwargs)

def ui():
    gr.Textbox(value=lambda: str(shared.args.listen), label="Listening")
    gr.Button("Count").click(lambda text: len(encode(text)[0]), gradio("textbox-default"), gradio("textbox-default"))
"""

#: As sd_api_pictures, but for its modules.models: a reply of its own, a menu with a button that fills it again.
PAINTER = """
import gradio as gr

import modules.shared as shared
from modules.text_generation import generate_reply
from modules.ui import create_refresh_button

params = {"mode": 0}
picture_response = False

def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat):
    yield from generate_reply(question, state, stopping_strings, is_chat=is_chat)

def ui():
    menu = gr.Dropdown(["a"], label="Model")
    create_refresh_button(menu, lambda: None, lambda: {"choices": ["a", "b"]}, "refresh-button")
    menu.change(lambda value: params.update({"mode": value}), menu, None)
"""

#: As perplexity_colors: marks of its own in what is shown, made by the page's functions.
PAINTED = """
import time

import gradio as gr

from modules import html_generator, shared

def convert_to_html(text):
    return html_generator.convert_to_markdown(html_generator.replace_blockquote(text))

def output_modifier(text, state, is_chat=False):
    return f'<span class="p">{text}</span>' if is_chat else text

def ui():
    gr.Checkbox(value=shared.settings.get("painted-active", True), label="Active")
"""

SHAPES = {
    "chooser": CHOOSER, "sender": SENDER, "speaker": SPEAKER, "writer": WRITER, "prompter": PROMPTER,
    "painter": PAINTER, "painted": PAINTED,
}  # fmt: skip


@pytest.fixture
def no_scripts_left() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("extensions", "modules.shared", "modules.text_generation", "modules.utils")):
            del sys.modules[name]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_takes_part_in_a_chat(home: Make, name: str) -> None:
    if name == "prompter":
        pytest.importorskip("torch")
    there = home({name: SHAPES[name]})
    assert (there.notes, [each.name for each in there.extensions.active]) == ([], [name])
    chat = there.chats.new("chat", "Assistant")
    events = list(there.chats.send(chat.id, "Hi", ReplySettings(mode="chat", params=SamplingParams(max_new_tokens=8))))
    assert events
    assert [each.problem for each in there.extensions.active] == [""]


def test_every_shape_draws_itself_in_the_page(tmp_path: Path, no_scripts_left: None) -> None:
    pytest.importorskip("torch")
    for name, text in SHAPES.items():
        folder = tmp_path / "extensions" / name
        folder.mkdir(parents=True)
        (folder / "script.py").write_text(text, "utf-8")
    app = App.build(tmp_path, ["--extensions", *SHAPES])
    try:
        assert {each.name for each in app.extensions.active} == {*SHAPES}
        assert [note for note in app.notes if any(name in note for name in SHAPES)] == []
        page = build_page(app)
    finally:
        app.close()
    labels = {getattr(each, "label", None) for each in page.blocks.values()}
    buttons = {each.value for each in page.blocks.values() if isinstance(each, gr.Button)}
    assert {"Shelf", "Send a picture", "Speaker", "Said", "Prompter", "Listening", "Model", "Active"} <= labels
    assert {"Again", "Replace", "Count"} <= buttons
    assert [each.problem for each in app.extensions.active] == [""] * len(SHAPES)
