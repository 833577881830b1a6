"""Grammar validation: it agrees with llama.cpp on what is valid, and reports where an invalid grammar is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from loaders import gbnf
from loaders.base import Model
from modules.prompts.json_schema.text import line_of_pointer, schema_grammar

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "grammars").glob("*.gbnf"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_ones_are_sound_and_the_engine_takes_them(path: Path, demo_model: Model) -> None:
    text = path.read_text(encoding="utf-8")
    assert gbnf.check_grammar(text) == []
    assert gbnf.count_rules(text) > 0
    allowed = demo_model.grammar_start(text)
    assert 0 < allowed.sum() < len(allowed)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('root ::= "a', 1, "not closed"),
        ('root ::= "a"\nroot2 := "b"', 2, "::="),
        ("root ::= thing\n", 1, "undefined rule thing"),
        ('start ::= "a"', 1, "no rule named root"),
        ('root ::= "a" (\n"b"', 1, ""),
        ("root ::= [a-\n", 1, ""),
        ('root ::= "a"{3,1}', 1, ""),
        ('root ::= root "a"', 1, "starts with itself"),
        ('root ::= ("")*', 1, "repeat forever"),
        ('root ::= "\\q"', 1, ""),
        ('root ::= "a"{999999}', 1, ""),
        ("root ::= " + "(" * 500 + '"a"' + ")" * 500, 1, ""),
    ],
)
def test_a_problem_has_its_line(text: str, line: int, says: str) -> None:
    problems = gbnf.check_grammar(text)
    assert problems, text[:60]
    assert problems[0].line == line
    assert says in str(problems[0])


def test_a_schema_that_fails_is_told_with_its_line() -> None:
    with pytest.raises(Exception, match="line 2"):
        schema_grammar('{"type": "object",\n "properties": }')
    text = '{\n "type": "object",\n "properties": {\n  "a": {"type": "nothing"}\n }\n}'
    assert line_of_pointer(text, "#/properties/a/type") == 4
    with pytest.raises(Exception, match="line 4"):
        schema_grammar(text)
