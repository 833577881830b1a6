"""Parameters, Character: a gallery; write one, bring one in, take it out as a card, give it a picture, delete it.

It asks the services for everything. Which character a chat is with is chosen beside the chat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from errors import InvalidInput, UserError
from modules.app import App
from modules.chat.characters import Character
from modules.ui.events import on, say, then
from modules.ui.hand_out import HandOut
from modules.ui.picker import picker
from modules.ui.pictures import data_uri
from modules.ui.words import escape


class CharacterPage:
    """The sub-tab. `names` changes when there are others."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._edited = gr.State("")
        with gr.Column(elem_id="characters"):
            with gr.Row(elem_classes="actions"):
                self._new = gr.Button("New character", size="sm", elem_id="character-new")
                self._upload = gr.UploadButton(
                    "Bring in a card or file", file_types=[".png", ".json", ".yaml", ".yml"], size="sm",
                    elem_id="character-upload", type="filepath",
                )  # fmt: skip
            self._gallery = picker("gallery", elem_classes="gallery")
            with gr.Column(elem_id="character-editor", elem_classes="card"):
                self._head = gr.HTML("", elem_id="character-head")
                self._file = gr.Textbox(label="Name of its file", max_lines=1, elem_id="character-file")
                self._called = gr.Textbox(
                    label="Name", max_lines=1, elem_id="character-called", info="What it is called in the dialogue."
                )
                self._greeting = gr.Textbox(
                    label="Greeting", lines=3, max_lines=10, elem_id="character-greeting",
                    info="Its first message. {{user}} and {{char}} stand for the names.",
                )  # fmt: skip
                self._context = gr.Textbox(
                    label="Context", lines=8, max_lines=24, elem_id="character-context",
                    info="What the model is told of it: who it is, how it speaks, where it is.",
                )  # fmt: skip
                with gr.Row(elem_classes="actions"):
                    self._save = gr.Button("Save", variant="primary", elem_id="character-save")
                    self._card = HandOut("Take out as a card", "character-card")
                    self._picture = gr.UploadButton(
                        "Give it a picture", file_types=["image"], elem_id="character-picture", type="filepath"
                    )
                    self._delete = gr.Button("Delete", elem_id="character-delete")
                with gr.Row(elem_classes="asking", visible=False, elem_id="character-deleting") as self._asking:
                    self._question = gr.HTML("")
                    self._delete_yes = gr.Button(
                        "Delete the character", variant="stop", size="sm", elem_id="character-delete-now"
                    )
                    self._delete_no = gr.Button("Keep it", size="sm")

    def wire(self, page: gr.Blocks, chosen: gr.Dropdown) -> None:
        """Connect it; `chosen` is the control beside the chat that offers all characters."""
        shown = [
            self._edited, self._gallery, self._head, self._file, self._called, self._greeting, self._context,
            self._asking,
        ]  # fmt: skip
        fields = [self._edited, self._file, self._called, self._greeting, self._context]
        on(page.load, lambda name: self._show(name or "Assistant"), [self._edited], shown)
        on(self._gallery.click, self._pick, None, shown)
        on(self._new.click, self._fresh, None, shown)
        changed = [
            on(self._upload.upload, self._bring, [self._upload], shown),
            on(self._save.click, self._write, fields, shown),
            on(self._delete_yes.click, self._remove, [self._edited], shown),
        ]
        on(self._picture.upload, self._paint, [self._edited, self._picture], shown)
        self._card.wire(self._take, [self._edited])
        on(self._delete.click, self._ask, [self._edited], [self._question, self._asking])
        on(self._delete_no.click, lambda: gr.update(visible=False), None, [self._asking])
        for event in changed:
            then(event, lambda: gr.update(choices=self._app.characters.names()), None, [chosen])

    # --- what it does ---

    def _show(self, name: str) -> list[Any]:
        try:
            who = self._app.characters.load(name)
        except UserError:
            if name == "Assistant":
                raise
            return self._show("Assistant")
        return self._screen(name, who)

    def _screen(self, name: str, who: Character) -> list[Any]:
        more = f"<p>{len(who.greetings)} more greetings come with its card.</p>" if who.greetings else ""
        return [
            name, self._cards(name), f"<h2>{escape(who.name)}</h2>{more}", name, who.name, who.greeting, who.context,
            gr.update(visible=False),
        ]  # fmt: skip

    def _cards(self, current: str) -> str:
        return gallery_html(self._app, current)

    def _pick(self, event: gr.EventData) -> list[Any]:
        return self._show(event.pick)

    def _fresh(self) -> list[Any]:
        return [
            "", self._cards(""), "<h2>A new character</h2>", "", "", "", "", gr.update(visible=False)
        ]  # fmt: skip

    def _bring(self, path: str) -> list[Any]:
        file = Path(path)
        name = self._app.characters.bring(file.read_bytes(), file.name)
        say(f"{name} is here now. Choose chat mode beside the chat to talk to it.")
        return self._show(name)

    def _write(self, edited: str, file: str, called: str, greeting: str, context: str) -> list[Any]:
        name = (file or called or "").strip()
        self._app.characters.save(
            name, called=called or "", greeting=greeting or "", context=context or "", as_new=name != edited
        )
        say(f"The character {name} is saved.")
        return self._show(name)

    def _paint(self, edited: str, path: str) -> list[Any]:
        if not edited:
            raise InvalidInput("Save the character first, then give it a picture.")
        self._app.characters.set_picture(edited, Path(path).read_bytes())
        return self._show(edited)

    def _take(self, edited: str) -> tuple[str, bytes]:
        if not edited:
            raise InvalidInput("Choose the character that is to be taken out first.")
        return f"{edited}.png", self._app.characters.take(edited)

    def _ask(self, edited: str) -> list[Any]:
        if not edited:
            raise InvalidInput("Choose the character that is to be deleted first.")
        return [f"Delete <b>{escape(edited)}</b>? Its file and its picture are removed; its chats stay.",
                gr.update(visible=True)]  # fmt: skip

    def _remove(self, edited: str) -> list[Any]:
        self._app.characters.delete(edited)
        say(f"The character {edited} is deleted.")
        return self._show("Assistant")


def gallery_html(app: App, current: str) -> str:
    """All characters with their pictures, small."""
    made = []
    for name in app.characters.names():
        try:
            picture = app.characters.load(name).picture
        except UserError:
            picture = None
        uri = data_uri(picture)
        image = f"<img alt='' src='{uri}'>" if uri else f"<span>{escape(name[:1].upper())}</span>"
        mark = " aria-current='true'" if name == current else ""
        made.append(
            f"<button type='button' data-pick='{escape(name)}'{mark}>{image}<small>{escape(name)}</small></button>"
        )
    return f"<nav aria-label='Characters'>{''.join(made)}</nav>"
