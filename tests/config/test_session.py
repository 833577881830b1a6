"""Flags toggled for the next start: the line in CMD_FLAGS.txt, and the arguments of a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import UnknownFlag, UserError
from loaders import LOADERS
from loaders.params import SamplingParams
from modules.app import App
from modules.config.flags import read_flags
from modules.config.session import MARK, Session, merge_flags
from modules.config.yaml_file import read_mapping


def session(root: Path, *argv: str) -> Session:
    return Session(root, argv, read_flags(argv, root, LOADERS), LOADERS, root / "settings.yaml")


def test_own_lines_stay_and_the_line_of_the_tab_is_one() -> None:
    text = "# mine\n--api --n-ctx 4096\n"
    once = merge_flags(text, {"api": False, "verbose": True, "extensions": ["a", "b"]})
    assert once == f"{text}{MARK}\n--api=false --verbose --extensions=a,b\n"
    assert merge_flags(once, {"api": True, "verbose": False, "extensions": []}) == f"{text}{MARK}\n--api\n"
    assert merge_flags("", {"api": False, "extensions": []}) == "\n"
    assert merge_flags("# --api\n", {"api": False}) == "# --api\n"


@pytest.mark.parametrize("preset", ["LLaMA-Precise", "broken", "../x", "None"])
def test_a_preset_that_cannot_be_used_costs_no_other_start_value(tmp_path: Path, preset: str) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "broken.yaml").write_text("- a list")
    (tmp_path / "settings.yaml").write_text(f"preset: {preset}\ntop_k: 7\n")
    app = App.build(tmp_path, ["--temperature", "0.3"])
    try:
        assert app.starting_params() == SamplingParams(top_k=7, temperature=0.3)
        assert "its parameters start neutral" in " ".join(app.notes)
    finally:
        app.close()


def test_a_restart_changes_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    now = session(tmp_path, "--listen-port", "7999", "--api", "--extensions", "old")
    now.restart(["verbose"], ["a", "b"], keep=False)
    assert now.asked.is_set()
    launch = read_flags(now.argv, tmp_path, LOADERS)
    flags = launch.server
    assert (flags.verbose, flags.api, flags.listen_port, flags.extensions) == (True, False, 7999, ("a", "b"))
    assert not (tmp_path / "CMD_FLAGS.txt").exists()
    now.restart(["api"], [], keep=True)
    flags = read_flags(now.argv, tmp_path, LOADERS).server
    assert (flags.verbose, flags.api, flags.extensions) == (False, True, ())
    assert len(now.argv) == len(set(now.argv)), "they do not pile up"
    kept = read_flags([], tmp_path, LOADERS).server
    assert (kept.api, kept.verbose) == (True, False)


def test_the_model_in_memory_comes_back_and_not_the_one_of_this_start(tmp_path: Path) -> None:
    for argv in (["--model", "first.gguf"], ["--model=first.gguf"]):
        now = session(tmp_path, *argv)
        now.restart([], [], keep=False)
        assert read_flags(now.argv, tmp_path, LOADERS).server.model == ""


def test_an_extension_of_the_settings_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("default_extensions: [gallery, other]\n")
    now = session(tmp_path)
    now.restart([], ["other"], keep=False)
    assert read_flags(now.argv, tmp_path, LOADERS).server.extensions == ("-gallery", "other")


def test_a_flag_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "CMD_FLAGS.txt").write_text("--api\n")
    now = session(tmp_path)
    with pytest.raises(UnknownFlag, match=r"on line 2 of CMD_FLAGS\.txt"):
        now.save_flags("--api\n--verbos\n")
    assert (tmp_path / "CMD_FLAGS.txt").read_text() == "--api\n"
    now.save_flags("--api\n--verbose")
    assert (tmp_path / "CMD_FLAGS.txt").read_text() == "--api\n--verbose\n"
    (tmp_path / "CMD_FLAGS.txt").write_text('--model "half\n')
    with pytest.raises(UserError):
        now.restart(["api"], [], keep=True)
    assert not now.asked.is_set()


def test_what_would_take_the_page_away_cannot_be_toggled() -> None:
    names = {knob.name for knob in Session.switches()}
    assert {"api", "listen", "verbose"} <= names
    assert not names & {"nowebui", "model_menu"}


def test_a_menu_with_nothing_selected_leaves_its_setting(tmp_path: Path) -> None:
    """As the preset menu after its preset was deleted, the one in settings.yaml, too."""
    app = App.build(tmp_path, [])
    try:
        before = app.settings
        after = app.settings_with({"preset": None, "character": None, "dark_theme": True}, SamplingParams())
        assert (after.preset, after.character, after.dark_theme) == (before.preset, before.character, True)
    finally:
        app.close()


def test_settings_are_changed_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("mode: chat\nmine: 1\n")
    now = session(tmp_path)
    now.change_settings(language="de")
    assert read_mapping(file) == {"mode": "chat", "mine": 1, "language": "de"}
