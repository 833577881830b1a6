"""The installer: answers, memory, refusals, and its steps with a shell script in the place of Python."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import one_click
from one_click import Build, Installer, Layout, Stop

ROOT = Path(__file__).resolve().parents[1]
Usage = namedtuple("Usage", "total used free")
really_compiler_works = one_click.compiler_works

# Stands where the environment's Python would. It writes down how it is called; files beside it make it fail.
FAKE_PYTHON = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
case "$*" in
*sys.version_info*) echo 3.11 ;;
*"pip wheel"*)
    [ -e "$here/no-compile" ] && exit 1
    while [ "$1" != --wheel-dir ]; do shift; done
    mkdir -p "$2" && echo "built with: $CMAKE_ARGS" >"$2/llama_cpp_python-9-py3-none-any.whl" ;;
*abetlen*) [ -e "$here/wheels" ] || exit 1 ;;
*"-m uv"*) [ -e "$here/no-uv" ] && exit 1 ;;
*"-m pip install"*) [ -e "$here/no-pip" ] && exit 1 ;;
*"-c import"*) [ -e "$here/no-import" ] && { echo "ImportError: no such thing"; exit 1; } ;;
esac
exit 0
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project folder with requirements, and nothing of this machine's environment."""
    for name in ("GPU_CHOICE", "USE_CUDA118", "LAUNCH_AFTER_INSTALL", "UV_CACHE_DIR", "CMAKE_ARGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(one_click, "compiler_works", lambda layout: True)
    layout = Layout(tmp_path / "project")
    layout.root.mkdir()
    layout.requirements.write_text("# comment\ngradio==1.0\nllama-cpp-python==9\n    # via nobody\n")
    return layout


def make_environment(layout: Layout, *flags: str) -> None:
    layout.python.parent.mkdir(parents=True)
    layout.python.write_text(FAKE_PYTHON)
    layout.python.chmod(0o755)
    for flag in flags:
        (layout.python.parent / flag).touch()
    (layout.env / "lib" / "python3.11" / "site-packages" / "gradio-1.0.dist-info").mkdir(parents=True)


def finished(layout: Layout, **changes: Any) -> dict[str, Any]:
    make_environment(layout)
    state = {"gpu": "N", "cuda118": False, "root": str(layout.root), "python": "3.11", "packages": ["gradio"]}
    state |= {"fingerprint": one_click.fingerprint(layout), "complete": True, **changes}
    one_click.write_state(layout, state)
    return state


def calls(layout: Layout) -> list[str]:
    path = layout.python.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []


# --- the questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("A", "A"), (" n\n", "N"), ("d", "D"), ("", ""), ("AB", ""), ("ABCDN", ""), ("X", ""), ("nvidia", ""), ("É", "")],
)
def test_only_one_of_the_letters_is_an_answer(answer: str, letter: str) -> None:
    assert one_click.parse_gpu(answer) == letter


@pytest.mark.parametrize(
    ("system", "machine", "nvidia", "cards", "letter", "reason"),
    [
        ("Darwin", "arm64", "", [], "C", "Apple"),
        ("Darwin", "x86_64", "", [], "N", "Intel"),
        ("Linux", "x86_64", "NVIDIA GeForce RTX 3060", [("0x10de", "0x2504")], "A", "RTX 3060"),
        ("Linux", "x86_64", "", [("0x8086", "0x9bc5"), ("0x10de", "0x2504")], "N", "driver"),
        ("Linux", "x86_64", "", [("0x1002", "0x73bf")], "B", "AMD"),
        ("Linux", "x86_64", "", [("0x8086", "0x56A0")], "D", "Arc"),
        ("Linux", "x86_64", "", [("0x8086", "0x9bc5")], "N", "no graphics card"),
        ("Linux", "aarch64", "", [], "N", "no graphics card"),
    ],
)
def test_detection_gives_a_letter_and_the_reason(
    system: str, machine: str, nvidia: str, cards: list[tuple[str, str]], letter: str, reason: str
) -> None:
    found, why = one_click.detect_gpu(system, machine, nvidia, cards)
    assert found == letter
    assert reason in why


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: Other (UUID: GPU-2)'", "NVIDIA H200"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ""),
        ("exit 0", ""),
    ],
)
def test_the_drivers_own_list_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert one_click.nvidia_card() == name
    fake.unlink()
    assert one_click.nvidia_card() == ""


def test_cards_are_read_from_sysfs(tmp_path: Path) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "device").write_text("0x73bf\n")
    (tmp_path / "card0-HDMI-A-1").mkdir()
    assert one_click.pci_cards(tmp_path) == [("0x1002", "0x73bf")]
    assert one_click.pci_cards(tmp_path / "absent") == []


def test_the_environment_answers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_CHOICE", "a")
    monkeypatch.setenv("USE_CUDA118", "Yes")
    assert one_click.choose_gpu({"gpu": "N"}) == {"gpu": "A", "cuda118": True}
    monkeypatch.setenv("USE_CUDA118", "no")
    assert one_click.choose_gpu({"gpu": "N"}) == {"gpu": "A", "cuda118": False}


@pytest.mark.parametrize("choice", ["X", "AB", "NVIDIA"])
def test_a_wrong_choice_is_refused_by_name(layout: Layout, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("GPU_CHOICE", choice)
    with pytest.raises(Stop, match=f"GPU_CHOICE is '{choice}'"):
        one_click.choose_gpu({})


def test_the_last_answer_is_kept(layout: Layout) -> None:
    assert one_click.choose_gpu({"gpu": "A", "cuda118": True}) == {"gpu": "A", "cuda118": True}


def test_without_a_terminal_it_detects_and_says_why(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(one_click, "nvidia_card", lambda: "NVIDIA H200")
    assert one_click.choose_gpu({}) == {"gpu": "A", "cuda118": False}
    assert "A, NVIDIA, because NVIDIA's driver lists NVIDIA H200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("\n\n", {"gpu": "A", "cuda118": False}),
        ("AB\nx\na\nperhaps\ny\n", {"gpu": "A", "cuda118": True}),
        ("n\n", {"gpu": "N", "cuda118": False}),
        ("", {"gpu": "A", "cuda118": False}),
    ],
)
def test_a_terminal_is_asked_until_it_answers(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, typed: str, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(one_click, "nvidia_card", lambda: "NVIDIA H200")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert one_click.choose_gpu({}) == answer


@pytest.mark.parametrize("text", ["no", "N", "false", "0", "f", "OFF", " no "])
def test_the_words_that_mean_no(text: str) -> None:
    assert one_click.is_no(text)
    assert not one_click.is_no("yes")
    assert not one_click.is_no("")


# --- what must be done ------------------------------------------------------------------------------------------------


def test_a_finished_installation_needs_nothing(layout: Layout) -> None:
    state = finished(layout)
    assert one_click.work_to_do(layout, state, {}) == ("", False)
    assert one_click.work_to_do(layout, state, {"gpu": "N"}) == ("", False)
    assert calls(layout) == ["-I -c import sys; print('%d.%d' % sys.version_info[:2])"] * 2


@pytest.mark.parametrize(
    ("changes", "word", "new"),
    [
        ({"complete": False}, "did not finish", True),
        ({"root": "/elsewhere"}, "moved", True),
        ({"python": "3.10"}, "no longer runs", True),
        ({"packages": ["gradio", "numpy"]}, "numpy", True),
        ({"fingerprint": "old"}, "requirements changed", False),
        ({"gpu": "A"}, "graphics card", False),
    ],
)
def test_every_difference_is_noticed_and_named(layout: Layout, changes: dict[str, Any], word: str, new: bool) -> None:
    reason, anew = one_click.work_to_do(layout, finished(layout, **changes), {"gpu": "N"})
    assert word in reason
    assert anew is new


def test_an_environment_that_is_gone_or_broken_is_made_anew(layout: Layout) -> None:
    state = finished(layout)
    layout.python.unlink()
    assert one_click.work_to_do(layout, state, {})[1]
    assert one_click.work_to_do(Layout(layout.root / "new"), {}, {}) == (
        "This is the first start: everything is installed now, once.",
        True,
    )


def test_changed_requirements_change_the_fingerprint(layout: Layout) -> None:
    before = one_click.fingerprint(layout)
    layout.requirements.write_text("gradio==2.0\n")
    assert one_click.fingerprint(layout) != before
    layout.requirements.unlink()
    with pytest.raises(Stop, match=r"requirements\.txt cannot be read"):
        one_click.fingerprint(layout)


@pytest.mark.parametrize("text", ["", "{", "[]", '"complete"', "\xff"])
def test_a_damaged_state_counts_as_none(layout: Layout, text: str) -> None:
    layout.files.mkdir()
    layout.state.write_text(text, "latin-1")
    assert one_click.read_state(layout) == {}


# --- what is refused before anything is done --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with space", "naïve-日本", "it's", 'q"uote', "do$HOME", "semi;colon", "(1)", "a%b#c"]
)
def test_unusual_folder_names_are_fine(name: str) -> None:
    assert one_click.path_problem(Path("/home/someone") / name) == ""


@pytest.mark.parametrize(
    ("name", "word"), [("a:b", "separates"), ("a\nb", "control"), ("a\tb", "control"), ("a\udcffb", "UTF-8")]
)
def test_folder_names_that_cannot_work_are_refused(layout: Layout, name: str, word: str) -> None:
    with pytest.raises(Stop, match=f"{word}.*Move it"):
        one_click.check_machine(Layout(layout.root / name), new=True)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="venv refuses it since 3.11")
def test_python_itself_agrees_about_the_colon(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "a:b"], capture_output=True, check=False
    )
    assert made.returncode != 0


def test_a_full_disk_is_refused_with_numbers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10, 9, one_click.GIB // 2))
    with pytest.raises(Stop, match=r"has 0\.5 GiB free, and the installation needs 2 GiB\. Free some space"):
        one_click.check_machine(layout, new=True)


def test_a_folder_without_rights_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere, so no real one
    with pytest.raises(Stop, match="cannot be written to"):
        one_click.check_machine(layout, new=True)


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_missing_or_broken_compiler_is_noticed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not really_compiler_works(layout)


# --- llama.cpp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "cuda118", "tools", "ways"),
    [
        ("N", False, ["nvcc"], ["cpu", ""]),
        ("A", False, [], ["cu121", "cu124", "cpu", ""]),
        ("A", True, [], ["cu118", "cpu", ""]),
        ("A", False, ["nvcc"], ["cu121", "cu124", "-DGGML_CUDA=on"]),
        ("B", False, [], ["cpu", ""]),
        ("B", False, ["hipcc", "glslc"], ["-DGGML_HIP=on"]),
        ("D", False, ["glslc"], ["-DGGML_VULKAN=on"]),
        ("C", False, [], ["metal", "-DGGML_METAL=on"]),
    ],
)
def test_the_ways_to_llama_cpp(gpu: str, cuda118: bool, tools: list[str], ways: list[str]) -> None:
    assert [build.wheels or build.cmake for build in one_click.llama_plan(gpu, cuda118, tools)] == ways


def test_a_compiled_llama_cpp_is_kept_for_the_next_installation(layout: Layout) -> None:
    make_environment(layout)
    installer = Installer(layout)
    cuda = Build("CUDA", cmake="-DGGML_CUDA=on")
    assert installer.install_llama([Build("the processor", "cpu"), cuda]) == "CUDA"
    kept = list((layout.root.parent / "cache").rglob("*.whl"))
    assert [path.read_text() for path in kept] == ["built with: -DGGML_CUDA=on\n"]
    assert any("wheel" in call and "--no-cache-dir" in call for call in calls(layout))

    (layout.python.parent / "no-compile").touch()
    assert Installer(layout).install_llama([cuda]) == "CUDA"
    with pytest.raises(Stop, match="could not be compiled"):
        Installer(layout).install_llama([Build("the processor")])


def test_a_ready_made_llama_cpp_is_preferred_and_tried(layout: Layout) -> None:
    make_environment(layout, "wheels")
    plan = one_click.llama_plan("A", False, [])
    assert Installer(layout).install_llama(plan) == "CUDA 12.1"
    assert any("nvidia-cublas-cu12==12.1.3.1" in call for call in calls(layout))
    assert not any("pip wheel" in call for call in calls(layout))

    (layout.python.parent / "no-import").touch()
    with pytest.raises(Stop, match="ImportError: no such thing"):
        Installer(layout).install_llama(plan)


def test_without_a_compiler_it_says_so(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment(layout)
    monkeypatch.setattr(one_click, "compiler_works", lambda layout: False)
    with pytest.raises(Stop, match=r"needs a C and a C\+\+ compiler\. Install one"):
        Installer(layout).install_llama(one_click.llama_plan("N", False, []))


# --- installing -------------------------------------------------------------------------------------------------------


def test_pips_settings_are_told_to_uv() -> None:
    config = "\n".join(
        (
            ":env:.find-links='/opt/wheels /more'",
            "global.find-links='/ignored'",
            "global.index-url='http://mirror/simple'",
            "global.extra-index-url='\\nfile:///a\\nfile:///b'",
            "global.cert='/etc/ca.crt'",
            "WARNING: a line that is no setting",
        )
    )
    assert one_click.uv_settings(config, {"SSL_CERT_FILE": "mine"}) == {
        "UV_DEFAULT_INDEX": "http://mirror/simple",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/opt/wheels,/more",
    }
    assert one_click.uv_settings("", {}) == {}


def test_other_pythons_do_not_leak_in(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    environ = one_click.clean_environ(layout)
    assert not {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} & set(environ)
    assert environ["PYTHONNOUSERSITE"] == "1"

    make_environment(layout)
    libraries = layout.site_packages / "nvidia" / "cublas" / "lib"
    libraries.mkdir(parents=True)
    assert one_click.clean_environ(layout)["LD_LIBRARY_PATH"] == str(libraries)


def test_where_uv_fails_pip_takes_over(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    make_environment(layout, "no-uv")
    installer = Installer(layout)
    installer.install("x", what="the packages")
    installer.install("y", what="the packages")
    assert [call.split()[1] for call in calls(layout)] == ["uv", "pip", "pip"]

    (layout.python.parent / "no-pip").touch()
    with pytest.raises(Stop, match="pip could not install the packages"):
        installer.install("z", what="the packages")


def test_no_network_takes_the_environment_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    installer = Installer(layout)

    def output(self: Installer, *command: str | Path, **more: str) -> tuple[bool, str]:
        if "venv" in command:
            make_environment(layout)
        return "venv" in command, "ERROR: no route\n"

    monkeypatch.setattr(Installer, "output", output)
    with pytest.raises(Stop, match=r"cannot be reached \(pip: ERROR: no route\).*Nothing was installed"):
        installer.make_environment()
    assert not layout.env.exists()
    assert not layout.tmp.exists()


def run_main(layout: Layout, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(Installer, "make_environment", lambda self: make_environment(self.layout, *flags))
    monkeypatch.setattr(one_click, "NEEDED_NEW", 0)
    monkeypatch.setenv("GPU_CHOICE", "N")
    monkeypatch.setenv("LAUNCH_AFTER_INSTALL", "no")
    monkeypatch.chdir(layout.root)
    return one_click.main([])


def test_the_five_steps_and_then_none(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(layout, monkeypatch) == 0
    assert re.findall(r"^\[(\d)/5\]", capsys.readouterr().out, re.MULTILINE) == list("12345")
    state = json.loads(layout.state.read_text())
    assert state["complete"] is True
    assert (state["gpu"], state["llama"]) == ("N", "the processor")

    before = len(calls(layout))
    assert run_main(layout, monkeypatch) == 0
    assert "[" not in capsys.readouterr().out
    assert len(calls(layout)) == before + 1  # the one look whether Python runs


def test_llama_cpp_is_left_out_of_the_common_step(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Installer.install

    def install(self: Installer, *arguments: str, what: str) -> None:
        seen.append(Path(arguments[1]).read_text())
        original(self, *arguments, what=what)

    monkeypatch.setattr(Installer, "install", install)
    assert run_main(layout, monkeypatch) == 0
    assert seen == ["# comment\ngradio==1.0\n    # via nobody\n"]


@pytest.mark.parametrize("flag", ["no-compile", "no-import"])
def test_a_failed_installation_is_a_sentence_and_not_complete(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert run_main(layout, monkeypatch, flag) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.strip().endswith("start again.")
    assert json.loads(layout.state.read_text())["complete"] is False
    assert one_click.work_to_do(layout, one_click.read_state(layout), {})[1]


def test_server_py_gets_the_arguments_unchanged(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(layout)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda path, command, environ: started.append(command))
    monkeypatch.setattr("subprocess.call", lambda command, env: 0)
    with pytest.raises(Stop, match=r"server\.py is missing"):
        one_click.launch(layout, [])
    (layout.root / "server.py").touch()
    one_click.launch(layout, ["--listen-port", "7999", "two words", ""])
    assert started == [[str(layout.python), str(layout.root / "server.py"), "--listen-port", "7999", "two words", ""]]


# --- the requirement files --------------------------------------------------------------------------------------------


def test_the_lock_holds_what_is_asked_for_and_no_addresses() -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    pinned = {line.split(" ")[0] for line in lock.splitlines() if "==" in line}
    for line in (ROOT / "requirements.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            assert line.split(" ")[0].lower() in pinned
    assert "://" not in lock
    assert re.fullmatch(r"uv==[\d.]+", one_click.UV)


def test_the_program_and_its_test_tools_agree_on_versions() -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    versions = dict(re.findall(r"^([\w-]+)==([\w.]+)$", lock, re.MULTILINE))
    for name, version in re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE):
        assert versions.get(name.lower(), version) == version
