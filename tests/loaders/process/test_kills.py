"""Kills at random moments under four streams: what was written stays, the model comes back, and nobody sees more of it
than one sentence. `python -m bench kills` does the same with chats and the API, 200 times.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from errors import EngineDied
from loaders.params import SamplingParams
from loaders.process import load_model
from loaders.process.proxy import ProcessModel
from modules.config.paths import Paths
from modules.generation.generator import Generator
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.library.recovery import Recovery
from tests.library.conftest import gguf_bytes
from tests.loaders.process.conftest import Hosts
from tests.loaders.process.scripted import Scripted

KILLS, STREAMS = 4, 4


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_kills_under_four_streams(tmp_path: Path, hosts: Hosts) -> None:
    paths = Paths.under(tmp_path)
    paths.ensure()
    (paths.models / "a.gguf").write_bytes(gguf_bytes({"general.architecture": "llama"}))
    loaders = {"scripted": Scripted}
    settings = ModelSettings(paths, loaders)
    manager = ModelManager(
        paths, ModelCatalog(paths), settings, loaders, {}, load=load_model, recovery=Recovery(rest=0)
    )
    generator = Generator(manager)
    manager.load("a")
    over = threading.Event()
    ends: list[str] = []
    wrong: list[BaseException] = []

    def write() -> None:
        while True:
            last = over.is_set()
            try:
                with generator.session().start("x", SamplingParams(), max_tokens=10 if last else 100) as stream:
                    for _ in stream:
                        pass
                ends.append("whole")
                assert stream.text.startswith("abab")
                if last:
                    return
            except EngineDied:
                ends.append("cut")
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=write, daemon=True) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    moments = random.Random(7)
    for _ in range(KILLS):
        model = manager.current()
        assert isinstance(model, ProcessModel)
        over.wait(moments.uniform(0, 0.4))
        os.kill(model.pid, signal.SIGKILL)
        for _ in range(600):
            if manager.loaded is not model:
                break
            over.wait(0.05)
    over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    assert ends.count("cut") >= KILLS
    assert ends[-1] == "whole"
    assert len(hosts()) == 1
    manager.close()
    assert hosts() == []
