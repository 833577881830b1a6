"""The sub-tabs of Default and Notebook: the text raw, as Markdown, as HTML, its next token, its samplers, its tokens.

What a view shows is made when it is looked at. It must not know which tab it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from modules.app import App
from modules.generation.token_view import token_view
from modules.ui.events import on, report
from modules.ui.latex import LATEX
from modules.ui.looks import Looks, text_choice
from modules.ui.markdown_text import shown
from modules.ui.paper import Paper, Sheet
from modules.ui.parameters_tab import ParametersTab
from modules.ui.token_marks import tokens_html, tokens_line
from modules.ui.words import escape

PAGES = ("Raw", "Markdown", "HTML", "Logits", "Samplers", "Tokens")

#: What a frame of HTML may do: be seen. It runs no script, sends no form and fetches nothing from anywhere.
_FRAME = (
    "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'\"><style>body { font: 16px/1.6 Georgia, serif; max-width: 68ch; margin: 24px auto; "
    "padding: 0 16px; color: #23211e; background: #ffffff; overflow-wrap: anywhere } img { max-width: 100% }</style>"
)
#: Before Markdown: gradio takes away the spaces that all lines but the first begin with.
_MARGIN = "<!---->\n<!---->\n\n"
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


class OutputTabs:
    """The sub-tabs. `papers` are the texts that can be looked at; the last one is what Markdown and HTML render."""

    def __init__(
        self, app: App, prefix: str, papers: Mapping[str, Paper], raw: Callable[[], Mapping[str, Paper]]
    ) -> None:
        """`raw` fills the first sub-tab; the papers that it makes come last."""
        self._app = app
        self._prefix = prefix
        self.page = gr.State(PAGES[0])
        self._made: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id=f"{prefix}-views", elem_classes="pages views") as self._tabs:
            with self._tab("Raw"):
                self._papers = {**papers, **raw()}
            self._looks = Looks(app, prefix, self._papers)
            fill = (self._markdown, self._html, self._looks.logits, self._looks.samplers, self._tokens)
            for name, filled in zip(PAGES[1:], fill, strict=True):
                with self._tab(name):
                    filled()

    def _tab(self, name: str) -> gr.Tab:
        made = gr.Tab(name, id=name, elem_id=f"{self._prefix}-{name.lower()}", render_children=name == "Raw")
        self._made[name] = made
        return made

    # --- what they are made of ---

    def _markdown(self) -> None:
        self._rendered = gr.Markdown(
            "", latex_delimiters=LATEX, sanitize_html=True, container=False, elem_classes="rendered",
            elem_id=f"{self._prefix}-rendered",
        )  # fmt: skip

    def _html(self) -> None:
        self._frame = gr.HTML("", elem_id=f"{self._prefix}-frame", elem_classes="html-frame", padding=False)

    def _tokens(self) -> None:
        with gr.Row(elem_classes="asking-row"):
            self.which = text_choice(self._papers, f"{self._prefix}-text-tokens")
            self._counts = gr.HTML("", elem_id=f"{self._prefix}-token-counts", padding=False)
            self._copy = gr.Button("Copy ids", size="sm", elem_id=f"{self._prefix}-copy-ids", elem_classes="quiet")
        self._marks = gr.HTML("", elem_id=f"{self._prefix}-token-marks", padding=False)
        self._ids = gr.JSON([], visible=False)

    # --- what they do ---

    @property
    def views(self) -> list[Any]:
        """What `rendering` returns values for."""
        return [self._rendered, self._frame, self._counts, self._marks, self._ids]

    def wire(self, page: gr.Blocks, parameters: ParametersTab, kept: gr.BrowserState) -> None:
        """Connect them; `kept` is where the browser remembers which one is open."""
        sheets = [paper.sheet for paper in self._papers.values()]
        opened = [self.page, kept, *self.views]
        for name, tab in self._made.items():
            on(tab.select, partial(self._open, name), [self.which, *sheets], opened)
        on(self.which.input, partial(self._open, "Tokens"), [self.which, *sheets], opened)
        on(page.load, self._restore, [kept], [self._tabs, self.page])
        label = f"{self._prefix}-copy-ids"
        on(self._copy.click, None, [self._ids], js=f"(ids) => {{ Page.copy(JSON.stringify(ids), '{label}'); }}")
        self._looks.wire(parameters, self._made["Logits"], self._made["Samplers"])

    def rendering(self, page: str, which: str, *sheets: Sheet) -> list[Any]:
        """What the open view shows; the others are left as they are. Raises: UserError."""
        skips: list[Any] = [gr.skip()] * len(self.views)
        if page not in ("Markdown", "HTML", "Tokens"):
            return skips
        at = list(self._papers).index(which) if page == "Tokens" else -1
        text = self._app.drafts.open(sheets[at].id).text
        if page == "Markdown":
            return [_MARGIN + shown(text), *skips[1:]]
        if page == "HTML":
            return [skips[0], frame_html(text), *skips[2:]]
        session = self._app.generator.session()
        view = token_view(session.model.tokenizer, session.encode(text))
        return [*skips[:2], tokens_line(view), tokens_html(view), view.ids]

    def _open(self, page: str, which: str, *sheets: Sheet) -> list[Any]:
        try:
            views = self.rendering(page, which, *sheets)
        except Exception as error:  # the view is open all the same
            report(error)
            views = [gr.skip()] * len(self.views)
        return [page, page, *views]

    def _restore(self, kept: str) -> list[Any]:
        page = kept if kept in PAGES else PAGES[0]
        return [gr.Tabs(selected=page), page]


def frame_html(text: str) -> str:
    """A frame in which the text is HTML, closed to everything outside of it; plain text stands in paragraphs."""
    if not _TAG.search(text):
        paragraphs = re.split(r"\n\s*\n", escape(text).strip())
        text = "".join(f"<p>{each}</p>" for each in paragraphs).replace("\n", "<br>")
    document = escape(_FRAME + text)
    return f"<iframe sandbox srcdoc='{document}' title='The text as HTML' referrerpolicy='no-referrer'></iframe>"
