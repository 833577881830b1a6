"""The actions of Default and Notebook that generate text, from the click to the text on disk.

The services write and store it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.draft_generation import DraftUpdate
from modules.ui.chat.screen import visibility
from modules.ui.editor.output_tabs import OutputTabs
from modules.ui.editor.text_editor import STAMP, EditorState, TextEditor, is_encodable
from modules.ui.parameters.knob_controls import params_from_controls
from modules.ui.parameters.tab import ParametersTab
from modules.ui.parts.events import Updates, Values, on, show_error, then
from modules.ui.texts import tr

#: Starts a generation from the editors' states and the knobs; its updates are the growing text.
WriteAction = Callable[..., Iterator[DraftUpdate]]


@dataclass(frozen=True)
class WritingButtons:
    """The buttons that start a generation, and the one that stops it."""

    start: tuple[gr.Button, ...]
    stop: gr.Button

    @property
    def all(self) -> list[gr.Button]:
        """The outputs of an event that shows or hides them."""
        return [*self.start, self.stop]


class WritingActions:
    """Wires the buttons of one tab. `source` holds the prompt, `target` the text that grows."""

    def __init__(
        self, app: App, source: TextEditor, target: TextEditor, tabs: OutputTabs, buttons: WritingButtons
    ) -> None:
        self._app, self._source, self._target = app, source, target
        self._tabs, self._buttons = tabs, buttons
        self._editors = [source] if source is target else [source, target]

    def wire(self, loaded: Any) -> None:
        """Connect Stop; after the event `loaded`, follow a generation that is already running."""
        target = self._target
        on(self._buttons.stop.click, self._stop, [target.state], queue=False)
        then(loaded, self._watch, [target.state], [*target.outputs, *self._buttons.all])

    def wire_action(self, triggers: Any, write: WriteAction, parameters: ParametersTab) -> None:
        """Wire a button that generates: one generator, from the click to the stored text."""
        editors = self._editors
        inputs = [self._source.stamp, *(part for editor in editors for part in (editor.state, editor.field))]
        inputs += parameters.knobs
        kept = [part for editor in editors if editor is not self._target for part in (editor.state, editor.kept)]

        def run(*given: Any) -> Iterator[Updates]:
            values = dict(zip(inputs, given, strict=True))
            params = params_from_controls([values[knob] for knob in parameters.knobs])
            yield from self._written(write, values, params)

        outputs = [*self._target.outputs, *kept, *self._buttons.all]
        self.render_after(on(triggers, run, inputs, outputs, js=STAMP))

    def render_after(self, event: Any) -> None:
        """After an event, update the open view."""
        states = [editor.state for editor in self._editors]
        tabs = self._tabs
        then(event, tabs.render_view, [tabs.page, tabs.which, tabs.plain, *states], tabs.views)

    def _written(self, write: WriteAction, values: Values, params: SamplingParams) -> Iterator[Updates]:
        """Store every field and show Stop, let the text grow, then show what is stored, also after errors and stops."""
        target, number = self._target, values[self._source.stamp]
        states = {
            editor: editor.store_text(number, values[editor.state], values[editor.field])[1] for editor in self._editors
        }
        state = states[target]
        # the Stop button is shown before the model starts
        self._app.draft_writer.expect(state.id, state.writer)
        kept: Updates = {target.facts: f"<p role='status' class='working'><span>{tr('editor.writing')}</span></p>"}
        for editor, now in states.items():
            kept |= {editor.state: now, editor.kept: now.id}
        yield self._set_buttons(True, kept)
        failed = False
        try:
            yield from target.grow(write(*states.values(), params))
        except Exception as error:  # the page must recover from any error
            show_error(error)
            failed = True
        draft = self._app.drafts.open(state.id)
        shown = target.show(draft, state)
        if not failed:
            del shown[target.facts]  # the line contains the result
        if not is_encodable(draft.text):
            del shown[target.field]
        yield self._set_buttons(False, shown)

    def _set_buttons(self, writing: bool, shown: Updates | None = None) -> Updates:
        """The buttons and the field while a text is being written or not, and further updates."""
        shown, field = shown or {}, self._target.field
        text = {"value": shown[field]} if field in shown else {}
        return {
            **shown,
            **{button: visibility(not writing) for button in self._buttons.start},
            self._buttons.stop: visibility(writing, kept=True),
            field: gr.update(interactive=not writing, **text),
        }

    def _stop(self, state: EditorState) -> None:
        self._app.draft_writer.stop(state.id)

    def _watch(self, state: EditorState) -> Iterator[Updates]:
        """Follow a generation that is already running. At its end the stored text is shown only if it has changed:
        the field may contain newer edits.
        """
        growing = self._app.draft_writer.growing
        yield self._set_buttons(growing(state.id) is not None)
        yield from self._target.watch(state)
        draft = self._app.drafts.open(state.id)
        grown = draft.revision != state.revision
        yield self._set_buttons(growing(state.id) is not None, self._target.show(draft, state) if grown else None)
