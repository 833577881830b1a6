"""The page: the bar, the seven tabs, and which of them listens to which."""

from __future__ import annotations

import gradio as gr

from modules.app import App
from modules.ui import sending, session_tab, training_tab
from modules.ui.chat_tab import ChatTab
from modules.ui.default_tab import DefaultTab
from modules.ui.events import still
from modules.ui.frame import Frame
from modules.ui.model_tab import ModelTab
from modules.ui.notebook_tab import NotebookTab
from modules.ui.parameters_tab import ParametersTab


def build_page(app: App) -> gr.Blocks:
    """Make the page over an App. Nothing is started, and nothing is decided, here."""
    with gr.Blocks(title="Text generation web UI", analytics_enabled=False, fill_width=True, fill_height=True) as page:
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
            with gr.Tab("Training", id="training", elem_id="tab-training"):
                training_tab.build()
            with gr.Tab("Session", id="session", elem_id="tab-session"):
                queue = session_tab.build(app)
        frame.wire(page, tabs, model.progress, queue.html, [chat.choose])
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
    return page
