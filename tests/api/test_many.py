"""Many requests at once: no mixed-up texts, nothing left after a disconnect, and one queue for page and API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from errors import Cancelled
from modules.api import event_stream
from tests.api.conftest import Client
from tests.api.test_openai import events
from tests.fake_engine import FakeModel


def replies() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reply"]


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_texts_are_not_mixed(api: Client) -> None:
    api.use(FakeModel(lambda request: bytes(request.ids[1:]).decode() * 3, delay=0.001))

    def ask(number: int) -> bool:
        prompt, stream = f"<{number}>", bool(number % 2)
        got = api.post("/v1/completions", {"prompt": prompt, "stream": stream})
        if stream:
            text = "".join(chunk["choices"][0]["text"] for chunk in events(got.text))
        else:
            text = got.json()["choices"][0]["text"]
        return bool(text == prompt * 3)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


def test_n_streams_are_told_apart_by_their_index(api: Client) -> None:
    chunks = events(api.post("/v1/completions", {"prompt": ["a", "b"], "n": 2, "stream": True}).text)
    texts = ["".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == i) for i in range(4)]
    assert texts == ["Paris."] * 4


def test_who_leaves_leaves_nothing_behind(api: Client) -> None:
    model = api.use(FakeModel("x" * 2000, delay=0.005))
    for _ in range(20):
        with api.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as reply:
            next(reply.iter_lines())
    assert until(lambda: not model.running and not replies())
    model.delay = 0
    assert api.post("/v1/completions", {"prompt": "x", "max_tokens": 3}).json()["choices"][0]["text"] == "xxx"


def test_page_and_api_stand_in_one_queue(api: Client) -> None:
    model = api.use(FakeModel(hold_after=1))
    with api.app.generator.session().start("x", api.app.launch_params(), label="a chat") as page:
        next(page)
        with api.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as reply:
            lines = reply.iter_lines()
            next(lines)
            labels = [entry["label"] for entry in api.get("/v1/internal/queue").json()["queue"]]
            assert labels[0] == "a chat"
            assert labels[1].startswith("API: req-")
            assert api.post("/v1/internal/stop-generation").json() == {"stopped": 2}
            assert '"finish_reason": "stop"' in "".join(lines)
    assert not model.running


class Slow(FakeModel):
    """Scores and embeds until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended = 0, 0

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        del ids, start
        return self._wait(cancel)

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        del texts
        return self._wait(cancel)

    def _wait(self, cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        self.begun += 1
        assert cancel
        while not cancel.wait(0.01):
            pass
        self.ended += 1
        raise Cancelled


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_that_are_scored_stand_in_nobody_s_way_and_end_with_their_clients(api: Client, stream: bool) -> None:
    model = api.use(Slow())
    body = {"prompt": "x" * 50, "echo": True, "logprobs": 1, "max_tokens": 1, "stream": stream}

    def leave(_: int) -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{api.url}/v1/completions", json=body, timeout=httpx.Timeout(10, read=1), trust_env=False)

    with ThreadPoolExecutor(20) as pool:
        left = pool.map(leave, range(20))
        assert until(lambda: model.begun == 20)
        assert api.post("/v1/internal/encode", {"text": "x"}).status_code == 200
        list(left)
    assert until(lambda: model.ended == 20 and not replies())


def test_a_prompt_is_scored_once_for_all_of_its_replies(api: Client) -> None:
    model = api.use(FakeModel())
    times: list[int] = []
    score = model.score
    model.score = lambda ids, *more: (times.append(len(ids)), score(ids, *more))[1]
    body = {"prompt": ["ab", "c"], "echo": True, "logprobs": 0, "n": 3}
    assert len(api.post("/v1/completions", body).json()["choices"]) == 6
    assert sorted(times) == [2, 3]


def test_who_hangs_up_is_not_embedded(api: Client) -> None:
    model = api.use(Slow())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{api.url}/v1/embeddings", json={"input": ["x"]}, timeout=httpx.Timeout(10, read=0.3), trust_env=False
        )
    assert until(lambda: model.begun == model.ended == 1)


def test_the_model_is_loaded_and_unloaded_over_the_api(api: Client, demo_model_path: Path) -> None:
    api.use(None)
    folder = api.app.paths.models
    (folder / demo_model_path.name).symlink_to(demo_model_path)
    (folder / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 50)
    assert set(api.get("/v1/internal/model/list").json()["model_names"]) == {demo_model_path.name, "broken.gguf"}
    assert api.post("/v1/internal/model/load", {"model_name": "broken.gguf"}).status_code == 400
    assert api.post("/v1/internal/model/load", {"model_name": "nowhere"}).status_code == 404
    bad = api.post("/v1/internal/model/load", {"model_name": demo_model_path.name, "args": {"wobble": 1}})
    assert bad.status_code == 400
    good = api.post("/v1/internal/model/load", {"model_name": demo_model_path.name, "args": {"n_ctx": 512},
                                                   "settings": {"instruction_template": "Alpaca"}})  # fmt: skip
    assert "settings.instruction_template was ignored" in " ".join(good.json()["warnings"])
    assert good.status_code == 200, good.text
    assert api.app.models.loaded.context_length == 512
    assert api.post("/v1/internal/model/unload").status_code == 200
    assert api.get("/v1/models").json()["data"] == []


def test_a_long_silence_is_kept_alive(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_PING", 0.1)
    monkeypatch.setattr(event_stream, "_PATIENCE", 0.05)
    model = api.use(FakeModel(hold_after=0))
    with api.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as reply:
        lines = reply.iter_lines()
        assert next(lines) == ": ping"
        model.release.set()
        assert "[DONE]" in "".join(lines)
