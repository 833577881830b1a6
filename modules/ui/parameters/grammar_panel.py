"""The grammar of a reply: choose a file, write one, or generate one from a JSON schema; errors are shown with their
line.

It is part of the Parameters tab, below the knob for the grammar. The services validate.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from errors import InvalidSchema
from loaders import gbnf
from modules.app import App
from modules.prompts.json_schema.text import schema_grammar
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on, show_info, show_warning
from modules.ui.parts.file_menu import FileMenu
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr


class GrammarPanel:
    """The panel. `grammar` is the control of the knob."""

    def __init__(self, app: App, grammar: Any) -> None:
        self._grammar = grammar
        self.state = gr.HTML("", elem_id="grammar-state", padding=False)
        self._menu = FileMenu(app.grammars, "grammar", "grammar")
        with gr.Accordion(tr("grammar.from_schema"), open=False, elem_classes="rest", elem_id="schema"):
            self._schema = gr.Textbox(
                label=tr("grammar.schema"), lines=6, max_lines=16, elem_id="schema-text", elem_classes="knob knob-str",
                info=tr("grammar.schema_info"),
            )  # fmt: skip
            self._make = gr.Button(tr("grammar.create"), size="sm", elem_id="schema-make")
            self._problem = gr.HTML("", elem_id="schema-state", padding=False)

    def wire(self, page: gr.Blocks) -> list[Any]:
        """Connect the events. Returns the events after which the knob has another value."""
        on([self._grammar.change, page.load], state_html, [self._grammar], [self.state], latest=True)
        loaded = self._menu.wire(
            page, text=str, texts=[self._grammar], loaded=lambda text, _: text, outputs=[self._grammar]
        )
        made = on(self._make.click, self._from_schema, [self._schema], [self._grammar, self._problem])
        return [loaded, made]

    def _from_schema(self, schema: str) -> Updates:
        try:
            grammar, notes = schema_grammar(schema or "")
        except InvalidSchema as error:
            return {self._problem: f"<p class='warning'>{escape(error_text(error))}</p>"}
        for note in notes:
            show_warning(note)
        show_info(tr("grammar.created"))
        return {self._grammar: grammar, self._problem: ""}


def state_html(grammar: str) -> str:
    """Whether a grammar is valid: "Valid grammar, 5 rules.", or each problem with its line."""
    if not (grammar or "").strip():
        return ""
    problems = gbnf.check_grammar(grammar)
    if not problems:
        return f"<p class='about'>{tr('grammar.valid', n=gbnf.count_rules(grammar))}</p>"
    told = "".join(f"<li>{escape(problem)}</li>" for problem in problems[:8])
    return f"<ul class='warning' role='alert'>{told}</ul>"
