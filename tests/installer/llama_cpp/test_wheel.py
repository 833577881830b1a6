"""llama.cpp from wheels: prebuilt before compiled, kept after compiling, and tested."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.environment.packages import Packages
from installer.errors import InstallStopped
from installer.hardware import compiler, processor
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.llama_cpp import wheel as llama_wheel_module
from installer.llama_cpp.llama_builds import LlamaBuild, plan_llama_builds
from installer.llama_cpp.wheel import LlamaWheel
from installer.runner import Runner
from tests.installer.stage import calls, make_environment


def llama_wheel(layout: Layout) -> LlamaWheel:
    return LlamaWheel(Packages(Runner(layout)))


def fail(layout: Layout, times: int) -> None:
    """The next tests of a build, this many, end by a signal."""
    if times:
        (layout.python.parent / "no-compute").write_text("noise\n" * times)


def test_a_compiled_llama_cpp_is_kept_for_the_next_installation(layout: Layout) -> None:
    make_environment(layout)
    llama = llama_wheel(layout)
    cuda = LlamaBuild("CUDA", cmake="-DGGML_CUDA=on")
    assert llama.install([LlamaBuild("the processor", "cpu"), cuda]) == (
        "CUDA",
        "compiled here; tried: 100 tokens read",
    )
    no_amx = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    kept = list((layout.root.parent / "cache").rglob("*.whl"))
    assert [path.read_text().partition("PK")[0] for path in kept] == [
        f"built with: -DGGML_CUDA=on; {no_amx}; {no_amx}\n"
    ]
    assert any("wheel" in call and "--no-cache-dir" in call for call in calls(layout))

    (layout.python.parent / "no-compile").touch()
    assert llama_wheel(layout).install([cuda]) == ("CUDA", "compiled here before; tried: 100 tokens read")
    with pytest.raises(InstallStopped, match="could not be compiled"):
        llama_wheel(layout).install([LlamaBuild("the processor")])


def test_a_ready_made_llama_cpp_is_preferred_and_tried(layout: Layout) -> None:
    make_environment(layout, "wheels")
    plan = plan_llama_builds("A", False, [])
    assert llama_wheel(layout).install(plan)[0] == "CUDA 12.1"
    assert any("nvidia-cublas-cu12==12.1.3.1" in call for call in calls(layout))
    assert not any("pip wheel" in call for call in calls(layout))

    fail(layout, 20)
    with pytest.raises(InstallStopped, match=r"CUDA 12\.1 \(ready-made\): it was ended by SIGSEGV; CUDA 12\.4"):
        llama_wheel(layout).install(plan)


def test_without_a_compiler_it_says_so(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment(layout)
    monkeypatch.setattr(compiler, "has_compilers", lambda layout: False)
    with pytest.raises(InstallStopped, match=r"the processor: no C and C\+\+ compiler.*Install one \(Debian"):
        llama_wheel(layout).install(plan_llama_builds("N", False, []))


@pytest.mark.parametrize(
    ("times", "name", "how"),
    [
        (0, "the processor", "compiled here"),
        (
            1,
            "most processors",
            "because others do not run here (the processor (compiled here): it was ended by SIGSEGV)",
        ),
        (2, "any processor", "most processors (compiled here): it was ended by SIGSEGV"),
    ],
)
def test_what_does_not_compute_gives_way_to_a_more_cautious_build(
    layout: Layout, times: int, name: str, how: str
) -> None:
    make_environment(layout)
    fail(layout, times)
    found = llama_wheel(layout).install(plan_llama_builds("N", False, []))
    assert found[0] == name
    assert how in found[1]
    kept = [path.parent.name for path in (layout.root.parent / "cache").rglob("*.whl")]
    assert len(kept) == 1, "what failed is thrown away"
    assert name.replace(" ", "-") in kept[0]


def test_a_kept_build_that_no_longer_computes_is_thrown_away_and_made_again(layout: Layout) -> None:
    make_environment(layout)
    plan = [LlamaBuild("the processor"), LlamaBuild("most processors", cmake="-DGGML_NATIVE=OFF")]
    llama_wheel(layout).install(plan)
    fail(layout, 1)
    assert llama_wheel(layout).install(plan)[0] == "most processors"
    assert llama_wheel(layout).install(plan) == ("the processor", "compiled here; tried: 100 tokens read")


@pytest.mark.parametrize("damage", ["empty", "cut", "nothing", "not a wheel", "refused", "gone"])
def test_a_kept_package_that_is_broken_is_compiled_again_and_then_kept(layout: Layout, damage: str) -> None:
    make_environment(layout)
    build = LlamaBuild("the processor")
    llama_wheel(layout).install([build])
    (kept,) = llama_wheel(layout).kept(build)[0].glob("*.whl")
    whole = kept.read_bytes()
    if damage == "refused":  # an archive by its end, but the installation fails
        (layout.python.parent / "no-kept").touch()
    elif damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(
            {"empty": b"", "cut": whole[:-1], "nothing": bytes(len(whole)), "not a wheel": b"<html>"}[damage]
        )
    assert llama_wheel(layout).install([build]) == ("the processor", "compiled here; tried: 100 tokens read")
    assert kept.read_bytes() == whole
    assert llama_wheel(layout).install([build])[1].startswith("compiled here before")
    assert sum("pip wheel" in call for call in calls(layout)) == 2


def test_a_kept_package_that_cannot_be_installed_is_tried_once_more_and_stays_where_there_is_no_compiler(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(layout)
    build = LlamaBuild("the processor")
    llama_wheel(layout).install([build])
    (layout.python.parent / "no-kept").touch()
    monkeypatch.setattr(compiler, "has_compilers", lambda layout: False)
    with pytest.raises(InstallStopped, match=r"no C and C\+\+ compiler"):
        llama_wheel(layout).install([build])
    assert llama_wheel(layout).install([build])[1].startswith("compiled here before")


@pytest.mark.parametrize("home", ["unknown", "a file", "/proc/nope", "", "full"])
def test_where_nothing_can_be_kept_outside_it_is_kept_inside(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: str,
) -> None:
    make_environment(layout)
    (layout.root.parent / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME")
    if home == "unknown":
        monkeypatch.setattr(Path, "expanduser", _no_home)
    elif home == "full":  # it can be written to until the package has been compiled
        monkeypatch.setenv("XDG_CACHE_HOME", str(layout.root.parent / "cache"))
        copy = llama_wheel_module._copy
        monkeypatch.setattr(
            llama_wheel_module, "_copy", lambda wheel, folder: _only_inside(copy, wheel, folder, layout)
        )
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(layout.root.parent / "file") if home == "a file" else home or "/sys")
    build = LlamaBuild("the processor")
    assert llama_wheel(layout).install([build])[1].startswith("compiled here;")
    assert list((layout.files / "wheels").rglob("*.whl"))
    assert f"is kept in {layout.files / 'wheels'}" in capsys.readouterr().out
    assert llama_wheel(layout).install([build])[1].startswith("compiled here before")


def test_where_nothing_can_be_kept_at_all_it_says_so(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment(layout)
    (layout.files / "wheels").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nope")
    with pytest.raises(InstallStopped, match=r"wheels/.* is not writable \(Not a directory\)"):
        llama_wheel(layout).install([LlamaBuild("the processor")])


def _no_home(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def _only_inside(copy: Callable[[Path, Path], None], wheel: Path, folder: Path, layout: Layout) -> None:
    if layout.files not in folder.parents:
        raise OSError(errno.ENOSPC, "No space left on device")
    copy(wheel, folder)


def test_what_is_kept_is_for_one_processor_and_one_set_of_options(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(layout)
    build, folders = LlamaBuild("the processor"), set()
    for mark, flags, version in (("a", "", "12"), ("b", "", "12"), ("a", "-O1", "12"), ("a", "", "13")):
        monkeypatch.setattr(processor, "cpu_fingerprint", lambda mark=mark: mark)
        monkeypatch.setattr(compiler, "compiler_version", lambda version=version: version)
        monkeypatch.setenv("CFLAGS", flags)
        folders.add(llama_wheel(layout).kept(build)[0])
    assert len(folders) == 4


def test_what_is_kept_for_cuda_is_for_one_card(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvcc compiles for the GPUs that it finds: there would be no kernels for another one."""
    make_environment(layout)
    monkeypatch.setattr(Runner, "quiet", lambda self, *command: pytest.fail("who asks for the cards is nvidia.py"))
    monkeypatch.setattr(llama_wheel_module.shutil, "which", lambda _, **more: None)
    folders = set()
    for capability in ((8, 6), (12, 0)):
        llama = LlamaWheel(Packages(Runner(layout)), [NvidiaGpu("card", capability)])
        folders.add(llama.kept(LlamaBuild("CUDA", cmake="-DGGML_CUDA=on"))[0])
        folders.add(llama.kept(LlamaBuild("the processor"))[0])
    assert len(folders) == 3


def test_other_versions_that_were_kept_are_thrown_away(layout: Layout) -> None:
    make_environment(layout)
    folder = layout.root.parent / "cache" / "text-generation-webui"
    old, same = folder / "llama-cpp-python-8-the-processor-abc", folder / "llama-cpp-python-9-another-machine-abc"
    newer, other = folder / "llama-cpp-python-99-the-processor-abc", folder / "something-else"
    for each in (old, same, newer, other):
        each.mkdir(parents=True)
    llama_wheel(layout).install([LlamaBuild("the processor")])
    assert not old.exists()
    assert not newer.exists()
    assert same.exists(), "another machine that shares the folder needs it"
    assert other.exists()


def test_what_is_installed_is_tried_and_left_as_it_is(layout: Layout) -> None:
    """It is another processor: a build that does not work there is only replaced when another one is available."""
    make_environment(layout)
    assert llama_wheel(layout).still("") == ""
    assert llama_wheel(layout).still("the processor") == "kept unchanged; 100 tokens read"
    fail(layout, 1)
    llama = llama_wheel(layout)
    before = len(calls(layout))
    assert llama.still("the processor") == ""
    assert len(calls(layout)) == before + 1
    name, how = llama.install(plan_llama_builds("N", False, []))
    assert name == "the processor"
    assert "compiled here, because others do not run here (the installed build for the processor" in how


def test_a_build_of_the_same_version_is_taken_out_before_another_comes(layout: Layout) -> None:
    """To uv and pip it is the same package, which they would not replace."""
    make_environment(layout, "wheels")
    (layout.python.parent / "vulkan-cards").write_text("Vulkan0\n")
    plan = [LlamaBuild("CUDA 12.1", "cu121"), LlamaBuild("Vulkan", "vulkan")]
    assert llama_wheel(layout).install(plan)[0] == "Vulkan"


def test_where_another_build_fails_half_way_the_first_comes_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(layout, "wheels")
    llama = llama_wheel(layout)
    stream = llama.runner.stream
    monkeypatch.setattr(
        llama.runner,
        "stream",
        lambda *said, **more: "whl/vulkan" not in " ".join(map(str, said)) and stream(*said, **more),
    )
    assert llama.install([LlamaBuild("CUDA 12.1", "cu121"), LlamaBuild("Vulkan", "vulkan")])[0] == "CUDA 12.1"
    assert list(layout.site_packages.glob("llama_cpp_python-*")), "what is said to be there is there"


def test_a_failed_compile_is_a_sentence_and_the_next_way_is_tried(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unusable GPU compiler must not end the plan: its output is in the log, not on the screen."""
    make_environment(layout, "no-cuda")
    plan = [LlamaBuild("CUDA", cmake="-DGGML_CUDA=on"), LlamaBuild("the processor")]
    name, how = llama_wheel(layout).install(plan)
    assert name == "the processor"
    assert "CUDA: it could not be compiled: CMake Error: no cuBLAS" in how
    said = capfd.readouterr().out
    assert f"It could not be compiled (CMake Error: no cuBLAS); the compiler output is in {layout.log}" in said
    assert "hundreds of lines" not in said
    assert "hundreds of lines" in layout.log.read_text()


def test_libraries_that_cannot_be_had_lead_to_the_next_way(layout: Layout) -> None:
    make_environment(layout, "wheels", "no-libraries")
    name, how = llama_wheel(layout).install(
        [LlamaBuild("CUDA 12.1", "cu121", "", ("nvidia-cublas-cu12==12",)), LlamaBuild("the processor")]
    )
    assert name == "the processor"
    assert "CUDA 12.1: pip could not install the libraries" in how
