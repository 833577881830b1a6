"""Writes the chats of a data set with the model's own template, in the form in which the template drops nothing, as the
chat and the API do: the training text equals later prompts. It must not know of rows or files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from modules.prompts.template_renderer import RenderTemplate, TemplateRenderer
from modules.training.data.chats import Message, to_training_message

_MOST = 200  # sets of tools that are remembered


class ChatWriter:
    """`notes`: what the template did not support, and how it was written instead."""

    def __init__(self, render: RenderTemplate, template: str, bos_token: str, eos_token: str) -> None:
        self._render, self._template = render, template
        self._values = {"bos_token": bos_token, "eos_token": eos_token}
        self._scripts: dict[str, TemplateRenderer] = {}  # by the tools of a row
        self.notes: dict[str, None] = {}

    def __call__(self, messages: Sequence[Message], reply: bool, tools: Any) -> str:
        """The text of a chat, optionally with the beginning of a reply. Raises: TemplateFailed."""
        key = json.dumps(tools, sort_keys=True, default=str)
        script = self._scripts.get(key)
        if script is None:
            if len(self._scripts) >= _MOST:
                self._scripts.clear()
            script = self._scripts[key] = TemplateRenderer(
                self._render, self._template, "of the model", self._values, tools
            )
        text = script.text([to_training_message(each, self._template) for each in messages], open=reply)
        self.notes.update(dict.fromkeys(script.notes))
        return text
