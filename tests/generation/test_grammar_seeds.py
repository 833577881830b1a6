"""With any seed, the output matches its grammar or schema: 50 seeds, on the real model; 20 of a schema, whose replies
are ten times as long.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from loaders.base import Model, Request
from loaders.params import SamplingParams
from modules.prompts.json_schema.text import schema_grammar

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(50)
SCHEMA = """{"type": "object", "required": ["name", "age", "tags"], "additionalProperties": false,
 "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer"},
 "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}}"""


def replies(model: Model, grammar: str, prompt: str, seeds: range = SEEDS) -> list[str]:
    """One reply per seed, at a temperature high enough to deviate where the grammar allows it."""
    ids = model.tokenizer.encode(prompt)
    made = []
    for start in range(0, len(seeds), 4):  # in parallel, because the engine has four sequences
        streams = [
            model.generate(
                Request(ids, SamplingParams(temperature=1.5, seed=seed, grammar_string=grammar), max_tokens=240)
            )
            for seed in seeds[start : start + 4]
        ]
        made += [
            b"".join(model.tokenizer.piece(token.id) for token in stream).decode("utf-8", "replace")
            for stream in streams
        ]
    return made


def test_a_schema_holds_for_every_seed(demo_model: Model) -> None:
    grammar, notes = schema_grammar(SCHEMA)
    assert not notes
    for text in replies(demo_model, grammar, "A person as JSON:\n", SEEDS[:20]):
        value = json.loads(text)
        assert set(value) == {"name", "age", "tags"}, text
        assert value["name"] in ("Ann", "Bob")
        assert isinstance(value["age"], int)
        assert len(value["tags"]) <= 3
        assert all(isinstance(each, bool) for each in value["tags"])


def test_a_grammar_holds_for_every_seed(demo_model: Model) -> None:
    grammar = (ROOT / "grammars" / "yes_or_no.gbnf").read_text(encoding="utf-8")
    made = replies(demo_model, grammar, "Is the sky blue? Answer yes or no:")
    assert all(re.fullmatch(r"\s*(yes|no)[.!]?\s*", text, re.IGNORECASE) for text in made), set(made)
    assert len({text.strip() for text in made}) > 1, "one answer for 50 seeds: nothing was sampled"
