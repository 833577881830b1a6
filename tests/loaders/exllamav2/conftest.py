"""The card, and models on it: with pages (as with flash-attn) and without."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders.base import Model
from tests.conftest import ROOT, alone, keep_going

Open = Callable[..., Any]

#: These come with the Transformers loader's requirements; an installation without them has nothing to test.
_LACKING = any(importlib.util.find_spec(name) is None for name in ("torch", "tokenizers", "transformers"))
collect_ignore_glob = ["test_*.py"] if _LACKING else []


@pytest.fixture(scope="session")
def exl() -> Any:
    """The real exllamav2 on the stub of its extension."""
    pytest.importorskip("torch", reason="ExLlamaV2's tests need torch")
    from tests.loaders.exllamav2 import card

    with alone():
        sys.path.insert(0, str(card.fetch(ROOT / "cache" / "test-packages")))
    sys.modules["exllamav2_ext"] = card.extension()
    # exllamav2 imports torch's compiler of extensions, and with it setuptools, which replaces distutils. Nothing is
    # compiled here, so the tests do not depend on how that goes.
    compiler = types.ModuleType("torch.utils.cpp_extension")
    compiler.load = None  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, compiler.__name__, compiler)
        import exllamav2

    assert exllamav2.__version__ == card.VERSION
    return exllamav2


@pytest.fixture
def gpu(exl: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One card of 24 GB with Net on it; gives Net."""
    import torch

    from loaders.exllamav2 import package
    from tests.loaders.exllamav2 import card

    net = card.make_net(exl)
    monkeypatch.setattr(exl, "ExLlamaV2", net)
    monkeypatch.setattr(package, "missing", lambda _: None)
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
