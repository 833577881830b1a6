"""The page's texts: code and catalogs have the same keys, every language is complete, and the page is in its
language.
"""

from __future__ import annotations

import ast
import html
import json
import pickle
import re
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

import errors
from loaders import LOADERS
from loaders.params import SamplingParams
from modules.chat.prompt.build import COMMAND
from modules.training.lora.settings import LoraSettings
from modules.ui import texts
from modules.ui.texts import Entry, Texts, declared_texts, language_choices, load_texts, plural_form, read_catalog
from tests.syntax import parsed
from tests.ui.conftest import ROOT, new_root

ERRORS = (
    errors.BadFile("a.json", "it is empty"),
    errors.NotWritable("a.json", OSError(13, "no permission")),
    errors.NoModelLoaded(),
    errors.NoModelLoaded(why="It ended."),
    errors.NoModelLoaded(loading=True),
    errors.ModelFileError("a.gguf", "it is cut off."),
    errors.NotEnoughMemory("a.gguf", 12_345_000_000, 2_000_000_000, "Close something."),
    errors.LoadCancelled(),
    errors.LoadCancelled("zoo.gguf"),
    errors.ModelBusy("loaded"),
    errors.ModelBusy("unloaded"),
    errors.ModelClosed(),
    errors.EngineFailed("it is broken."),
    errors.EngineDied("it ran out of memory"),
    errors.OutOfGpuMemory(),
    errors.EmptyPrompt(),
    errors.PromptTooLong(12_345, 2_000),
    errors.PromptTooLong(12_345, 2_000, "Split it."),
    errors.PromptTooLong(12_345, 0, more="take another model"),
    errors.PromptTooLong(12_345, 0, "Split it."),
    errors.ConversationChanged(),
    errors.FetchFailed("a/b", "no network", "Try again."),
)
OTHERS = [code for _, code in language_choices() if code != "en"]
FORMS = {"de": {"one", "other"}, "ru": {"one", "few", "many"}}
#: Sections that are taken as a whole: by the page's script, and for the services' sentences.
WHOLE = ("script.", "tip.", "said.")

# in a process of its own: gradio closes a page's event loop only when the page was served
_BUILD = """
import json, sys
from pathlib import Path
import gradio as gr
from modules.app import App
from modules.ui import build_page
root, shown = Path(sys.argv[1]), {}
settings = (root / "settings.yaml").read_text(encoding="utf-8")
for code in sys.argv[2:]:
    (root / "settings.yaml").write_text(f"{settings}language: {code}", encoding="utf-8")
    found = shown[code] = []
    for block in build_page(App.build(root, ["--model", "none"])).blocks.values():
        found += [getattr(block, name, None) for name in ("label", "info", "placeholder")]
        found += [block.value] if isinstance(block, gr.Button) else []
        found += [f"<{block.value}>"] if isinstance(block, gr.HTML) else []
        found += [each[0] for each in getattr(block, "choices", None) or () if each[0] != each[1]]
print(json.dumps({code: sorted({each for each in found if isinstance(each, str)}) for code, found in shown.items()}))
"""

#: What a page says in every language, besides names of knobs: names of languages, programs, files and keys; what is
#: said to the model; and the label of a field that is never seen.
STAYS = {
    "CMD_FLAGS.txt", "Deutsch", "English", "ExLlamaV2", "Gradio", "LF", "Python", "Torch", "Transformers", "llama.cpp",
    "none", "Alt Enter", "Ctrl Enter", "Enter", "Esc", "Shift Enter", "down_proj", "gate_proj", "up_proj",
    "Returned", "http://127.0.0.1:7860", "python server.py --help", COMMAND,
}  # fmt: skip


@cache
def asked() -> set[str]:
    """Every key that code asks for; `*` stands for what a key is put together from."""
    found: set[str] = set()
    for file in (ROOT / "modules" / "ui").rglob("*.py"):
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                found.update(_patterns(node.args[0]))
    return found - {"*"}


def _patterns(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(value)):
            yield value
        case ast.JoinedStr(values=values):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "*" for each in values)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _patterns(body)
            yield from _patterns(orelse)
        case _:
            yield "*"


@cache
def strings() -> set[str]:
    """Every string of the page's code: keys also stand in tables."""
    trees = (parsed(file) for file in (ROOT / "modules" / "ui").rglob("*.py"))
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def placeholders(entry: Entry) -> set[str]:
    forms = [entry] if isinstance(entry, str) else list(entry.values())
    return {name for each in forms for _, name, _, _ in string.Formatter().parse(each) if name}


def test_every_key_that_code_asks_for_is_there() -> None:
    known = {**declared_texts(), **read_catalog("en")}
    assert not {key for key in asked() if not any(fnmatchcase(each, key) for each in known)}


def test_no_key_is_left_over() -> None:
    patterns = {key for key in asked() if "*" in key}
    left = {
        key
        for key in read_catalog("en")
        if key not in strings() and not key.startswith(WHOLE) and not any(fnmatchcase(key, each) for each in patterns)
    }
    assert left == {"name", "number.decimal", "number.thousands"} - strings()


def test_an_error_has_one_sentence_and_is_told_in_every_language() -> None:
    for error in ERRORS:
        again = pickle.loads(pickle.dumps(error))  # it may come from a model's process
        key, fields = again.told
        assert load_texts("en")(f"error.{key}", **fields) == str(error)
        for code in OTHERS:
            said = load_texts(code)(f"error.{key}", **fields)
            assert said != str(error)
            assert all(str(each) in said for each in fields.values() if isinstance(each, str))
    assert {error.told[0] for error in ERRORS if error.told} == set(load_texts("en").section("error"))


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_is_whole(code: str) -> None:
    english, other = {**declared_texts(), **read_catalog("en")}, read_catalog(code)
    assert sorted(english.keys() - other.keys()) == [], "missing"
    assert sorted(other.keys() - english.keys()) == [], "of no use"
    declared = declared_texts().keys()
    wrong = {key for key in english if key not in declared and placeholders(english[key]) != placeholders(other[key])}
    assert wrong == set()
    plural = {key: set(entry) for key, entry in other.items() if not isinstance(entry, str)}
    assert plural.keys() == {key for key, entry in english.items() if not isinstance(entry, str)}
    assert {key for key, forms in plural.items() if forms != FORMS.get(code, {"one", "other"})} == set()


@pytest.mark.parametrize("code", OTHERS)
def test_a_translated_help_names_the_same_options_and_values(code: str) -> None:
    """Else it is that of an earlier meaning."""
    knobs = [
        each
        for kind in (SamplingParams, *(loader.Options for loader in LOADERS.values()))
        for each in kind.knobs().values()
    ]
    values = {value for knob in knobs for value in knob.choices if len(value) > 3 and value.isascii()}
    values -= {"auto", "none", "default", "same", "layer"}  # words of a language, too

    def named(text: str) -> set[str]:
        return {word for word in re.findall(r"[a-z][\w-]*", text, re.ASCII) if "_" in word or word in values}

    other = read_catalog(code)
    wrong = {key for key, text in declared_texts().items() if named(text) != named(str(other[key]))}
    assert wrong == set()


def test_a_number_takes_its_form_and_the_separators_of_the_language() -> None:
    assert [plural_form("ru", n) for n in (1, 2, 5, 11, 12, 21, 22, 111)] == [
        "one", "few", "many", "many", "many", "one", "few", "many",
    ]  # fmt: skip
    assert [load_texts(code)("unit.tokens", n=1234) for code in ("en", "de")] == ["1,234 tokens", "1.234 Token"]
    assert load_texts("ru")("unit.gb", n=1.5e0) == "1,5 ГБ"
    assert load_texts("en")("unit.tokens", n=1) == "1 token"


def test_what_a_language_lacks_is_english_and_so_is_a_strange_code() -> None:
    lacking = Texts("ru", {}, load_texts("en").entries)
    assert lacking("unit.tokens", n=2) == "2 tokens"
    assert load_texts("../en").code == "en"
    assert language_choices()[0] == ("English", "en")
    assert ("Русский", "ru") in language_choices()
    with pytest.raises(KeyError):
        texts.tr("no.such.key")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, demo_model_path: Path) -> dict[str, set[str]]:
    """The words of the page in each language, line by line."""
    root = new_root(tmp_path_factory.mktemp("pages"), demo_model_path)
    command = [sys.executable, "-c", _BUILD, str(root), "en", *OTHERS]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=True)
    return {code: set(_words(found)) for code, found in json.loads(made.stdout.splitlines()[-1]).items()}


def _words(found: Iterable[str]) -> Iterator[str]:
    for each in found:
        lines = re.sub(r"<style>.*?</style>|<[^<>]*>", "\n", each[1:-1]).split("\n") if each.startswith("<") else [each]
        yield from (html.unescape(line).strip() for line in lines if re.match(r"\s*[A-Za-z]{2}", line))


@pytest.mark.parametrize("code", OTHERS)
def test_a_page_is_in_its_language(code: str, shown: dict[str, set[str]]) -> None:
    other, english = read_catalog(code), {**declared_texts(), **read_catalog("en")}
    same = {each for key, each in english.items() if isinstance(each, str) and each == other[key]}
    left = (shown["en"] & shown[code]) - same
    kinds = (SamplingParams, LoraSettings, *(each.Options for each in LOADERS.values()))
    assert len(shown["en"]) > 400
    presets = {file.stem for file in (ROOT / "presets").glob("*.yaml")}
    assert left - {name for kind in kinds for name in kind.knobs()} - presets - STAYS == set()
