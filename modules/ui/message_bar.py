"""What can be done with one message: a click on it shows this bar. Edit, versions, branch, remove.

It holds which message was picked; what becomes of it the services do.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.conversation import Conversation
from modules.ui.chat_view import Place, owners, split
from modules.ui.events import say


class MessageBar:
    """The bar, and the field in which a message is edited."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.picked = gr.State("")
        with gr.Row(elem_id="message-bar", visible=False) as self.row:
            self.what = gr.HTML("", elem_id="message-what")
            self.edit = gr.Button("Edit", elem_id="message-edit", size="sm")
            self.earlier = gr.Button("‹ Earlier version", elem_id="message-earlier", size="sm")
            self.later = gr.Button("Later version ›", elem_id="message-later", size="sm")
            self.prompt = gr.Button("Show prompt", elem_id="message-prompt", size="sm")
            self.branch = gr.Button("Branch from here", elem_id="message-branch", size="sm")
            self.remove = gr.Button("Remove", elem_id="message-remove", size="sm")
            self.close = gr.Button("Close", elem_id="message-close", size="sm")
        with gr.Column(elem_id="message-editing", visible=False) as self.editing:
            self.text = gr.Textbox(
                label="Edit the message", lines=3, max_lines=14, elem_id="message-text", container=True
            )
            with gr.Row(elem_classes="actions"):
                self.save = gr.Button("Save", variant="primary", size="sm", elem_id="message-save")
                self.save_new = gr.Button("Save as a new version", size="sm", elem_id="message-save-new")
                self.cancel = gr.Button("Cancel", size="sm", elem_id="message-cancel")

    @property
    def shown(self) -> list[Any]:
        """What `show` and `hidden` return values for."""
        return [self.picked, self.row, self.what, self.earlier, self.later, self.prompt, self.editing, self.text]

    def pick(self, place: Place, *, tail: bool, event: gr.SelectData) -> list[Any]:
        """The message that was clicked."""
        conversation = self._app.chats.open(place.id)
        of = owners(split(conversation.path())[tail])
        at = int(event.index if isinstance(event.index, int) else event.index[0])
        return self.show(conversation, of[at].id) if at < len(of) else self.hidden()

    def show(self, conversation: Conversation, message_id: str) -> list[Any]:
        """The bar for a message that is shown."""
        names = [each.id for each in conversation.path()]
        if message_id not in names:
            return self.hidden()
        message, versions = conversation.message(message_id), conversation.versions(message_id)
        who = "Your message" if message.role == "user" else "The reply"
        of = f", version {versions.index(message_id) + 1} of {len(versions)}" if len(versions) > 1 else ""
        what = f"<p>{who}, {names.index(message_id) + 1} of {len(names)}{of}</p>"
        at = versions.index(message_id)
        return [
            message_id,
            gr.update(visible=True),
            what,
            gr.update(visible=len(versions) > 1, interactive=at > 0),
            gr.update(visible=len(versions) > 1, interactive=at < len(versions) - 1),
            gr.update(visible="prompt_tokens" in message.meta),
            gr.update(visible=False),
            gr.skip(),
        ]

    def hidden(self) -> list[Any]:
        """No message is picked."""
        away = gr.update(visible=False)
        return ["", away, *[gr.skip()] * 4, away, gr.skip()]

    def open_editor(self, place: Place, picked: str) -> list[Any]:
        """The message's text in a field."""
        text = self._app.chats.open(place.id).message(picked).text
        return [gr.update(visible=True), text]

    # --- each returns the conversation as it is then, and the message that is picked then ---

    def saved(self, place: Place, picked: str, text: str) -> tuple[Conversation, str]:
        """Raises: UserError."""
        return self._app.edits.edit(place.id, picked, text, place.revision), picked

    def saved_new(self, place: Place, picked: str, text: str) -> tuple[Conversation, str]:
        """Raises: UserError."""
        now = self._app.edits.version(place.id, picked, text, place.revision)
        return now, now.path()[-1].id

    def swiped(self, by: int) -> Any:
        """A function that shows the version `by` places further."""

        def run(place: Place, picked: str, _text: str) -> tuple[Conversation, str]:
            versions = self._app.chats.open(place.id).versions(picked)
            at = min(max(versions.index(picked) + by, 0), len(versions) - 1)
            return self._app.edits.swipe(place.id, picked, by, place.revision), versions[at]

        return run

    def branched(self, place: Place, picked: str, _text: str) -> tuple[Conversation, str]:
        """Raises: UserError."""
        made = self._app.edits.branch(place.id, picked)
        say("This is a new chat now: a branch. The one that it began with stays as it is.")
        return made, ""

    def removed(self, place: Place, picked: str, _text: str) -> tuple[Conversation, str]:
        """Raises: UserError."""
        now = self._app.edits.remove(place.id, picked, place.revision)
        say("The message and what followed it are taken out. Undo brings them back.")
        return now, ""
