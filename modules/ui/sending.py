"""Sending a text from tab to tab: it takes the place of what stands there, which Undo brings back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.ui.default_tab import DefaultTab
from modules.ui.events import on, then
from modules.ui.notebook_tab import NotebookTab
from modules.ui.paper import Paper
from modules.ui.parameters_tab import ParametersTab


def wire(tabs: gr.Tabs, default: DefaultTab, notebook: NotebookTab, parameters: ParametersTab) -> None:
    """Connect the buttons that send."""
    for here, there, name in ((default, notebook.paper, "notebook"), (notebook, default.paper, "default")):
        given = [here.paper.sheet, here.paper.field]
        sent = on(here.to_other.click, _between(here.paper, there), [*given, there.sheet], there.shown)
        show(sent, tabs, name)
        negative = parameters.control("negative_prompt")
        told = on(here.to_negative.click, here.paper.exact, given, [negative])
        parameters.follow(told)
        show(told, tabs, "parameters")


def show(event: Any, tabs: gr.Tabs, name: str) -> None:
    """After an event, go to a tab."""
    then(event, None, None, [tabs], js=f"() => ({{__type__: 'update', selected: '{name}'}})")


def _between(here: Paper, there: Paper) -> Any:
    return lambda sheet, field, other: there.put(other, here.exact(sheet, field))
