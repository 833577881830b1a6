"""The page's texts: the code uses keys, and languages/CODE.yaml contains the texts of a language.

English is a catalog like the others. The label and help in a knob's declaration are its English texts; the other
catalogs have them under the same keys. A page holds the catalog of its language, and `tr(key)` uses the page that is
being built or whose event is being handled. Nothing else knows that there are languages.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gradio.context import Context, LocalContext

from loaders import LOADERS
from loaders.knobs import Knob
from loaders.params import GROUPS, LOAD_GROUPS, SamplingParams
from modules.chat.prompt_knobs import PromptKnobs
from modules.config.session import Session
from modules.config.settings import Settings
from modules.config.yaml_file import read_mapping
from modules.training.lora.settings import GROUPS as LORA_GROUPS
from modules.training.lora.settings import LoraSettings
from modules.ui.parts.page_blocks import PageBlocks

ENGLISH = "en"
FOLDER = Path(__file__).with_name("languages")

#: A text, or its forms by number: "one", "few", "many", "other".
Entry = str | Mapping[str, str]
_FORMS = frozenset({"one", "few", "many", "other"})


class Page(PageBlocks):
    """A gradio page that holds the texts of its language."""

    def __init__(self, texts: Texts, **how: Any) -> None:
        self.texts = texts
        super().__init__(**how)


class Texts:
    """The texts of one language. Missing ones are in English."""

    def __init__(self, code: str, entries: Mapping[str, Entry], english: Mapping[str, Entry]) -> None:
        self.code = code
        self.entries = entries
        self._english = english
        self._format = _Format(self._plain("number.decimal"), self._plain("number.thousands"))

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key with its placeholders filled in; without values, unchanged. Raises: KeyError."""
        entry = self._entry(key)
        if not isinstance(entry, str):
            entry = entry[plural_form(self.code if key in self.entries else ENGLISH, int(values["n"]))]
        return self._format.vformat(entry, (), values) if values else entry

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self.entries or key in self._english

    def section(self, name: str) -> dict[str, str]:
        """The texts whose keys begin with `name.`, by the rest of the key: for the page's script."""
        found = [key for key in self._english if key.startswith(f"{name}.")]
        return {key[len(name) + 1 :]: self(key) for key in found}

    def _entry(self, key: str) -> Entry:
        return self.entries[key] if key in self.entries else self._english[key]

    def _plain(self, key: str) -> str:
        entry = self._entry(key)
        return entry if isinstance(entry, str) else ""


class _Format(string.Formatter):
    """Numbers with the language's separators."""

    def __init__(self, decimal: str, thousands: str) -> None:
        self._marks = str.maketrans({".": decimal, ",": thousands})

    def format_field(self, value: Any, spec: str) -> str:
        made = format(value, spec)
        return made.translate(self._marks) if spec and isinstance(value, int | float) else made


def tr(key: str, **values: Any) -> str:
    """The text of a key in the page's language; in English outside of any page. Raises: KeyError."""
    return current_texts()(key, **values)


def current_texts() -> Texts:
    """The texts of the page that is being built, or whose event is being handled."""
    page = LocalContext.blocks.get(None) or Context.root_block
    return page.texts if isinstance(page, Page) else load_texts(ENGLISH)


def knob_label(knob: Knob, scope: str) -> str:
    """A knob's label. `scope`: "knob" (sampling), "prompt", "option.LOADER", "lora" or "flag"."""
    return _declared(knob, scope, "label", knob.label)


def knob_help(knob: Knob, scope: str) -> str:
    """A knob's help; `scope` as for `knob_label`."""
    return _declared(knob, scope, "help", knob.help)


def _declared(knob: Knob, scope: str, part: str, english: str) -> str:
    texts = current_texts()
    keys = (f"{scope}.{knob.name}.{part}", f"{scope.partition('.')[0]}.{knob.name}.{part}")
    return next((texts(key) for key in keys if texts.has(key)), english)


def language_choices() -> list[tuple[str, str]]:
    """(name, code) of every language, English first."""
    codes = sorted((file.stem for file in FOLDER.glob("*.yaml")), key=lambda code: (code != ENGLISH, code))
    return [(_name(code), code) for code in codes]


def known_language(code: str) -> str:
    """The code, or English if there is no such language."""
    return code if code in {each for _, each in language_choices()} else ENGLISH


@cache
def load_texts(code: str) -> Texts:
    """The texts of a language; of English if there is no such language. Raises: BadFile."""
    english = {**declared_texts(), **read_catalog(ENGLISH)}
    known = known_language(code)
    return Texts(known, english if known == ENGLISH else read_catalog(known), english)


def read_catalog(code: str) -> dict[str, Entry]:
    """A language's file, its keys with dots: `chat.trash.moved`. Raises: BadFile."""
    return dict(_flat("", read_mapping(FOLDER / f"{code}.yaml")))


@cache
def declared_texts() -> Mapping[str, str]:
    """The English texts from the declarations of knobs and groups, by key. Labels that are names are not translated.

    An option that several loaders share has one text; a loader with a different one has `option.LOADER.NAME.help`.
    """
    found: dict[str, str] = {}
    for scope, knobs in (
        ("knob", SamplingParams.knobs().values()),
        ("prompt", PromptKnobs.knobs().values()),
        ("lora", LoraSettings.knobs().values()),
        ("flag", Session.switches()),
        ("setting", [each for each in Settings.knobs().values() if each.group == "ahead"]),
        *((option_scope(name), kind.Options.knobs().values()) for name, kind in LOADERS.items()),
    ):
        for knob in knobs:
            general = f"{scope.partition('.')[0]}.{knob.name}"
            same = found.setdefault(f"{general}.help", knob.help) == knob.help
            if not same:
                found[f"{scope}.{knob.name}.help"] = knob.help
            if knob.label != knob.name and not knob.label.endswith("_proj"):
                found.setdefault(f"{general}.label", knob.label)
    for scope, groups in (("knob_group", GROUPS), ("option_group", LOAD_GROUPS)):
        for name, (title, sentence) in groups.items():
            found[f"{scope}.{name}.title"], found[f"{scope}.{name}.about"] = title, sentence
    return found | {f"lora_group.{name}": title for name, title in LORA_GROUPS.items()}


def option_scope(loader: str) -> str:
    """The scope of a loader's options: "option.llama_cpp"."""
    return f"option.{loader.replace('.', '_').lower()}"


def plural_form(code: str, n: int) -> str:
    """Which form of a text a number needs, by Unicode's CLDR rules for integers."""
    if code != "ru":
        return "one" if n == 1 else "other"
    tens, ones = n % 100, n % 10
    if ones == 1 and tens != 11:
        return "one"
    return "few" if ones in (2, 3, 4) and tens not in (12, 13, 14) else "many"


def _flat(before: str, found: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    for key, value in found.items():
        name = f"{before}.{key}" if before else str(key)
        if not isinstance(value, dict):
            yield name, str(value)
        elif set(value) <= _FORMS:
            yield name, {str(form): str(each) for form, each in value.items()}
        else:
            yield from _flat(name, value)


@cache
def _name(code: str) -> str:
    """The language's name for itself: the first line of its file."""
    with (FOLDER / f"{code}.yaml").open(encoding="utf-8-sig") as file:
        return file.readline().removeprefix("name:").strip() or code
