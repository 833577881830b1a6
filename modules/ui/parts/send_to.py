"""Sends a text from one tab to another, where it replaces the text; Undo restores that."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.ui.chat.tab import ChatTab
from modules.ui.editor.default_tab import DefaultTab
from modules.ui.editor.notebook_tab import NotebookTab
from modules.ui.editor.text_editor import EditorState, TextEditor
from modules.ui.parameters.tab import ParametersTab
from modules.ui.parameters.template_page import TemplatePage
from modules.ui.parts.events import on, show_info, then
from modules.ui.texts import tr


def wire_send_buttons(
    tabs: gr.Tabs, chat: ChatTab, default: DefaultTab, notebook: NotebookTab, parameters: ParametersTab
) -> None:
    """Connect the buttons that send."""
    for button, editor, name in (
        (chat.to_default, default.editor, "default"),
        (chat.to_notebook, notebook.editor, "notebook"),
    ):
        sent = on(button.click, _from_chat(chat, editor), {editor.state, *chat.prompt_inputs}, editor.outputs)
        show_tab(sent, tabs, name)
    page = parameters.templates
    for button, editor, name in (
        (page.to_default, default.editor, "default"),
        (page.to_notebook, notebook.editor, "notebook"),
    ):
        sent = on(button.click, _from_template(page, editor), [editor.state, page.instruction], editor.outputs)
        show_tab(sent, tabs, name)
    negative = parameters.control("negative_prompt")
    parameters.follow(on(page.to_negative.click, page.prompt, [page.instruction], [negative]))
    for here, there, name in ((default, notebook.editor, "notebook"), (notebook, default.editor, "default")):
        given = [here.editor.state, here.editor.field]
        sent = on(here.to_other.click, _between(here.editor, there), [*given, there.state], there.outputs)
        show_tab(sent, tabs, name)
        negative, guidance = (parameters.control(name) for name in ("negative_prompt", "guidance_scale"))
        told = on(here.to_negative.click, _to_negative(here.editor), [*given, guidance], [negative])
        parameters.follow(told)
        show_tab(told, tabs, "parameters")


def show_tab(event: Any, tabs: gr.Tabs, name: str) -> None:
    """Switch to a tab after an event."""
    then(event, None, None, [tabs], js=f"() => ({{__type__: 'update', selected: '{name}'}})")


def _from_chat(chat: ChatTab, editor: TextEditor) -> Any:
    return lambda values: editor.put(values[editor.state], chat.prompt(values))


def _from_template(page: TemplatePage, editor: TextEditor) -> Any:
    return lambda state, template: editor.put(state, page.prompt(template or ""))


def _to_negative(here: TextEditor) -> Any:
    def run(state: EditorState, field: str, guidance: float) -> str:
        if guidance == 1:
            show_info(tr("send.guidance"))
        return here.exact_text(state, field)

    return run


def _between(here: TextEditor, there: TextEditor) -> Any:
    return lambda state, field, other: there.put(other, here.exact_text(state, field))
