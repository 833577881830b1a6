"""A knob is declared once: each test names the inconsistency that it would catch."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidInput
from loaders import LOADERS, loader_named
from loaders.list_parsing import parse_numbers, parse_quoted_strings, parse_token_ids
from loaders.params import GROUPS, LOAD_GROUPS, SAMPLERS, SamplingParams

ROOT = Path(__file__).resolve().parents[2]


def test_every_sampling_knob_has_a_known_group_and_help() -> None:
    for knob in SamplingParams.knobs().values():
        assert knob.group in GROUPS, knob.name
        assert len(knob.help) > 15, knob.name


def test_every_load_option_has_a_known_group_and_help() -> None:
    for loader in LOADERS.values():
        for knob in loader.Options.knobs().values():
            assert knob.group in LOAD_GROUPS, knob.name
            assert len(knob.help) > 15, knob.name


def test_defaults_lie_within_the_controls_range() -> None:
    for knob in SamplingParams.knobs().values():
        if knob.minimum is not None and knob.maximum is not None:
            assert knob.minimum <= knob.default <= knob.maximum, knob.name


def test_a_sampler_is_named_in_its_declaration_and_where_its_mathematics_is() -> None:
    """The original has xtc_probability in nine files: here it is in the declaration, in its mathematics, and in what
    other servers call it.
    """
    files = [
        path
        for folder in ("loaders", "modules")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bxtc_probability\b", path.read_text(encoding="utf-8"))
    ]
    assert {path.relative_to(ROOT).as_posix() for path in files} == {
        "loaders/params.py",
        "loaders/sampling/xtc.py",
        "loaders/remote/fields.py",
        "loaders/remote/kinds.py",
    }


def test_aliases_mean_the_knob_and_the_name_wins() -> None:
    assert SamplingParams.parse({"rep_pen": 1.2}).repetition_penalty == 1.2
    assert SamplingParams.parse({"rep_pen": 1.2, "repetition_penalty": 1.3}).repetition_penalty == 1.3


def test_a_value_out_of_bounds_is_a_sentence_that_names_the_knob() -> None:
    with pytest.raises(InvalidInput, match=r"top_p should be less than or equal to 1 \(got 1\.5\)"):
        SamplingParams.parse({"top_p": 1.5})
    with pytest.raises(InvalidInput, match="Unknown option temprature"):
        SamplingParams.parse({"temprature": 1})


def test_what_differs_from_the_defaults_is_all_that_is_kept() -> None:
    params = SamplingParams().changed(temperature=0.7, top_k=20)
    assert params.differing() == {"temperature": 0.7, "top_k": 20}
    assert SamplingParams.parse(params.differing()) == params


def test_sampler_priority_reads_lists_and_lines() -> None:
    assert SamplingParams.parse({"sampler_priority": "top_k\n min_p\n"}).sampler_priority == ("top_k", "min_p")
    assert SamplingParams.parse({"sampler_priority": ["top_k"]}).sampler_priority == ("top_k",)
    assert SamplingParams().sampler_priority == SAMPLERS


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        ("", []),
        (r'"\n", "\nYou:"', ["\n", "\nYou:"]),
        (r"'a', 'b'", ["a", "b"]),
        (r'["\n", ":", "\"", "*"]', ["\n", ":", '"', "*"]),
    ],
)
def test_quoted_strings(text: str, strings: list[str]) -> None:
    assert parse_quoted_strings(text) == strings


@pytest.mark.parametrize(("text", "numbers"), [("", []), (" 20, 7.5 ,7, ", [20, 7.5, 7]), ("inf,-1", [math.inf, -1])])
def test_numbers(text: str, numbers: list[float]) -> None:
    assert parse_numbers("gpu_split", text, unit="gigabytes", example="20,7,7") == numbers


@pytest.mark.parametrize("text", ["lots", "20,,7", "20;7"])
def test_numbers_that_are_none(text: str) -> None:
    """Nothing between two commas would move all that follows to another GPU."""
    with pytest.raises(InvalidInput, match="gpu_split must be a list of gigabytes such as 20,7,7"):
        parse_numbers("gpu_split", text, unit="gigabytes", example="20,7,7")


@given(st.text(max_size=40))
def test_quoted_strings_either_read_or_explain(text: str) -> None:
    try:
        assert all(isinstance(string, str) for string in parse_quoted_strings(text))
    except InvalidInput as error:
        assert "quotes" in str(error)


def test_lists_are_bounded_for_they_are_read_where_all_replies_are_decoded() -> None:
    with pytest.raises(InvalidInput, match="Invalid list of"):
        parse_quoted_strings(",".join(f'"x{each}"' for each in range(10_000)))
    with pytest.raises(InvalidInput, match="Invalid list of"):
        parse_token_ids("1," * 2_000_000)
    assert len(parse_token_ids(",".join(map(str, range(250_000))))) == 250_000


def test_token_ids() -> None:
    assert parse_token_ids(" 1, 2,3,") == [1, 2, 3]
    with pytest.raises(InvalidInput, match="must be integers"):
        parse_token_ids("1, x")


@pytest.mark.parametrize("spelling", ["llama.cpp", "llamacpp", "Llama-CPP", "llama_cpp"])
def test_loader_names_are_read_tolerantly(spelling: str) -> None:
    assert loader_named(spelling).name == "llama.cpp"


def test_bare_strings_where_they_may_stand() -> None:
    assert parse_quoted_strings("a, b", bare=True) == ["a", "b"]
    assert parse_quoted_strings('"a", "\\n"', bare=True) == ["a", "\n"]
    with pytest.raises(InvalidInput):
        parse_quoted_strings("a, b")
