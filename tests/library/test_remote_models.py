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
from tests.loaders.remote.scripted_server import ScriptedServer


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


def start(paths: Paths, shelf: ModelCatalog, flags: dict[str, object]) -> ModelManager:
    """A start with these flags, as far as the loading of the model goes."""
    models = ModelManager(paths, shelf, ModelSettings(paths), LOADERS, {})
    startup = Startup(paths, shelf, models, LaunchOptions(ServerFlags.parse(flags)))
    startup.begin(startup.choose()).join(30)
    return models


def test_an_address_where_nothing_answers_leaves_no_entry(paths: Paths, shelf: ModelCatalog) -> None:
    with ScriptedServer() as server:
        gone = server.url
    with ScriptedServer() as other:
        other._facts = lambda path, body: None  # type: ignore[method-assign]
        for url, part in ((gone, "not reachable"), (other.url, "answered with status 404"), ("nowhere.invalid", "not")):
            models = start(paths, shelf, {"remote": url})
            assert part in (models.state.error or "")
            assert not list(paths.models.glob("*.remote.yaml")), url


def test_an_entry_that_was_there_is_as_before(paths: Paths, shelf: ModelCatalog, remotes: RemoteModels) -> None:
    with ScriptedServer() as server:
        gone = server.url
    path = paths.models / remotes.add(gone, model="mine")
    before = path.read_bytes()
    start(paths, shelf, {"remote": gone, "remote_model": "other"})
    assert path.read_bytes() == before


def test_an_entry_stays_where_a_server_answers(paths: Paths, shelf: ModelCatalog) -> None:
    with ScriptedServer() as server, ScriptedServer(key="k") as keyed:
        models = start(paths, shelf, {"remote": server.url})
        assert models.state.phase == "loaded"
        models.unload()
        start(paths, shelf, {"remote": keyed.url})  # its key can be entered in the Model tab
        assert len(list(paths.models.glob("*.remote.yaml"))) == 2


def test_words_after_the_flag_are_refused(paths: Paths, shelf: ModelCatalog, models: ModelManager) -> None:
    with pytest.raises(InvalidInput, match="'not a url' is not the address of a server"):
        Startup(paths, shelf, models, LaunchOptions(ServerFlags.parse({"remote": "not a url"}))).choose()
    assert not list(paths.models.glob("*.remote.yaml"))
