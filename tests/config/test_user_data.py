"""--user-data-dir: all of the user's files in another folder, and nothing written beside server.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import server
from errors import InvalidInput
from loaders import LOADERS
from loaders.llamacpp.engine import disk_cache
from loaders.params import SamplingParams
from modules.app import App
from modules.config.flags import read_flags
from modules.config.shutdown import Shutdown
from modules.config.user_data import SHIPPED, copy_shipped_files, user_data_folder, user_paths
from modules.library.model_settings import ModelSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of server.py, with the shipped files."""
    root = tmp_path / "program"
    for name in SHIPPED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    return root


def _all(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("given", ["mine", "../mine", "{}/mine", "{}/my files, 50% ü & 'more'"])
def test_all_that_is_written_lies_there(program: Path, tmp_path: Path, given: str) -> None:
    before = _all(program)
    app = App.build(program, ["--user-data-dir", given.format(tmp_path)])
    mine = user_data_folder(program, given.format(tmp_path))
    try:
        app.presets.save("own", SamplingParams())
        app.session.save_flags("--verbose\n")
        app.session.save_settings(app.settings)
    finally:
        app.close()
    made = _all(program) - before
    assert {each for each in made if not each.startswith("mine")} == set()
    assert {"presets/own.yaml", "CMD_FLAGS.txt", "settings.yaml"} <= _all(mine)
    assert (mine / "models" / "config.yaml").is_file()
    assert read_flags(["--user-data-dir", given.format(tmp_path)], program, LOADERS).server.verbose, (
        "its own CMD_FLAGS.txt"
    )


def test_what_is_there_stays_and_what_is_missing_comes(program: Path, tmp_path: Path) -> None:
    """For example the user_data of the original."""
    mine = tmp_path / "user_data"
    (mine / "presets").mkdir(parents=True)
    (mine / "presets" / "only.yaml").write_text("temperature: 0.5\n")
    (mine / "presets" / "simple-1.yaml").write_text("temperature: 0.1\n")
    copy_shipped_files(program, mine)
    assert _all(mine / "presets") == {"only.yaml", *_all(program / "presets")} - {".gitkeep"}
    assert (mine / "presets" / "simple-1.yaml").read_text() == "temperature: 0.1\n"
    assert _all(mine / "grammars") == _all(program / "grammars") - {".gitkeep"}
    (mine / "presets" / "Yara.yaml").unlink()
    there = _all(mine)
    copy_shipped_files(program, mine)
    assert _all(mine) == there, "what was deleted does not return"
    (program / "presets" / "newer.yaml").write_text("temperature: 2\n")
    copy_shipped_files(program, mine)
    assert _all(mine) == {*there, "presets/newer.yaml"}, "an update brings its new files"


def test_the_originals_user_data_is_at_home_here(program: Path, tmp_path: Path) -> None:
    """What its versions from 2025 on keep there: pointing at the folder is all that a user does."""
    mine = tmp_path / "text-generation-webui" / "user_data"
    files = {
        "CMD_FLAGS.txt": "--listen-port 7999\n",
        "settings.yaml": "preset: Mine\nmode: chat\ncharacter: Fox\n",
        "presets/Mine.yaml": "temperature: 0.3\n",
        "characters/Fox.yaml": "name: Fox\ncontext: A fox.\ngreeting: Yip.\n",
        "instruction-templates/Alpaca.yaml": "instruction_template: '{{ messages[0].content }}'\n",
        "grammars/own.gbnf": 'root ::= "a"\n',
        "logs/notebook/A story.txt": "In this story,\n",
        "logs/chat/Fox/20250115-13-45-59.json": '{"internal": [["Hi", "Yip"]], "visible": [["Hi", "Yip"]]}',
        "logs/instruct/20250115-13-45-59.json": '{"internal": [["Hi", "Hello"]], "visible": [["Hi", "Hello"]]}',
        "models/config-user.yaml": "tiny.gguf$:\n  loader: llama.cpp\n  ctx_size: 1024\n",
        "extensions/own/script.py": "params = {}\n",
        "training/datasets/rows.json": "[]",
    }
    for name, text in files.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    app = App.build(program, ["--user-data-dir", str(mine)])
    try:
        assert app.launch.server.listen_port == 7999
        assert app.starting_params().temperature == 0.3
        assert app.characters.load("Fox").greeting == "Yip."
        assert app.templates.load("Alpaca") == "{{ messages[0].content }}"
        assert {"own"} <= set(app.grammars.names())
        assert app.prompts.load("A story") == "In this story,"
        assert [each.title for each in (*app.chats.list("chat", "Fox"), *app.chats.list())] == ["Hi", "Hi"]
        assert ModelSettings(app.paths).options_for("tiny.gguf", "llama.cpp")[0] == {"n_ctx": 1024}
        assert "own" in app.extensions.available()
        assert not app.notes
    finally:
        app.close()
    assert {name: (mine / name).read_text() for name in files} == files, "and nothing of it was changed"


@pytest.mark.parametrize(("flags", "told"), [([], True), (["--user-data-dir", "user_data"], False)])
def test_the_originals_folder_in_its_usual_place_is_not_passed_over_in_silence(
    program: Path, flags: list[str], told: bool
) -> None:
    (program / "user_data").mkdir()
    app = App.build(program, flags)
    app.close()
    assert ("To use it, start with --user-data-dir user_data." in " ".join(app.notes)) == told


def test_models_and_loras_may_lie_elsewhere_still(program: Path, tmp_path: Path) -> None:
    flags = read_flags(
        ["--user-data-dir", "mine", "--model-dir", f"{tmp_path}/big", "--lora-dir", "more"], program, LOADERS
    )
    paths = user_paths(program, flags.server)
    assert (paths.models, paths.loras) == (tmp_path / "big", program / "mine" / "more")
    assert paths.logs == program / "mine" / "logs"


def test_where_the_flag_counts(program: Path) -> None:
    """In the program's CMD_FLAGS.txt and on the command line, which overrides it; the folder's own file adds the
    rest.
    """
    mine = program / "mine"
    mine.mkdir()
    (program / "CMD_FLAGS.txt").write_text("--user-data-dir mine --listen-port 1000\n--api-port 1001")
    (mine / "CMD_FLAGS.txt").write_text("--listen-port 2000")
    flags = read_flags([], program, LOADERS).server
    assert (flags.user_data_dir, flags.listen_port, flags.api_port) == ("mine", 2000, 1001)
    assert read_flags(["--listen-port", "3000"], program, LOADERS).server.listen_port == 3000
    assert read_flags(["--user-data-dir", "other"], program, LOADERS).server.listen_port == 1000
    (mine / "CMD_FLAGS.txt").write_text("--user-data-dir elsewhere")
    with pytest.raises(InvalidInput, match="names another folder"):
        read_flags([], program, LOADERS)


def _file(place: Path) -> None:
    place.touch()


def _inside_a_file(place: Path) -> None:
    place.parent.rmdir()
    place.parent.touch()


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
@pytest.mark.parametrize("spoil", [_file, _inside_a_file])
def test_a_folder_that_cannot_be_is_a_sentence(program: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = tmp_path / "place" / "mine"
    place.parent.mkdir()
    spoil(place)
    with pytest.raises(InvalidInput, match="could not be created"):
        App.build(program, ["--user-data-dir", str(place)])


@pytest.mark.parametrize("named", ["", "elsewhere"])
def test_states_of_chats_are_kept_among_the_chats(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(disk_cache.VARIABLE, raising=False)
    if named:
        monkeypatch.setenv(disk_cache.VARIABLE, named)
    seen: list[str] = []

    def told() -> Iterator[str]:  # before a model is loaded
        seen.append(os.environ[disk_cache.VARIABLE])
        raise KeyboardInterrupt
        yield

    def build(root: Path, argv: Sequence[str]) -> App:
        app = App.build(root, argv)
        vars(app)["notes"] = told()
        return app

    monkeypatch.setattr("modules.app.App", SimpleNamespace(build=build))
    with pytest.raises(KeyboardInterrupt):
        server.serve(["--user-data-dir", str(tmp_path)], Shutdown())
    assert seen == [named or str(tmp_path / "cache" / "kv")]
    assert os.environ.get(disk_cache.VARIABLE, "") == named
