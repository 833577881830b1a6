"""Characters: current files, those of older programs, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import BadFile, InvalidName, UnknownName
from modules.chat.characters import Characters, insert_names
from modules.config.paths import Paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "characters").mkdir()
    return tmp_path / "characters"


@pytest.fixture
def characters(tmp_path: Path, folder: Path) -> Characters:
    return Characters(Paths.under(tmp_path))


def test_the_shipped_assistant() -> None:
    assistant = Characters(Paths.under(ROOT)).load("Assistant")
    assert (assistant.file, assistant.name) == ("Assistant", "AI")
    assert assistant.greeting
    assert "{{char}}" in assistant.context


def test_the_assistant_is_there_without_its_file(characters: Characters) -> None:
    assert characters.names() == ["Assistant"]
    assert characters.load("Assistant").name == "AI"


def test_a_character_with_a_picture(characters: Characters, folder: Path) -> None:
    (folder / "Ann.yaml").write_text("name: Ann B\ngreeting: |-\n  Hi\n  you\ncontext: A friend.\nyour_name: Bo\n")
    (folder / "Ann.png").write_bytes(b"")
    ann = characters.load("Ann")
    assert (ann.name, ann.greeting, ann.context, ann.your_name) == ("Ann B", "Hi\nyou", "A friend.", "Bo")
    assert ann.picture == folder / "Ann.png"


def test_older_spellings(characters: Characters, folder: Path) -> None:
    old = {
        "char_name": "Old",
        "char_persona": "Grumpy.",
        "char_greeting": "Hm.",
        "world_scenario": "A cave.",
        "example_dialogue": "{{user}}: Hi\n{{char}}: Hm.",
    }
    (folder / "Old.json").write_text(json.dumps(old, indent="\t"))
    character = characters.load("Old")
    assert (character.name, character.greeting) == ("Old", "Hm.")
    assert character.context == "Old's Persona: Grumpy.\nScenario: A cave.\n{{user}}: Hi\n{{char}}: Hm."
    (folder / "older.yml").write_text("bot: Older\n")
    assert characters.load("older").name == "Older"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "a: !!python/object/apply:os.system [id]"),
        ("a.yaml", "- 1"),
        ("a.json", "{"),
        ("a.json", "[]"),
        ("a.json", "[" * 100_000),
        ("a.yaml", "\udcff"),
    ],
)
def test_a_broken_one_is_a_sentence(characters: Characters, folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadFile):
        characters.load("a")


def test_names_from_outside(characters: Characters) -> None:
    with pytest.raises(UnknownName, match="Did you mean Assistant"):
        characters.load("Asistant")
    with pytest.raises(InvalidName):
        characters.load("../../secret")


def test_names_are_put_in() -> None:
    text = "{{user}} meets {{Char}}, <USER> sees <BOT>; {{other}} stays"
    assert insert_names(text, "A{{char}}", "B") == "A{{char}} meets B, A{{char}} sees B; {{other}} stays"
