"""The documents are correct: links work, tables match the program, commands exist, the tutorial runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from docs.measured import BENCHMARKS, measured_lines, read_figure
from loaders import LOADERS
from loaders.base import Model
from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates
from modules.chat.service import ReplySettings
from modules.config.flag_catalog import FlagCatalog
from modules.config.flag_table import render_table
from modules.config.flags import read_flags
from modules.extensions.hooks import HookCall
from modules.families.reply_format import ReplyFormat
from modules.training.lora.settings import LoraSettings
from modules.ui import texts
from tests.extensions.conftest import Home, home  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
TOP = [ROOT / name for name in ("README.md", "README.ru.md", "CHANGELOG.md", "CONTRIBUTING.md")]
DOCUMENTS = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "contributing.md").read_text("utf-8"), re.DOTALL)
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
    assert [each.name for each in DOCUMENTS[len(TOP) :] if f"docs/{each.name}" not in readme] == []


def test_the_files_to_change_are_there() -> None:
    """docs/contributing.md names files, and names in them, from the repository's root."""
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    files = re.findall(r"`((?:loaders|modules|tests|docs)/[\w/.]+\.\w+)`", text)
    files = [name for name in files if "NAME" not in name]
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


#: Flags of other programs in the documents' examples: Docker, Ray, vLLM, llama-server, Xcode.
_OTHERS_FLAGS = {
    *("build-arg", "gpus", "profile", "head", "address", "pipeline-parallel-size", "tensor-parallel-size"),
    *("distributed-executor-backend", "models-dir", "host", "port", "install"),
}
#: Files that declare flags of their own.
_HAVE_FLAGS = ("one_click.py", "download-model.py", "docs/make.py", "tests/gpu/check.py", "tests/gpu/carry.py")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_every_flag_that_is_named_exists(document: Path) -> None:
    """In the text as well as in commands; test_commands_and_flags_are_there looks at whole commands."""
    if document.name == "CHANGELOG.md":
        pytest.skip("names what is gone, too")
    known = {each.removeprefix("--").split()[0].replace("_", "-") for each in FlagCatalog.of(LOADERS).spellings()}
    known |= {knob.flag.removeprefix("--") for knob in LoraSettings.knobs().values()} | _OTHERS_FLAGS
    sources = [*map(ROOT.joinpath, _HAVE_FLAGS), *(ROOT / "modules" / "training").rglob("*.py")]
    known |= set(re.findall(r"[\"']--([a-z][\w-]*)[\"']", "".join(each.read_text("utf-8") for each in sources)))
    text = document.read_text("utf-8")
    code = (
        re.findall(r"`([^`\n]+)`", text)
        + re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
        + re.findall(r"(?m)^    .+", text)
    )
    named = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", "\n".join(code)))
    assert sorted(name for name in named if name.replace("_", "-") not in known | {"no-NAME"}) == []


def test_the_measured_figures_are_those_of_the_benchmarks() -> None:
    """docs/make.py writes most of them; with test_tables_are_those_of_the_program."""
    text = BENCHMARKS.read_text("utf-8")
    ratio = read_figure(text, "llama_server", "one stream").ratio
    assert measured_lines(text.replace(f"**{ratio:.3f}**", "**0.512**")).startswith("- one stream: 0.51 of")
    with pytest.raises(KeyError, match="no row 'two streams' in llama_server"):
        read_figure(text, "llama_server", "two streams")
    first = round(read_figure(text, "install", "fresh clone to the first reply").ours)
    later = round(read_figure(text, "install", "a later start").ours)
    plain = [" ".join((ROOT / name).read_text("utf-8").split()) for name in ("README.md", "README.ru.md")]
    assert f"first reply came {first} s after the first start, and {later} s after later ones" in plain[0]
    assert f"первый ответ приходит через {first} с, при следующих запусках через {later} с" in plain[1]


def test_the_readme_is_short_and_its_pictures_are_there() -> None:
    for file in TOP[:2]:
        text = file.read_text("utf-8")
        assert len(text.splitlines()) <= 150
        assert text.count("![") >= 2  # with test_links_lead_somewhere


def test_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version
    assert f"version-{version[1]}-" in (ROOT / "README.md").read_text("utf-8")
    assert f"## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License")


# --- the recipes of contributing.md ---


def _run(code: str) -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(code, "contributing.md", "exec"), found)
    return found


def test_the_sampler_samples() -> None:
    candidates = Candidates(np.array([0.0, 3.0, 1.0, 2.0], np.float32))
    _run(RECIPES[0])["best_share"](candidates, 0.5)
    assert sorted(candidates.ids.tolist()) == [1, 3]


def test_the_loader_loads_and_has_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = _run(RECIPES[1])["Heron"]
    monkeypatch.setitem(sys.modules, "heron_engine", MagicMock(HeronModel=lambda path, options: (path, options)))
    assert (loader.accepts(Path("x.heron")), loader.accepts(Path("x.gguf")), loader.missing()) == (90, 0, None)
    options = read_flags(["--wing-span", "70"], ROOT, {"Heron": loader}, file_text="").load_options
    assert loader.load(Path("x.heron"), loader.Options.parse(options), lambda *_: True)[1].wing_span == 70
    assert "`--wing-span N`" in render_table({"Heron": loader})


def test_the_family_is_read() -> None:
    parser = ReplyFormat(_run(RECIPES[2])["FAMILY"]).parser()
    parts = [*parser.push("<|muse|>hm<|/muse|>Yes."), *parser.finish()]
    assert [(part.kind, part.text) for part in parts if part.text] == [("thought", "hm"), ("text", "Yes.")]


def test_a_language_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("en", "xx"):
        text = (texts.FOLDER / "en.yaml").read_text("utf-8")
        (tmp_path / f"{name}.yaml").write_text(text.replace("name: English", f"name: Own {name}"), "utf-8")
    monkeypatch.setattr(texts, "FOLDER", tmp_path)
    texts._name.cache_clear()
    try:
        assert ("Own xx", "xx") in texts.language_choices()
        assert texts.known_language("xx") == "xx"
        assert texts.read_catalog("xx").keys() == texts.read_catalog("en").keys()
    finally:
        texts._name.cache_clear()


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


def test_the_buttons_of_a_script(home: Callable[..., Home]) -> None:  # noqa: F811
    there = home({"buttons": TUTORIAL[3]}, reply="*Short.*")
    names = ("temperature", "name1", "mode", "history", "unique_id", "Chat input", "interface_state", "display")
    there.components.update({name: name for name in (*names, "character_menu")})
    page = there.script("buttons").gr = MagicMock()  # the page's own tests have a real one
    there.extensions.active[0].hook("ui", HookCall(None))
    assert there.extensions.active[0].problem == ""
    summarize, no_stars = (each.args for each in page.Button.return_value.click.call_args_list)
    id = there.chats.new("instruct").id
    summarize[0]()
    history = list(there.script("buttons").chat.generate_chat_reply_wrapper("", {"unique_id": id}))[-1][1]
    assert history == {"internal": [["Summarize our chat.", "*Short.*"]], "visible": [["(a summary)", "*Short.*"]]}
    there.script("buttons").chat.save_history(no_stars[0](history), id)
    assert there.chats.open(id).path()[1].meta["visible"] == "Short."
