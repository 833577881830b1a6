"""Sentences of the services, in the page's language: the catalog has those that the services say, and they arrive."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import cache

import pytest

import errors
from loaders.forecast import DeviceForecast, describe_forecast
from loaders.llamacpp.engine.attention import KernelTiming
from loaders.llamacpp.engine.threads import find_fastest
from loaders.llamacpp.placement.memory_use import describe_memory_use
from loaders.params import SamplingParams
from modules.ui.chat.view import facts_line
from modules.ui.model.catalog_view import notes_html
from modules.ui.parts.error_text import error_text
from modules.ui.parts.sentences import translated
from modules.ui.texts import Page, language_choices, load_texts, read_catalog
from tests.syntax import parsed
from tests.ui.conftest import ROOT

OTHERS = [code for _, code in language_choices() if code != "en"]
SERVICES = ("errors", "loaders", "modules")

MEMORY = describe_forecast(
    (DeviceForecast("memory", 300_000_000, 20_000_000, 0, 16_400_000_000),),
    "running on the CPU: llama.cpp finds no GPU; context: 2,048 tokens, as requested",
)
#: What services say, in parts and nested.
SAID = (
    MEMORY,
    describe_forecast((DeviceForecast("Card", 9_000_000_000, 0, 0, 8_000_000_000),), "7 of 33 layers on Card"),
    describe_memory_use({("CPU", "model"): 100_000_000, ("CPU", "KV"): 40_000_000}, {}),
    find_fastest(lambda _: None, (1, 2), iter(range(10_000)).__next__)[1],
    KernelTiming(1.0, 2.0).in_words(),
    KernelTiming(2.0, 1.0).in_words() + ", with one thread: other programs were busy",
    "from the prompt cache in memory, 1,200 of them read ahead",
    "3 older messages were left out: the prompt may use at most 1,792 tokens of the context.",
    str(errors.NotEnoughMemory("a.gguf", 12_345_000_000, 2_000_000_000, "Lower n_ctx, or use a smaller model.")),
    str(errors.ModelFileError("a.gguf", "its header is damaged or incomplete. Download it again.")),
    str(errors.UnknownName("preset", "simpel", ["simple"])),
    str(errors.EngineDied("memory ran out")),
    "from config-user.yaml; from the flags: n_ctx",
    "Of 49,152 candidates: temperature 0.7 kept 49,152, shifted 12 %; most likely now: ·Paris with 41 %, out of 20 "
    "remaining.",
)


@pytest.fixture
def german() -> Iterator[None]:
    with Page(load_texts("de"), analytics_enabled=False):
        yield


@cache
def words_by_file() -> dict[str, set[str]]:
    """The words of all strings of each file of the services."""
    found = {}
    for folder in SERVICES:
        for file in (ROOT / folder).rglob("*.py"):
            if "ui" in file.relative_to(ROOT).parts:
                continue
            constants = (each.value for each in ast.walk(parsed(file)) if isinstance(each, ast.Constant))
            found[str(file)] = words(" ".join(each for each in constants if isinstance(each, str)))
    return found


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z_]{2,}", text.lower()))


def literal(sentence: str) -> str:
    return " ".join(text for text, *_ in string.Formatter().parse(sentence))


def test_a_sentence_of_the_catalog_is_one_of_a_service() -> None:
    strange = {
        key: form
        for key, entry in read_catalog("en").items()
        if key.startswith("said.") and not key.startswith("said.knob.")  # pydantic's, see below
        for form in ([entry] if isinstance(entry, str) else entry.values())
        if not any(words(literal(form)) <= known for known in words_by_file().values())
    }
    assert strange == {}


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("sentence", SAID)
def test_what_a_service_says_is_whole_in_every_language(sentence: str, code: str) -> None:
    with Page(load_texts(code), analytics_enabled=False):
        said = translated(sentence)
    english = {"the", "of", "is", "are", "it", "with", "from", "to", "as", "by", "model", "memory", "tokens", "free"}
    assert words(said) & english == set()


def test_a_sentence_in_parts(german: None) -> None:
    assert translated(MEMORY) == (
        "Es passt: 0,32 von 16,4 GB freiem Arbeitsspeicher. Läuft auf der CPU: llama.cpp findet keine GPU; "
        "Kontext: 2.048 Token, wie verlangt."
    )


def test_what_no_catalog_has_stays(german: None) -> None:
    for text in ("", "a.gguf", "Ünï: cödé. 1,234.5; x", "As the user likes", "x" * 5000, "1. 2, 3: 4; 5."):
        assert translated(text) == text
    assert translated("a.gguf cannot be loaded: something new") == "a.gguf kann nicht geladen werden: something new"


def test_in_english_nothing_changes() -> None:
    assert [translated(each) for each in SAID] == list(SAID)


def test_a_load_that_failed_and_what_was_decided_are_told_in_the_pages_language(german: None) -> None:
    why = str(
        errors.ModelFileError("a.gguf", "it is not a GGUF file. Choose another loader, or a file that ends in .gguf.")
    )
    assert "kann nicht geladen werden: es ist keine GGUF-Datei" in notes_html((), why, "a")
    assert "Kontext: 2.048 Token, wie verlangt" in notes_html(("context: 2,048 tokens, as requested",), "", "a")


def test_a_stored_reply_is_told_in_the_pages_language(german: None) -> None:
    note = "1 older message was left out: the prompt may use at most 1,792 tokens of the context."
    line = facts_line({"new_tokens": 5, "prompt_tokens": 20, "reuse_reason": "the cache was empty", "notes": [note]})
    assert "der Cache war leer" in line
    assert "1 ältere Nachricht wurde weggelassen" in line


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("values", [{"top_p": 2}, {"top_p": -1}, {"top_k": "x"}, {"top_k": 1.5}, {"min_p": "x"}])
def test_a_value_out_of_its_bounds_is_refused_in_the_pages_language(code: str, values: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidInput) as wrong:
        SamplingParams.parse(values)
    with Page(load_texts(code), analytics_enabled=False):
        assert not words(error_text(wrong.value)) & {"should", "be", "got", "is", "large", "valid"}


def test_an_error_is_told_with_what_it_quotes(german: None) -> None:
    error = errors.NotEnoughMemory("a", 2_000_000_000, 1_000_000_000, "Lower n_ctx, or use a smaller model.")
    assert error_text(error).endswith("Verringern Sie n_ctx, oder nehmen Sie ein kleineres Modell.")
    error.add("It had just been reloaded.")  # no key has the two together
    assert error_text(error).startswith("a braucht etwa 2,0 GB Speicher")
