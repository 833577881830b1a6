"""One name, one meaning: public names and texts use the field's terms, and the glossary is true."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.syntax import parsed

ROOT = Path(__file__).resolve().parents[1]

#: Words that were used once for what has a standard term. They are in no public name of a module, class or function.
OLD_WORDS = {
    "errand": "task",
    "lane": "branch",
    "shelf": "catalog",
    "workshop": "manager",
    "paper": "editor",
    "sheet": "state, view",
    "river": "flow",
    "odds": "top tokens",
    "surprise": "heatmap, perplexity",
    "told": "stream, describe",
    "strangers": "external, unknown, client",
    "person": "user profile",
    "dialogue": "client chat",
    "parked": "waiting",
    "foreign": "ignored",
    "leftovers": "cleanup",
    "mishaps": "unexpected errors",
    "beside": "attribute",
    "inbox": "body collector",
    "unborn": "empty",
    "nowhere": "cpu",
}
#: Names that say too little by themselves, or that meant several things.
OLD_NAMES = {
    "Place", "Line", "Stage", "Said", "Past", "Script", "Inside", "Turn", "Turns", "Looks", "Sight", "Live",
    "Answers", "Ask", "Opened", "Placed", "Held", "Kept", "Made", "Way", "Wish", "Run", "Plan", "Part", "Piece",
    "Window", "Chosen", "Growth", "Passing", "Stand", "Letter", "Room", "Gate", "Feed", "Errand", "Probe",
    "told", "said_in", "opened", "chosen", "made", "joined", "wanted", "taken", "given", "heard", "held",
    "grown", "tired",
}  # fmt: skip


@cache
def trees() -> dict[str, ast.Module]:
    tops = (ROOT / top for top in ("errors", "loaders", "modules", "installer"))
    files = [*ROOT.glob("*.py"), *(path for top in tops for path in top.rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): parsed(path) for path in files}


def public_names() -> Iterator[tuple[str, str]]:
    """(where, name) of modules, classes, functions and methods."""
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path, tree in trees().items():
        yield path, Path(path).stem
        for node in (each for each in tree.body if isinstance(each, named)):
            if not node.name.startswith("_"):
                yield path, node.name
                methods = node.body if isinstance(node, ast.ClassDef) else []
                for inner in (each for each in methods if isinstance(each, named)):
                    if not inner.name.startswith("_"):
                        yield f"{path}: {node.name}", inner.name


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_old_words_are_in_no_public_name() -> None:
    found = [f"{where}: {name}" for where, name in public_names() if words_of(name) & OLD_WORDS.keys()]
    assert found == []


def test_names_say_what_they_mean() -> None:
    found = [f"{where}: {name}" for where, name in public_names() if name in OLD_NAMES and ":" not in where]
    assert found == []


def test_no_class_name_means_two_things() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_the_glossary_names_what_is_there() -> None:
    rows = re.findall(r"(?m)^\| ([\w /-]+) \| `(\w+)` \|", (ROOT / "docs" / "glossary.md").read_text("utf-8"))
    classes = {node.name for tree in trees().values() for node in tree.body if isinstance(node, ast.ClassDef)}
    assert [name for _, name in rows if name not in classes] == []
    assert [term for term, _ in rows] == sorted(term for term, _ in rows)
    assert len(rows) >= 30


#: Phrases that users and API clients had to read twice; each with the standard wording. They are in no text of the
#: services, the loaders and the installer, and in no document.
OLD_PHRASES = {
    r"\bmend(s|ed)?\b": "fix",
    r"\blooks? at it\b": "check, inspect",
    r"\bthe house\b": "architecture",
    r"\briver\b": "flow chart",
    r"\bpapers\b": "documents",
    r"\blies? in(side)?\b": "is in",
    r"\bthere is nothing to\b": "nothing to ..., with what to do first",
    r"\bwanted here\b": "expected, required",
    r"\bis wanted\b": "expected, required",
    r"\bstands where\b": "expected ..., got ...",
    r"\bhalf a character\b": "lone surrogate",
    r"\bnot there any ?more\b": "no longer exists",
    r"\bmade anew\b": "created again",
    r"\bthrown? away\b": "deleted",
    r"\bpassed over\b": "skipped",
    r"\b(cannot|could not) be had\b": "is not available",
    r"\bthe system refuses\b": "access was denied",
    r"\ban answer of the hub\b": "response",
    r"\bfewer words than\b": "shorter",
    r"\bmake room\b": "free some disk space",
    r"\bis no (knob|field|preset|model|card|picture)\b": "is not a ...",
    r"\bnot a knob\b": "unknown option",
}
#: Not searched: texts of the page (modules/ui has tests of its own, as do labels and help of knobs).
PAGE_TEXTS = ("modules/ui/", "loaders/params.py", "loaders/exllamav2/options.py", "loaders/huggingface/options.py",
              "loaders/llamacpp/options.py", "modules/training/lora/settings.py", "modules/config/server_flags.py",
              "modules/config/settings.py")  # fmt: skip
#: A text to be read by a model, not by a person.
SAMPLE_TEXTS = ("The old bridge was closed last spring",)


def user_texts() -> Iterator[tuple[str, str]]:
    """(where, text) of string literals that are not docstrings: what errors, warnings, notes and prints are made of."""
    for path, tree in trees().items():
        if path.startswith(PAGE_TEXTS):
            continue
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
                continue
            if " " in node.value and not node.value.startswith(SAMPLE_TEXTS):
                yield f"{path}:{node.lineno}", node.value


def document_texts() -> Iterator[tuple[str, str]]:
    """(where, text) of the documents' own lines; tables that the program makes are tested where they are declared."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        made = False
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            made = (made or re.match(r"<!-- (\w+:begin|cards: made|zoo: made)", line) is not None) and not re.match(
                r"<!-- (\w+:end|/\w+) -->", line
            )
            if not made:
                yield f"{path.name}:{number}", line


@pytest.mark.parametrize("texts", [user_texts, document_texts])
def test_old_phrases_are_in_no_text(texts: Callable[[], Iterator[tuple[str, str]]]) -> None:
    old = re.compile("|".join(OLD_PHRASES), re.IGNORECASE)
    wrong = [f"{where}: {found[0]!r} in {text[:100]!r}" for where, text in texts() if (found := old.search(text))]
    assert not wrong, "\n".join(wrong)


#: Phrases that made docstrings and comments read like riddles, each with plain words. They are in no docstring and no
#: comment of the program; what stands in backticks is a name and is not searched.
DOC_PHRASES = {
    r"\banew\b": "again",
    r"\bbut for (the|an?|its|their|what|those)\b": "except",
    r"\bin vain\b": "without success",
    r"\bstrangers?\b": "client, other site, untrusted",
    r"\bbe had\b": "is available",
    r"\bready-made\b": "prebuilt",
    r"\b(lies|lay) (in|at|beside|there|under|below|elsewhere|behind)\b": "is in",
    r"\bthrow[ns]? away\b": "delete",
    r"\bin earnest\b": "really",
    r"\bthat (is|are) none\b": "is not a ..., is invalid",
    r"\bso many (bytes|tokens|steps|characters|seconds|times|rows|layers|blocks|cells|copies|of)\b": "this many",
    r"\bto the letter\b": "exactly",
    r"\bon trial\b": "tested",
    r"\b(makes?|made) room\b": "is dropped, is unloaded, frees space",
    r"\bgives? way\b": "yields, is replaced",
    r"\bhands? (on|out|over)\b": "pass, return",
    r"\b(go|goes|going|went|gone) on (with|where|as|from|after)\b": "continue, resume",
    r"\b(house|workshop|river|shelf|lane|errand)s?\b": "the terms of docs/glossary.md",
    r", for (it|they|there|who|that|he) ": ", because",
    r"\bwords? of (its|their) own\b": "its own message",
    r"\bwanted any ?more\b": "needed, cancelled",
    r"\bnobody \w+ any ?more\b": "no longer needed",
    r"\beldest\b": "oldest",
    r"\bhalf a (character|surrogate)\b": "lone surrogate",
    r"\bas (it|they) stands?\b": "unchanged, now",
    r"\btak(en?|es|ing) apart\b": "parse",
    r"\bgiv(en?|es|ing) back\b": "free, return",
    r"\blook(s|ed)? at (it|them|what)\b": "read, check, inspect",
    r"\bsees? to\b": "handle",
    r"\b(hold|holds|held) up\b": "delay, block",
    r"\b(tells?|told) of\b": "reports, describes",
    r"\bwho waits?\b": "the waiting request",
}


def doc_texts() -> Iterator[tuple[str, str]]:
    """(where, text) of docstrings and comments, on one line, without what is in backticks."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}: {getattr(node, 'name', '')}", " ".join(_plain(ast.get_docstring(node) or "").split())
        for token in tokenize.generate_tokens(io.StringIO((ROOT / path).read_text("utf-8")).readline):
            if token.type == tokenize.COMMENT:
                yield f"{path}:{token.start[0]}", _plain(token.string)


def _plain(text: str) -> str:
    return re.sub(r"`[^`]*`", "``", text)


def test_docstrings_are_no_riddles() -> None:
    """Inverted and archaic phrases that came again and again, found by this test and not by a reader."""
    old = re.compile("|".join(DOC_PHRASES), re.IGNORECASE)
    wrong = [f"{where}: {found[0]!r} in {text[:160]!r}" for where, text in doc_texts() if (found := old.search(text))]
    assert not wrong, "\n".join(wrong)


def test_docstrings_name_what_exists() -> None:
    """`Raises: X` and files in docstrings are names of today, not of before a renaming."""
    classes = {node.name for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    known = {*classes, *dir(builtins)}
    files = {Path(path).name for path in trees()}
    wrong = []
    for path, tree in trees().items():
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            for listed in re.findall(r"Raises:? ((?:[A-Z]\w+(?:, | and | or )?)+)", text):
                wrong += [f"{path}: {name}" for name in re.findall(r"[A-Z]\w+", listed) if name not in known | used]
            for name in re.findall(r"(?<![\w/])([a-z]\w*\.py)\b", text):
                if name not in files and name not in OTHERS_FILES:
                    wrong.append(f"{path}: {name}")
    assert not wrong, "\n".join(wrong)


#: Files that docstrings name and that are not of the program: of llama.cpp, and of an extension.
OTHERS_FILES = {"convert_lora_to_gguf.py", "convert_hf_to_gguf.py", "script.py"}


def test_documents_have_short_lines() -> None:
    """Prose has at most 120 characters per line, so that changes can be reviewed; tables and figures may have more."""
    free = ("|", "    ", "`python -m bench")
    found = [
        where for where, line in document_texts()
        if len(line) > 120 and not line.startswith(free) and not where.startswith("benchmarks.md")
    ]  # fmt: skip
    assert found == []


def test_no_part_of_a_sentence_is_lost() -> None:
    """A string on a line of its own is no part of the one above unless parentheses join them: it is never shown."""

    def is_text(node: ast.stmt) -> bool:
        value = node.value if isinstance(node, ast.Expr) else None
        return isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and value.value is not ...)

    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # its first statement may be a docstring
                found += [f"{path}:{each.lineno}" for each in body[1:] if is_text(each)]
    assert found == []


def test_old_words_are_in_no_name_of_the_page() -> None:
    """Classes and ids of the style sheets, and ids and classes that components get."""
    ui = ROOT / "modules" / "ui"
    found = []
    for file in sorted([*ui.glob("*.css"), *ui.rglob("*.py")]):
        text = file.read_text("utf-8")
        pattern = r"[.#]([a-z][\w-]*)" if file.suffix == ".css" else r"elem_(?:id|classes)=f?\"([^\"]*)\""
        found += [f"{file.name}: {name}" for name in re.findall(pattern, text) if words_of(name) & OLD_WORDS.keys()]
    assert found == []
