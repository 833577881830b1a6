"""Values for all components that show a chat. The actions are in actions.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.chat.conversation import Conversation
from modules.chat.own_settings import OwnSettings
from modules.config.thinking_knobs import SWITCHES
from modules.library.demo_model import NAME as DEMO
from modules.ui.chat.avatars import avatar_style
from modules.ui.chat.own_panel import chosen_switch, notice_html, own_html, own_mark, templates_notice
from modules.ui.chat.screen import ChatScreen, visibility
from modules.ui.chat.view import SHOWN, ChatRef, chat_list_html, speaker_html, view_chat
from modules.ui.chat.window_state import chat_scope, fitting_mode
from modules.ui.parts.events import Updates
from modules.ui.parts.formatting import escape, join_facts, short_name
from modules.ui.parts.list_picker import menu_button
from modules.ui.texts import tr


def working_html(tokens: int = 0, seconds: float = 0.0) -> str:
    """The indicator of a reply in progress. The style sheet shows the first text until the reply has text, then the
    second, with the tokens so far and their rate.
    """
    many = tr("unit.tokens", n=tokens) if tokens else ""
    quick = tr("chat.per_second", n=(tokens - 1) / seconds) if tokens > 1 and seconds else ""
    return (
        f"<span class='working'><span class='reading'>{tr('chat.reading')}</span>"
        f"<span class='writing'>{join_facts(tr('chat.writing'), many, quick)}</span></span>"
    )


class ChatDisplay:
    """What the page shows of a chat, by the components of its screen."""

    def __init__(self, app: App, screen: ChatScreen) -> None:
        self.app = app
        self.screen = screen

    def _who(self, kind: str, character: str) -> tuple[str, Path | None]:
        """The speaker's name and picture."""
        if kind != "chat":
            return "Assistant", None
        try:
            who = self.app.characters.load(character)
        except UserError:  # its file was deleted; the chat still exists
            return character, None
        return who.name, who.picture

    def _character_menu(self, character: str) -> Any:
        """The menu with this character selected: it may be new since the page was loaded, or its file may be gone."""
        names = self.app.characters.names()
        return gr.update(value=character, choices=names if character in names else [*names, character], visible=True)

    def show(self, conversation: Conversation, earlier: int = SHOWN, mode: str = "") -> Updates:
        """Values for everything that shows a conversation: at most `earlier` messages before its last exchange; `mode`
        is the controls' mode, empty if they do not change.
        """
        screen = self.screen
        now = view_chat(conversation, earlier)
        path = conversation.path()
        kind, _, character = chat_scope(now.chat).partition("/")
        called, picture = self._who(kind, character)
        versions = conversation.versions(path[-1].id) if now.tail else []
        at = versions.index(path[-1].id) if versions else 0
        empty = not now.history and not now.tail
        writing = self.app.chats.writing(now.chat.id) is not None
        loaded = self.app.models.state.phase != "none" or bool(self.app.models.state.idle)
        several, more = len(versions) > 1, self.app.ahead.expects(conversation)
        return {
            screen.chat: replace(now.chat, writing=writing),
            screen.kept: now.chat.id,
            screen.title: self._title(conversation, now.title) + avatar_style("reply", called, picture),
            screen.welcome: tr("chat.welcome" if loaded else "chat.no_model") if empty else "",
            screen.history: now.history,
            screen.older: self._older(now.chat.skipped),
            screen.tail: now.tail,
            screen.facts: working_html() if writing else now.meta,
            screen.actions: visibility((now.can_remove or several) and not writing),
            screen.regenerate: gr.update(interactive=now.can_regenerate),
            screen.continue_: gr.update(interactive=now.can_continue),
            screen.send: visibility(not writing),
            screen.stop: visibility(writing, kept=True),
            **self._list(now.chat),
            screen.character: self._character_menu(character) if kind == "chat" else gr.update(visible=False),
            screen.earlier: gr.update(
                visible=several, interactive=at > 0, value=tr("chat.version", n=at + 1, count=len(versions))
            ),
            screen.later: gr.update(visible=several or more, interactive=more or at < len(versions) - 1),
            screen.who: speaker_html(called, picture) if kind == "chat" else "",
            screen.show_prompt: visibility(bool(path) and "prompt_tokens" in path[-1].meta),
            **({screen.mode: fitting_mode(mode, now.chat)} if mode else {}),
            screen.banned: conversation.banned_strings,
            **self._own(conversation),
            **self._model_menu(conversation),
        }

    def _title(self, conversation: Conversation, title: str) -> str:
        """The chat's title, what it has of its own, and the button of its menu."""
        button = menu_button(conversation.id, tr("chat.menu", title=title), pinned=conversation.pinned)
        drafts = conversation.id if conversation.revision else ""  # whose the text in the box is: see conversation.js
        return (
            f"<h1 data-drafts='{escape(drafts)}'>{escape(title)}</h1>{own_mark(OwnSettings.of(conversation))}{button}"
        )

    def _own(self, conversation: Conversation) -> Updates:
        """What this chat keeps of its own, in the controls and in the Parameters tab."""
        own, screen = OwnSettings.of(conversation), self.screen
        return {
            screen.own_what: own_html(own),
            screen.own_system: own.system,
            screen.own_reset: visibility(bool(own)),
            screen.own_notice: visibility(own.params is not None),
            screen.own_notice_text: notice_html(own),
            screen.own_templates: templates_notice(own),
            **{getattr(screen, f"own_{name}"): chosen_switch(own, name) for name in SWITCHES},
        }

    def _older(self, skipped: int) -> Any:
        """The button that shows earlier messages."""
        return gr.update(visible=skipped > 0, value=tr("chat.older", n=skipped) if skipped else "")

    def _list(self, chat: ChatRef) -> Updates:
        """The chats of this mode and character, and how many others there are."""
        around = self.app.archive.around(chat.id)
        others = self.app.archive.count() - len(around)
        return {
            self.screen.chats: chat_list_html(around, chat.id),
            self.screen.others: gr.update(
                visible=others > 0, value=tr("chat.others", here=len(around), n=others) if others > 0 else ""
            ),
        }

    def _model_menu(self, conversation: Conversation) -> Updates:
        """The models that may answer here, where there are several."""
        if not self.app.router.several:
            return {}
        names, chosen = self.app.router.names(), conversation.model
        others = [chosen] if chosen and chosen not in names else []
        choices = [(tr("chat.default_model"), ""), *((short_name(name), name) for name in [*names, *others])]
        return {self.screen.model: gr.update(choices=choices, value=chosen)}

    def show_model(self, chat: ChatRef) -> Updates:
        """What changes here when a model is loaded or unloaded: the empty page, and the line above the input."""
        state = self.app.models.state
        conversation = self.app.chats.open(chat.id) if chat.id else None
        empty = conversation and not conversation.path()
        missing = state.phase == "none" and not state.idle
        notice = ""
        if missing:
            notice = tr("chat.no_model_notice")
        elif state.phase == "loaded" and state.name == DEMO:
            dismiss = f"<button type='button' class='dismiss' data-dismiss>{tr('chat.dismiss')}</button>"
            notice = f"{tr('chat.demo')}{dismiss}"
        return {
            self.screen.welcome: tr("chat.no_model" if missing else "chat.welcome") if empty else "",
            self.screen.notice: notice,
            self.screen.notice_row: visibility(bool(notice)),
            **(self._model_menu(conversation) if conversation else {}),
        }
