"""The buttons of one message, shown by a click on it: edit, versions, prompt, branch, remove.

It remembers which message was picked; the services do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.conversation import Conversation
from modules.ui.chat.view import ChatRef, bubble_owners, split_exchange
from modules.ui.chat.window_state import WindowState
from modules.ui.parts.events import Updates, show_info
from modules.ui.texts import tr


class MessageBar:
    """The bar, and the text field for editing a message."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.picked = gr.State("")
        with gr.Row(elem_id="message-bar", visible=False) as self.row:
            self.what = gr.HTML("", elem_id="message-what")
            self.edit = gr.Button(tr("chat.edit"), elem_id="message-edit", size="sm")
            self.earlier = gr.Button(tr("chat.version_earlier"), elem_id="message-earlier", size="sm")
            self.later = gr.Button(tr("chat.version_later"), elem_id="message-later", size="sm")
            self.prompt = gr.Button(tr("button.show_prompt"), elem_id="message-prompt", size="sm")
            self.branch = gr.Button(tr("chat.branch"), elem_id="message-branch", size="sm")
            self.remove = gr.Button(tr("button.remove"), elem_id="message-remove", size="sm")
            self.close = gr.Button(tr("button.close"), elem_id="message-close", size="sm")
        with gr.Column(elem_id="message-editing", visible=False) as self.editing:
            self.text = gr.Textbox(
                label=tr("chat.edit_label"), lines=3, max_lines=14, elem_id="message-text", container=True
            )
            with gr.Row(elem_classes="actions"):
                self.save = gr.Button(tr("button.save"), variant="primary", size="sm", elem_id="message-save")
                self.save_new = gr.Button(tr("chat.save_new"), size="sm", elem_id="message-save-new")
                self.cancel = gr.Button(tr("button.cancel"), size="sm", elem_id="message-cancel")

    @property
    def outputs(self) -> list[Any]:
        """The outputs of `show` and `hidden`."""
        return [
            self.picked,
            self.row,
            self.what,
            self.earlier,
            self.later,
            self.prompt,
            self.editing,
            self.text,
        ]

    def pick(self, chat: ChatRef, *, tail: bool, event: gr.SelectData) -> Updates:
        """Show the bar for the message that was clicked."""
        conversation = self._app.chats.open(chat.id)
        earlier, last = split_exchange(conversation.path())
        of = bubble_owners(last if tail else earlier[chat.skipped :])
        at = int(event.index if isinstance(event.index, int) else event.index[0])
        return self.show(conversation, of[at].id, chat.skipped) if at < len(of) else self.hide()

    def show(self, conversation: Conversation, message_id: str, skipped: int) -> Updates:
        """Show the bar for a displayed message. `skipped`: how many of the first messages are not in the page."""
        names = [each.id for each in conversation.path()]
        if message_id not in names:
            return self.hide()
        message, versions = conversation.message(message_id), conversation.versions(message_id)
        at = versions.index(message_id)
        key = "chat.bar_yours" if message.role == "user" else "chat.bar_reply"
        what = tr(key, n=names.index(message_id) + 1, count=len(names))
        if len(versions) > 1:
            what += ", " + tr("chat.bar_version", n=at + 1, count=len(versions))
        several = len(versions) > 1
        return {
            self.picked: message_id,
            self.row: gr.update(visible=True),
            self.what: f"<p {_place(conversation, message_id, skipped)}>{what}</p>",
            self.earlier: gr.update(visible=several, interactive=at > 0),
            self.later: gr.update(visible=several, interactive=at < len(versions) - 1),
            self.prompt: gr.update(visible="prompt_tokens" in message.meta),
            self.editing: gr.update(visible=False),
        }

    def hide(self) -> Updates:
        """Hide the bar: no message is selected."""
        off = gr.update(visible=False)
        return {self.picked: "", self.row: off, self.editing: off}

    def closing(self, opens: Callable[..., Updates]) -> Callable[..., Updates]:
        """An action that opens a chat in a window, and hides the bar in the same answer if it is another one: a later
        answer, or one that shows the same chat again, would undo a quick click.
        """

        @wraps(opens)  # gradio reads from its parameters whether it wants the event
        def run(window: WindowState, *given: Any) -> Updates:
            before = window.shown
            made = opens(window, *given)
            return made if window.shown == before else {**made, **self.hide()}

        return run

    def open_editor(self, chat: ChatRef, picked: str) -> Updates:
        """Show the message's text in a field."""
        text = self._app.chats.open(chat.id).message(picked).text
        return {self.editing: gr.update(visible=True), self.text: text}

    # --- actions: each returns the changed conversation, and the message that is picked then ("" for none) ---

    def save_edit(self, chat: ChatRef, picked: str, text: str) -> tuple[Conversation, str]:
        """Replace the message's text. Raises: UserError."""
        return self._app.edits.edit(chat.id, picked, text, chat.revision), picked

    def save_as_version(self, chat: ChatRef, picked: str, text: str) -> tuple[Conversation, str]:
        """Add the text as another version of the message. Raises: UserError."""
        now = self._app.edits.version(chat.id, picked, text, chat.revision)
        return now, now.path()[-1].id

    def swipe_by(self, by: int) -> Any:
        """An action that shows the version `by` positions further."""

        def run(chat: ChatRef, picked: str, _text: str) -> tuple[Conversation, str]:
            versions = self._app.chats.open(chat.id).versions(picked)
            at = min(max(versions.index(picked) + by, 0), len(versions) - 1)
            return self._app.edits.swipe(chat.id, picked, by, chat.revision), versions[at]

        return run

    def branch_from(self, chat: ChatRef, picked: str, _text: str) -> tuple[Conversation, str]:
        """Copy the chat up to this message into a new one. Raises: UserError."""
        made = self._app.edits.branch(chat.id, picked)
        show_info(tr("chat.branched"))
        return made, ""

    def remove_message(self, chat: ChatRef, picked: str, _text: str) -> tuple[Conversation, str]:
        """Remove the message and what follows it. Raises: UserError."""
        now = self._app.edits.remove(chat.id, picked, chat.revision)
        show_info(tr("chat.removed"))
        return now, ""


def _place(conversation: Conversation, message_id: str, skipped: int) -> str:
    """Where the page shows a message, for its script: the component, and the number of the bubble there."""
    earlier, last = split_exchange(conversation.path())
    tail = any(each.id == message_id for each in last)
    owners = [each.id for each in bubble_owners(last if tail else earlier[skipped:])]
    at = len(owners) - 1 - owners[::-1].index(message_id) if message_id in owners else 0
    return f"data-part='{'tail' if tail else 'history'}' data-at='{at}'"
