"""The grammar of a reply: pick a file, write one, or have it made from a JSON schema; what is wrong, with its line.

It stands in the Parameters tab, below the knob that holds the grammar. What is sound the services know.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from errors import InvalidSchema
from loaders import gbnf
from modules.app import App
from modules.prompts.schema_text import schema_grammar
from modules.ui.events import on, say, tell
from modules.ui.file_menu import FileMenu
from modules.ui.words import escape, plural


class GrammarPanel:
    """The panel. `grammar` is the control of the knob."""

    def __init__(self, app: App, grammar: Any) -> None:
        self._grammar = grammar
        self.state = gr.HTML("", elem_id="grammar-state", padding=False)
        self._menu = FileMenu(app.grammars, "grammar", "grammar")
        with gr.Accordion("From a JSON schema", open=False, elem_classes="rest", elem_id="schema"):
            self._schema = gr.Textbox(
                label="JSON schema", lines=6, max_lines=16, elem_id="schema-text", elem_classes="knob knob-str",
                info="The reply will be JSON that this schema allows.",
            )  # fmt: skip
            self._make = gr.Button("Make the grammar", size="sm", elem_id="schema-make")
            self._problem = gr.HTML("", elem_id="schema-state", padding=False)

    def wire(self, page: gr.Blocks) -> list[Any]:
        """Connect it. Returns the events after which the knob has another value."""
        on([self._grammar.change, page.load], state_html, [self._grammar], [self.state], latest=True)
        loaded = self._menu.wire(
            page, text=str, texts=[self._grammar], loaded=lambda text, _: text, outputs=[self._grammar]
        )
        made = on(self._make.click, self._from_schema, [self._schema], [self._grammar, self._problem])
        return [loaded, made]

    def _from_schema(self, schema: str) -> list[Any]:
        try:
            grammar, notes = schema_grammar(schema or "")
        except InvalidSchema as error:
            return [gr.skip(), f"<p class='warning'>{escape(error)}</p>"]
        for note in notes:
            tell(note)
        say("The grammar is made and stands above.")
        return [grammar, ""]


def state_html(grammar: str) -> str:
    """Whether a grammar is sound: "Sound: 5 rules", or each problem with its line."""
    if not (grammar or "").strip():
        return ""
    problems = gbnf.check(grammar)
    if not problems:
        return f"<p class='about'>Sound: {plural(gbnf.rule_count(grammar), 'rule')}.</p>"
    told = "".join(f"<li>{escape(problem)}</li>" for problem in problems[:8])
    return f"<ul class='warning' role='alert'>{told}</ul>"
