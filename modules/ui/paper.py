"""Paper: a text field whose text is a draft on disk. Default has two of them, Notebook one.

What stands in the field is on disk with every word that is typed or written, under the exact line ends that a browser's
field cannot hold. It asks the services for everything; what it remembers is which draft it shows.
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
from modules.generation.writing import Growth
from modules.prompts.drafts import Draft
from modules.prompts.line_ends import laid_over, plain, with_ends
from modules.ui.chat_view import facts_line
from modules.ui.events import on, tell, then
from modules.ui.knob_controls import params_from
from modules.ui.words import escape, parts, plural

#: The page is told of new text at most this often per second.
UPDATES_PER_SECOND = 20

#: Seconds between two looks at a text that the model writes for another page.
WATCHING = 0.2

_HALF = re.compile("[\ud800-\udfff]")
_FORKED = (
    "Another page has written into this text meanwhile. What you write here goes on as a text of its own: nothing of "
    "either is lost."
)
_STAMP = "(stamp, ...rest) => [Page.now(), ...rest]"


@dataclass(frozen=True)
class Sheet:
    """Which draft a page shows, the revision that it has seen, and under what name the page writes."""

    id: str = ""
    revision: int = 0
    writer: str = ""


class Paper:
    """The field, the line under it, and what they need. `kind` begins the ids of its drafts."""

    def __init__(
        self, app: App, kind: str, kept: gr.BrowserState, *, label: str, placeholder: str, start: str = ""
    ) -> None:
        self.app = app
        self.kind = kind
        self.kept = kept
        self._start = start
        self.sheet = gr.State(Sheet())
        self.stamp = gr.Number(0, visible=False)
        self.field = gr.Textbox(
            label=label, placeholder=placeholder, lines=12, max_lines=1000, container=False, show_label=False,
            elem_id=f"{kind}-field", elem_classes="paper", autoscroll=True, interactive=False,
        )  # fmt: skip
        # gradio's text box tells of pressed keys, not of what was pasted or deleted: the page's script presses this
        self.typed = gr.Button("", visible="hidden", elem_id=f"{kind}-field-typed")
        with gr.Row(elem_classes="paper-foot"):
            self.facts = gr.HTML("", elem_classes="paper-facts", elem_id=f"{kind}-facts", padding=False)
            self.ends = gr.Button("LF", size="sm", elem_id=f"{kind}-ends", elem_classes="quiet")

    # --- what it does ---

    @property
    def shown(self) -> list[Any]:
        """What `show` returns values for."""
        return [self.field, self.sheet, self.kept, self.facts, self.ends]

    def wire(self, page: gr.Blocks, knobs: Sequence[Any], model_changed: Any) -> Any:
        """Connect it. Returns the event after which the page shows its draft."""
        typed = [self.stamp, self.sheet, self.field, *knobs]
        on(self.typed.click, self._typed, typed, self.shown[1:], js=_STAMP, latest=True)
        on(self.ends.click, self._turn_ends, [self.stamp, self.sheet, self.field], self.shown, js=_STAMP)
        on(model_changed, self._count, [self.sheet, *knobs], [self.facts])
        loaded = on(page.load, self._load, [self.kept, *knobs], self.shown)
        # nobody writes before that: what comes from the disk would take its place
        return then(loaded, lambda: gr.update(interactive=True), None, [self.field])

    def text(self, number: float, sheet: Sheet, field: str) -> tuple[Draft, Sheet]:
        """The exact text of the field, which is on disk now, and where. Raises: UserError."""
        draft = self.app.drafts.type(sheet.id, field or "", sheet.writer, number or time.time() * 1000, sheet.revision)
        if draft.id != sheet.id:
            tell(_FORKED)
        return draft, replace(sheet, id=draft.id, revision=draft.revision)

    def exact(self, sheet: Sheet, field: str) -> str:
        """The text of the field with the line ends of its draft. Raises: UserError."""
        return laid_over(self.app.drafts.open(sheet.id).text, field or "")

    def put(self, sheet: Sheet, text: str) -> list[Any]:
        """Another text takes the place of what is there; Undo leads back. Raises: UserError."""
        return self.show(self.app.drafts.put(sheet.id, text, sheet.writer), sheet)

    def show(
        self, draft: Draft, sheet: Sheet, line: str | None = None, params: SamplingParams | None = None
    ) -> list[Any]:
        """A draft as the page shows it, in the order of `shown`; without a line its counts stand under it."""
        now = replace(sheet, id=draft.id, revision=draft.revision)
        facts = self.counts(draft.text, params or SamplingParams()) if line is None else line
        return [on_page(draft.text), now, draft.id, facts, gr.update(value=_ends(draft.text))]

    def counts(self, text: str, params: SamplingParams) -> str:
        """The line under the field: "78 of 7,680 prompt tokens · 312 characters"."""
        characters = plural(len(text), "character")
        try:
            session = self.app.generator.session()
            tokens, room = session.count_prompt(text, params), session.max_prompt(params)
        except UserError as error:
            return f"<p>{parts(characters, escape(error))}</p>"
        line = parts(f"{tokens:,} of {room:,} prompt tokens", characters)
        over = " class='warning'" if tokens > room else ""
        return f"<p{over} title='What the model can take besides a reply of max_new_tokens'>{line}</p>"

    # --- the model writes ---

    def grow(self, growths: Iterator[Growth]) -> Iterator[list[Any]]:
        """Values for the field and the line under it while a text grows. Raises: UserError."""
        told = 0.0
        for growth in growths:
            now = time.monotonic()
            if growth.report is not None:
                yield [on_page(growth.text), report_line(growth.report)]
                for note in growth.report.warnings:
                    tell(note)
            elif now - told >= 1 / UPDATES_PER_SECOND:
                told = now
                yield [on_page(growth.text), gr.skip()]

    def watch(self, sheet: Sheet) -> Iterator[str]:
        """A text grows that another page has asked for, or this one before it was loaded again."""
        while (text := self.app.writing.growing(sheet.id)) is not None:
            yield on_page(text)
            time.sleep(WATCHING)

    # --- inside ---

    def _load(self, kept: str, *values: Any) -> list[Any]:
        """The draft that this browser had open, else the latest one, else the one to begin with."""
        drafts = self.app.drafts
        sheet = Sheet(writer=secrets.token_hex(4))
        draft = None
        if kept:
            try:
                draft = drafts.open(kept)
            except UserError:  # it was deleted, or is broken
                draft = None
        draft = draft or drafts.latest(self.kind) or drafts.new(self.kind, self._start)
        return self.show(draft, sheet, params=_params(values))

    def _typed(self, number: float, sheet: Sheet, field: str, *values: Any) -> list[Any]:
        draft, sheet = self.text(number, sheet, field)
        return self.show(draft, sheet, params=_params(values))[1:]

    def _count(self, sheet: Sheet, *values: Any) -> str:
        return self.counts(self.app.drafts.open(sheet.id).text, _params(values)) if sheet.id else ""

    def _turn_ends(self, number: float, sheet: Sheet, field: str) -> list[Any]:
        draft, sheet = self.text(number, sheet, field)
        return self.put(sheet, with_ends(draft.text, windows="\r" not in draft.text))


def on_page(text: str) -> str:
    """A text as its field holds it. Half a character, which no answer to a browser can carry, is shown as a sign."""
    return _HALF.sub("\ufffd", plain(text))


def is_whole(text: str) -> bool:
    """Whether the text has no half of a character in it: else what stands in the page is nearer to it than ours."""
    return not _HALF.search(text)


def start_text(app: App, name: str) -> str:
    """What a new browser begins with: a saved prompt of the settings, nothing where there is none."""
    try:
        return app.prompts.load(name) if name else ""
    except UserError:
        return ""


def report_line(report: Report) -> str:
    """How a reply went: tokens, speed, what was reused, why it ended."""
    finish = report.finish.value if report.finish else ""
    return facts_line({**asdict(report), "finish": finish, "notes": report.warnings})


def _ends(text: str) -> str:
    return "Line ends: CRLF" if "\r\n" in text else "Line ends: CR" if "\r" in text else "Line ends: LF"


def _params(values: Sequence[Any]) -> SamplingParams:
    return params_from(values) if values else SamplingParams()
