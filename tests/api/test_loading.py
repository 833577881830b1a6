"""Loading over the API: a load can be cancelled, goes on without its client, and a model has one name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from errors import LoadCancelled, ModelFileError
from loaders import LOADERS
from loaders.base import Model, Progress
from loaders.params import LoadOptions
from tests.api.conftest import Client
from tests.fake_engine import FakeModel
from tests.library.conftest import gguf_bytes


class Loads:
    """The loads of the llama.cpp loader: `slow.gguf` waits until released or cancelled, `bad.gguf` fails."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.release = threading.Event()

    def load(self, path: Path, options: LoadOptions, progress: Progress) -> Model:
        if path.stem == "bad":
            raise ModelFileError(path.name, "its process ended: it was killed.")
        while path.stem == "slow" and not self.release.wait(0.01):
            self.waiting.set()
            if not progress(0.5, "waiting"):
                raise LoadCancelled
        return FakeModel(name=path.stem)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    found = Loads()
    monkeypatch.setattr(LOADERS["llama.cpp"], "load", found.load)
    monkeypatch.setattr(LOADERS["llama.cpp"], "check", lambda path, options, progress: None)
    return found


@pytest.fixture
def client(start: Callable[..., Client], loads: Loads) -> Client:
    client = start("--in-process", "--load-on-demand")
    client.use(None)
    for name in ("a", "slow", "bad"):
        (client.app.paths.models / f"{name}.gguf").write_bytes(gguf_bytes({"general.architecture": "llama"}))
    client.app.models.load("a.gguf")
    return client


@pytest.mark.parametrize("how", ["load", "request"])
def test_to_unload_cancels_a_load(client: Client, loads: Loads, how: str) -> None:
    found: list[httpx.Response] = []

    def load() -> None:
        if how == "load":
            found.append(client.post("/v1/internal/model/load", {"model_name": "slow"}))
        else:
            found.append(client.post("/v1/completions", {"prompt": "x", "model": "slow"}))

    thread = threading.Thread(target=load)
    thread.start()
    assert loads.waiting.wait(30)
    other = client.post("/v1/internal/model/unload", {"model_name": "other"})
    assert other.status_code == 409
    unloaded = client.post("/v1/internal/model/unload", {"model_name": "slow"})
    thread.join(30)
    assert (unloaded.status_code, unloaded.json()) == (200, {"status": "ok", "cancelled": "slow.gguf"})
    assert found[0].status_code == 409
    assert found[0].json()["error"]["code"] == "cancelled"
    assert "Loading cancelled" in found[0].json()["error"]["message"]
    assert client.app.models.loaded is None
    again = client.post("/v1/internal/model/unload", {"model_name": "slow"})
    assert again.status_code == 404


def test_a_load_goes_on_without_its_client(client: Client, loads: Loads) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{client.url}/v1/internal/model/load", json={"model_name": "slow"},
            timeout=httpx.Timeout(10, read=0.2), trust_env=False,
        )  # fmt: skip
    assert loads.waiting.wait(30)
    loads.release.set()
    while client.app.models.state.phase == "loading":
        threading.Event().wait(0.01)
    assert client.get("/v1/internal/model/info").json()["model_name"] == "slow.gguf"


def test_a_failed_load_says_what_is_loaded_now(client: Client) -> None:
    failed = client.post("/v1/internal/model/load", {"model_name": "bad"})
    assert failed.status_code == 400
    assert failed.json()["error"]["message"].endswith("it was killed. a.gguf is loaded again.")
    assert client.post("/v1/completions", {"prompt": "x"}).json()["model"] == "a.gguf"
    failed = client.post("/v1/completions", {"prompt": "x", "model": "bad"})
    assert failed.json()["error"]["message"].endswith("The next request loads a.gguf again.")
    assert client.post("/v1/completions", {"prompt": "x"}).json()["model"] == "a.gguf"


def test_one_name_for_a_model(client: Client, loads: Loads) -> None:
    def listed() -> dict[str, bool]:
        return {each["id"]: each["loaded"] for each in client.get("/v1/models").json()["data"]}

    everything: Any = {"a.gguf": True, "slow.gguf": False, "bad.gguf": False}
    assert listed() == everything
    for spelling in ("a", "A.gguf", "models/a.gguf"):
        assert client.get(f"/v1/models/{spelling}").json()["id"] == "a.gguf"
        assert client.post("/v1/completions", {"prompt": "x", "model": spelling}).json()["model"] == "a.gguf"
    assert client.get("/v1/models/slow").json() | {"created": 0} == {
        "id": "slow.gguf", "object": "model", "created": 0, "owned_by": "user", "loaded": False,
    }  # fmt: skip
    assert client.get("/v1/models/nothing").status_code == 404
    client.app.models.unload_idle(0)
    assert listed() == dict.fromkeys(everything, False)
    assert client.get("/v1/internal/model/info").json()["model_name"] == "a.gguf"
    loaded = client.post("/v1/internal/model/load", {"model_name": "A"}).json()
    assert loaded["model_name"] == "a.gguf"
