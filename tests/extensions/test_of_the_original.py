"""What extensions of the original can use here, and which ones are skipped."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loaders.params import SamplingParams
from modules.chat.service import ReplySettings
from tests.extensions.conftest import ROOT, Home

Make = Callable[..., Home]
PARAMS = SamplingParams(max_new_tokens=64)


@pytest.mark.parametrize(
    "line",
    [
        "from modules import html_generator, shared",
        "from modules.html_generator import get_image_cache",
        "from modules import chat, shared, ui_chat",
        "from modules.chat import generate_chat_prompt",
        "from modules.ui import create_refresh_button",
        "from modules.ui import apply_interface_values, gather_interface_values, list_interface_input_elements",
        "from modules.chat import generate_chat_reply, generate_chat_reply_wrapper, redraw_html, save_history",
        "from modules.chat import replace_character_names",
        "from modules.text_generation import generate_reply_wrapper, stop_everything_event",
        "from modules.extensions import apply_extensions",
        "from modules.html_generator import fix_newlines, generate_basic_html",
        "from modules.ui_chat import inputs, reload_arr",
        "from modules.shared import input_elements, is_chat",
        "from modules.utils import gradio\nfrom modules.logging_colors import logger",
    ],
)
def test_what_scripts_of_the_original_import_is_there(home: Make, line: str) -> None:
    there = home({"their": f"{line}\ndef output_modifier(string, state, is_chat=False):\n    return string\n"})
    assert (there.notes, [each.name for each in there.extensions.active]) == ([], ["their"])


@pytest.mark.parametrize(
    "script",
    [
        "from modules import chat\nchat.nonsense",
        "from modules.ui import nonsense",
        "from modules.extensions import nonsense",
    ],
)
def test_what_stands_beside_our_packages_is_refused_by_name(home: Make, script: str) -> None:
    there = home({"their": script})
    assert "nonsense" in there.notes[0]


def test_the_list_of_names_without_a_stand_in_is_true(home: Make) -> None:
    """Each name there is refused, and a script that imports one of the modules without any is not loaded."""
    home()
    text = (ROOT / "docs" / "coming-from-the-original.md").read_text("utf-8")
    part = text.partition("<!-- names:begin -->")[2].partition("<!-- names:end -->")[0]
    rows = re.findall(r"^\| `modules\.(\w+)` \| (.+) \|$", part, re.MULTILINE)
    assert len(rows) >= 7
    for module, names in rows:
        there = importlib.import_module(f"modules.{module}")
        assert [name for name in re.findall(r"`(\w+)`", names) if hasattr(there, name)] == [], module
    without = text.partition("<!-- names:end -->")[2].partition("have none at all")[0]
    modules = re.findall(r"`(\w+)`", without)
    assert "models" in modules
    for module in modules:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"modules.{module}")


def test_the_usual_prompt_is_there_for_a_script_that_makes_one(home: Make) -> None:
    """The original's own example calls generate_chat_prompt, and so does each script derived from it."""
    script = """
from modules import chat
def custom_generate_chat_prompt(user_input, state, **kwargs):
    return chat.generate_chat_prompt(user_input, state, **kwargs) + ADDED
"""
    prompts = []
    for scripts in ({}, {"same": script.replace("ADDED", "''")}, {"more": script.replace("ADDED", "'!'")}):
        there = home(scripts, names=list(scripts))
        list(there.chats.send(there.chats.new("instruct").id, "Hello", ReplySettings(params=PARAMS)))
        assert all(not each.problem for each in there.extensions.active)
        prompts.append(there.models.loaded.prompt)
    assert "Hello" in prompts[0]
    assert prompts[1:] == [prompts[0], f"{prompts[0]}!"]
    with pytest.raises(RuntimeError, match="only be called in custom_generate_chat_prompt"):
        importlib.import_module("modules.chat").generate_chat_prompt("x", {})


@pytest.mark.parametrize("name", ["openai", "api", "multimodal", "Training_PRO"])
def test_what_is_built_in_or_idle_is_passed_over_with_a_line(home: Make, tmp_path: Path, name: str) -> None:
    """Also if the original's folder was copied, whatever it needs."""
    folder = tmp_path / "extensions" / name
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("no-such-package-here\n", "utf-8")
    there = home({name: "raise RuntimeError"})
    assert [f"The extension {name} was skipped" in note for note in there.notes] == [True]
    assert not there.extensions.active and not there.extensions.failed


@pytest.mark.parametrize(
    ("wanted", "never"),
    [("pandas==2.0.3", True), ("Pandas<2", True), ("pandas>=99", True), ("no-such-thing==1", False)],
)
def test_a_version_that_the_programs_own_rules_out_invites_to_no_button(
    home: Make, tmp_path: Path, wanted: str, never: bool
) -> None:
    (tmp_path / "requirements.txt").write_text("pandas==2.3.3 \\\n    --hash=sha256:0\n", "utf-8")
    folder = tmp_path / "extensions" / "old"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text(f"{wanted}\n", "utf-8")
    note = home({"old": "params = {}"}).notes[0]
    assert ("pandas 2.3.3 is required by the program itself" in note, "Install requirements" in note) == (never, not never)


@pytest.mark.parametrize("name", ["gallery", "perplexity_colors", "character_bias", "long_replies", "example"])
def test_the_programs_own_win_and_say_so(home: Make, tmp_path: Path, name: str) -> None:
    """A copied folder of the original's is made for another page; it is passed over, whatever it holds and requires."""
    folder = tmp_path / "extensions" / name
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("no-such-package-here\n", "utf-8")
    there = home({name: "raise RuntimeError('the original')"}, included=True)
    assert [each.name for each in there.extensions.active] == [name]
    assert [f"The program's own {name} is used" in note for note in there.notes] == [True]
    assert there.extensions.available().count(name) == 1
    assert there.extensions.missing(name) == []


def test_a_list_of_moods_of_ones_own(home: Make, tmp_path: Path) -> None:
    """What people wrote into the original's folder still counts: it is no script."""
    folder = tmp_path / "extensions" / "character_bias"
    folder.mkdir(parents=True)
    (folder / "bias_options.txt").write_text("*I am a pirate*\n\n*I rhyme*\n", "utf-8")
    there = home(names=["character_bias"], included=True)
    assert there.script("character_bias").moods() == ["*I am a pirate*", "*I rhyme*"]
    assert there.notes == []


def test_the_gallery_shows_the_users_own_characters(home: Make, tmp_path: Path) -> None:
    (tmp_path / "characters").mkdir()
    (tmp_path / "characters" / "Fox.yaml").write_text("name: Fox\n", "utf-8")
    assert home(names=["gallery"], included=True).script("gallery").names() == ["Fox"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("from modules.models import load_model", "it uses modules.models of the original program, which is not supp"),
        ("from modules.grammar.x import y", "it uses modules.grammar of the original program, which is not supported"),
        ("import no_such_package.x", "it requires no_such_package, which is not installed. Name its package in "),
        ("from extensions.their import nothing_here", "ImportError: cannot import name 'nothing_here'"),
        ("from .missing import x", "ModuleNotFoundError: No module named 'extensions.their.missing'"),
    ],
)
def test_what_is_missing_is_said_in_words_and_once(
    home: Make, caplog: pytest.LogCaptureFixture, script: str, told: str
) -> None:
    """Once: these lines are printed at startup, so the log has no second one."""
    (note,) = home({"their": f"params = {{}}\n{script}\n"}).notes
    assert note.startswith(f"The extension their failed in import (script.py, line 2): {told}")
    assert caplog.messages == []


def test_a_missing_package_or_script_is_named_with_its_extension(
    home: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("old", "empty"):
        (tmp_path / "extensions" / name).mkdir(parents=True)
    (tmp_path / "extensions" / "old" / "requirements.txt").write_text("no-such-thing==1\n", "utf-8")
    notes = home({"old": "params = {}"}, names=["old", "empty"]).notes
    assert notes[0].startswith("The extension old is not loaded. It requires no-such-thing==1: press")
    assert re.fullmatch("The extension empty is not loaded: .*empty contains no script.py.", notes[1])
    assert caplog.messages == []


_READS = """
from pathlib import Path
from .beside import more
def text(name):
    "extensions/their is not only a path, but this text begins with one"
    return Path(f"{BEFORE}extensions/their/{name}.txt").read_text()
with open("extensions/their/words.txt") as file:
    read = text("words") + more + file.read()
kept = ("extensions/theirs/x", "see extensions/their/x", "extensions/their")
"""


@pytest.mark.parametrize("before", ["", "./", "user_data/"])
def test_files_of_ones_own_are_found_by_the_originals_paths(home: Make, tmp_path: Path, before: str) -> None:
    """Those count from the original's folder; here the user's files may be anywhere."""
    folder = tmp_path / "extensions" / "their"
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("a", "utf-8")
    (folder / "beside.py").write_text("import pathlib\nmore = pathlib.Path('user_data/extensions/their/words.txt').read_text()", "utf-8")
    there = home({"their": _READS.replace("{BEFORE}", before)})
    assert there.notes == []
    script = there.script("their")
    assert script.read == "aaa"
    assert script.kept == ("extensions/theirs/x", "see extensions/their/x", folder.as_posix())
