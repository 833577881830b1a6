"""Instruction templates: Jinja programs that write a conversation in the format that a model was trained on.

A folder of YAML files, each with the key `instruction_template` (older formats are supported, too), and the template
included in a model. This module must not know how a conversation is stored, or how much of it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from errors import BadFile, InvalidInput, InvalidName, Unavailable, UnknownName
from loaders.base import Model
from modules.config.atomic import write_text
from modules.config.named_files import NamedFiles
from modules.config.paths import Paths
from modules.config.thinking_knobs import SWITCHES
from modules.config.yaml_file import read_mapping
from modules.prompts.legacy_template import convert_legacy_template
from modules.prompts.sandbox.budget import OWN
from modules.prompts.sandbox.process import TemplateProcesses
from modules.prompts.sandbox.sandbox import Sandbox

#: The template for a model without one.
FALLBACK = "Alpaca"
#: What the original writes if no template was chosen, or the model's own.
_NO_NAMES = ("", "None", "Select template", "Custom (obtained from model metadata)")
#: The settings that match a model's name, weakest first: file, pattern, settings.
SettingsFor = Callable[[str], Sequence[tuple[str, str, Mapping[str, Any]]]]
_KNOWN = 64  # templates that are remembered as the user's own
_SUFFIXES = (".yaml", ".yml", ".jinja", ".jinja2")


class Templates(NamedFiles):
    """The instruction templates in one folder, and what runs them: the user's own run here, all others in separate
    processes. May be used from several threads.
    """

    def __init__(
        self, paths: Paths, settings_for: SettingsFor = lambda _: [], start: Mapping[str, Any] | None = None
    ) -> None:
        """`start`: the template of settings.yaml, for models of which nothing is known."""
        self._start = start or {}
        super().__init__(paths.instruction_templates, _SUFFIXES, "instruction template")
        self._settings_for = settings_for
        self._sandbox = Sandbox()
        self._processes = TemplateProcesses()
        self._own: dict[str, None] = {}  # texts that came from the folder or a model; all others are untrusted

    def load(self, name: str) -> str:
        """The Jinja text of a template. Raises: UnknownName, InvalidName, BadFile."""
        path = self.require(name)
        if path.suffix in (".jinja", ".jinja2"):
            return self._know(_read(path))
        values = read_mapping(path)
        text = values.get("instruction_template")
        if isinstance(text, str):
            return self._know(text)
        old = convert_legacy_template(values)
        if old is None:
            raise BadFile(path, "the key instruction_template is missing")
        return self._know(old)

    def save(self, name: str, text: str) -> None:
        """Write a template. Raises: InvalidName, InvalidInput, Unavailable."""
        path = self.new_path(name)
        written = next((form for form in (_literal(text), _quoted(text)) if _holds(form, text)), None)
        if written is None:
            raise InvalidInput(
                "The template contains characters that cannot be saved. Remove any characters that look broken."
            )
        try:
            write_text(path, written)
        except OSError as error:
            raise Unavailable(f"The template could not be saved to {path} ({error.strerror}).") from None

    def detect(self, model: Model) -> tuple[str, str]:
        """The template that fits a model, and the reason: see `detect_for`. Raises: BadFile."""
        return self.detect_for(model.name, model.tokenizer.chat_template, model.template_place)

    def detect_for(self, name: str, own: str | None, place: str) -> tuple[str, str]:
        """The template for a model of this name, with `own` as its included template from `place`, and the reason.

        First the one saved for this model, then the model's own, then by its name, then that of settings.yaml, then the
        fallback. A name without a template is skipped, and the reason says so. Raises: BadFile.
        """
        passed: list[str] = []
        found = [(file, pattern, values) for file, pattern, values in reversed(self._settings_for(name))]
        for file, _, values in found:
            if file.endswith("-user.yaml") and (text := self._named(values, passed)):
                return text, _because(f"saved for this model in {file}", passed)
        if own and own.strip():
            return self._know(own), _because(f"from {place}", passed)
        for file, pattern, values in found:
            if not file.endswith("-user.yaml") and (text := self._named(values, passed)):
                return text, _because(f"{values['instruction_template']}, matched by name: {pattern}", passed)
        if text := self._named(self._start, passed):
            return text, _because(
                "from the settings: the model has no template, and none is known for its name", passed
            )
        return self.load(FALLBACK), _because(
            f"{FALLBACK}: the model has no template, and none is known for its name", passed
        )

    def _named(self, values: Mapping[str, Any], passed: list[str]) -> str:
        """The template that these settings of a model name; "" for none."""
        if text := values.get("instruction_template_str"):
            return self._know(str(text))
        name = values.get("instruction_template")
        if not isinstance(name, str) or name in _NO_NAMES:
            return ""
        try:
            return self.load(name)
        except (UnknownName, InvalidName):
            passed.append(f"there is no template {name}")
            return ""

    def render(self, template: str, messages: Sequence[Mapping[str, Any]], *, name: str = "", **values: Any) -> str:
        """The text that a template creates from the messages (each with `role` and `content`).

        `add_generation_prompt`, `bos_token`, `eos_token` and other template variables may be passed by name. Raises:
        TemplateFailed, with the line; `name` is the template's name in the error.
        """
        return self.render_with(template, messages, values, name=name)

    def render_with(
        self, template: str, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any], *, name: str = ""
    ) -> str:
        """As `render`, with values that a client has named: any name is allowed."""
        given: dict[str, Any] = {
            "add_generation_prompt": False,
            "bos_token": "",
            "eos_token": "",
            "tools": None,
            "documents": None,
            **values,
            "messages": [dict(message) for message in messages],
        }
        name = name or "of this chat"
        if template in self._own:
            return self._sandbox.render(name, template, given, OWN)
        return self._processes.render(name, template, given)

    def asks_for(self, template: str) -> frozenset[str]:
        """The external variables of this template."""
        return (self._sandbox if template in self._own else self._processes).variables(template)

    def close(self) -> None:
        """End the processes that run untrusted templates."""
        self._processes.close()

    def switches(self, template: str) -> frozenset[str]:
        """The variables of SWITCHES that this template uses."""
        return self.asks_for(template).intersection(SWITCHES.values())

    def _know(self, text: str) -> str:
        """A text of the user's own, returned unchanged. The last few are remembered."""
        self._own.pop(text, None)
        self._own[text] = None
        for oldest in list(self._own)[:-_KNOWN]:
            self._own.pop(oldest, None)
        return text


def _because(reason: str, passed: Sequence[str]) -> str:
    return "; ".join([reason, *passed])


def _literal(text: str) -> str:
    """The file's text in a readable form: a block with every line unchanged."""
    mark = "|2-" if text[:1] in (" ", "\n") else "|-"
    lines = "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))
    return f"instruction_template: {mark}\n{lines}"


def _quoted(text: str) -> str:
    """The file's text on one line: for what a block cannot express, such as newlines at the end."""
    letters = (letter if letter.isprintable() and letter not in '"\\' else _escape(letter) for letter in text)
    return f'instruction_template: "{"".join(letters)}"\n'


def _escape(letter: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return known.get(letter) or (f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}")


def _holds(literal: str, text: str) -> bool:
    """Whether every parser reads the text correctly; they disagree about tabs."""
    loaders: list[Any] = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]
    try:
        return all(yaml.load(literal, Loader=each) == {"instruction_template": text} for each in loaders)
    except (yaml.YAMLError, ValueError):
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(path, error.strerror or "access was denied") from None
