"""The page in other languages: every entry of a language file is a text of the page, and the page shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modules.ui import language
from tests.ui.conftest import ROOT, new_root

CODES = [code for _, code in language.choices() if code != "en"]

# in a process of its own: gradio closes a page's event loop only when the page was served
_BUILD = """
import json, sys
from pathlib import Path
from modules.app import App
from modules.ui import build_page, language
page = build_page(App.build(Path(sys.argv[1]), ["--model", "none"]))
before = language.texts(page)
language.translate(page, sys.argv[2])
print(json.dumps([sorted(before), sorted(language.texts(page))]))
"""


def test_english_comes_first_and_a_strange_code_means_it() -> None:
    assert language.choices()[0] == ("English", "en")
    assert language.known("de") == "de"
    assert language.known("xx") == "en"
    assert language.words("en") == {}


@pytest.mark.parametrize("code", CODES)
def test_every_entry_is_on_the_page_and_is_exchanged(code: str, tmp_path: Path, demo_model_path: Path) -> None:
    root = new_root(tmp_path, demo_model_path)
    command = [sys.executable, "-c", _BUILD, str(root), code]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    english, shown = map(set, json.loads(made.stdout.splitlines()[-1]))
    dictionary = language.words(code)
    assert not set(dictionary) - english, "no longer on the page"
    assert set(dictionary.values()) <= shown
    assert not {key for key, value in dictionary.items() if key in shown and key not in dictionary.values()}
