"""The sub-tabs of Default and Notebook: raw text, Markdown, HTML, logits, samplers and tokens.

A view is made when it is opened. This module must not know which tab it is in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from modules.app import App
from modules.generation.token_view import view_tokens
from modules.ui.editor.sampler_inspector import SamplerInspector, text_choice
from modules.ui.editor.text_editor import EditorState, TextEditor
from modules.ui.editor.token_view import tokens_html, tokens_line
from modules.ui.parameters.tab import ParametersTab
from modules.ui.parts.events import Updates, on, show_error
from modules.ui.parts.formatting import escape
from modules.ui.parts.latex import LATEX
from modules.ui.parts.markdown_text import to_markdown
from modules.ui.texts import tr
from modules.ui.theme import frame_style

PAGES = ("Raw", "Markdown", "HTML", "Logits", "Samplers", "Tokens")

#: The permissions of an HTML frame: display only, without scripts, forms or external requests.
_FRAME = (
    "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'\">"
)
#: Before Markdown: gradio removes the common indentation of all lines but the first.
_MARGIN = "<!---->\n<!---->\n\n"
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


class OutputTabs:
    """The sub-tabs. `editors` are the texts that can be inspected; Markdown and HTML render the last one."""

    def __init__(
        self, app: App, prefix: str, editors: Mapping[str, TextEditor], raw: Callable[[], Mapping[str, TextEditor]]
    ) -> None:
        """`raw` fills the first sub-tab; the editors that it creates come last."""
        self._app = app
        self._prefix = prefix
        self.page = gr.State(PAGES[0])
        self._made: dict[str, gr.Tab] = {}
        self._tabs = gr.Tabs(elem_id=f"{prefix}-views", elem_classes="pages views", overflow_behavior="wrap")
        with self._tabs:
            with self._tab("Raw"):
                self._editors = {**editors, **raw()}
            self._inspector = SamplerInspector(app, prefix, self._editors)
            fill = (self._markdown, self._html, self._inspector.add_logits, self._inspector.add_samplers, self._tokens)
            for name, filled in zip(PAGES[1:], fill, strict=True):
                with self._tab(name):
                    filled()

    def _tab(self, name: str) -> gr.Tab:
        made = gr.Tab(
            tr(f"editor.view.{name.lower()}"),
            id=name,
            elem_id=f"{self._prefix}-{name.lower()}",
            render_children=name == "Raw",
        )
        self._made[name] = made
        return made

    # --- components ---

    def _markdown(self) -> None:
        self._rendered = gr.Markdown(
            "", latex_delimiters=LATEX, sanitize_html=True, container=False, elem_classes="rendered",
            elem_id=f"{self._prefix}-rendered",
        )  # fmt: skip

    def _html(self) -> None:
        with gr.Row(elem_classes="asking-row"):
            self.plain = gr.Checkbox(False, label=tr("editor.html_plain"), elem_id=f"{self._prefix}-html-plain")
        self._frame = gr.HTML("", elem_id=f"{self._prefix}-frame", elem_classes="html-frame", padding=False)

    def _tokens(self) -> None:
        with gr.Row(elem_classes="asking-row"):
            self.which = text_choice(self._editors, f"{self._prefix}-text-tokens")
            self._counts = gr.HTML("", elem_id=f"{self._prefix}-token-counts", padding=False)
            self._copy = gr.Button(
                tr("editor.copy_ids"), size="sm", elem_id=f"{self._prefix}-copy-ids", elem_classes="quiet"
            )
        self._marks = gr.HTML("", elem_id=f"{self._prefix}-token-marks", padding=False)
        self._ids = gr.JSON([], visible=False)

    # --- events ---

    @property
    def views(self) -> list[Any]:
        """The outputs of `render_view`."""
        return [self._rendered, self._frame, self._counts, self._marks, self._ids]

    def wire(self, page: gr.Blocks, parameters: ParametersTab, kept: gr.BrowserState) -> None:
        """Connect the events; `kept` stores in the browser which view is open."""
        states = [editor.state for editor in self._editors.values()]
        opened = [self.page, kept, *self.views]
        for name, tab in self._made.items():
            on(tab.select, partial(self._open, kept, name), [self.which, self.plain, *states], opened)
        on(self.which.input, partial(self._open, kept, "Tokens"), [self.which, self.plain, *states], opened)
        on(self.plain.input, partial(self._open, kept, "HTML"), [self.which, self.plain, *states], opened)
        on(page.load, self._restore, [kept], [self._tabs, self.page])
        label = f"{self._prefix}-copy-ids"
        on(self._copy.click, None, [self._ids], js=f"(ids) => {{ Page.copy(JSON.stringify(ids), '{label}'); }}")
        self._inspector.wire(parameters, self._made["Logits"], self._made["Samplers"])

    def render_view(self, page: str, which: str, plain: bool, *states: EditorState) -> Updates:
        """The contents of the open view; the others are not changed. Raises: UserError."""
        if page not in ("Markdown", "HTML", "Tokens"):
            return {}
        at = list(self._editors).index(which) if page == "Tokens" else -1
        text = self._app.drafts.open(states[at].id).text
        if page == "Markdown":
            return {self._rendered: _MARGIN + to_markdown(text)}
        if page == "HTML":
            return {self._frame: frame_html(text, plain=plain)}
        session = self._app.generator.session()
        view = view_tokens(session.model.tokenizer, session.encode(text))
        return {self._counts: tokens_line(view), self._marks: tokens_html(view), self._ids: view.ids}

    def _open(self, kept: gr.BrowserState, page: str, which: str, plain: bool, *states: EditorState) -> Updates:
        shown: Updates = {self.page: page, kept: page}
        try:
            return {**shown, **self.render_view(page, which, plain, *states)}
        except Exception as error:  # the view is open anyway
            show_error(error)
            return shown

    def _restore(self, kept: str) -> Updates:
        page = kept if kept in PAGES else PAGES[0]
        return {self._tabs: gr.Tabs(selected=page), self.page: page}


def frame_html(text: str, *, plain: bool = False) -> str:
    """A frame that shows the text as HTML, isolated from everything outside; plain text is put into paragraphs.

    It has the page's look; `plain`: a browser's own.
    """
    if not _TAG.search(text):
        paragraphs = re.split(r"\n\s*\n", escape(text).strip())
        text = "".join(f"<p>{each}</p>" for each in paragraphs).replace("\n", "<br>")
    document = escape(_FRAME + ("" if plain else f"<style>{frame_style()}</style>") + text)
    title, kind = escape(tr("editor.html_frame")), " class='plain'" if plain else ""
    return f"<iframe sandbox{kind} srcdoc='{document}' title='{title}' referrerpolicy='no-referrer'></iframe>"
