"""The actions of the Chat tab's buttons. Each returns values by component; one that generates text is a generator, from
the click to the screen that shows the stored conversation.

No conversation logic here: the services do the work, and the page shows their results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from itertools import takewhile
from typing import Any

import gradio as gr

from errors import Conflict, ConversationChanged, NothingToDo, UserError, encode_utf8
from modules.app import App
from modules.chat.background import BackgroundReply
from modules.chat.conversation import Conversation, Role
from modules.chat.reply import Reply
from modules.chat.service import ReplySettings, ReplyUpdate
from modules.ui.chat.display import ChatDisplay, working_html
from modules.ui.chat.screen import ChatScreen, ReplyControls, visibility
from modules.ui.chat.view import (
    MORE,
    Bubble,
    ChatRef,
    bubbles_before,
    chat_list_html,
    make_bubble,
    message_bubbles,
    search_results_html,
    view_chat,
)
from modules.ui.chat.window_state import WindowState, limit_rate
from modules.ui.parts.events import Updates, Values, show_error, show_info, show_warning
from modules.ui.texts import tr

#: Seconds between two updates of a reply that another window has requested.
WATCHING = 0.15
#: Seconds between two updates of the line that says how quickly a reply grows.
PACE = 1.0

#: Starts a reply with these settings.
StartReply = Callable[[str, ReplySettings], Reply]


class ChatActions(ChatDisplay):
    """The functions behind the chat's buttons."""

    def __init__(self, app: App, screen: ChatScreen, controls: ReplyControls) -> None:
        super().__init__(app, screen)
        self._controls = controls

    # --- a reply, from the click to the final screen ---

    def send(self, values: Values) -> Iterator[Updates]:
        """Send the message: it appears at once, with an empty reply below it, which grows."""
        chat, text = values[self.screen.chat], values[self.screen.input]

        def begin() -> Updates | None:
            if not text.strip():
                return None
            encode_utf8(text, "The message")
            if chat.id in values[self.screen.window].starting or self.app.chats.writing(chat.id) is not None:
                raise Conflict(tr("chat.busy"))
            now = view_chat(self.app.chats.open(chat.id), chat.earlier)
            tail = [make_bubble("user", text), make_bubble("assistant", "")]
            return {self.screen.history: [*now.history, *now.tail], self.screen.tail: tail}

        yield from self._reply(values, begin, lambda id, settings: self.app.chats.send(id, text, settings), text)

    def regenerate(self, values: Values) -> Iterator[Updates]:
        """Generate another version of the last reply."""

        def begin() -> Updates:
            now = view_chat(self.app.chats.open(values[self.screen.chat].id))
            return {self.screen.tail: [*now.tail[:1], make_bubble("assistant", "")]}

        yield from self._reply(values, begin, self.app.chats.regenerate)

    def continue_(self, values: Values) -> Iterator[Updates]:
        """Continue the last reply."""
        yield from self._reply(values, dict, self.app.chats.continue_)

    def _reply(
        self, values: Values, begin: Callable[[], Updates | None], start: StartReply, message: str = ""
    ) -> Iterator[Updates]:
        """Show what `begin` returns at once (None: nothing to do), the growing reply, then the stored conversation.

        The input is not changed: the browser emptied it, and what it contains now was typed after that.
        """
        window, chat = values[self.screen.window], values[self.screen.chat]
        if chat.id in window.starting and not message.strip():
            return  # a second click, before the first one took effect
        window.open(chat.id)
        window.stopped.discard(chat.id)
        begun = []  # from then on the message is in the chat

        def start_reply(id: str, settings: ReplySettings) -> Reply:
            begun.append(reply := start(id, settings))
            return reply

        with window.follow(chat.id):
            try:
                shown = begin()
                if shown is not None:
                    window.starting.add(chat.id)
                    try:
                        yield {**self._show_busy(), **shown}
                        yield from self._stream_reply(values, start_reply, message)
                    finally:
                        window.starting.discard(chat.id)
            except Exception as error:  # the page must recover from any error
                show_error(error)
                if not begun:
                    window.given_back[chat.id] = message
            yield self._show_stored_or_return(window)

    def _show_busy(self) -> Updates:
        screen = self.screen
        return {
            screen.facts: working_html(),
            screen.actions: visibility(False),
            screen.welcome: "",
            screen.send: visibility(False, kept=True),
            screen.stop: visibility(True),
        }

    def _stream_reply(self, values: Values, start: StartReply, message: str) -> Iterator[Updates]:
        window, chat = values[self.screen.window], values[self.screen.chat]
        settings = self.reply_settings(chat, values)
        before = bubbles_before(self.app.chats.open(chat.id), message)
        reply = BackgroundReply(start(chat.id, settings))  # it goes on if this browser disconnects
        if chat.id in window.stopped:
            self.app.chats.stop(chat.id)
        told = 0.0
        for update in limit_rate(iter(reply)):
            window.starting.discard(chat.id)
            if window.shows(chat):
                yield {**self._show_growing(before, update), **self._pace(update, told)}
                told = update.seconds if update.seconds - told >= PACE else told
            for note in update.notes:
                show_warning(note)

    def watch(self, window: WindowState, chat: ChatRef) -> Iterator[Updates]:
        """Follow a reply that another window started, or this one before it opened another chat.

        If the reply has ended since the chat was opened, or another one has begun, the stored conversation is shown.
        """
        with window.follow(chat.id):
            conversation, writing = self.app.chats.open(chat.id), chat.writing
            if conversation.revision == chat.revision:  # the tail may show another chat's warnings
                yield {self.screen.tail: view_chat(conversation).tail}
            else:
                shown = self.show(conversation, window.earlier)
                writing = shown[self.screen.chat].writing
                yield shown
            before, followed, revision, told = list[Bubble](), "", conversation.revision, 0.0
            while window.shows(chat) and (update := self.app.chats.writing(chat.id)):
                if update.message_id != followed:
                    conversation = self.app.chats.open(chat.id)
                    if followed or conversation.revision != revision:
                        yield self.show(conversation, window.earlier)
                    before, followed, told = bubbles_before(conversation, ""), update.message_id, 0.0
                yield {**self._show_growing(before, update), **self._pace(update, told)}
                told = update.seconds if update.seconds - told >= PACE else told
                time.sleep(WATCHING)
            if (followed or writing) and window.shows(chat):  # also if it has ended since that was shown
                yield self._show_if_idle(chat.id, window)

    def news(self, window: WindowState, chat: ChatRef, picked: str) -> str:
        """What was done elsewhere to the chat that this window shows; "" for nothing, or while a message is picked."""
        if not chat.id or picked or not window.shows(chat) or chat.id in window.following:
            return ""
        if update := self.app.chats.writing(chat.id):
            return f"{chat.id} {update.message_id}"
        stored = self.app.archive.revision(chat.id)
        return "" if stored in (None, chat.revision) else f"{chat.id} {stored}"

    def catch_up(self, window: WindowState, chat: ChatRef, picked: str) -> Iterator[Updates]:
        """Show what was done elsewhere to this chat, and follow a reply that is being written there."""
        if self.news(window, chat, picked):
            shown = self.show(self.app.chats.open(chat.id), window.earlier)
            yield shown
            yield from self.watch(window, shown[self.screen.chat])

    def _show_growing(self, before: list[Bubble], update: ReplyUpdate) -> Updates:
        """The last exchange so far: the message and the part of the reply that was generated."""
        return {self.screen.tail: [*before, *message_bubbles("assistant", update.text, "", update.thought)]}

    def _pace(self, update: ReplyUpdate, told: float) -> Updates:
        """The tokens so far and their rate, once in a while: `told` is when they were shown last."""
        if update.done or update.seconds - told < PACE:
            return {}
        return {self.screen.facts: working_html(update.tokens, update.seconds)}

    def _show_stored_or_return(self, window: WindowState) -> Updates:
        """The chat that this window shows, as it is stored; after an error, the message goes back to the input.

        The window may show another chat by now, whose own reply must not be disturbed.
        """
        text = window.given_back.pop(window.shown, None)
        if text is None:
            return self._show_if_idle(window.shown, window)
        now = {} if window.shown in window.starting else self.show(self.app.chats.open(window.shown), window.earlier)
        return {**now, self.screen.returned: text}

    def _show_if_idle(self, id: str, window: WindowState) -> Updates:
        """The stored chat, unless a reply is being written in it."""
        busy = self.app.chats.writing(id) is not None
        return {} if busy else self.show(self.app.chats.open(id), window.earlier)

    def reply_settings(self, chat: ChatRef, values: Values) -> ReplySettings:
        """The reply settings on the page. Raises: InvalidInput."""
        return self._controls.read(values, chat, self.app.settings.name1)

    def prompt(self, values: Values) -> str:
        """The whole chat as a prompt. Raises: UserError."""
        chat = values[self.screen.chat]
        return str(self.app.chats.prompt(chat.id, self.reply_settings(chat, values), going_on=True).text)

    def impersonate(self, values: Values) -> Iterator[Updates]:
        """The model writes the user's next message into the input, which cannot be edited meanwhile."""
        screen = self.screen
        window, chat = values[screen.window], values[screen.chat]
        window.stopped.discard(chat.id)  # an earlier press of Stop does not count for this
        yield {
            screen.send: visibility(False),
            screen.stop: visibility(True),
            screen.input: gr.update(interactive=False),
        }
        try:
            yield from self._stream_impersonation(window, chat, values)
        except Exception as error:
            show_error(error)
        yield {
            screen.send: visibility(True),
            screen.stop: visibility(False, kept=True),
            screen.input: gr.update(interactive=True),
        }

    def _stream_impersonation(self, window: WindowState, chat: ChatRef, values: Values) -> Iterator[Updates]:
        if chat.id in window.stopped:
            return
        settings = self.reply_settings(chat, values)
        growing = self.app.chats.impersonate(chat.id, values[self.screen.input], settings)
        for text in takewhile(lambda _: chat.id not in window.stopped, growing):
            yield {self.screen.input: text}

    # --- other buttons ---

    def show_current_on_conflict(self, change: Callable[..., Updates]) -> Callable[..., Updates]:
        """Wrap a change: if the chat has been changed elsewhere since it was shown, show its current state instead."""

        @wraps(change)  # gradio reads from its parameters whether it wants the event
        def run(chat: ChatRef, *given: Any) -> Updates:
            try:
                return change(chat, *given)
            except ConversationChanged as error:
                show_error(error)
                return self.show(self.app.chats.open(chat.id), chat.earlier)

        return run

    def stop(self, window: WindowState, chat: ChatRef) -> None:
        """End the reply that is being written, or that is about to start: the button is shown before it starts."""
        window.stopped.add(chat.id)  # first: it may start right now
        if self.app.chats.stop(chat.id):
            window.stopped.discard(chat.id)

    def end_thought(self, chat: ChatRef) -> None:
        """End the thought of the reply that is being written, so that its answer follows."""
        if not self.app.chats.stop(chat.id, thought=True):
            show_info(tr("chat.not_thinking"))

    def switch_to(self, window: WindowState, conversation: Conversation, mode: str = "") -> Updates:
        """Open a chat in this window: replies that are still growing in other chats are no longer shown."""
        made = self.show(conversation, window.earlier_in(conversation.id), mode)
        window.open(conversation.id)
        return made

    def remove(self, chat: ChatRef, typed: str) -> Updates:
        """Remove the last exchange; the user's message goes back to the input."""
        try:
            said, conversation = self.app.chats.remove_last(chat.id, chat.revision)
        except Exception as error:
            show_error(error)
            said, conversation = "", self.app.chats.open(chat.id)
        return {**self.show(conversation, chat.earlier), **({} if typed.strip() else {self.screen.input: said})}

    def open_new(self, window: WindowState, mode: str, character: str, your_name: str) -> Updates:
        """Open a new chat; its file is created with its first message."""
        made = self.app.chats.new(mode, character or "Assistant", self._name(your_name))
        return self.switch_to(window, made, mode)

    def open(self, window: WindowState, mode: str, event: gr.EventData) -> Updates:
        """Open the chat that was picked in the list."""
        return self.switch_to(window, self.app.chats.open(event.pick), mode)

    def load(self, window: WindowState, kept: str, mode: str, character: str, your_name: str) -> Updates:
        """Open the chat that this browser had open, else the latest one."""
        try:
            if kept:
                return self.switch_to(window, self.app.chats.open(kept), mode)
        except UserError:  # it was deleted, or its file is damaged
            pass
        return self.open_latest(window, mode, character, your_name)

    def open_latest(self, window: WindowState, mode: str, character: str, your_name: str) -> Updates:
        """Open the latest chat of a mode and a character, or a new one."""
        found = self.app.chats.latest(mode, character or "Assistant", self._name(your_name))
        return self.switch_to(window, found, mode)

    def choose_model(self, chat: ChatRef, name: str) -> Updates:
        """Choose the model that answers in this chat."""
        return self.show(self.app.edits.choose_model(chat.id, name or "", chat.revision), chat.earlier)

    def ban_strings(self, chat: ChatRef, text: str) -> Updates:
        """Set the strings that replies in this chat must not contain."""
        if (text or "") == self.app.chats.open(chat.id).banned_strings:
            return {}
        return self.show(self.app.edits.ban_strings(chat.id, text or "", chat.revision), chat.earlier)

    def last_message(self, chat: ChatRef) -> str:
        """The id of the last message. Raises: NothingToDo."""
        last = self.app.chats.open(chat.id).last()
        if last is None:
            raise NothingToDo(tr("chat.no_messages"))
        return last.id

    def undo(self, chat: ChatRef, window: WindowState) -> Updates:
        """Undo the last change of this chat, or of a folder if that came later."""
        change = window.undoes_folder(chat)
        if change is None:
            return self.show(self.app.chats.undo(chat.id, chat.revision), chat.earlier)
        with suppress(NothingToDo):
            back = self.app.folders.undo(change)
            show_info(tr("chat.folder_back", n=back, name=change.before))
        window.folder_change = None
        return self.show(self.app.chats.open(chat.id), chat.earlier)

    def insert_message(self, role: Role) -> Callable[[ChatRef, str], Updates]:
        """An action that adds the input's text as a message of this role."""

        def run(chat: ChatRef, text: str) -> Updates:
            now = self.app.edits.say(chat.id, role, text, chat.revision)
            return {**self.show(now, chat.earlier), self.screen.input: ""}

        return run

    def replace_last(self, chat: ChatRef, text: str) -> Updates:
        """Replace the last reply with the input's text."""
        now = self.app.edits.replace_last(chat.id, text, chat.revision)
        return {**self.show(now, chat.earlier), self.screen.input: ""}

    def swipe(self, by: int) -> Callable[[ChatRef], Updates]:
        """An action that shows another version of the last message."""

        def run(chat: ChatRef) -> Updates:
            now = self.app.edits.swipe(chat.id, self.last_message(chat), by, chat.revision)
            return self.show(now, chat.earlier)

        return run

    def search_chats(self, chat: ChatRef, words: str) -> str:
        """The list of chats, or the results of a search."""
        if not words.strip():
            return chat_list_html(self.app.archive.around(chat.id), chat.id)
        return search_results_html(self.app.archive.search(words), chat.id)

    def listed(self, chat: ChatRef, words: str) -> Updates:
        """The list of chats after a change of one of them, or the results of the search."""
        return {**self._list(chat), **({self.screen.chats: self.search_chats(chat, words)} if words.strip() else {})}

    def show_older(self, window: WindowState, chat: ChatRef) -> Updates:
        """Show more of the earlier messages."""
        now = view_chat(self.app.chats.open(chat.id), chat.earlier + MORE)
        if window.shows(chat):
            window.earlier = now.chat.earlier
        return {
            self.screen.chat: replace(chat, skipped=now.chat.skipped, earlier=now.chat.earlier),
            self.screen.history: now.history,
            self.screen.older: self._older(now.chat.skipped),
        }

    def list_all(self, chat: ChatRef) -> Updates:
        """List the chats of all modes and characters."""
        listed = chat_list_html(self.app.archive.everything(), chat.id, scopes=True)
        return {self.screen.chats: listed, self.screen.others: visibility(False)}

    # --- inside ---

    def _name(self, given: str) -> str:
        """The user's name."""
        return (given or "").strip() or self.app.settings.name1
