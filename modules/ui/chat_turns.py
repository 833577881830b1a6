"""What happens when a reply is asked for: begin, stream, settle. Each function returns values for the components.

No logic of conversations here: the services do the work, and what is shown is what they say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import Any

import gradio as gr

from errors import Conflict, ConversationChanged, NothingToDo, UserError, utf8
from modules.chat.conversation import Role
from modules.chat.service import Turn, Update
from modules.ui.chat_screen import SCREEN, WORKING, Screen, shown
from modules.ui.chat_view import Place, bubble, bubbles_before, bubbles_of, chat_list, found_list, view
from modules.ui.chat_window import Draft, Window, fitting, paced, scope_of
from modules.ui.events import report, say, tell
from modules.ui.knob_controls import params_from
from modules.ui.words import escape

#: Seconds between two looks at a reply that somebody else has asked for.
WATCHING = 0.15

#: Starts a reply: conversation id, what was written, the turn.
Start = Callable[[str, str, Turn], AbstractContextManager[Iterator[Update]]]

#: What `begin` returns where nothing is on its way.
_NOTHING = [Draft(), *[gr.skip()] * 8]


class Turns(Screen):
    """The functions behind the chat's buttons."""

    # --- begin: what is shown until the first words come ---

    def begin_send(self, place: Place, text: str) -> list[Any]:
        """The user's message appears at once, and an empty reply below it."""
        if not text.strip():
            return _NOTHING
        utf8(text, "The message")
        if self.app.chats.writing(place.id) is not None:
            raise Conflict("A reply is being written in this conversation. Wait until it is done, or press Stop.")
        now = view(self.app.chats.open(place.id))
        tail = [bubble("user", text), bubble("assistant", "")]
        return self._busy(Draft(text, wanted=True), [*now.history, *now.tail], tail)

    def begin_again(self, place: Place, _text: str) -> list[Any]:
        """The last reply makes room for another one."""
        now = view(self.app.chats.open(place.id))
        return self._busy(Draft(wanted=True), gr.skip(), [*now.tail[:1], bubble("assistant", "")])

    def begin(self, begin: Callable[[Place, str], list[Any]]) -> Callable[[Window, Place, str], list[Any]]:
        """One of these ways to begin, for the page: where it cannot be, the text is given back."""

        def run(window: Window, place: Place, text: str) -> list[Any]:
            window.shown = place.id
            window.stopped.discard(place.id)
            try:
                return begin(place, text)
            except Exception as error:
                report(error)
                window.given_back[place.id] = text  # `settle` puts it into the box, unless something stands there
                return _NOTHING

        return run

    def begin_more(self, _place: Place, _text: str) -> list[Any]:
        """The last reply stays, and grows."""
        return self._busy(Draft(wanted=True), gr.skip(), gr.skip())

    def _busy(self, draft: Draft, history: Any, tail: Any) -> list[Any]:
        # never the box: the browser emptied it, and what stands there by now was typed after that
        return [draft, gr.skip(), history, tail, WORKING, shown(False), "", shown(False, kept=True), shown(True)]

    # --- stream: the last exchange grows ---

    def stream(self, start: Start) -> Callable[..., Iterator[Any]]:
        """A generator for gradio around a service that generates. It yields the last exchange and nothing else."""

        def run(window: Window, place: Place, draft: Draft, *values: Any) -> Iterator[Any]:
            yield gr.skip()  # a generator that yields nothing would empty its outputs
            if not draft.wanted:
                return
            try:
                turn = self.turn(place, values)
                said = bubbles_before(self.app.chats.open(place.id), draft.text)
                with start(place.id, draft.text, turn) as reply:  # gradio lets go of this where a browser goes away
                    if place.id in window.stopped:
                        self.app.chats.stop(place.id)
                    for update in paced(reply):
                        if window.shows(place):
                            yield [*said, *bubbles_of("assistant", update.text, "", update.thought)]
                        for note in update.notes:
                            tell(note)
            except Exception as error:  # the page must come back from anything
                report(error)
                window.given_back[place.id] = draft.text

        run.__name__ = "stream_" + getattr(start, "__name__", "reply")  # so that a measurement finds it
        return run

    def opened(self, window: Window, screen: list[Any]) -> list[Any]:
        """The screen of a chat that is opened: from now on what others still say is not seen in this window."""
        window.shown = screen[0].id
        return screen

    def watch(self, window: Window, place: Place) -> Iterator[Any]:
        """See a reply grow that another window has asked for, or this one before another chat was opened in it."""
        yield gr.skip(), False
        try:
            conversation = self.app.chats.open(place.id)
            yield view(conversation).tail, False  # what another chat said meanwhile may stand there
            said = bubbles_before(conversation, "")
            while window.shows(place) and (update := self.app.chats.writing(place.id)):
                yield [*said, *bubbles_of("assistant", update.text, "", update.thought)], True
                time.sleep(WATCHING)
        except Exception as error:
            report(error)

    def turn(self, place: Place, values: Sequence[Any]) -> Turn:
        """Everything that shapes the reply: mode, character, names, its start, system message, templates, then knobs.

        Where the chat belongs counts more than what the controls say. Raises: InvalidInput.
        """
        mode, character, your_name, start, system, thinking, effort, instruction, chat, command, *knobs = values
        kind, _, belongs = scope_of(place).partition("/")
        return Turn(
            mode=fitting(mode, place),
            character=belongs if kind == "chat" else character or "Assistant",
            params=params_from(knobs),
            name1=self._name(your_name),
            start_with=start or "",
            custom_system_message=system or "",
            revision=place.revision,
            instruction_template=instruction or "",
            chat_template=chat or "",
            command=command or "",
            thinking=bool(thinking),
            effort=effort or "",
        )

    def prompt(self, place: Place, *values: Any) -> str:
        """The whole chat as the text that the model would go on with. Raises: UserError."""
        return str(self.app.chats.prompt(place.id, self.turn(place, values), going_on=True).text)

    # --- settle: what is stored ---

    def settle(self, window: Window, place: Place, typed: str) -> list[Any]:
        """Show the conversation as it stands; text that nothing came of is given back.

        A reply may have ended that is not seen: then what is shown goes on as it was.
        """
        text = window.given_back.pop(place.id, None)
        if text is None and self.app.chats.writing(place.id) is not None:
            return [gr.skip()] * (SCREEN + 1)
        given_back = text if text and not typed.strip() else gr.skip()
        return [*self.screen(self.app.chats.open(place.id)), given_back]

    def settle_watched(self, place: Place, watched: bool) -> list[Any]:
        """The same for a reply that was only watched; without one, nothing changes.

        It may have ended between the first look at the chat and the watching: then it was not watched at all.
        """
        if not (watched or place.writing) or self.app.chats.writing(place.id) is not None:
            return [gr.skip()] * SCREEN
        return self.screen(self.app.chats.open(place.id))

    # --- other buttons ---

    def fresh(self, change: Callable[..., list[Any]], more: int = 0) -> Callable[..., list[Any]]:
        """A change, after which the chat is shown as it stands even where it came from an older look at it.

        `more`: how many values follow those of the screen.
        """

        def run(place: Place, *given: Any) -> list[Any]:
            try:
                return change(place, *given)
            except ConversationChanged as error:
                report(error)
                return [*self.screen(self.app.chats.open(place.id)), *[gr.skip()] * more]

        return run

    def stop(self, window: Window, place: Place) -> None:
        """End the reply that is being written, or that is about to begin: the button is there before the reply is."""
        window.stopped.add(place.id)  # first: it may begin right now
        if self.app.chats.stop(place.id):
            window.stopped.discard(place.id)

    def end_thought(self, place: Place) -> None:
        """Let the reply that is being written come to its answer."""
        if not self.app.chats.stop(place.id, thought=True):
            say("The model does not think just now.")

    def remove(self, place: Place, typed: str) -> list[Any]:
        """Take the last exchange out; what the user had said in it can be mended and sent again."""
        try:
            said, conversation = self.app.chats.remove_last(place.id, place.revision)
        except Exception as error:
            report(error)
            said, conversation = "", self.app.chats.open(place.id)
        return [*self.screen(conversation), gr.skip() if typed.strip() else said]

    def new(self, window: Window, mode: str, character: str, your_name: str) -> list[Any]:
        """An empty page: the chat gets its file with its first message."""
        made = self.app.chats.new(mode, character or "Assistant", self._name(your_name))
        return self.opened(window, self.screen(made, mode))

    def open(self, window: Window, mode: str, event: gr.EventData) -> list[Any]:
        """The chat that was picked in the list."""
        return self.opened(window, self.screen(self.app.chats.open(event.pick), mode))

    def load(self, window: Window, kept: str, mode: str, character: str, your_name: str) -> list[Any]:
        """The page was opened: the chat that this browser had open, else the latest one."""
        try:
            if kept:
                return self.opened(window, self.screen(self.app.chats.open(kept), mode))
        except UserError:  # it was deleted, or its file is broken
            pass
        return self.latest(window, mode, character, your_name)

    def latest(self, window: Window, mode: str, character: str, your_name: str) -> list[Any]:
        """The latest chat of a mode and a character, or a new one."""
        found = self.app.chats.latest(mode, character or "Assistant", self._name(your_name))
        return self.opened(window, self.screen(found, mode))

    def title(self, place: Place) -> str:
        """What the chat is called now."""
        return view(self.app.chats.open(place.id)).title

    def ask_delete(self, place: Place) -> list[Any]:
        """Whether it is meant."""
        return [f"Move <b>{escape(self.title(place))}</b> to the trash?", gr.update(visible=True)]

    def rename(self, place: Place, title: str) -> list[Any]:
        """The chat has another name."""
        return self.screen(self.app.chats.rename(place.id, title, place.revision))

    def delete(self, window: Window, place: Place, mode: str, character: str, your_name: str) -> list[Any]:
        """The chat goes to the trash; the latest of the others is shown."""
        self.app.chats.delete(place.id)
        say("The chat lies in the trash now, below the list of chats.")
        return self.latest(window, mode, character, your_name)

    def pin(self, place: Place) -> list[Any]:
        """The chat stands above the others in the list, or no longer."""
        pinned = self.app.chats.open(place.id).pinned
        return self.screen(self.app.chats.pin(place.id, not pinned, place.revision))

    def last(self, place: Place) -> str:
        """The message at the end. Raises: NothingToDo."""
        last = self.app.chats.open(place.id).last()
        if last is None:
            raise NothingToDo("There is no message yet.")
        return last.id

    def undo(self, place: Place) -> list[Any]:
        """The last change is taken back."""
        return self.screen(self.app.chats.undo(place.id, place.revision))

    def put_in(self, role: Role) -> Callable[[Place, str], list[Any]]:
        """The text in the box becomes a message without the model."""

        def run(place: Place, text: str) -> list[Any]:
            return [*self.screen(self.app.edits.say(place.id, role, text, place.revision)), ""]

        return run

    def replace_last(self, place: Place, text: str) -> list[Any]:
        """The text in the box takes the place of the last reply."""
        return [*self.screen(self.app.edits.replace_last(place.id, text, place.revision)), ""]

    def begin_impersonate(self, window: Window, place: Place) -> list[Any]:
        """Stop takes the place of Send; one that was pressed earlier is not for this."""
        window.stopped.discard(place.id)
        return [shown(False), shown(True)]

    def impersonate(self, window: Window, place: Place, text: str, *values: Any) -> Iterator[Any]:
        """The model writes into the box what the user might say."""
        yield gr.skip()
        try:
            if place.id not in window.stopped:
                growing = self.app.chats.impersonate(place.id, text, self.turn(place, values))
                yield from takewhile(lambda _: place.id not in window.stopped, growing)
        except Exception as error:
            report(error)

    def swipe(self, by: int) -> Callable[[Place], list[Any]]:
        """Another version of the last message."""

        def run(place: Place) -> list[Any]:
            return self.screen(self.app.edits.swipe(place.id, self.last(place), by, place.revision))

        return run

    def found(self, place: Place, words: str) -> str:
        """The list of chats, or what a search finds in all of them."""
        if not words.strip():
            return chat_list(self.app.archive.around(place.id), place.id)
        return found_list(self.app.archive.search(words), place.id)

    # --- inside ---

    def _name(self, given: str) -> str:
        """What the user is called."""
        return (given or "").strip() or self.app.settings.name1
