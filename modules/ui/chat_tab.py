"""The Chat tab: a drawer with the chats, the conversation in a reading column, the input at the bottom.

Every action that makes text goes the same way, wired once in `_action`: `begin` shows at once what is about to happen,
`stream` lets the last exchange grow (one small component, see chat_view), `settle` shows what is stored. What the
tab remembers is which conversation it shows, at which revision; the messages are the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from modules.app import App
from modules.ui.chat_controls import ChatControls
from modules.ui.chat_files import ChatFiles
from modules.ui.chat_screen import shown
from modules.ui.chat_turns import Start, Turns
from modules.ui.chat_view import Place
from modules.ui.chat_window import Draft, Window
from modules.ui.events import on, then
from modules.ui.latex import LATEX
from modules.ui.message_bar import MessageBar
from modules.ui.picker import picker
from modules.ui.prompt_sheet import PromptSheet

_KEYS = (
    "<kbd>Enter</kbd> send <kbd>Shift Enter</kbd> new line <kbd>Ctrl Enter</kbd> regenerate "
    "<kbd>Alt Enter</kbd> continue <kbd>Esc</kbd> stop"
)
_CLOSE = "() => { Page.closeDrawer(); }"
#: Around what opens another chat: what is sent meanwhile goes to that one.
_OPENS = "(...values) => {{ Page.closeDrawer(); Page.opens('{}'); return values; }}"
_OPENED = "() => {{ Page.toEnd(); Page.opened('{}'); }}"  # the drawer may have been opened again meanwhile
_TO_END = "(...values) => { Page.toEnd(); return values; }"
_SENT = "(...values) => { Page.toEnd(); Page.emptyMessage(); return values; }"


class ChatTab:
    """The tab's components and how they are connected. Made once for the page; holds no conversation."""

    def __init__(self, app: App, kept: gr.BrowserState, kept_controls: gr.BrowserState) -> None:
        self._turns = Turns(app)
        self.kept = kept
        self.place = gr.State(Place())
        self.draft = gr.State(Draft())
        self.watched = gr.State(False)
        self.window = gr.State(Window())
        with gr.Row(elem_id="chat"):
            self._drawer()
            with gr.Column(elem_id="talk"):
                self._reading()
                self.bar = MessageBar(app)
                self._composer()
                self.sheet = PromptSheet(app)
            self.controls = ChatControls(app, kept_controls)
        #: Whoever puts a character's name here, such as an extension, opens the chat with it.
        self.character_menu = gr.Textbox("", visible=False, label="Character")

    # --- what it is made of ---

    def _drawer(self) -> None:
        with gr.Column(elem_id="chats"):
            self.who = gr.HTML("", elem_id="who", padding=False)
            with gr.Row(elem_id="chats-head"):
                self.new = gr.Button("New chat", elem_id="new-chat")
                close = gr.Button("Close", elem_id="chats-close")
            self.search = gr.Textbox(
                label="Search all chats", show_label=False, container=False, placeholder="Search all chats",
                elem_id="chat-search", max_lines=1,
            )  # fmt: skip
            self.chats = picker("chat-list")
            with gr.Row(elem_id="chat-tools"):
                self.pin = gr.Button("Pin", size="sm", elem_id="chat-pin", elem_classes="quiet")
                self.rename = gr.Button("Rename", size="sm", elem_id="chat-rename", elem_classes="quiet")
                self.delete = gr.Button("Delete", size="sm", elem_id="chat-delete", elem_classes="quiet")
                self.undo = gr.Button("Undo", size="sm", elem_id="chat-undo", elem_classes="quiet")
            with gr.Row(elem_classes="asking", visible=False, elem_id="chat-renaming") as self.renaming:
                self.name = gr.Textbox(label="Name of the chat", max_lines=1, elem_id="chat-name")
                self.rename_now = gr.Button("Rename", variant="primary", size="sm", elem_id="chat-rename-now")
                self.rename_no = gr.Button("Cancel", size="sm")
            with gr.Row(elem_classes="asking", visible=False, elem_id="chat-deleting") as self.deleting:
                self.question = gr.HTML("")
                self.delete_now = gr.Button("Delete the chat", variant="stop", size="sm", elem_id="chat-delete-now")
                self.delete_no = gr.Button("Keep it", size="sm")
            self.files = ChatFiles(self._turns.app)
        on(close.click, None, js=_CLOSE)

    def _reading(self) -> None:
        with gr.Row(elem_id="talk-head"):
            toggle = gr.Button("Chats", elem_id="chats-toggle", size="sm")
            self.title = gr.HTML("", elem_id="chat-title")
            controls = gr.Button("Controls", elem_id="controls-toggle", size="sm")
        on(toggle.click, None, js="() => { Page.toggleChats(); }")
        on(controls.click, None, js="() => { Page.toggleControls(); }")
        with gr.Column(elem_id="reading"), gr.Column(elem_id="column"):
            self.welcome = gr.HTML("", elem_id="welcome")
            self.history = _messages("history", "Earlier messages")
            self.tail = _messages("tail", "The last exchange")
            self.facts = gr.HTML("", elem_id="reply-facts")
            with gr.Row(elem_id="reply-actions", visible=False) as self.actions:
                self.earlier = gr.Button("‹", elem_id="version-earlier", size="sm", visible=False)
                self.later = gr.Button("›", elem_id="version-later", size="sm", visible=False)
                self.regenerate = gr.Button("Regenerate", elem_id="regenerate", size="sm")
                self.continue_ = gr.Button("Continue", elem_id="continue", size="sm")
                self.copy = gr.Button("Copy", elem_id="copy-reply", size="sm")
                self.show_prompt = gr.Button("Show prompt", elem_id="show-prompt", size="sm")
                self.remove = gr.Button("Remove last", elem_id="remove-last", size="sm")
                self.to_default = gr.Button("Send to default", elem_id="chat-to-default", size="sm")
                self.to_notebook = gr.Button("Send to notebook", elem_id="chat-to-notebook", size="sm")
        on(self.copy.click, None, [self.tail], js="(tail) => { Page.copyReply(tail); }")

    def _composer(self) -> None:
        with gr.Column(elem_id="composer"):
            with gr.Row(elem_id="notice", visible=False) as self.notice_row:
                self.notice = gr.HTML("", elem_id="notice-text")
                self.choose = gr.Button("Choose a model", elem_id="choose-model", size="sm")
            with gr.Row(elem_id="ask"):
                self.input = gr.Textbox(
                    label="Your message", show_label=False, container=False, placeholder="Write a message",
                    lines=1, max_lines=10, autofocus=True, elem_id="message",
                )  # fmt: skip
                self.send = gr.Button("Generate", variant="primary", elem_id="send")
                self.end_thought = gr.Button("Answer now", elem_id="end-thought", size="sm")
                self.stop = gr.Button("Stop", variant="stop", elem_id="stop", visible="hidden")
            gr.HTML(_KEYS, elem_id="keys")

    # --- what it does ---

    def _choose(self, window: Window, character: str, mode: str, your_name: str) -> list[Any]:
        """The chat with a character that was chosen elsewhere."""
        mode = "chat" if mode == "instruct" else mode
        return self._turns.latest(window, mode, character, your_name)

    def wire(self, page: gr.Blocks, template: gr.Textbox, knobs: Sequence[Any], model_changed: Any) -> None:
        """Connect everything; `knobs`: what a turn takes from the Parameters tab, in order; `template`: one of them."""
        turns, chats = self._turns, self._turns.app.chats
        given = [*self.controls.given, *knobs]
        self.given = given
        scope, window = self.controls.scope, self.window
        self.controls.wire(page, template, model_changed)
        self._action([self.send.click, self.input.submit], turns.begin_send, chats.send, given, js=_SENT)
        self._action(self.regenerate.click, turns.begin_again, lambda id, _, turn: chats.regenerate(id, turn), given)
        self._action(self.continue_.click, turns.begin_more, lambda id, _, turn: chats.continue_(id, turn), given)
        on(self.stop.click, turns.stop, [window, self.place], queue=False)
        on(self.end_thought.click, turns.end_thought, [self.place], queue=False)
        on(self.remove.click, turns.remove, [self.place, self.input], [*self.screen, self.input])
        opens = _OPENS.format
        choice, picked = [window, self.character_menu, scope[0], scope[2]], [window, self.controls.mode]
        files = self.files.wire(window, self.place, scope, self.screen, self.chats, turns, opens("file"))
        kinds = [each.input for each in scope[:2]]
        for name, opened in (
            ("new", on(self.new.click, turns.new, [window, *scope], self.screen, js=opens("new"))),
            ("pick", on(self.chats.click, turns.open, picked, self.screen, js=opens("pick"))),
            ("load", on(page.load, turns.load, [window, self.kept, *scope], self.screen)),
            ("scope", on(kinds, turns.latest, [window, *scope], self.screen, js=opens("scope"))),
            ("file", files),
            ("choice", on(self.character_menu.change, self._choose, choice, self.screen, js=opens("choice"))),
        ):
            shown_now = then(opened, self.bar.hidden, None, self.bar.shown, several=True)
            at_end = then(shown_now, None, js=_OPENED.format(name))
            watched = then(
                at_end, turns.watch, [self.window, self.place], [self.tail, self.watched], stream=True, several=True
            )
            then(watched, turns.settle_watched, [self.place, self.watched], self.screen, several=True)
        self._wire_list(scope)
        self._wire_bar()
        on([page.load, model_changed], turns.look, [self.place], [self.welcome, self.notice, self.notice_row])

    def _wire_list(self, scope: Sequence[Any]) -> None:
        """Searching, renaming, deleting, taking back."""
        turns = self._turns
        on(self.search.change, turns.found, [self.place, self.search], [self.chats], latest=True)
        title = lambda place: [gr.update(visible=True), turns.title(place)]  # noqa: E731
        on(self.rename.click, title, [self.place], [self.renaming, self.name])
        renamed = on([self.rename_now.click, self.name.submit], turns.fresh(turns.rename),
                     [self.place, self.name], self.screen)  # fmt: skip
        for event in (renamed, on(self.rename_no.click, None)):
            then(event, lambda: gr.update(visible=False), None, [self.renaming])
        on(self.delete.click, turns.ask_delete, [self.place], [self.question, self.deleting])
        deleted = on(self.delete_now.click, turns.delete, [self.window, self.place, *scope], self.screen,
                     js=_OPENS.format("deleted"))  # fmt: skip
        then(deleted, None, js=_OPENED.format("deleted"))
        for event in (deleted, on(self.delete_no.click, None)):
            then(event, lambda: gr.update(visible=False), None, [self.deleting])
        on(self.pin.click, turns.fresh(turns.pin), [self.place], self.screen)
        on(self.undo.click, turns.fresh(turns.undo), [self.place], self.screen)
        for button, by in ((self.earlier, -1), (self.later, 1)):
            on(button.click, turns.fresh(turns.swipe(by)), [self.place], self.screen)
        box = [*self.screen, self.input]
        controls = self.controls
        for button, change in (
            (controls.replace, turns.replace_last),
            (controls.dummy_message, turns.put_in("user")),
            (controls.dummy_reply, turns.put_in("assistant")),
        ):
            on(button.click, turns.fresh(change, 1), [self.place, self.input], box)
        # the box is the model's meanwhile: what would be typed into it would be lost
        mine, ours = gr.update(interactive=False), gr.update(interactive=True)
        buttons = [self.send, self.stop, self.input]
        begin = lambda window, place: [*turns.begin_impersonate(window, place), mine]  # noqa: E731
        begun = on(controls.impersonate.click, begin, [self.window, self.place], buttons)
        given = [self.window, self.place, self.input, *self.given]
        written = then(begun, turns.impersonate, given, [self.input], stream=True)
        then(written, lambda: [shown(True), shown(False, kept=True), ours], None, buttons)

    def _wire_bar(self) -> None:
        """A click on a message, and what can be done with it; the prompt of a reply."""
        bar, turns = self.bar, self._turns
        self.sheet.wire()
        on(bar.prompt.click, self.sheet.open_for, [self.place, bar.picked], self.sheet.shown)
        on(self.show_prompt.click, lambda place: self.sheet.open_for(place, turns.last(place)), [self.place],
           self.sheet.shown)  # fmt: skip
        for part, tail in ((self.history, False), (self.tail, True)):
            on(part.select, _picking(bar, tail), [self.place], bar.shown)
        opened = on(bar.edit.click, bar.open_editor, [self.place, bar.picked], [bar.editing, bar.text])
        then(opened, None, js="() => { document.querySelector('#message-text textarea')?.focus(); }")
        on(bar.cancel.click, lambda: gr.update(visible=False), None, [bar.editing])
        on(bar.close.click, bar.hidden, None, bar.shown)
        given = [self.place, bar.picked, bar.text]
        for button, change in (
            (bar.save, bar.saved),
            (bar.save_new, bar.saved_new),
            (bar.earlier, bar.swiped(-1)),
            (bar.later, bar.swiped(1)),
            (bar.branch, bar.branched),
            (bar.remove, bar.removed),
        ):
            changed = turns.fresh(_changing(bar, turns, change), len(bar.shown))
            on(button.click, changed, given, [*self.screen, *bar.shown])

    def prompt(self, place: Place, *values: Any) -> str:
        """The text that the model would go on with, for other tabs. Raises: UserError."""
        return self._turns.prompt(place, *values)

    def _action(
        self, triggers: Any, begin: Callable[..., Any], start: Start, knobs: Sequence[Any], js: str = _TO_END
    ) -> None:
        """Wire one way of making text; `js`: what the browser does at once."""
        begun = on(triggers, self._turns.begin(begin), [self.window, self.place, self.input], self.busy, js=js)
        run = self._turns.stream(start)
        # several: a reply of another chat may still be growing, unseen
        given = [self.window, self.place, self.draft, *knobs]
        streamed = then(begun, run, given, [self.tail], stream=True, several=True)
        settled = [self.window, self.place, self.input]
        then(streamed, self._turns.settle, settled, [*self.screen, self.input], several=True)

    @property
    def busy(self) -> list[Any]:
        """What `Turns.begin_*` return values for."""
        return [
            self.draft, self.input, self.history, self.tail, self.facts, self.actions, self.welcome, self.send,
            self.stop,
        ]  # fmt: skip

    @property
    def screen(self) -> list[Any]:
        """What `Turns.screen` returns values for."""
        return [
            self.place, self.kept, self.title, self.welcome, self.history, self.tail, self.facts, self.actions,
            self.regenerate, self.continue_, self.send, self.stop, self.chats, self.controls.mode,
            self.controls.character, self.earlier, self.later, self.who, self.pin, self.show_prompt,
        ]  # fmt: skip


def _picking(bar: MessageBar, tail: bool) -> Callable[..., Any]:
    def run(place: Place, event: gr.SelectData) -> list[Any]:
        return bar.pick(place, tail=tail, event=event)

    return run


def _changing(bar: MessageBar, turns: Turns, change: Callable[..., Any]) -> Callable[..., Any]:
    def run(place: Place, picked: str, text: str) -> list[Any]:
        conversation, now = change(place, picked, text)
        return [*turns.screen(conversation), *(bar.show(conversation, now) if now else bar.hidden())]

    return run


def _messages(elem_id: str, label: str) -> gr.Chatbot:
    """Messages as they stand in the column: as high as they are, without gradio's own frame, buttons and scrolling."""
    return gr.Chatbot(
        elem_id=elem_id, label=label, show_label=False, container=False, layout="panel", height=None, autoscroll=False,
        sanitize_html=True, render_markdown=True, latex_delimiters=LATEX, buttons=["copy"], feedback_options=None,
        group_consecutive_messages=False,
    )  # fmt: skip
