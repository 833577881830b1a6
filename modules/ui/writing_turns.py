"""What happens when the model is to write on a paper: begin, stream, settle. The same for Default and Notebook.

Each function returns values for components. What is written and kept is the services' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from modules.app import App
from modules.generation.writing import Growth
from modules.ui.chat_screen import shown
from modules.ui.events import on, report, then
from modules.ui.knob_controls import params_from
from modules.ui.output_tabs import OutputTabs
from modules.ui.paper import Paper, Sheet, is_whole
from modules.ui.parameters_tab import ParametersTab

WORKING = "<p role='status' class='working'><span>Writing</span></p>"

#: What is to be written: from the exact texts' sheets and the knobs to a growing text.
Write = Callable[..., Iterator[Growth]]


@dataclass(frozen=True)
class Buttons:
    """What is there while nothing is written, and what ends it."""

    start: tuple[gr.Button, ...]
    stop: gr.Button


class WritingTurns:
    """Wires the buttons of one tab. `source` is where the prompt stands, `target` the paper that grows."""

    def __init__(self, app: App, source: Paper, target: Paper, tabs: OutputTabs, buttons: Buttons) -> None:
        self._app, self._source, self._target = app, source, target
        self._tabs, self._buttons = tabs, buttons
        self._papers = [source] if source is target else [source, target]

    def wire(self, loaded: Any) -> None:
        """Connect Stop; after the event `loaded`, show what is being written already."""
        on(self._buttons.stop.click, self._stop, [self._target.sheet], queue=False)
        seen = then(loaded, self._resumed, [self._target.sheet], self._state)
        watched = then(seen, self._watch, [self._target.sheet], [self._target.field], stream=True)
        then(watched, self._settle_watched, [self._target.sheet], [*self._target.shown, *self._state])

    def action(self, triggers: Any, write: Write, parameters: ParametersTab) -> None:
        """Wire one way of making text."""
        target, papers = self._target, self._papers
        given = [self._source.stamp, *(part for paper in papers for part in (paper.sheet, paper.field))]
        kept = [part for paper in papers for part in (paper.sheet, paper.kept)]
        begun = on(triggers, self._begin, given, [*kept, *self._state], js="(stamp, ...rest) => [Page.now(), ...rest]")
        sheets = [paper.sheet for paper in papers]
        streamed = then(
            begun, self._stream(write), [*sheets, *parameters.knobs], [target.field, target.facts], stream=True
        )
        self.rendered(
            then(streamed, self._settle, [target.sheet], [target.field, target.sheet, target.ends, *self._state])
        )

    def rendered(self, event: Any) -> None:
        """After an event, let the open view show the text as it stands now."""
        sheets = [paper.sheet for paper in self._papers]
        then(event, self._tabs.rendering, [self._tabs.page, self._tabs.which, *sheets], self._tabs.views)

    @property
    def _state(self) -> list[Any]:
        return [*self._buttons.start, self._buttons.stop, self._target.field]

    def _states(self, writing: bool) -> list[Any]:
        starts = [shown(not writing) for _ in self._buttons.start]
        return [*starts, shown(writing, kept=True), gr.update(interactive=not writing)]

    def _begin(self, number: float, *parts: Any) -> list[Any]:
        """Every field is on disk as it stands, and the buttons turn."""
        kept: list[Any] = []
        for paper, sheet, field in zip(self._papers, parts[::2], parts[1::2], strict=True):
            _, now = paper.text(number, sheet, field)
            kept += [now, now.id]
            if paper is self._target:
                self._app.writing.expect(now.id, now.writer)  # the button to stop it is there before the model begins
        return [*kept, *self._states(True)]

    def _stream(self, write: Write) -> Callable[..., Iterator[list[Any]]]:
        papers = len(self._papers)

        def run(*given: Any) -> Iterator[list[Any]]:
            yield [gr.skip(), WORKING]  # also: a generator that yields nothing would empty its outputs
            try:
                yield from self._target.grow(write(*given[:papers], params_from(given[papers:])))
            except Exception as error:  # the page must come back from anything
                report(error)

        return run

    def _settle(self, sheet: Sheet) -> list[Any]:
        """The text as it stands on disk: also after an error, and after a stop."""
        draft = self._app.drafts.open(sheet.id)
        field, now, _, _, ends = self._target.show(draft, sheet, "")
        return [field if is_whole(draft.text) else gr.skip(), now, ends, *self._states(False)]

    def _stop(self, sheet: Sheet) -> None:
        self._app.writing.stop(sheet.id)

    def _resumed(self, sheet: Sheet) -> list[Any]:
        return self._states(self._app.writing.growing(sheet.id) is not None)

    def _watch(self, sheet: Sheet) -> Iterator[Any]:
        yield gr.skip()
        yield from self._target.watch(sheet)

    def _settle_watched(self, sheet: Sheet) -> list[Any]:
        """What grew meanwhile, if anything did: the field may hold newer words of a person's by now."""
        draft = self._app.drafts.open(sheet.id)
        grown = draft.revision != sheet.revision
        text = self._target.show(draft, sheet) if grown else [gr.skip()] * len(self._target.shown)
        return [*text, *self._states(self._app.writing.growing(sheet.id) is not None)]
