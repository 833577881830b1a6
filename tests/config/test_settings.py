"""settings.yaml: validated when read, and unknown keys are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import BadFile, InvalidInput
from loaders.params import SamplingParams
from modules.config import ignored_settings
from modules.config.ignored_settings import SeenNotes
from modules.config.settings import Settings, find_settings_file
from modules.config.yaml_file import read_mapping


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_without_a_file(tmp_path: Path) -> None:
    settings, notes = Settings.read(tmp_path / "settings.yaml")
    assert (settings.mode, settings.preset, settings.character) == ("instruct", "simple-1", "Assistant")
    assert notes == ()
    assert settings.sampling == {}


def test_the_originals_file_is_understood(tmp_path: Path) -> None:
    settings, notes = Settings.read(
        write(
            tmp_path,
            "dark_theme: false\nmode: chat-instruct\nprompt-default: Alpaca\nchat-instruct_command: 'Go on'\n"
            "max_new_tokens: 200\ntypical: 0.5\ndefault_extensions:\n- gallery\nseed: '42'\n",
        )
    )
    assert settings.dark_theme is False
    assert settings.mode == "chat-instruct"
    assert settings.prompt_default == "Alpaca"
    assert settings.chat_instruct_command == "Go on"
    assert settings.default_extensions == ("gallery",)
    assert settings.sampling == {"max_new_tokens": 200, "typical_p": 0.5, "seed": 42}
    assert notes == ()


@pytest.mark.parametrize("length", [2048, 8192, 0, "2048", None])
def test_a_models_context_replaces_the_originals_truncation_length(tmp_path: Path, length: object) -> None:
    """In the original, the next load replaces it; a limit saved here stays in addition."""
    path = write(tmp_path, f"truncation_length: {length}\n")
    settings, notes = Settings.read(path)
    assert (settings.sampling, notes) == ({}, ())
    settings.with_sampling({"truncation_length": 1024}).write(path)
    again, notes = Settings.read(path)
    assert (again.sampling, notes) == ({"truncation_length": 1024}, ())
    assert list(read_mapping(path)) == ["truncation_length", "context_limit"]


def test_an_empty_start_value_is_nothing_to_tell(tmp_path: Path) -> None:
    settings, notes = Settings.read(write(tmp_path, "custom_stopping_strings: ''\ncustom_token_bans: ''\n"))
    assert (notes, settings.ignored) == ((), ())
    assert SamplingParams().changed(**settings.sampling) == SamplingParams()


def test_strangers_are_noted_and_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "gallery-open: true\nmoed: chat\nname1: Ada\n")
    settings, notes = Settings.read(path)
    assert len(notes) == 1
    assert "gallery-open" in notes[0]
    assert "moed - did you mean mode?" in notes[0]
    settings.changed(preset="Yara").write(path)
    assert read_mapping(path) == {"gallery-open": True, "moed": "chat", "name1": "Ada", "preset": "Yara"}


def test_the_originals_settings_without_a_meaning_are_noted_once_per_change(tmp_path: Path) -> None:
    """What needs no action is no line at each start; the file keeps it."""
    path = write(tmp_path, "enable_web_search: false\nimage_steps: 9\nname2: AI\nuser: Default\nspellcheck: true\n")
    seen = tmp_path / "cache" / "seen"
    seen.parent.mkdir()
    settings, notes = Settings.read(path)
    assert notes == ()
    first = SeenNotes(seen).unseen(settings.ignored)
    assert len(first) == 1
    assert "enable_web_search, image_steps, name2, spellcheck, user" in first[0]
    assert SeenNotes(seen).unseen(Settings.read(path)[0].ignored) == ()
    settings.changed(preset="Yara").write(path)
    assert SeenNotes(seen).unseen(Settings.read(path)[0].ignored) == ()
    assert read_mapping(path)["image_steps"] == 9
    path.write_text("image_steps: 9\nmcp_servers: x\n", encoding="utf-8")
    assert len(SeenNotes(seen).unseen(Settings.read(path)[0].ignored)) == 1
    assert Settings.read(write(tmp_path, "name1: Ann\n"))[0].ignored == ()


@pytest.mark.parametrize("name", sorted(ignored_settings._NAMES))
def test_no_setting_with_a_meaning_is_called_ignored(name: str) -> None:
    assert name not in {**Settings.spellings(), **SamplingParams.spellings()}


def test_a_bad_value_is_noted_and_the_default_used(tmp_path: Path) -> None:
    settings, notes = Settings.read(write(tmp_path, "mode: loud\nmax_new_tokens: many\nname1: Ada\n"))
    assert settings.mode == "instruct"
    assert settings.name1 == "Ada"
    assert settings.sampling == {}
    assert [note.startswith("settings.yaml: ") for note in notes] == [True, True]
    assert "mode" in notes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode: cai-chat", {"mode": "chat"}),
        ("mode: null\nname1: null\nseed: null\nprompt-notebook: null\npreset: null\ndefault_extensions: null", {}),
        ("name1: 42\ncharacter: 2024\npreset: 5\nprompt-default: 7", {
            "name1": "42", "character": "2024", "preset": "5", "prompt_default": "7"
        }),
        ("user_bio: I climb.\nname1: Ann", {"user_bio": "I climb.", "name1": "Ann"}),
        ("enable_thinking: false\nreasoning_effort: high", {"thinking": False, "effort": "high"}),
    ],
)  # fmt: skip
def test_values_that_versions_of_the_original_have_written(
    tmp_path: Path, text: str, expected: dict[str, object]
) -> None:
    """Old names of modes, null for nothing, numbers as names; what is written is kept."""
    path = write(tmp_path, text)
    before = read_mapping(path)
    settings, notes = Settings.read(path)
    assert (settings.differing(), notes) == (expected, ())
    settings.changed(show_controls=False).write(path)
    after = read_mapping(path)
    assert {each for each in before if before[each] is None} <= {each for each in after if after[each] is None}


def test_writing_and_reading_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    settings = Settings().changed(mode="chat", prompt_default="X", default_extensions=("a", "b"), effort="low")
    settings = settings.with_sampling({"temperature": 0.5, "dry_sequence_breakers": '"\\n"'})
    settings.write(path)
    assert "prompt-default: X" in path.read_text()
    assert "reasoning_effort: low" in path.read_text()
    assert Settings.read(path) == (settings, ())


def test_values_are_checked_when_changed() -> None:
    with pytest.raises(InvalidInput, match="mode"):
        Settings().changed(mode="loud")
    with pytest.raises(InvalidInput, match="top_p"):
        Settings().with_sampling({"top_p": 2})


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b", "just text", "\tx: 1", "a: !!python/object:os.system {}"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadFile, match=r"settings\.yaml cannot be read: "):
        Settings.read(write(tmp_path, text))


def test_the_file_is_found(tmp_path: Path) -> None:
    assert find_settings_file(tmp_path, "") == tmp_path / "settings.yaml"
    (tmp_path / "settings.json").write_text('{"name1": "Ada"}')
    assert find_settings_file(tmp_path, "") == tmp_path / "settings.json"
    assert Settings.read(find_settings_file(tmp_path, ""))[0].name1 == "Ada"
    write(tmp_path, "")
    assert find_settings_file(tmp_path, "") == tmp_path / "settings.yaml"
    with pytest.raises(BadFile, match="no such file"):
        find_settings_file(tmp_path, "mine.yaml")
