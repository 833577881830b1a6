"""Requests that name a model get that one, whatever is loaded and unloaded meanwhile: prompt, reply and name agree."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loaders import LOADERS
from loaders.base import Model, Progress
from loaders.params import LoadOptions
from tests.api.conftest import Client
from tests.fake_engine import FakeModel
from tests.library.conftest import gguf_bytes

TEMPLATE = "{{% for message in messages %}}[{name}]{{{{ message.content }}}}{{% endfor %}}"
SAYS = [{"role": "user", "content": "Who is it?"}]


class Marked(FakeModel):
    """Its template and its replies contain its name; it records prompts meant for other models."""

    strangers: list[str]

    def __init__(self, name: str) -> None:
        super().__init__(f"It is {name}.", name=name, chat_template=TEMPLATE.format(name=name), delay=0.0005)
        self.strangers = []

    def generate(self, request: Any) -> Any:
        prompt = bytes(id for id in request.ids if id < 256).decode()
        if "[" in prompt and f"[{self.name}]" not in prompt:
            self.strangers.append(prompt)
        return super().generate(request)

    def embed(self, texts: Any, cancel: Any = None) -> Any:
        return np.full((len(texts), 2), len(self.name), np.float32)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Marked]:
    """The models that were loaded, in order."""
    models: list[Marked] = []

    def load(path: Path, options: LoadOptions, progress: Progress) -> Model:
        models.append(Marked(path.name))
        return models[-1]

    monkeypatch.setattr(LOADERS["llama.cpp"], "load", load)
    monkeypatch.setattr(LOADERS["llama.cpp"], "check", lambda path, options, progress: None)  # they are no models
    return models


@pytest.fixture
def several(start: Callable[..., Client], made: list[Marked]) -> Callable[..., Client]:
    """A server with these flags and the models a.gguf, b.gguf and c.gguf; the first one is loaded."""

    def begin(*flags: str) -> Client:
        client = start("--in-process", *flags)
        client.use(None)
        for name in "abc":
            (client.app.paths.models / f"{name}.gguf").write_bytes(gguf_bytes({"general.architecture": "llama"}))
        client.app.models.load("a.gguf")
        return client

    return begin


def asked(client: Client, model: str, **more: Any) -> Any:
    return client.post("/v1/chat/completions", {"messages": SAYS, "model": model, **more})


@pytest.mark.parametrize("flags", [["--load-on-demand"], ["--load-on-demand", "--max-models", "2"]])
def test_many_swaps_by_many_clients(several: Callable[..., Client], made: list[Marked], flags: list[str]) -> None:
    client = several(*flags)
    wrong: list[object] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            name = chance.choice(["a.gguf", "b.gguf", "c.gguf"])
            got = asked(client, name).json()
            text = got["choices"][0]["message"]["content"] if "choices" in got else got
            if (got.get("model"), text, "warnings" in got) != (name, f"It is {name}.", False):
                wrong.append((name, got))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert wrong == []
    assert len(made) > 3
    assert [each.strangers for each in made if each.strangers] == []
    loaded = [each for each in made if not each.closed]
    assert len(loaded) == len(client.app.models.memory.all) <= len(flags)


def test_what_is_not_loaded_is_said_or_refused(several: Callable[..., Client]) -> None:
    client = several("--max-models", "2")
    got = asked(client, "b.gguf").json()
    assert got["model"] == "a.gguf"
    assert "b.gguf is not loaded" in got["warnings"][0]
    got = client.post("/v1/completions", {"prompt": "x", "model": "b", "stop_token_ids": [257]}).json()
    assert (got["model"], len(got["warnings"])) == ("a.gguf", 1)
    strict = several("--strict-model")
    for name in ("b.gguf", "gpt-4"):
        refused = asked(strict, name)
        assert refused.status_code == 404
        assert name in refused.json()["error"]["message"]
    assert asked(strict, "a").json()["model"] == "a.gguf"
    assert asked(strict, "").json()["model"] == "a.gguf"


def test_the_list_says_what_is_loaded(several: Callable[..., Client]) -> None:
    client = several("--load-on-demand", "--max-models", "2")
    entries = client.get("/v1/models").json()["data"]
    assert {each["id"]: each["loaded"] for each in entries} == {"a.gguf": True, "b.gguf": False, "c.gguf": False}
    asked(client, "b.gguf")
    entries = client.get("/v1/models").json()["data"]
    assert [each["id"] for each in entries if each["loaded"]] == ["a.gguf", "b.gguf"]
    assert client.get("/v1/internal/model/info").json()["model_name"] == "a.gguf"
    client.post("/v1/internal/model/unload", {"model_name": "a.gguf", "wait": 5})
    assert client.get("/v1/internal/model/info").json()["model_name"] == "b.gguf"
    client.app.models.unload_idle(0)
    assert client.get("/v1/internal/model/info").json() == {"model_name": "b.gguf", "lora_names": []}
    assert asked(client, "").json()["model"] == "b.gguf"


def test_embeddings_come_from_their_own_model(several: Callable[..., Client], made: list[Marked]) -> None:
    client = several("--embedding-model", "b")
    got = client.post("/v1/embeddings", {"input": "x", "model": "anything"}).json()
    assert got["model"] == "b.gguf"
    assert asked(client, "").json()["model"] == "a.gguf"
    assert [each.closed for each in made] == [False, False]


def test_a_chat_of_the_page_has_its_own_model(several: Callable[..., Client]) -> None:
    client = several("--max-models", "2")
    app = client.app
    app.models.load("b.gguf")
    id = app.chats.new().id
    for name in ("a.gguf", "b.gguf", ""):
        app.edits.choose_model(id, name)
        assert app.chats.open(id).model == name
        list(app.chats.send(id, "Who?", turn()))
        last = app.chats.open(id).path()[-1]
        assert (last.model, last.text) == (name or "b.gguf", f"It is {name or 'b.gguf'}.")


def turn() -> Any:
    from modules.chat.reply_settings import ReplySettings

    return ReplySettings()
