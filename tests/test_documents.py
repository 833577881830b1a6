"""The documents are correct: links work, tables match the program, commands exist, the tutorial runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from loaders import LOADERS
from loaders.base import Model
from loaders.params import SamplingParams
from modules.chat.service import ReplySettings
from modules.config.flag_catalog import FlagCatalog
from modules.extensions.hooks import HookCall
from tests.extensions.conftest import Home, home  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extensions.md").read_text("utf-8"), re.DOTALL)


def anchors(text: str) -> set[str]:
    """The names that headings get."""
    heads = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            wrong.append(target)
    named = re.findall(r"(?<![\w/])docs/[\w.-]+\.md", plain)
    wrong += [name for name in named if not (ROOT / name).exists()]
    assert not wrong


def test_every_document_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [each.name for each in DOCUMENTS[2:] if f"docs/{each.name}" not in readme] == []


def test_the_files_to_change_are_there() -> None:
    """docs/contributing.md names files, and names in them, from the repository's root."""
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    files = re.findall(r"`((?:loaders|modules|tests|docs)/[\w/.]+\.\w+)`", text)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []
    named = " ".join((ROOT / name).read_text("utf-8") for name in files if name.endswith(".py"))
    plain = re.findall(r"`(\w*[_A-Z]\w*)`", text.replace("parse_...", ""))
    assert [name for name in plain if not re.search(rf"\b{name}\b", named)] == []


def test_tables_are_those_of_the_program() -> None:
    ran = subprocess.run(
        [sys.executable, "docs/make.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_commands_and_flags_are_there(document: Path) -> None:
    text = document.read_text("utf-8")
    known = {each.removeprefix("--").split()[0] for each in FlagCatalog.of(LOADERS).spellings()}
    own = {"install-torch", "update", "repair", "go-back"}
    wrong = []
    for script, rest in re.findall(r"(?:\./|`)((?:start|update|cmd)_(?:linux|macos)\.sh)\b([^`\n]*)", text):
        if not (ROOT / script).exists():
            wrong.append(script)
        wrong += [flag for flag in re.findall(r"--([a-z][\w-]*)", rest) if flag.replace("_", "-") not in known | own]
    for module in re.findall(r"python -m ((?:bench|modules|tests)[\w.]*(?: [a-z_]+)?)", text):
        name, _, argument = module.partition(" ")
        path = ROOT / Path(
            *name.split("."), *([argument] if name == "bench" and argument and argument != "name" else [])
        )
        if not (path.is_dir() or path.with_suffix(".py").exists()):
            wrong.append(module)
    for file in re.findall(r"python ([\w/-]+\.py)", text):
        if not (ROOT / file).exists():
            wrong.append(file)
    assert not wrong


# --- the tutorial of extensions ---


def test_the_pirate(home: Callable[..., Home]) -> None:  # noqa: F811
    there = home({"pirate": TUTORIAL[0]}, settings={"pirate-begin": "Ahoy!"}, reply="Fine day.")
    chat = there.chats.new("chat", "Assistant")
    list(there.chats.send(chat.id, "Hello", ReplySettings(params=SamplingParams(max_new_tokens=64), mode="chat")))
    assert there.models.loaded.prompt.endswith("AI: Ahoy!")
    reply = there.chats.open(chat.id).path()[-1]
    assert reply.text == "Fine day."
    assert reply.meta["visible"] == "Fine day.\n\n*2 words so far*"


def test_silence(home: Callable[..., Home], demo_model: Model) -> None:  # noqa: F811
    there = home({"silence": TUTORIAL[1]}, model=demo_model)
    stream = there.generator.session().start("Once upon a time", SamplingParams(max_new_tokens=40, do_sample=False))
    ids = [token.id for piece in stream for token in piece.tokens]
    assert demo_model.tokenizer.encode(" the")[0] not in ids
    assert not stream.report.warnings


def test_the_switch(home: Callable[..., Home]) -> None:  # noqa: F811
    there = home({"loud": TUTORIAL[2]}, reply="quiet")
    page = there.script("loud").gr = MagicMock()  # the page's own tests have the real one
    there.extensions.active[0].hook("ui", HookCall(None))
    page.Checkbox.assert_called_once_with(False, label="Loud")
    assert there.extensions.active[0].problem == ""
    there.script("loud").params["loud"] = True
    assert there.extensions.output("quiet", there.extensions.begin(SamplingParams())) == "QUIET"
