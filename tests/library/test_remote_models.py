"""Models on other servers in the models folder: written by the page and the flags, listed by the catalog."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from errors import InvalidInput, InvalidName
from loaders import LOADERS
from loaders.remote.entry import read_entry
from modules.config.flags import LaunchOptions, ServerFlags
from modules.config.paths import Paths
from modules.library.fit_badges import FitBadges
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.library.remote_models import RemoteModels
from modules.library.startup import Startup, wants_demo
from modules.library.system_memory import SystemMemory


@pytest.fixture
def remotes(paths: Paths) -> RemoteModels:
    return RemoteModels(paths)


def entry_of(paths: Paths, name: str) -> dict[str, object]:
    return read_entry(paths.models / name).values()


def test_an_entry_is_a_model_like_the_others(
    remotes: RemoteModels, paths: Paths, shelf: ModelCatalog, models: ModelManager
) -> None:
    name = remotes.add("http://10.0.0.5:8000/v1", kind="vLLM")
    assert name == "10.0.0.5-8000.remote.yaml"
    assert name in shelf.names()
    item = shelf.find("10.0.0.5-8000")
    assert (item.name, item.size, item.problem) == (name, 0, None)
    assert "http://10.0.0.5:8000" in item.format
    badges = FitBadges(models, ModelSettings(paths), SystemMemory(), LOADERS)
    assert badges.of(item) == ""  # it takes nothing here
    (paths.models / "bad.remote.yaml").write_text("url: ''\n")
    assert "url is missing" in (shelf.find("bad").problem or "")
    (paths.models / "other.yaml").write_text("url: x\n")
    assert "other.yaml" not in shelf.names()


def test_the_key_is_kept_apart_and_private(remotes: RemoteModels, paths: Paths) -> None:
    name = remotes.add("a:1", name="mine", key=" sk-secret\n")
    text = (paths.models / name).read_text()
    assert "sk-secret" not in text
    entry = read_entry(paths.models / name)
    assert entry.key() == "sk-secret"
    assert stat.S_IMODE(Path(entry.key_file).stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    remotes.add("a:1", name="mine", model="m")
    assert read_entry(paths.models / name).key() == "sk-secret"  # the stored one stays
    remotes.add("b:1", name="mine")
    assert read_entry(paths.models / name).key() == ""  # but no other server gets it


@pytest.mark.parametrize("key", ["a\nb", "ü", "a\x00b"])
def test_a_key_is_one_line(remotes: RemoteModels, key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        remotes.add("a:1", key=key)


def test_names_stay_in_the_folder(remotes: RemoteModels) -> None:
    for name in ("../x", "a/b", ".hidden"):
        with pytest.raises(InvalidName):
            remotes.add("a:1", name=name)
    for url in ("http://a:1/../../x", "http://a:1/..%2f"):
        assert "/" not in remotes.add(url)


def test_the_flag_adds_an_entry_and_loads_it(
    paths: Paths, shelf: ModelCatalog, models: ModelManager, remotes: RemoteModels
) -> None:
    remotes.add("h:1", key="k")
    flags = ServerFlags.parse({"remote": "http://h:1", "remote_kind": "sglang", "remote_model": "m"})
    launch = LaunchOptions(flags)
    assert not wants_demo(launch, shelf)
    choice = Startup(paths, shelf, models, launch).choose()
    assert (choice.name, choice.reason) == ("h-1.remote.yaml", "requested with --remote")
    assert entry_of(paths, choice.name)["kind"] == "sglang"
    assert read_entry(paths.models / choice.name).key() == "k"
    env = ServerFlags.parse({"remote": "http://h:1", "remote_key_env": "A_KEY"})
    Startup(paths, shelf, models, LaunchOptions(env)).choose()
    assert entry_of(paths, choice.name)["key_env"] == "A_KEY"
    with pytest.raises(InvalidInput, match="address"):
        Startup(paths, shelf, models, LaunchOptions(ServerFlags.parse({"remote": "ftp://x"}))).choose()
