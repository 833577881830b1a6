"""A text field whose text is a draft on disk. Default has two of them, Notebook one.

Every change is stored at once, with the exact line ends, which a browser's field cannot hold. The page only remembers
which draft it shows.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import gradio as gr

from errors import UserError
from loaders.base import Report
from loaders.params import SamplingParams
from modules.app import App
from modules.generation.draft_generation import DraftUpdate
from modules.prompts.drafts import Draft
from modules.prompts.line_ends import merge_line_ends, normalize_line_ends, use_one_line_end
from modules.ui.chat.view import facts_line
from modules.ui.parameters.knob_controls import params_from_controls
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on, show_warning, then
from modules.ui.parts.formatting import escape, join_facts
from modules.ui.texts import tr

#: The most updates of the page per second.
UPDATES_PER_SECOND = 20

#: Seconds between two updates of a text that the model writes for another page.
WATCHING = 0.2

#: How often a text that is being typed is counted until the counts are those of its latest revision.
_COUNTINGS = 5

_HALF = re.compile("[\ud800-\udfff]")
#: The first input is the browser's time: only the latest event counts.
STAMP = "(stamp, ...rest) => [Page.now(), ...rest]"


@dataclass(frozen=True)
class EditorState:
    """Which draft a page shows, the revision that it has, and the page's name as a writer."""

    id: str = ""
    revision: int = 0
    writer: str = ""


class TextEditor:
    """The field, the line under it, and their state. `kind` is the prefix of its drafts' ids.

    Its owner says where the line (`facts_line`) and the button for line ends (`line_ends`) are: before `wire`.
    """

    def __init__(
        self, app: App, kind: str, kept: gr.BrowserState, *, label: str, placeholder: str, start: str = ""
    ) -> None:
        self.app = app
        self.kind = kind
        self.kept = kept
        self._start = start
        self.state = gr.State(EditorState())
        self.stamp = gr.Number(0, visible=False)
        self.field = gr.Textbox(
            label=label, placeholder=placeholder, lines=12, max_lines=1000, container=False, show_label=False,
            elem_id=f"{kind}-field", elem_classes="text-editor", autoscroll=True, interactive=False,
        )  # fmt: skip
        # gradio's text box reports typed keys, but not pasted or deleted text: the page's script clicks this button
        self.typed = gr.Button("", visible="hidden", elem_id=f"{kind}-field-typed")

    def facts_line(self) -> None:
        """Create the line with the text's counts, here."""
        self.facts = gr.HTML("", elem_classes="text-editor-facts", elem_id=f"{self.kind}-facts", padding=False)

    def line_ends(self) -> None:
        """Create the button that tells the text's line ends and changes them, here."""
        self.ends = gr.Button("LF", size="sm", elem_id=f"{self.kind}-ends", elem_classes="quiet")

    # --- events ---

    @property
    def outputs(self) -> list[Any]:
        """The outputs of `show`; what grows while the model writes comes first: see PageBlocks."""
        return [self.field, self.facts, self.state, self.kept, self.ends]

    def wire(self, page: gr.Blocks, knobs: Sequence[Any], model_changed: Any) -> Any:
        """Connect the events. Returns the event after which the page shows its draft."""
        typed = [self.stamp, self.state, self.field, *knobs]
        on(self.typed.click, self._typed, typed, self.outputs[1:], js=STAMP, latest=True)
        on(self.ends.click, self._turn_ends, [self.stamp, self.state, self.field], self.outputs, js=STAMP)
        on(model_changed, self._count, [self.state, *knobs], [self.facts])
        loaded = on(page.load, self._load, [self.kept, *knobs], self.outputs)
        # nothing is stored before that, because the loaded text would replace it
        return then(loaded, lambda: gr.update(interactive=True), None, [self.field])

    def store_text(self, number: float, state: EditorState, field: str) -> tuple[Draft, EditorState]:
        """Store the field's exact text, and return it with the state. Raises: UserError."""
        draft = self.app.drafts.type(state.id, field or "", state.writer, number or time.time() * 1000, state.revision)
        if draft.id != state.id:
            show_warning(tr("editor.forked"))
        return draft, replace(state, id=draft.id, revision=draft.revision)

    def exact_text(self, state: EditorState, field: str) -> str:
        """The field's text with the line ends of its draft. Raises: UserError."""
        return merge_line_ends(self.app.drafts.open(state.id).text, field or "")

    def put(self, state: EditorState, text: str) -> Updates:
        """Replace the text; Undo restores the old one. Raises: UserError."""
        return self.show(self.app.drafts.put(state.id, text, state.writer), state)

    def show(
        self, draft: Draft, state: EditorState, line: str | None = None, params: SamplingParams | None = None
    ) -> Updates:
        """Show a draft; without a line, its counts are shown under it."""
        now = replace(state, id=draft.id, revision=draft.revision)
        facts = self.counts_html(draft.text, params or SamplingParams()) if line is None else line
        return {
            self.field: to_field(draft.text),
            self.facts: facts,
            self.state: now,
            self.kept: draft.id,
            self.ends: gr.update(value=_ends(draft.text)),
        }

    def counts_html(self, text: str, params: SamplingParams) -> str:
        """The line under the field: "78 of 7,680 prompt tokens · 312 characters"."""
        characters = tr("unit.characters", n=len(text))
        try:
            session = self.app.generator.session()
            tokens, room = session.count_prompt(text, params), session.max_prompt(params)
        except UserError as error:
            return f"<p>{join_facts(characters, escape(error_text(error)))}</p>"
        line = join_facts(tr("editor.prompt_tokens", tokens=tokens, room=room), characters)
        over = " class='warning'" if tokens > room else ""
        return f"<p{over} title='{escape(tr('editor.prompt_tokens_info'))}'>{line}</p>"

    # --- generating ---

    def grow(self, growths: Iterator[DraftUpdate]) -> Iterator[Updates]:
        """The field while a text grows, and at the end the line under it. Raises: UserError."""
        told = 0.0
        for growth in growths:
            now = time.monotonic()
            if growth.report is not None:
                yield {self.field: to_field(growth.text), self.facts: report_line(growth.report)}
                for note in growth.report.warnings:
                    show_warning(note)
            elif now - told >= 1 / UPDATES_PER_SECOND:
                told = now
                yield {self.field: to_field(growth.text)}

    def watch(self, state: EditorState) -> Iterator[Updates]:
        """Show a growing text that another page has requested, or this one before it was reloaded."""
        while (text := self.app.draft_writer.growing(state.id)) is not None:
            yield {self.field: to_field(text)}
            time.sleep(WATCHING)

    # --- inside ---

    def _load(self, kept: str, *values: Any) -> Updates:
        """The draft that this browser had open, else the latest one, else the start text."""
        drafts = self.app.drafts
        state = EditorState(writer=secrets.token_hex(4))
        draft = None
        if kept:
            try:
                draft = drafts.open(kept)
            except UserError:  # it was deleted or is damaged
                draft = None
        draft = draft or drafts.latest(self.kind) or drafts.new(self.kind, self._start)
        return self.show(draft, state, params=_params(values))

    def _typed(self, number: float, state: EditorState, field: str, *values: Any) -> Updates:
        draft, state = self.store_text(number, state, field)
        shown = self.show(draft, state, params=_params(values))
        del shown[self.field]  # it has the latest text
        return shown

    def _count(self, state: EditorState, *values: Any) -> str:
        """The counts of the text when they are shown: what is typed while they are computed has its own, sooner."""
        line = ""
        for _ in range(_COUNTINGS if state.id else 0):
            draft = self.app.drafts.open(state.id)
            line = self.counts_html(draft.text, _params(values))
            if self.app.drafts.open(state.id).revision == draft.revision:
                break
        return line

    def _turn_ends(self, number: float, state: EditorState, field: str) -> Updates:
        draft, state = self.store_text(number, state, field)
        return self.put(state, use_one_line_end(draft.text, windows="\r" not in draft.text))


def to_field(text: str) -> str:
    """A text as its field shows it. A lone surrogate, which cannot be sent to a browser, is shown as a sign."""
    return _HALF.sub("\ufffd", normalize_line_ends(text))


def is_encodable(text: str) -> bool:
    """Whether the text has no lone surrogates; otherwise the page's own text is closer to it than ours."""
    return not _HALF.search(text)


def start_text(app: App, name: str) -> str:
    """The start text of a new browser: a saved prompt named in the settings, or nothing."""
    try:
        return app.prompts.load(name) if name else ""
    except UserError:
        return ""


def report_line(report: Report) -> str:
    """The result of a reply: tokens, speed, reuse, and why it ended."""
    finish = report.finish.value if report.finish else ""
    return facts_line({**asdict(report), "finish": finish, "notes": report.warnings})


def _ends(text: str) -> str:
    kind = "CRLF" if "\r\n" in text else "CR" if "\r" in text else "LF"
    return tr("editor.line_ends", kind=kind)


def _params(values: Sequence[Any]) -> SamplingParams:
    return params_from_controls(values) if values else SamplingParams()
