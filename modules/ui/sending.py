"""Sending a text from tab to tab: it takes the place of what stands there, which Undo brings back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.ui.chat_tab import ChatTab
from modules.ui.default_tab import DefaultTab
from modules.ui.events import on, say, then
from modules.ui.notebook_tab import NotebookTab
from modules.ui.paper import Paper, Sheet
from modules.ui.parameters_tab import ParametersTab
from modules.ui.template_page import TemplatePage


def wire(tabs: gr.Tabs, chat: ChatTab, default: DefaultTab, notebook: NotebookTab, parameters: ParametersTab) -> None:
    """Connect the buttons that send."""
    for button, paper, name in (
        (chat.to_default, default.paper, "default"),
        (chat.to_notebook, notebook.paper, "notebook"),
    ):
        sent = on(button.click, _from_chat(chat, paper), [paper.sheet, chat.place, *chat.given], paper.shown)
        show(sent, tabs, name)
    page = parameters.templates
    for button, paper, name in (
        (page.to_default, default.paper, "default"),
        (page.to_notebook, notebook.paper, "notebook"),
    ):
        sent = on(button.click, _from_template(page, paper), [paper.sheet, page.instruction], paper.shown)
        show(sent, tabs, name)
    negative = parameters.control("negative_prompt")
    parameters.follow(on(page.to_negative.click, page.prompt, [page.instruction], [negative]))
    for here, there, name in ((default, notebook.paper, "notebook"), (notebook, default.paper, "default")):
        given = [here.paper.sheet, here.paper.field]
        sent = on(here.to_other.click, _between(here.paper, there), [*given, there.sheet], there.shown)
        show(sent, tabs, name)
        negative, guidance = (parameters.control(name) for name in ("negative_prompt", "guidance_scale"))
        told = on(here.to_negative.click, _to_negative(here.paper), [*given, guidance], [negative])
        parameters.follow(told)
        show(told, tabs, "parameters")


def show(event: Any, tabs: gr.Tabs, name: str) -> None:
    """After an event, go to a tab."""
    then(event, None, None, [tabs], js=f"() => ({{__type__: 'update', selected: '{name}'}})")


def _from_chat(chat: ChatTab, paper: Paper) -> Any:
    return lambda sheet, place, *values: paper.put(sheet, chat.prompt(place, *values))


def _from_template(page: TemplatePage, paper: Paper) -> Any:
    return lambda sheet, template: paper.put(sheet, page.prompt(template or ""))


def _to_negative(here: Paper) -> Any:
    def run(sheet: Sheet, field: str, guidance: float) -> str:
        if guidance == 1:
            say("The negative prompt acts when guidance_scale is not 1. It stands right above it.")
        return here.exact(sheet, field)

    return run


def _between(here: Paper, there: Paper) -> Any:
    return lambda sheet, field, other: there.put(other, here.exact(sheet, field))
