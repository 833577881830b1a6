"""Instruction templates: Jinja programs that write a conversation the way a model was trained to read it.

A folder of YAML files, each with the one key `instruction_template` (older forms are understood, too), and the
template that came inside a model. This module must not know how a conversation is kept, or how much of it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from errors import BadFile, InvalidInput, InvalidName, Unavailable, UnknownName
from loaders.base import Model
from modules.config.atomic import write_text
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import read_mapping
from modules.prompts.budget import OWN
from modules.prompts.jinja import Sandbox
from modules.prompts.old_template import converted
from modules.prompts.template_process import TemplateProcesses

#: What a model without a template of its own gets.
FALLBACK = "Alpaca"
#: Values of a template that a person may choose: whether the model thinks before it answers, and how hard.
SWITCHES = ("enable_thinking", "reasoning_effort")
#: What the original writes where no template was chosen, or the model's own was.
_NO_NAMES = ("", "None", "Select template", "Custom (obtained from model metadata)")
#: The settings that match a model's name, weakest first: file, pattern, settings.
SettingsFor = Callable[[str], Sequence[tuple[str, str, Mapping[str, Any]]]]
_KNOWN = 64  # templates that are remembered as the user's own
_SUFFIXES = (".yaml", ".yml", ".jinja", ".jinja2")


class Templates:
    """The instruction templates in one folder, and what runs them: the user's own here, all others in processes of
    their own. May be used from several threads.
    """

    def __init__(
        self, paths: Paths, settings_for: SettingsFor = lambda _: [], start: Mapping[str, Any] | None = None
    ) -> None:
        """`start`: the template of settings.yaml, for models of which nothing is known."""
        self._start = start or {}
        self._folder = paths.instruction_templates
        self._settings_for = settings_for
        self._sandbox = Sandbox()
        self._processes = TemplateProcesses()
        self._own: dict[str, None] = {}  # texts that came from the folder or a model; all others are strangers'

    def names(self) -> list[str]:
        """The names of all templates, sorted without regard to case."""
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        names = {file.stem for file in files if file.suffix in _SUFFIXES and not file.name.startswith(".")}
        return sorted(names, key=str.casefold)

    def load(self, name: str) -> str:
        """The Jinja text of a template. Raises: UnknownName, InvalidName, BadFile."""
        path = self._find(name)
        if path is None:
            raise UnknownName("instruction template", name, self.names())
        if path.suffix in (".jinja", ".jinja2"):
            return self._know(_read(path))
        values = read_mapping(path)
        text = values.get("instruction_template")
        if isinstance(text, str):
            return self._know(text)
        old = converted(values)
        if old is None:
            raise BadFile(path, "it has no key instruction_template")
        return self._know(old)

    def save(self, name: str, text: str) -> None:
        """Write a template. Raises: InvalidName, InvalidInput, Unavailable."""
        path = safe_child(self._folder, name, ".yaml")
        written = next((form for form in (_literal(text), _quoted(text)) if _holds(form, text)), None)
        if written is None:
            raise InvalidInput("The template holds characters that a file cannot keep. Remove what looks broken in it.")
        try:
            write_text(path, written)
        except OSError as error:
            raise Unavailable(f"The template cannot be saved to {path} ({error.strerror}).") from None

    def delete(self, name: str) -> None:
        """Remove a template's file. Raises: UnknownName, InvalidName, Unavailable."""
        path = self._find(name)
        if path is None:
            raise UnknownName("instruction template", name, self.names())
        try:
            path.unlink()
        except OSError as error:
            raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None

    def detect(self, model: Model) -> tuple[str, str]:
        """The template that fits a model, and why this one: see `detect_for`. Raises: BadFile."""
        place = "the GGUF" if model.loader.lower().startswith("llama") else "the model's folder"
        return self.detect_for(model.name, model.tokenizer.chat_template, place)

    def detect_for(self, name: str, own: str | None, place: str) -> tuple[str, str]:
        """The template for a model of this name that brings `own` in `place`, and why this one.

        First what the user keeps for this model, then the model's own, then what its name says, then that of
        settings.yaml, then the fallback.
        A name for which there is no template is passed over, and the reason says so. Raises: BadFile.
        """
        passed: list[str] = []
        found = [(file, pattern, values) for file, pattern, values in reversed(self._settings_for(name))]
        for file, _, values in found:
            if file.endswith("-user.yaml") and (text := self._named(values, passed)):
                return text, _because(f"kept for this model in {file}", passed)
        if own and own.strip():
            return self._know(own), _because(f"from {place}", passed)
        for file, pattern, values in found:
            if not file.endswith("-user.yaml") and (text := self._named(values, passed)):
                return text, _because(f"{values['instruction_template']}, by name: {pattern}", passed)
        if text := self._named(self._start, passed):
            return text, _because("from the settings: no template in the model, none known for its name", passed)
        return self.load(FALLBACK), _because(f"{FALLBACK}: no template in the model, none known for its name", passed)

    def _named(self, values: Mapping[str, Any], passed: list[str]) -> str:
        """The template that these settings of a model ask for; "" for none."""
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
        """The text that a template makes of the messages (each with `role` and `content`).

        `add_generation_prompt`, `bos_token`, `eos_token` and whatever else templates ask for may be given by name.
        Raises: TemplateFailed, with the line; `name` is what it is called there.
        """
        return self.render_with(template, messages, values, name=name)

    def render_with(
        self, template: str, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any], *, name: str = ""
    ) -> str:
        """As `render`, with values that a stranger has named: any name will do."""
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
        """The values that this template asks for from outside."""
        return (self._sandbox if template in self._own else self._processes).variables(template)

    def close(self) -> None:
        """End what strangers' templates are running in."""
        self._processes.close()

    def switches(self, template: str) -> frozenset[str]:
        """Which of SWITCHES this template knows."""
        return self.asks_for(template).intersection(SWITCHES)

    def _know(self, text: str) -> str:
        """A text of the user's own, as it is. The last few count."""
        self._own.pop(text, None)
        self._own[text] = None
        for oldest in list(self._own)[:-_KNOWN]:
            self._own.pop(oldest, None)
        return text

    def _find(self, name: str) -> Path | None:
        candidates = (safe_child(self._folder, name, suffix) for suffix in _SUFFIXES)
        return next((path for path in candidates if path.is_file()), None)


def _because(reason: str, passed: Sequence[str]) -> str:
    return "; ".join([reason, *passed])


def _literal(text: str) -> str:
    """The file's text in the form that keeps the program readable: a block, every line as it is."""
    mark = "|2-" if text[:1] in (" ", "\n") else "|-"
    lines = "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))
    return f"instruction_template: {mark}\n{lines}"


def _quoted(text: str) -> str:
    """The file's text on one line: for what a block cannot hold, such as newlines at the end."""
    letters = (letter if letter.isprintable() and letter not in '"\\' else _escape(letter) for letter in text)
    return f'instruction_template: "{"".join(letters)}"\n'


def _escape(letter: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return known.get(letter) or (f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}")


def _holds(literal: str, text: str) -> bool:
    """Whether every parser reads the text out of it; they do not agree about tabs."""
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
        raise BadFile(path, error.strerror or "the system refuses") from None
