"""The page: the header, the seven tabs, and the connections between them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.app import App
from modules.ui.chat.tab import ChatTab
from modules.ui.editor.default_tab import DefaultTab
from modules.ui.editor.notebook_tab import NotebookTab
from modules.ui.model.tab import ModelTab
from modules.ui.parameters.tab import ParametersTab
from modules.ui.parts import send_to
from modules.ui.parts.events import event_anchor, on
from modules.ui.parts.page_header import PageHeader
from modules.ui.session import extension_blocks
from modules.ui.session.script_state import ScriptState
from modules.ui.session.tab import SessionTab
from modules.ui.texts import Page, load_texts, tr
from modules.ui.training.tab import TrainingTab

#: Opens the chat, and there the part of the sidebar with imports, exports and the trash.
_TO_HISTORY = """() => {
  Page.showChats();
  return [{__type__: 'update', selected: 'chat'}, {__type__: 'update', open: true}];
}"""


def build_page(app: App) -> gr.Blocks:
    """Build the page for an App. Nothing is started or decided here."""
    how: dict[str, Any] = {"title": "Text generation web UI", "fill_width": True, "fill_height": True}
    # uploads and downloads: checked once an hour, deleted after a day and when the program ends
    texts = load_texts(app.settings.language)
    with Page(texts, analytics_enabled=False, delete_cache=(3600, 86_400), **how) as page:
        event_anchor()
        # here and not in the tabs: in a closed tab they would not exist when the page loads
        open_chat = gr.BrowserState("", storage_key="open-chat", secret="this-browser")
        names = ("input", "output", "notebook", "default-views", "notebook-views")
        kept = {name: gr.BrowserState("", storage_key=f"open-{name}", secret="this-browser") for name in names}
        chat_controls = gr.BrowserState({}, storage_key="chat-controls", secret="this-browser")
        own_values = gr.BrowserState({}, storage_key="parameters", secret="this-browser")
        own_templates = gr.BrowserState([], storage_key="templates", secret="this-browser")
        header = PageHeader(app)
        with gr.Tabs(elem_id="tabs", selected="chat", overflow_behavior="wrap") as tabs:
            with gr.Tab(tr("tab.chat"), id="chat", elem_id="tab-chat"):
                chat = ChatTab(app, open_chat, chat_controls)
            with gr.Tab(tr("tab.default"), id="default", elem_id="tab-default"):
                _heading("default")
                default = DefaultTab(app, kept)
            with gr.Tab(tr("tab.notebook"), id="notebook", elem_id="tab-notebook"):
                _heading("notebook")
                notebook = NotebookTab(app, kept)
            with gr.Tab(tr("tab.parameters"), id="parameters", elem_id="tab-parameters"):
                _heading("parameters")
                parameters = ParametersTab(app, own_values, own_templates)
            with gr.Tab(tr("tab.model"), id="model", elem_id="tab-model") as model_tab:
                model = ModelTab(app)
            with gr.Tab(tr("tab.training"), id="training", elem_id="tab-training") as training_tab:
                training = TrainingTab(app)
            with gr.Tab(tr("tab.session"), id="session", elem_id="tab-session") as session_tab:
                session = SessionTab(app)
            fields = _fields(chat, parameters)
            app.components.update({**_by_name(chat, default, notebook, parameters), **fields})
            if app.extensions.having("ui"):
                script_state = ScriptState(app, chat.chat)
                app.components.update(script_state.components)
                fields |= script_state.fields
            app.fields[:] = fields
            extension_blocks.extension_tabs(app)
        extension_blocks.ExtensionDrawer(app, header.extensions)
        header.wire(page, tabs, model.progress, session.queue.html, [chat.choose], chat.news)
        set_by_chat = chat.wire(
            page, parameters.templates.inputs, parameters.knobs, header.model.change,
            (parameters.characters.talk, parameters.characters.edited), parameters.own_notice,
        )  # fmt: skip
        parameters.follow(set_by_chat)
        on(parameters.to_history.click, None, None, [tabs, chat.files.fold], js=_TO_HISTORY)
        on(parameters.characters.talk.click, None, None, [tabs], js="() => ({__type__: 'update', selected: 'chat'})")
        default.wire(page, parameters, header.model.change)
        notebook.wire(page, parameters, header.model.change)
        send_to.wire_send_buttons(tabs, chat, default, notebook, parameters)
        parameters.wire(page, header.model)
        parameters.templates.wire(page, header.model.change)
        parameters.characters.wire(page, chat.controls.character)
        model.wire(page, model_tab, header.timer, header.model)
        session.wire(session_tab)
        training.wire(page, training_tab)
        controls = chat.controls
        session.saver.wire(
            {
                "mode": controls.mode, "character": controls.character, "name1": controls.your_name,
                "user_bio": controls.your_bio, "chat_style": controls.style, "start_with": controls.start_with,
                "custom_system_message": controls.system, "thinking": controls.thinking, "effort": controls.effort,
                **controls.ahead.named,
            },
            parameters.preset,
            parameters.named,
        )  # fmt: skip
    return page


def _heading(tab: str) -> None:
    """The heading of a tab that shows none, for screen readers."""
    gr.HTML(f"<h1 class='sr-only'>{tr(f'tab.{tab}')}</h1>", padding=False, elem_classes="heading")


def _by_name(chat: ChatTab, default: DefaultTab, notebook: NotebookTab, parameters: ParametersTab) -> dict[str, Any]:
    """The components that extensions may look up in `shared.gradio`, under the original's names, besides `_fields`."""
    return {
        "textbox": chat.input,
        "Generate": chat.send,
        "Regenerate": chat.regenerate,
        "Continue": chat.continue_,
        "Stop": chat.stop,
        "character_menu": chat.character_menu,
        "textbox-default": default.editor.field,
        "textbox-notebook": notebook.editor.field,
        "preset_menu": parameters.preset,
    }


def _fields(chat: ChatTab, parameters: ParametersTab) -> dict[str, Any]:
    """The components of which scripts make the state of a reply, under the original's names."""
    controls = chat.controls
    return {
        "mode": controls.mode,
        "name1": controls.your_name,
        "user_bio": controls.your_bio,
        "start_with": controls.start_with,
        "custom_system_message": controls.system,
        "chat_style": controls.style,
        **parameters.named,
    }
