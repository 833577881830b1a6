"""Shows the characters as pictures next to the chat: click one to chat with it."""

from pathlib import Path

import gradio as gr

from modules import shared

params = {
    "display_name": "Gallery",
    "items_per_page": 50,
    "open": False,
}


def folder():
    """The user's characters."""
    return Path(shared.user_data_dir, "characters")


def names(words=""):
    """The characters whose name contains these words."""
    if not folder().is_dir():
        return []
    found = {each.stem for each in folder().iterdir() if each.suffix in (".yaml", ".yml", ".json")}
    return sorted((name for name in found if words.strip().lower() in name.lower()), key=str.lower)


def picture(name):
    """A character's picture, or one with its first letter."""
    for suffix in (".png", ".jpg", ".jpeg"):
        file = folder() / f"{name}{suffix}"
        if file.is_file():
            return str(file.resolve())
    return _letter(name)


def _letter(name):
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (240, 240), "#4b5563")
    ImageDraw.Draw(image).text((120, 120), name[:1].upper(), "#e5e7eb", ImageFont.load_default(120), anchor="mm")
    return image


def wall(words=""):
    return [(picture(name), name) for name in names(words)[: int(params["items_per_page"])]]


def custom_css():
    return "#gallery-wall .grid-container { grid-template-columns: repeat(3, 1fr) !important; }"


def ui():
    with gr.Accordion("Character gallery", open=params["open"], elem_id="gallery-extension"):
        with gr.Row():
            words = gr.Textbox(show_label=False, placeholder="Filter by name", max_lines=1, elem_id="gallery-filter")
            refresh = gr.Button("Refresh", size="sm")
        pictures = gr.Gallery(
            wall(), columns=6, height="auto", allow_preview=False, show_label=False, object_fit="cover",
            elem_id="gallery-wall", interactive=False,
        )  # fmt: skip
    words.change(wall, words, pictures, show_progress="hidden")
    refresh.click(wall, words, pictures, show_progress="hidden")

    def choose(words, event: gr.SelectData):
        return names(words)[event.index]

    pictures.select(choose, words, shared.gradio["character_menu"], show_progress="hidden")
