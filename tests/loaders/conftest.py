"""The models of the HF loaders, on the demo model as a GGUF file and as a folder; ExLlamaV2 on a simulated GPU."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from loaders.base import Model
from tests.conftest import ROOT, alone, keep_going
from tests.zoo import ggufs

Open = Callable[..., Any]


def opened(name: str, path: Path, **options: Any) -> Model:
    loader = loader_named(name)
    return loader.load(path, loader.Options.parse(options), keep_going)


@pytest.fixture(scope="session")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of the zoo: it says nonsense, and loads and answers in no time."""
    return ggufs.make("llama", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def transformers_model(hf_folder: Path) -> Iterator[Model]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with opened("Transformers", hf_folder, max_seq_len=2048) as model:
        yield model
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llamacpp_hf_model(demo_model_path: Path) -> Iterator[Model]:
    options = {"n_ctx": 2048, "threads": 1, "threads_batch": 1, "flash_attn": "on"}  # as in demo_model
    with opened("llamacpp_HF", demo_model_path, **options) as model:
        yield model


@pytest.fixture(scope="session")
def exl() -> Any:
    """The real exllamav2 with the stub of its extension."""
    pytest.importorskip("torch", reason="ExLlamaV2's tests need torch")
    from tests.loaders.exllamav2 import card

    with alone():
        sys.path.insert(0, str(card.fetch(ROOT / "cache" / "test-packages")))
    sys.modules["exllamav2_ext"] = card.extension()
    # exllamav2 imports torch's extension compiler, and with it setuptools, which replaces distutils. Nothing is
    # compiled here, so the tests do not depend on it.
    compiler = types.ModuleType("torch.utils.cpp_extension")
    compiler.load = None  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, compiler.__name__, compiler)
        import exllamav2

    assert exllamav2.__version__ == card.VERSION
    return exllamav2


@pytest.fixture
def gpu(exl: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One GPU with 24 GB and Net on it; returns Net."""
    import torch

    from loaders.exllamav2 import package
    from tests.loaders.exllamav2 import card

    net = card.make_net(exl)
    monkeypatch.setattr(exl, "ExLlamaV2", net)
    monkeypatch.setattr(package, "explain_missing", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=0: (8, 6))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _=0: (23_000_000_000, 24_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _=0: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return net


@pytest.fixture
def opens(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens models that are closed after the test: opens(paged=True, draft_model="...", ...)."""
    from exllamav2 import attn

    from loaders.exllamav2.loader import ExLlamaV2
    from tests.loaders.exllamav2 import card

    opened: list[Model] = []

    def open_(*, paged: bool = True, progress: Any = keep_going, folder: Path | None = None, **options: Any) -> Any:
        monkeypatch.setattr(attn, "has_flash_attn_with_paged", paged)
        path = folder or tmp_path / "models" / "net"
        if not path.exists():
            card.write_folder(path)
        chosen = {"max_seq_len": 1024, **options}
        opened.append(ExLlamaV2.load(path, ExLlamaV2.Options.parse(chosen), progress))
        return opened[-1]

    yield open_
    for model in opened:
        model.close()
