"""The controls on the right of the Chat tab: reply settings, and actions for the text in the input box.

Their values belong to this browser. It must not know their effect on a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.prompt_knobs import PromptKnobs
from modules.config.thinking_knobs import SWITCHES
from modules.ui.chat import styles
from modules.ui.chat.ahead_panel import AheadPanel
from modules.ui.chat.avatars import avatar_style
from modules.ui.chat.own_panel import OwnPanel
from modules.ui.chat.screen import ReplyControls
from modules.ui.parts.events import Updates, Values, on, show_info
from modules.ui.texts import knob_help, knob_label, tr

_KNOBS = PromptKnobs.knobs()
_STYLE = "(name) => { document.body.dataset.chatStyle = name; }"
MODES = ("instruct", "chat-instruct", "chat")


class ChatControls:
    """The controls."""

    def __init__(self, app: App, kept: gr.BrowserState) -> None:
        settings = app.settings
        self._app = app
        self._kept = kept
        with gr.Column(elem_id="controls"):
            self.close = gr.Button(tr("button.close"), elem_id="controls-close", size="sm")
            self.mode = gr.Radio(
                list(MODES), value=settings.mode, label=tr("chat.mode"), elem_id="mode",
                info=tr("chat.mode_info"),
            )  # fmt: skip
            self.character = gr.Dropdown(
                app.characters.names(), value=settings.character, label=tr("chat.character"), elem_id="character",
                filterable=True, visible=settings.mode != "instruct",
            )  # fmt: skip
            gr.HTML(f"<h2>{tr('own.title')}</h2>")
            self.model = gr.Dropdown(
                [(tr("chat.default_model"), "")], value="", label=tr("chat.model"), elem_id="chat-model",
                filterable=False, visible=app.router.several, info=tr("chat.model_info"),
            )  # fmt: skip
            self.own = OwnPanel()
            self.banned = gr.Textbox(
                "", label=tr("chat.banned"), lines=2, max_lines=8, elem_id="chat-banned", info=tr("chat.banned_info")
            )
            gr.HTML(f"<h2>{tr('own.title_others')}</h2>")
            self.style = gr.Dropdown(
                styles.style_choices(), value=styles.known_style(settings.chat_style), label=tr("chat.style"),
                elem_id="chat-style", filterable=False,
            )  # fmt: skip
            self.start_with = gr.Textbox(
                settings.start_with, label=tr("chat.start_with"), placeholder=tr("chat.start_hint"),
                elem_id="start-with", info=tr("chat.start_info"),
            )  # fmt: skip
            self.system = gr.Textbox(
                settings.custom_system_message, label=tr("chat.system"), lines=3, elem_id="system-message",
                info=tr("chat.system_info"),
            )  # fmt: skip
            self.thinking = gr.Checkbox(
                settings.thinking, label=knob_label(_KNOBS["thinking"], "prompt"), elem_id="thinking",
                interactive=False, info=tr("chat.no_thinking"),
            )  # fmt: skip
            self.effort = gr.Dropdown(
                [(tr(f"chat.effort_level.{each or 'default'}"), each) for each in _KNOBS["effort"].choices],
                value=settings.effort, label=knob_label(_KNOBS["effort"], "prompt"), elem_id="effort",
                interactive=False, info=tr("chat.no_effort"),
            )  # fmt: skip
            self.profile = gr.Dropdown(
                app.user_profile.names(), value=None, label=tr("chat.profile"), elem_id="profile",
                info=tr("chat.profile_info"), visible=bool(app.user_profile.names()),
            )  # fmt: skip
            self.your_name = gr.Textbox(settings.name1, label=tr("chat.your_name"), max_lines=1, elem_id="your-name")
            self.your_bio = gr.Textbox(
                settings.user_bio, label=tr("chat.your_bio"), lines=2, max_lines=8, elem_id="your-bio",
                info=tr("chat.your_bio_info"),
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._paint = gr.UploadButton(
                    tr("chat.your_picture"), file_types=["image"], type="filepath", size="sm", elem_id="your-picture"
                )
                self._unpaint = gr.Button(tr("chat.no_picture"), size="sm", elem_id="your-picture-remove")
                self._keep_profile = gr.Button(tr("chat.keep_profile"), size="sm", elem_id="profile-save")
            self._face = gr.HTML("", elem_id="your-face")
            self.ahead = AheadPanel(app)
            gr.HTML(f"<h2>{tr('chat.box')}</h2>")
            self.impersonate = gr.Button(tr("chat.impersonate"), elem_id="impersonate", size="sm")
            self.replace = gr.Button(tr("chat.replace_last"), elem_id="replace-last", size="sm")
            self.dummy_message = gr.Button(tr("chat.dummy_message"), elem_id="dummy-message", size="sm")
            self.dummy_reply = gr.Button(tr("chat.dummy_reply"), elem_id="dummy-reply", size="sm")

    @property
    def scope(self) -> list[Any]:
        """Mode, character and the user's name: the settings of a new chat."""
        return [self.mode, self.character, self.your_name]

    def settings_from(self, templates: Sequence[gr.Textbox], knobs: Sequence[Any]) -> ReplyControls:
        """The inputs of a reply's settings: these, the instruction template, chat template and command of the
        Parameters tab, and the knobs.
        """
        instruction, chat, command = templates
        return ReplyControls(
            mode=self.mode,
            character=self.character,
            your_name=self.your_name,
            your_bio=self.your_bio,
            start_with=self.start_with,
            system=self.system,
            thinking=self.thinking,
            effort=self.effort,
            instruction_template=instruction,
            chat_template=chat,
            command=command,
            knobs=knobs,
        )

    def wire(self, page: gr.Blocks, template: gr.Textbox, model_changed: Any) -> None:
        """Store the texts in the browser, and list the characters."""
        own = self._remembered
        on([each.change for each in own.values()], self._remember, set(own.values()), [self._kept], latest=True)
        on(page.load, self._restore, [self._kept, self.character], [*own.values(), self.character, self.profile])
        # not `input`: gradio's menus also report that when they are left without a choice
        on(self.profile.select, self._use_profile, [self.profile], [self.your_name, self.your_bio, self._face])
        on(self._keep_profile.click, self._save_profile, [self.your_name, self.your_bio], [self.profile])
        on([page.load, self.style.change], None, [self.style], js=_STYLE)
        on([page.load, self.your_name.change], self._dressed, [self.your_name], [self._face], latest=True)
        on(self._paint.upload, self._painted, [self._paint, self.your_name], [self._face])
        on(self._unpaint.click, lambda name: self._painted(None, name), [self.your_name], [self._face])
        on([page.load, model_changed, template.change], self._switches, [template], [self.thinking, self.effort],
           latest=True)  # fmt: skip
        on(self.close.click, None, js="() => { Page.toggleControls(false); }")

    @property
    def _remembered(self) -> dict[str, Any]:
        """The values that a browser stores."""
        own = {
            "start": self.start_with,
            "system": self.system,
            "name": self.your_name,
            "bio": self.your_bio,
            "style": self.style,
        }
        return {**own, **self.ahead.named}

    def _remember(self, values: Values) -> dict[str, Any]:
        return {name: values[control] for name, control in self._remembered.items()}

    def _switches(self, template: str) -> Updates:
        """The switches that the current template supports; the others are greyed out with the reason."""
        templates, model = self._app.templates, self._app.models.loaded
        text = template.strip() or (templates.detect(model)[0] if model else "")
        known = templates.switches(text)
        has = {name: variable in known for name, variable in SWITCHES.items()}
        return {
            getattr(self, name): gr.update(
                interactive=there, info=knob_help(_KNOBS[name], "prompt") if there else tr(f"chat.no_{name}")
            )
            for name, there in has.items()
        }

    def _restore(self, kept: Mapping[str, Any], character: str) -> Updates:
        settings = self._app.settings
        names = self._app.characters.names()
        start = {
            "start": settings.start_with,
            "system": settings.custom_system_message,
            "name": settings.name1,
            "bio": settings.user_bio,
            "style": settings.chat_style,
            **{name: getattr(settings, name) for name in self.ahead.named},
        }
        values = {**start, **(kept or {})}
        values["style"] = styles.known_style(values["style"])
        return {
            **{control: values[name] for name, control in self._remembered.items()},
            self.character: gr.update(choices=names, value=character if character in names else names[0]),
            self.profile: self._profile_menu(),
        }

    def _use_profile(self, name: str) -> Updates:
        profile = self._app.user_profile.use(name)
        return {self.your_name: profile.name, self.your_bio: profile.bio, self._face: self._dressed(profile.name)}

    def _save_profile(self, name: str, bio: str) -> Updates:
        kept = self._app.user_profile.keep(name or "", bio or "")
        show_info(tr("chat.profile_kept", name=kept))
        return {self.profile: self._profile_menu(kept)}

    def _profile_menu(self, chosen: str | None = None) -> Any:
        names = self._app.user_profile.names()
        return gr.update(choices=names, value=chosen, visible=bool(names))

    def _dressed(self, name: str) -> str:
        return avatar_style("your", (name or "").strip() or self._app.settings.name1, self._app.user_profile.picture)

    def _painted(self, path: str | None, name: str) -> str:
        self._app.user_profile.set_picture(Path(path).read_bytes() if path else None)
        return self._dressed(name)
