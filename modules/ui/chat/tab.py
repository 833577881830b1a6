"""The Chat tab: a sidebar with the chats, the conversation in a reading column, the input box at the bottom.

Every action that generates text is one generator, wired in `_wire_replies`: it shows at once what is about to happen,
lets the last exchange grow (one small component, see view.py) and shows what is stored. The tab remembers which
conversation it shows, at which revision; the messages are in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import gradio as gr

from modules.app import App
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.chat_menu import ChatMenu
from modules.ui.chat.context_meter import ContextMeter
from modules.ui.chat.controls import ChatControls
from modules.ui.chat.files import ChatFiles
from modules.ui.chat.message_bar import MessageBar
from modules.ui.chat.model_switch import ModelSwitch
from modules.ui.chat.own_panel import OwnNotice
from modules.ui.chat.prompt_view import PromptView
from modules.ui.chat.screen import ChatScreen
from modules.ui.chat.view import ChatRef
from modules.ui.chat.window_state import WindowState
from modules.ui.parts.events import Updates, Values, on, then
from modules.ui.parts.latex import LATEX
from modules.ui.parts.list_picker import make_picker
from modules.ui.parts.page_header import News
from modules.ui.texts import tr

_CLOSE = "() => { Page.closeDrawer(); }"
#: Runs around an event that opens another chat: what is sent meanwhile goes to the new one.
_OPENS = "(...values) => {{ Page.closeDrawer(); Page.opens('{}'); return values; }}"
_OPENED = "() => {{ Page.toEnd(); Page.opened('{}'); }}"  # the sidebar may have been opened again meanwhile
_OLDER = "(...values) => { Page.keepPlace(); return values; }"
_TO_END = "(...values) => { Page.toEnd(); return values; }"
_SENT = "(...values) => { Page.toEnd(); Sending.begin(); return values; }"
#: An unused text stands before what was typed meanwhile.
_RETURN = """(text, typed) => {
  Sending.ended();
  return [text ? Sending.before(text, typed) : {__type__: 'update'}, ''];
}"""


class ChatTab:
    """The tab's components and their events. Created once for the page; contains no conversation."""

    def __init__(self, app: App, kept: gr.BrowserState, kept_controls: gr.BrowserState) -> None:
        self._app = app
        self.kept = kept
        self.chat = gr.State(ChatRef())
        self.window = gr.State(WindowState())
        self._elsewhere = gr.State("")
        with gr.Row(elem_id="chat"):
            self._drawer()
            with gr.Column(elem_id="talk"):
                self._reading()
                self._composer()
                self.prompt_view = PromptView(app)
            self.controls = ChatControls(app, kept_controls)
            self._menu = ChatMenu(app)
        #: A character's name set here, by an extension for example, opens the chat with it.
        self.character_menu = gr.Textbox("", visible=False, label=tr("chat.character"))

    # --- components ---

    def _drawer(self) -> None:
        with gr.Column(elem_id="chats"):
            self.who = gr.HTML("", elem_id="who", padding=False)
            with gr.Row(elem_id="chats-head"):
                self.new = gr.Button(tr("chat.new"), elem_id="new-chat")
                close = gr.Button(tr("button.close"), elem_id="chats-close")
            self.search = gr.Textbox(
                label=tr("chat.search"), show_label=False, container=False, placeholder=tr("chat.search"),
                elem_id="chat-search", max_lines=1,
            )  # fmt: skip
            self.chats = make_picker("chat-list")
            self.others = gr.Button("", size="sm", elem_id="chat-others", elem_classes="quiet", visible=False)
            with gr.Row(elem_id="chat-tools"):
                self.undo = gr.Button(tr("button.undo"), size="sm", elem_id="chat-undo", elem_classes="quiet")
            self.files = ChatFiles(self._app)
        on(close.click, None, js=_CLOSE)

    def _reading(self) -> None:
        with gr.Row(elem_id="talk-head"):
            toggle = gr.Button(tr("chat.chats"), elem_id="chats-toggle", size="sm")
            self.title = gr.HTML("", elem_id="chat-title")
            self._switch = ModelSwitch(self._app)
            controls = gr.Button(tr("chat.controls"), elem_id="controls-toggle", size="sm")
        on(toggle.click, None, js="() => { Page.toggleChats(); }")
        on(controls.click, None, js="() => { Page.toggleControls(); }")
        with gr.Column(elem_id="reading"), gr.Column(elem_id="column"):
            self.welcome = gr.HTML("", elem_id="welcome")
            self.older = gr.Button("", elem_id="older", size="sm", elem_classes="quiet", visible=False)
            self.history = _messages("history", tr("chat.earlier_messages"))
            self.tail = _messages("tail", tr("chat.last_exchange"))
            self.facts = gr.HTML("", elem_id="reply-facts")
            with gr.Row(elem_id="reply-actions", visible=False) as self.actions:
                self.earlier = gr.Button("‹", elem_id="version-earlier", size="sm", visible=False)
                self.later = gr.Button("›", elem_id="version-later", size="sm", visible=False)
                self.regenerate = gr.Button(tr("button.regenerate"), elem_id="regenerate", size="sm")
                self.continue_ = gr.Button(tr("button.continue"), elem_id="continue", size="sm")
                self.copy = gr.Button(tr("chat.copy"), elem_id="copy-reply", size="sm")
                more = gr.Button(tr("chat.more"), elem_id="more-actions", size="sm")
                self.show_prompt = gr.Button(tr("button.show_prompt"), elem_id="show-prompt", size="sm")
                self.remove = gr.Button(tr("chat.remove_last"), elem_id="remove-last", size="sm")
                self.to_default = gr.Button(tr("send.default"), elem_id="chat-to-default", size="sm")
                self.to_notebook = gr.Button(tr("send.notebook"), elem_id="chat-to-notebook", size="sm")
            self.bar = MessageBar(self._app)
        on(more.click, None, js="() => { Page.more(); }")
        on(self.copy.click, None, [self.tail], js="(tail) => { Page.copyReply(tail); }")

    def _composer(self) -> None:
        with gr.Column(elem_id="composer"):
            with gr.Row(elem_id="notice", visible=False) as self.notice_row:
                self.notice = gr.HTML("", elem_id="notice-text")
                self.choose = gr.Button(tr("chat.choose_model"), elem_id="choose-model", size="sm")
            with gr.Row(elem_id="ask"):
                self.input = gr.Textbox(
                    label=tr("chat.message"), show_label=False, container=False, placeholder=tr("chat.message_hint"),
                    lines=1, max_lines=10, autofocus=True, elem_id="message",
                )  # fmt: skip
                self.send = gr.Button(tr("chat.generate"), variant="primary", elem_id="send")
                self.returned = gr.Textbox("", visible=False, label="Returned")
                self.end_thought = gr.Button(tr("chat.answer_now"), elem_id="end-thought", size="sm")
                self.stop = gr.Button(tr("button.stop"), variant="stop", elem_id="stop", visible="hidden")
            with gr.Row(elem_id="foot"):
                gr.HTML(tr("chat.keys"), elem_id="keys")
                self._meter = ContextMeter(self._app)

    # --- events ---

    def wire(
        self,
        page: gr.Blocks,
        templates: Sequence[gr.Textbox],
        knobs: Sequence[Any],
        model_changed: Any,
        talk: tuple[gr.Button, gr.State],
        notice: OwnNotice,
    ) -> Any:
        """Connect everything. The Parameters tab provides the three `templates` of a reply, the knobs, and the button
        that opens the chat with the character of a state (`talk`), and the `notice` about a chat's own parameters.

        Returns the event that sets the knobs.
        """
        own = self.controls.own
        self.own_what, self.own_system, self.own_reset = own.what, own.system, own.reset
        self.own_notice, self.own_notice_text, self.own_templates = notice.row, notice.text, notice.templates
        for name, menu in own.switches.items():
            setattr(self, f"own_{name}", menu)
        settings = self.controls.settings_from(templates, knobs)
        screen = self._screen()
        self._actions = actions = ChatActions(self._app, screen, settings)
        #: The inputs of `prompt`.
        self.prompt_inputs = settings.inputs | {screen.chat}
        self.controls.wire(page, templates[0], model_changed)
        self._wire_replies(actions, settings.inputs | {screen.window, screen.chat, screen.input})
        self._wire_opening(page, actions, *talk)
        self._wire_list(actions)
        self._wire_bar(actions)
        self._switch.wire(page, model_changed)
        self._meter.wire(self.chat, self.input)
        notices = [self.welcome, self.notice, self.notice_row, self.controls.model]
        on([page.load, model_changed], actions.show_model, [self.chat], notices)
        return own.wire(actions, notice, knobs, templates)

    @property
    def news(self) -> News:
        """What is done elsewhere to the chat that is shown: a reply is written, or it was changed."""
        inputs = [self.window, self.chat, self.bar.picked]
        return News(self._look_elsewhere, inputs, self._elsewhere)

    def _look_elsewhere(self, window: WindowState, chat: ChatRef, picked: str) -> str:
        return self._actions.news(window, chat, picked)

    def prompt(self, values: Values) -> str:
        """The text that the model would continue, for other tabs. Raises: UserError."""
        return self._actions.prompt(values)

    def _screen(self) -> ChatScreen:
        """The screen's components, which have the same names here or in the controls."""
        names = [field.name for field in fields(ChatScreen)]
        return ChatScreen(**{name: getattr(self if hasattr(self, name) else self.controls, name) for name in names})

    def _wire_replies(self, actions: ChatActions, inputs: set[Any]) -> None:
        """The buttons that generate, and those that end a reply."""
        screen = actions.screen
        replies = [
            ([self.send.click, self.input.submit], actions.send, _SENT),
            (self.regenerate.click, actions.regenerate, _TO_END),
            (self.continue_.click, actions.continue_, _TO_END),
        ]
        for answered in self.controls.ahead.wire(actions, inputs, self._meter.typed, self.later, replies):
            then(answered, None, [self.returned, self.input], [self.input, self.returned], js=_RETURN, several=True)
        buttons = [self.input, self.send, self.stop]
        on(self.controls.impersonate.click, actions.impersonate, inputs, buttons)
        on(self.stop.click, actions.stop, [self.window, self.chat], queue=False)
        on(self.end_thought.click, actions.end_thought, [self.chat], queue=False)
        on(self.remove.click, actions.remove, [self.chat, self.input], screen.outputs)

    def _wire_opening(self, page: gr.Blocks, actions: ChatActions, talk: gr.Button, talk_to: gr.State) -> None:
        """Connect everything that opens a chat."""
        scope, window, closing, shown = self.controls.scope, self.window, self.bar.closing, actions.screen.outputs
        opens, outputs = _OPENS.format, [*shown, *self.bar.outputs]
        choice, picked = [window, self.character_menu, scope[0], scope[2]], [window, self.controls.mode]

        talked = [window, talk_to, scope[0], scope[2]]

        def choose(window: WindowState, character: str, mode: str, your_name: str) -> Updates:
            return actions.open_latest(window, "chat" if mode == "instruct" else mode, character, your_name)

        kinds = [each.input for each in scope[:2]]
        for name, opened in (
            ("file", self.files.wire(actions, scope, self.bar, opens("file"))),
            ("new", on(self.new.click, closing(actions.open_new), [window, *scope], outputs, js=opens("new"))),
            ("pick", on(self.chats.click, closing(actions.open), picked, outputs, js=opens("pick"))),
            ("load", on(page.load, closing(actions.load), [window, self.kept, *scope], outputs)),
            ("scope", on(kinds, closing(actions.open_latest), [window, *scope], outputs, js=opens("scope"))),
            ("talk", on(talk.click, closing(choose), talked, outputs, js=opens("talk"))),
            ("choice", on(self.character_menu.change, closing(choose), choice, outputs, js=opens("choice"))),
        ):
            at_end = then(opened, None, js=_OPENED.format(name))
            then(at_end, actions.watch, [window, self.chat], shown, several=True)
        on(self._elsewhere.change, actions.catch_up, self.news.inputs, shown, several=True)

    def _wire_list(self, actions: ChatActions) -> None:
        """The list of chats with their menu, Undo, and changes of the last message."""
        chat, outputs, scope = self.chat, actions.screen.outputs, self.controls.scope
        on(self.search.change, actions.search_chats, [chat, self.search], [self.chats], latest=True)
        on(self.older.click, actions.show_older, [self.window, chat], [chat, self.history, self.older], js=_OLDER)
        on(self.others.click, actions.list_all, [chat], [self.chats, self.others])

        self.files.list_after(self._menu.wire(actions, scope, self.search, self.bar))
        on(self.undo.click, actions.show_current_on_conflict(actions.undo), [chat, self.window], outputs)
        on(self.earlier.click, actions.show_current_on_conflict(actions.swipe(-1)), [chat], outputs)
        controls = self.controls
        on(
            controls.model.select,  # not `input`, which gradio's menus report twice for one choice
            actions.show_current_on_conflict(actions.choose_model),
            [chat, controls.model],
            outputs,
        )
        on(
            controls.banned.blur,
            actions.show_current_on_conflict(actions.ban_strings),
            [chat, controls.banned],
            outputs,
        )
        for button, put in (
            (controls.replace, actions.replace_last),
            (controls.dummy_message, actions.insert_message("user")),
            (controls.dummy_reply, actions.insert_message("assistant")),
        ):
            on(button.click, actions.show_current_on_conflict(put), [chat, self.input], outputs)

    def _wire_bar(self, actions: ChatActions) -> None:
        """A click on a message, the buttons of its bar, and the prompt of a reply."""
        bar, prompt_view = self.bar, self.prompt_view
        prompt_view.wire()
        on(bar.prompt.click, prompt_view.open_for, [self.chat, bar.picked], prompt_view.outputs)
        last = lambda chat: prompt_view.open_for(chat, actions.last_message(chat))  # noqa: E731
        on(self.show_prompt.click, last, [self.chat], prompt_view.outputs)
        for part, tail in ((self.history, False), (self.tail, True)):
            on(part.select, _picking(bar, tail), [self.chat], bar.outputs)
        opened = on(bar.edit.click, bar.open_editor, [self.chat, bar.picked], [bar.editing, bar.text])
        then(opened, None, js="() => { document.querySelector('#message-text textarea')?.focus(); }")
        on(bar.cancel.click, lambda: gr.update(visible=False), None, [bar.editing])
        on(bar.close.click, bar.hide, None, bar.outputs)
        inputs = [self.chat, self.window, bar.picked, bar.text]
        for button, change in (
            (bar.save, bar.save_edit),
            (bar.save_new, bar.save_as_version),
            (bar.earlier, bar.swipe_by(-1)),
            (bar.later, bar.swipe_by(1)),
            (bar.branch, bar.branch_from),
            (bar.remove, bar.remove_message),
        ):
            changed = actions.show_current_on_conflict(_changing(bar, actions, change))
            on(button.click, changed, inputs, [*actions.screen.outputs, *bar.outputs])


def _picking(bar: MessageBar, tail: bool) -> Callable[..., Updates]:
    def run(chat: ChatRef, event: gr.SelectData) -> Updates:
        return bar.pick(chat, tail=tail, event=event)

    return run


def _changing(bar: MessageBar, actions: ChatActions, change: Callable[..., Any]) -> Callable[..., Updates]:
    def run(chat: ChatRef, window: WindowState, picked: str, text: str) -> Updates:
        conversation, now = change(chat, picked, text)
        shown = actions.switch_to(window, conversation)  # a branch is a different chat
        return {**shown, **(bar.show(conversation, now, shown[actions.screen.chat].skipped) if now else bar.hide())}

    return run


def _messages(elem_id: str, label: str) -> gr.Chatbot:
    """The message column: as high as its contents, without gradio's own frame, buttons and scrolling."""
    return gr.Chatbot(
        elem_id=elem_id, label=label, show_label=False, container=False, layout="panel", height=None, autoscroll=False,
        sanitize_html=True, render_markdown=True, latex_delimiters=LATEX, buttons=["copy"], feedback_options=None,
        group_consecutive_messages=False,
    )  # fmt: skip
