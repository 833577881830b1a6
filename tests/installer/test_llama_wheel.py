"""llama.cpp: ready-made before compiled, kept once compiled, and tried."""

from __future__ import annotations

import pytest

from installer import compiler
from installer.errors import Stop
from installer.layout import Layout
from installer.llama_builds import Build, llama_plan
from installer.llama_wheel import LlamaWheel
from installer.packages import Packages
from installer.runner import Runner
from tests.installer.stage import calls, make_environment


def llama_wheel(layout: Layout) -> LlamaWheel:
    return LlamaWheel(Packages(Runner(layout)))


def test_a_compiled_llama_cpp_is_kept_for_the_next_installation(layout: Layout) -> None:
    make_environment(layout)
    llama = llama_wheel(layout)
    cuda = Build("CUDA", cmake="-DGGML_CUDA=on")
    assert llama.install([Build("the processor", "cpu"), cuda]) == "CUDA"
    no_amx = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    kept = list((layout.root.parent / "cache").rglob("*.whl"))
    assert [path.read_text() for path in kept] == [f"built with: -DGGML_CUDA=on; {no_amx}; {no_amx}\n"]
    assert any("wheel" in call and "--no-cache-dir" in call for call in calls(layout))

    (layout.python.parent / "no-compile").touch()
    assert llama_wheel(layout).install([cuda]) == "CUDA"
    with pytest.raises(Stop, match="could not be compiled"):
        llama_wheel(layout).install([Build("the processor")])


def test_a_ready_made_llama_cpp_is_preferred_and_tried(layout: Layout) -> None:
    make_environment(layout, "wheels")
    plan = llama_plan("A", False, [])
    assert llama_wheel(layout).install(plan) == "CUDA 12.1"
    assert any("nvidia-cublas-cu12==12.1.3.1" in call for call in calls(layout))
    assert not any("pip wheel" in call for call in calls(layout))

    (layout.python.parent / "no-import").touch()
    with pytest.raises(Stop, match="ImportError: no such thing"):
        llama_wheel(layout).install(plan)


def test_without_a_compiler_it_says_so(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment(layout)
    monkeypatch.setattr(compiler, "works", lambda layout: False)
    with pytest.raises(Stop, match=r"needs a C and a C\+\+ compiler\. Install one"):
        llama_wheel(layout).install(llama_plan("N", False, []))
