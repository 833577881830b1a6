"""The page: the bar, the seven tabs, and which of them listens to which."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.app import App
from modules.ui import extension_blocks, language, sending
from modules.ui.chat_tab import ChatTab
from modules.ui.default_tab import DefaultTab
from modules.ui.events import still
from modules.ui.frame import Frame
from modules.ui.model_tab import ModelTab
from modules.ui.notebook_tab import NotebookTab
from modules.ui.parameters_tab import ParametersTab
from modules.ui.session_tab import SessionTab
from modules.ui.training_tab import TrainingTab


def build_page(app: App) -> gr.Blocks:
    """Make the page over an App. Nothing is started, and nothing is decided, here."""
    how: dict[str, Any] = {"title": "Text generation web UI", "fill_width": True, "fill_height": True}
    # uploads and files that were handed out: looked at once an hour, gone after a day and when the program ends
    with gr.Blocks(analytics_enabled=False, delete_cache=(3600, 86_400), **how) as page:
        still()
        # here and not in the tabs: in a tab that is not open they would not be there when the page loads
        open_chat = gr.BrowserState("", storage_key="open-chat", secret="this-browser")
        desks = ("input", "output", "notebook", "default-views", "notebook-views")
        kept = {name: gr.BrowserState("", storage_key=f"open-{name}", secret="this-browser") for name in desks}
        chat_controls = gr.BrowserState({}, storage_key="chat-controls", secret="this-browser")
        own_values = gr.BrowserState({}, storage_key="parameters", secret="this-browser")
        own_templates = gr.BrowserState([], storage_key="templates", secret="this-browser")
        frame = Frame(app)
        with gr.Tabs(elem_id="tabs", selected="chat") as tabs:
            with gr.Tab("Chat", id="chat", elem_id="tab-chat"):
                chat = ChatTab(app, open_chat, chat_controls)
            with gr.Tab("Default", id="default", elem_id="tab-default"):
                default = DefaultTab(app, kept)
            with gr.Tab("Notebook", id="notebook", elem_id="tab-notebook"):
                notebook = NotebookTab(app, kept)
            with gr.Tab("Parameters", id="parameters", elem_id="tab-parameters"):
                parameters = ParametersTab(app, own_values, own_templates)
            with gr.Tab("Model", id="model", elem_id="tab-model") as model_tab:
                model = ModelTab(app)
            with gr.Tab("Training", id="training", elem_id="tab-training") as training_tab:
                training = TrainingTab(app)
            with gr.Tab("Session", id="session", elem_id="tab-session") as session_tab:
                session = SessionTab(app)
            app.components.update(_by_name(chat, default, notebook, parameters))
            extension_blocks.tabs(app)
        extension_blocks.Drawer(app, frame.extensions)
        frame.wire(page, tabs, model.progress, session.queue.html, [chat.choose])
        chat.wire(
            page, parameters.templates.instruction, [*parameters.templates.given, *parameters.knobs], frame.model.change
        )
        default.wire(page, parameters, frame.model.change)
        notebook.wire(page, parameters, frame.model.change)
        sending.wire(tabs, chat, default, notebook, parameters)
        parameters.wire(page, frame.model)
        parameters.templates.wire(page, frame.model.change)
        parameters.characters.wire(page, chat.controls.character)
        model.wire(page, model_tab, frame.timer, frame.model)
        session.wire(session_tab)
        training.wire(page, training_tab)
        controls = chat.controls
        session.saver.wire(
            {
                "mode": controls.mode, "character": controls.character, "name1": controls.your_name,
                "chat_style": controls.style, "start_with": controls.start_with,
                "custom_system_message": controls.system,
            },
            parameters.preset,
            parameters.named,
        )  # fmt: skip
    language.translate(page, app.settings.language)
    return page


def _by_name(chat: ChatTab, default: DefaultTab, notebook: NotebookTab, parameters: ParametersTab) -> dict[str, Any]:
    """The components that extensions may look up in `shared.gradio`, by the original's names."""
    return {
        "textbox": chat.input,
        "Generate": chat.send,
        "Regenerate": chat.regenerate,
        "Continue": chat.continue_,
        "Stop": chat.stop,
        "character_menu": chat.character_menu,
        "mode": chat.controls.mode,
        "name1": chat.controls.your_name,
        "start_with": chat.controls.start_with,
        "chat_style": chat.controls.style,
        "textbox-default": default.paper.field,
        "textbox-notebook": notebook.paper.field,
        "preset_menu": parameters.preset,
        **parameters.named,
    }
