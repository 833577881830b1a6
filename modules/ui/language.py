"""The page in other languages: labels, buttons, infos and tabs are exchanged, once, when the page has been built.

A language is one file, languages/CODE.yaml: `name`, and `words` from the English text to the other one. What has no
entry stays English; what the services tell (errors, reasons) always does. Nothing else knows that there are languages.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from modules.config.yaml_file import read_mapping

_FOLDER = Path(__file__).with_name("languages")
_ENGLISH = "en"

#: Where a component keeps text that a person reads.
_TEXTS = ("label", "info", "placeholder")

#: Text between tags of HTML that stands in the page from its start.
_BETWEEN = re.compile(r"(?<=>)[^<>]+(?=<)")


def choices() -> list[tuple[str, str]]:
    """(name, code) of every language, English first."""
    codes = sorted(file.stem for file in _FOLDER.glob("*.yaml"))
    return [("English", _ENGLISH), *((str(_read(code).get("name", code)), code) for code in codes)]


def known(code: str) -> str:
    """The code, or English's where there is no such language."""
    return code if code in {each for _, each in choices()} else _ENGLISH


def words(code: str) -> dict[str, str]:
    """The dictionary of a language; empty for English."""
    found = _read(code).get("words") if code != _ENGLISH else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def translate(page: gr.Blocks, code: str) -> None:
    """Exchange the words of a page that has been built and not been served yet."""
    dictionary = words(known(code))
    if not dictionary:
        return
    for block in page.blocks.values():
        for name in _TEXTS:
            text = getattr(block, name, None)
            if isinstance(text, str) and text in dictionary:
                setattr(block, name, dictionary[text])
        _exchange(block, dictionary)


def texts(page: gr.Blocks) -> set[str]:
    """Every text of the page that a language may exchange."""
    found: set[str] = set()
    for block in page.blocks.values():
        found.update(text for name in _TEXTS if isinstance(text := getattr(block, name, None), str))
        if isinstance(block, gr.Button | gr.DownloadButton | gr.UploadButton):
            found.add(str(block.value) if not isinstance(block, gr.UploadButton) else str(block.label))
        if isinstance(block, gr.HTML) and isinstance(block.value, str):
            found.update(html.unescape(text) for text in _BETWEEN.findall(f">{block.value}<"))
        if isinstance(block, gr.Radio | gr.CheckboxGroup | gr.Dropdown):
            found.update(str(each[0]) for each in block.choices or ())
    return {text for text in found if text.strip()}


def _exchange(block: Any, dictionary: dict[str, str]) -> None:
    if isinstance(block, gr.Button) and isinstance(block.value, str):
        block.value = dictionary.get(block.value, block.value)
    elif isinstance(block, gr.HTML) and isinstance(block.value, str):
        block.value = _BETWEEN.sub(lambda match: _said(match[0], dictionary), f">{block.value}<")[1:-1]
    elif isinstance(block, gr.Radio | gr.CheckboxGroup | gr.Dropdown) and block.choices:
        block.choices = [
            (dictionary.get(each[0], each[0]), each[1]) if isinstance(each, tuple) else each for each in block.choices
        ]


def _said(text: str, dictionary: dict[str, str]) -> str:
    """A piece of HTML's text in the other language."""
    other = dictionary.get(html.unescape(text))
    return text if other is None else html.escape(other)


@cache
def _read(code: str) -> dict[str, Any]:
    return read_mapping(_FOLDER / f"{code}.yaml")
