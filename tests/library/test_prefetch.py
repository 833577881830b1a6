"""The demo model before the first start: only if that start would download it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from loaders.base import Progress
from modules.library import prefetch
from modules.library.demo_model import DemoModel


@pytest.mark.parametrize(
    ("argv", "there", "place"),
    [
        ([], "", "models"),
        (["--user-data-dir", "mine"], "", "mine/models"),
        (["--model-dir", "big"], "models/a.gguf", "big"),
        (["--model", "none"], "", ""),
        (["--model", "a"], "", ""),
        ([], "models/a.gguf", ""),
        (["--user-data-dir", "mine"], "mine/models/a.gguf", ""),
    ],
)
def test_it_is_fetched_where_the_start_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], there: str, place: str
) -> None:
    if there:
        (tmp_path / there).parent.mkdir(parents=True)
        (tmp_path / there).write_bytes(b"GGUF" + bytes(64))
    fetched: list[Path] = []

    def fetch(self: DemoModel, progress: Progress) -> None:
        assert progress(0.5, "half")
        stop.set()
        assert not progress(0.6, "half")
        fetched.append(self.path.parent)

    stop = threading.Event()
    monkeypatch.setattr(DemoModel, "fetch", fetch)
    prefetch.prefetch_demo(tmp_path, argv, stop)
    assert fetched == ([tmp_path / place] if place else [])
