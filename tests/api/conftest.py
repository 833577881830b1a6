"""The served API, over a fake model and over the real one."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from modules.api import launch
from modules.app import App
from tests.fake_engine import FakeModel

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Client:
    """A served API: raw HTTP by `get` and `post`, and OpenAI's own client."""

    app: App
    url: str
    http: httpx.Client
    openai: OpenAI

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)

    def use(self, model: Any) -> Any:
        """Make this the loaded model, without loading it."""
        self.app.models.adopt(model)
        return model


def serve(root: Path, *argv: str, key: str = "") -> Iterator[Client]:
    for name in ("presets", "characters", "instruction-templates"):
        shutil.copytree(ROOT / name, root / name, dirs_exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    app = App.build(root, ["--api", "--api-port", str(free_port()), "--threads", "1", *argv])
    served = launch(app)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    http = httpx.Client(base_url=served.address, headers=headers, timeout=60, trust_env=False)
    client = OpenAI(
        base_url=f"{served.address}/v1",
        api_key=key or "none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )
    yield Client(app, served.address, http, client)
    client.close()
    http.close()
    served.close()
    app.close()


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    yield from serve(tmp_path_factory.mktemp("api"))


@pytest.fixture
def api(session: Client) -> Client:
    """A server without keys, with a fake model that replies "Paris."."""
    session.use(FakeModel())
    return session


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Serve with other flags."""
    running: list[Iterator[Client]] = []

    def begin(*argv: str, key: str = "") -> Client:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        served = serve(folder, *argv, key=key)
        client = next(served)
        running.append(served)
        client.use(FakeModel())
        return client

    yield begin
    for served in running:
        next(served, None)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, demo_model: Any) -> Iterator[Client]:
    """A server with the demo model."""
    for client in serve(tmp_path_factory.mktemp("real")):
        client.use(demo_model)
        yield client
        client.use(None)  # the session's fixture closes it
