"""What may be computed before it is asked for: the switches, what that has cost in this chat, and the button "›", which
shows the next version. The services decide when it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.chat.work_ahead import AheadCosts
from modules.config.settings import Settings
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.view import ChatRef
from modules.ui.parameters.knob_controls import make_control
from modules.ui.parts.events import Updates, Values, on
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr


class AheadPanel:
    """The switches in the chat's controls. `named`: by the settings' names."""

    def __init__(self, app: App) -> None:
        self._app = app
        gr.HTML(f"<h2>{tr('ahead.title')}</h2>")
        self.named: dict[str, Any] = {
            name: make_control(knob, getattr(app.settings, name), prefix="setting", scope="setting")
            for name, knob in Settings.knobs().items()
            if knob.group == "ahead"
        }
        self._costs = gr.HTML("", elem_id="ahead-costs")
        self._before = gr.State("")

    def wire(
        self,
        actions: ChatActions,
        inputs: set[Any],
        typed: gr.Button,
        later: gr.Button,
        replies: Sequence[tuple[Any, Callable[[Values], Iterator[Updates]], str]],
    ) -> list[Any]:
        """Connect the `replies` (triggers, action, script), what is typed, and the button for the next version.

        Returns the events of the replies.
        """
        self._actions, screen = actions, actions.screen
        inputs = inputs | set(self.named.values())
        outputs = [*screen.outputs, self._costs]
        on(typed.click, self._typed, inputs, [self._costs], latest=True)
        on(later.click, self._next, inputs, outputs)
        on(screen.chat.change, self._moved, [screen.chat, self._before], [self._before, self._costs], latest=True)
        # several: a reply of another chat may still be growing in the background
        return [on(each, self._after(do), inputs, outputs, js=js, several=True) for each, do, js in replies]

    def _typed(self, values: Values) -> str:
        """Typing pauses: read what is there."""
        chat, text = values[self._actions.screen.chat], values[self._actions.screen.input]
        if chat.id and values[self.named["read_ahead"]] and (text or "").strip():
            with suppress(UserError):  # a bad setting is reported when the message is sent
                self._app.ahead.read(chat.id, self._actions.reply_settings(chat, values), text)
        return self._shown(chat.id)

    def _after(self, action: Callable[[Values], Iterator[Updates]]) -> Callable[[Values], Iterator[Updates]]:
        """An action that writes a reply, and what is computed after it."""

        def run(values: Values) -> Iterator[Updates]:
            yield from action(values)
            yield self._begin(values)

        return run

    def _begin(self, values: Values) -> Updates:
        screen, chat = self._actions.screen, values[self._actions.screen.chat]
        if not chat.id or not values[screen.window].shows(chat):
            return {}
        with suppress(UserError):
            self._app.ahead.after_reply(
                chat.id,
                self._actions.reply_settings(chat, values),
                versions=int(values[self.named["versions_ahead"]] or 0),
                title=bool(values[self.named["titles_by_model"]]),
            )
            if self._app.ahead.expects(self._app.chats.open(chat.id)):
                return {screen.later: gr.update(visible=True, interactive=True), self._costs: self._shown(chat.id)}
        return {self._costs: self._shown(chat.id)}

    def _next(self, values: Values) -> Iterator[Updates]:
        """The next version: one that exists, else one that was written ahead, else one that is written now."""
        actions, chat = self._actions, values[self._actions.screen.chat]
        conversation, last = self._app.chats.open(chat.id), actions.last_message(chat)
        if conversation.versions(last)[-1] != last or not self._app.ahead.expects(conversation):
            yield actions.show_current_on_conflict(actions.swipe(1))(chat)
        elif shown := self._app.ahead.take_version(chat.id, actions.reply_settings(chat, values)):
            yield actions.show(shown, chat.earlier)
            yield self._begin(values)
        else:
            yield from self._after(actions.regenerate)(values)

    def _moved(self, chat: ChatRef, before: str) -> Updates:
        """Another chat is shown, or this one has changed: what no longer fits ends."""
        if before and before != chat.id:
            self._app.ahead.stop(before)
        if chat.id:
            with suppress(UserError):
                self._app.ahead.forget_unfit(self._app.chats.open(chat.id))
        return {self._before: chat.id, self._costs: self._shown(chat.id)}

    def _shown(self, id: str) -> str:
        return costs_html(self._app.ahead.costs(id)) if id else ""


def costs_html(costs: AheadCosts) -> str:
    """What was computed ahead in a chat, and how much of it was used."""
    lines = []
    if costs.read_tokens:
        lines.append(tr("ahead.read", n=costs.read_tokens, s=costs.read_seconds, used=costs.used_tokens))
    if costs.versions:
        told = {"n": costs.versions, "tokens": costs.version_tokens, "s": costs.version_seconds}
        lines.append(tr("ahead.versions", **told, used=costs.used_versions))
    if costs.title_seconds:
        lines.append(tr("ahead.title_cost", s=costs.title_seconds))
    return "".join(f"<p>{escape(each)}</p>" for each in [*lines, costs.why] if each)
