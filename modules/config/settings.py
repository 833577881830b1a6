"""settings.yaml: the start values of the web UI. Read once; keys are the original's.

The sampling parameters that the file may contain are declared in loaders.params; unknown keys, of a newer, an older or
another version, are kept when the file is saved again. This module must not know how a setting is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PrivateAttr
from typing_extensions import Self

from errors import BadFile, InvalidInput, did_you_mean
from loaders.knobs import knob
from loaders.params import SamplingParams, Text
from modules.config.atomic import write_text
from modules.config.ignored_settings import is_ignored
from modules.config.server_flags import Strings
from modules.config.thinking_knobs import SWITCHES, ThinkingKnobs
from modules.config.yaml_file import dump_mapping, read_mapping

#: A setting that the original replaces by the next model's own: here the model's context applies from the start.
_REPLACED = "truncation_length"
#: The same knob as this program writes it, which stays a limit for every model.
_BOUND = "context_limit"
#: The original's spellings, in which these are written.
_SPELLED = {
    "prompt_default": "prompt-default",
    "prompt_notebook": "prompt-notebook",
    "chat_instruct_command": "chat-instruct_command",
    **SWITCHES,
}


Mode = Annotated[
    Literal["chat", "chat-instruct", "instruct"],
    BeforeValidator(lambda value: "chat" if value in ("cai-chat", "cai_chat") else value),  # its name in early versions
]


class Settings(ThinkingKnobs):
    """Start values of the web UI. Immutable; `changed` keeps everything else in the file."""

    mode: Mode = knob(
        "instruct", group="chat", help="The chat mode: with the model's own template (instruct), or with a character."
    )
    character: Text = knob("Assistant", group="chat", help="The character of a new chat.")
    name1: Text = knob("You", group="chat", help="Your name in a chat.")
    user_bio: Text = knob(
        "", lines=2, group="chat", help="What a character should know about you. Part of the prompt in the chat modes."
    )
    chat_style: str = knob("cai-chat", group="chat", help="The style of messages.")
    start_with: Text = knob("", group="chat", help="Text that every reply starts with.")
    custom_system_message: Text = knob(
        "", lines=2, group="chat", help="Replaces the system message of the instruction template."
    )
    chat_instruct_command: Text = knob(
        "", lines=3, group="chat", aliases=("chat-instruct_command", "chat-instruct-command"),
        help="The instruction around the dialogue in chat-instruct mode. Empty: the default one.",
    )  # fmt: skip
    read_ahead: bool = knob(
        True,
        group="ahead",
        label="Read ahead",
        help="Read a chat and what is typed so far before the message is sent, while the model has nothing else to do.",
    )
    versions_ahead: int = knob(
        0,
        ge=0,
        le=3,
        range=(0, 3, 1),
        group="ahead",
        label="Versions ahead",
        help="Write so many further versions of a reply while it is being read, so that the next one is there at once.",
    )
    titles_by_model: bool = knob(
        False, group="ahead", label="Titles by the model",
        help="Let the model write a title for a new chat after its first exchange.",
    )  # fmt: skip
    instruction_template: str = knob(
        "", group="prompts", help="The instruction template, by name, for models without a known one."
    )
    instruction_template_str: Text = knob(
        "",
        lines=8,
        group="prompts",
        help="An instruction template as text, instead of a name. A model's own template overrides both.",
    )
    chat_template_str: Text = knob(
        "", lines=8, group="prompts", help="The template of chat mode. Empty: the default one."
    )
    prompt_default: Text = knob(
        "QA", group="prompts", aliases=("prompt-default",), help="The prompt shown in the Default tab at first."
    )
    prompt_notebook: Text = knob(
        "QA", group="prompts", aliases=("prompt-notebook",), help="The prompt shown in the Notebook tab at first."
    )
    preset: Text = knob("simple-1", group="generation", help="The preset of sampling parameters.")
    dark_theme: bool = knob(True, group="look", help="Use the dark theme.")
    language: str = knob(
        "en", group="look", help="The language of the page: en, or another file in modules/ui/languages."
    )
    show_controls: bool = knob(True, group="look", help="Show the sidebars of the chat.")
    autoload_model: bool = knob(False, group="model", help="Load a model as soon as it is selected in the Model tab.")
    default_extensions: Strings = knob((), group="model", help="Extensions to load at startup.")

    _sampling: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _kept: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def sampling(self) -> Mapping[str, Any]:
        """The sampling parameters that the file sets, under their own names, checked."""
        return MappingProxyType(dict(self._sampling))

    @property
    def kept(self) -> Mapping[str, Any]:
        """What the file contains that has no meaning here."""
        return MappingProxyType(dict(self._kept))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Lines about settings of the original that the file contains and that have no effect here."""
        names = ", ".join(sorted(name for name in self._kept if is_ignored(name)))
        return (f"Settings of the original without an effect here, kept in the file: {names}",) if names else ()

    @classmethod
    def read(cls, path: Path, extensions: Sequence[str] = ()) -> tuple[Self, tuple[str, ...]]:
        """The settings of a file (none if it does not exist), and lines about what was not understood.

        Keys that begin with the name of one of the `extensions` belong to that extension. An invalid value is skipped
        with a note. Raises: BadFile if it is not a YAML mapping.
        """
        values: dict[str, Any] = {}
        sampling: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        notes: list[str] = []
        strangers: list[str] = []
        for written, value in read_mapping(path).items():
            if written == _REPLACED:
                kept[written] = value
                continue
            key = _REPLACED if written == _BOUND else written
            holder = next((each for each in (cls, SamplingParams) if key in each.spellings()), None)
            if holder is None:
                kept[key] = value
                if not is_ignored(key) and not key.startswith(tuple(f"{name}-" for name in extensions)):
                    strangers.append(
                        key + did_you_mean(key, cls.spellings()).replace(" Did you mean", " - did you mean")
                    )
                continue
            if value is None:  # as if it were not there
                kept[written] = None
                continue
            name = holder.spellings()[key]
            try:
                checked = getattr(holder.parse({name: value}), name)
            except InvalidInput as error:
                kept[key] = value
                notes.append(f"{path.name}: {error} The default is used.")
                continue
            (values if holder is cls else sampling)[name] = checked
        if strangers:
            notes.append(f"{path.name}: unknown settings, kept but without effect: {', '.join(strangers)}")
        return cls.parse(values)._with(sampling, kept), tuple(notes)

    def text(self) -> str:
        """The file's text: everything that differs from the defaults, and everything that was kept."""
        own = {_SPELLED.get(name, name): value for name, value in self.differing().items()}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
        sampling = {
            _BOUND if key == _REPLACED else key: list(value) if isinstance(value, tuple) else value
            for key, value in self._sampling.items()
        }
        return dump_mapping({**self._kept, **sampling, **plain})

    def write(self, path: Path) -> None:
        """Save it. Raises: OSError."""
        write_text(path, self.text())

    def changed(self, **values: Any) -> Self:
        """A validated copy with some values replaced. Raises: InvalidInput."""
        return super().changed(**values)._with(self._sampling, self._kept)

    def with_sampling(self, sampling: Mapping[str, Any]) -> Self:
        """A copy with these sampling parameters instead. Raises: InvalidInput."""
        checked = SamplingParams.parse(sampling).model_dump()
        names = {SamplingParams.spellings()[key] for key in sampling}
        return self.changed()._with({name: checked[name] for name in checked if name in names}, self._kept)

    def with_kept(self, kept: Mapping[str, Any]) -> Self:
        """A copy that keeps these keys for others: extensions' params."""
        return self.changed()._with(self._sampling, dict(kept))

    def _with(self, sampling: Mapping[str, Any], kept: Mapping[str, Any]) -> Self:
        self._sampling, self._kept = sampling, kept
        return self


def find_settings_file(root: Path, named: str) -> Path:
    """The settings file: the one named by --settings, else settings.yaml, else settings.json (if it exists).

    Raises: BadFile if a named file does not exist.
    """
    if named:
        path = root / Path(named).expanduser()
        if not path.is_file():
            raise BadFile(path, "there is no such file", "Use another file with --settings, or omit it.")
        return path
    older = root / "settings.json"
    return older if older.is_file() and not (root / "settings.yaml").exists() else root / "settings.yaml"
