"""Processes that are asked about a file or a GPU do not outlive the program, even if they hang in llama.cpp."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loaders import loader_named
from loaders.llamacpp import child_process
from tests.conftest import ROOT, keep_going
from tests.zoo import ggufs

MODULES = [f"loaders.llamacpp.{name}" for name in ("load_trial", "placement.dry_run", "placement.devices")]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What each module is asked during a load, about a file or a machine that never answers."""
    folder = tmp_path_factory.mktemp("asked")
    asked: dict[str, Any] = {}
    real = child_process.ask_child

    def record(module: str, question: Any, *rest: Any) -> Any:
        asked[module] = json.loads(json.dumps(question))
        return real(module, question, *rest)

    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as silent:
        patch.setattr(child_process, "ask_child", record)
        loader = loader_named("llama.cpp")
        path, options = ggufs.make("llama", folder), loader.Options.parse({"n_ctx": 256})
        loader.forecast(path, options)
        loader.load(path, options, keep_going).close()
        os.mkfifo(folder / "never.gguf")
        for question in asked.values():
            question["parts"] = [str(folder / "never.gguf")]
        asked["loaders.llamacpp.placement.devices"] = {"machines": [f"127.0.0.1:{silent.getsockname()[1]}"]}
        yield asked


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
@pytest.mark.parametrize("module", MODULES)
def test_it_ends_when_the_program_is_killed(module: str, questions: dict[str, Any]) -> None:
    code = f"from loaders.llamacpp.child_process import ask_child; ask_child({module!r}, {questions[module]!r})"
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        until = time.monotonic() + 60
        while not (children := psutil.Process(owner.pid).children()) and time.monotonic() < until:
            time.sleep(0.02)
        (child,) = children
        seen = child.cpu_times().user  # its imports are over as soon as it computes nothing any more
        while time.monotonic() < until:
            time.sleep(1)
            before, seen = seen, child.cpu_times().user
            if seen and seen == before:
                break
        assert owner.poll() is None, "it does not hang"
    finally:
        owner.kill()
        owner.wait()
    try:
        assert _has_ended(child)
    finally:
        if child.is_running():
            child.kill()


def _has_ended(process: psutil.Process) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_every_module_that_is_asked_is_tested_here() -> None:
    sources = (ROOT / "loaders").rglob("*.py")
    asked = {path for path in sources if "read_question()" in path.read_text("utf-8")}
    asked.discard(Path(child_process.__file__))
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in asked} == set(MODULES)
