"""Shared by all tests: the real demo model, downloaded once and loaded once per session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import filelock
import hypothesis
import pytest

from loaders import loader_named
from loaders.base import Model
from modules.config.paths import Paths
from modules.library.demo_model import DemoModel
from modules.prompts import templates
from modules.prompts.sandbox.process import TemplateProcesses

ROOT = Path(__file__).resolve().parent.parent

# each process of the tests has a core of its own at most: torch's threads would wait for each other. Processes that
# tests start take it over; llama.cpp has options of its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# no test asserts on wall time, because the machines are shared
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


#: Files that take a minute or more, the longest first: run_tests.sh keeps this order, so that no process is left with
#: one of them while the others have ended.
_LONGEST = (
    "zoo/test_gguf.py", "ui/test_chat.py", "training/test_lora.py", "ui/test_training.py", "config/test_shutdown.py",
    "zoo/test_folders.py", "ui/test_chat_menu.py", "ui/test_accessibility.py", "ui/test_desk.py", "ui/test_talk.py",
    "ui/test_late_answers.py", "ui/test_session.py", "ui/test_windows.py", "ui/test_model.py",
    "prompts/test_hostile_templates.py", "loaders/llamacpp/test_cards.py", "loaders/llamacpp/engine/test_engine.py",
    "installer/test_faults.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those with the most tests; within a file nothing changes."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(_LONGEST)}
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (places.get(item.path, len(places)), -counts[item.path], str(item.path)))


def alone() -> filelock.FileLock:
    """For what is created once and kept in the checkout: several processes run the tests."""
    folder = ROOT / "cache" / "test-models"
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / "lock")


def keep_going(_fraction: float, _doing: str) -> bool:
    return True


@pytest.fixture(autouse=True)
def same_working_folder() -> Iterator[None]:
    """A test that leaves another working folder behind would break later ones on the same worker."""
    before = Path.cwd()
    yield
    after = Path.cwd() if Path().exists() else None
    os.chdir(before)
    assert after == before, "the test leaves another working folder: use monkeypatch.chdir"


@pytest.fixture(scope="session", autouse=True)
def nothing_measured_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What loads learn (loaders/llamacpp/placement/measurements.py) goes into a temporary file of this session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTGEN_MEASURED", str(tmp_path_factory.mktemp("measured") / "measured.json"))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_kept_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """States of chats (loaders/llamacpp/engine/disk_cache.py) go into a temporary folder of this session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTGEN_KV_DISK", str(tmp_path_factory.mktemp("kv")))
        yield


class _Lasting(TemplateProcesses):
    """Those of all programs of a session: closing one program leaves them."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session", autouse=True)
def shared_template_processes() -> Iterator[None]:
    """Processes of templates keep nothing between requests, so a session starts two, and not two for each program.
    How they start, end and are killed is tested on processes of their own.
    """
    shared = _Lasting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "TemplateProcesses", lambda: shared)
        yield
    TemplateProcesses.close(shared)


@pytest.fixture(scope="session")
def demo_model_path() -> Path:
    """SmolLM2-135M-Instruct as a GGUF: from models/, or downloaded once into cache/test-models/."""
    own = DemoModel(Paths.under(ROOT))
    if own.present():
        return own.path
    shared = DemoModel(Paths.under(ROOT, model_dir=ROOT / "cache" / "test-models"))
    with alone():
        if not shared.present():
            shared.fetch(keep_going)
    return shared.path


@pytest.fixture(scope="session")
def hf_folder(demo_model_path: Path) -> Path:
    """The demo model's weights in float32; creating them takes half a minute, once."""
    folder = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"
    with alone():
        if not (folder / "tokenizer.json").is_file():
            subprocess.run(
                [sys.executable, ROOT / "tests" / "loaders" / "hf_common" / "dequantize.py", demo_model_path, folder],
                check=True,
            )
    return folder


@pytest.fixture(scope="session")
def tiny_folder(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two small layers with the demo model's tokenizer: a step takes milliseconds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    own = json.loads((hf_folder / "config.json").read_text())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=own["vocab_size"], hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in hf_folder.iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def demo_model(demo_model_path: Path) -> Iterator[Model]:
    """The loaded demo model, one for all tests: requests from several tests may share it."""
    loader = loader_named("llama.cpp")
    # one thread: two that wait for each other would stall when the browser takes a core
    options = loader.Options.parse({"n_ctx": 2048, "threads": 1, "threads_batch": 1, "flash_attn": "on"})
    with loader.load(demo_model_path, options, keep_going) as model:
        yield model
