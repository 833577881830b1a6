"""Installs what the web UI needs into installer_files/, once, and then becomes server.py.

The start scripts are thin shells over this file: they find a Python, this does the rest, in five steps. What the steps
are made of lies in installer/, one thing a file; both use the standard library only, run on Python 3.10 to 3.13, and
import nothing of the project. What is known about the last run lies in installer_files/state.json; "complete" is
written there last, so that an interrupted installation is noticed.

--install-torch adds torch and what runs on it (requirements-torch.txt) and ends; NVIDIA cards get it, and ExLlamaV2, by
themselves. --update fetches the project's newest version and installs what it needs, --repair makes the environment
anew, --go-back changes it for the one before. Environment variables: GPU_CHOICE (A,
B, C, D or N) and USE_CUDA118 answer the questions; LAUNCH_AFTER_INSTALL=no stops after installing. Everything else on
the command line goes on to server.py unchanged.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from installer import (
    compiler,
    environment,
    keeping,
    llama_release,
    processor,
    project,
    requirements,
    torch_packages,
    trial,
)
from installer.choice import choose_gpu
from installer.console import is_no
from installer.errors import Stop
from installer.gpu import parse_gpu
from installer.layout import Layout
from installer.llama_builds import llama_plan
from installer.llama_release import LlamaRelease
from installer.lock import only_one
from installer.packages import Packages
from installer.preflight import check_machine
from installer.runner import Runner
from installer.server import launch
from installer.state import read_state, write_state
from installer.torch_builds import TorchBuild, torch_build
from installer.work import work_to_do


def main(arguments: Sequence[str]) -> int:
    layout = Layout(Path(__file__).resolve().parent)
    os.chdir(layout.root)
    try:
        if "--go-back" in arguments:
            leave(layout, arguments)
            undoable = keeping.go_back(layout)
            print(f"The environment before this one is back{'; --go-back once more undoes that' if undoable else ''}.")
            return 0
        if "--update" in arguments and project.update(layout.root):
            arguments = [each for each in arguments if each != "--update"]
            again = [sys.executable, str(layout.root / "one_click.py"), *arguments, "--updated"]
            return subprocess.call(again)  # this file may be another one by now
        prepare(layout, arguments, anew="--repair" in arguments)
        if "--install-torch" in arguments:
            add_torch(layout)
            return 0
        if {"--update", "--updated", "--repair"} & set(arguments):
            print("Everything is up to date.")
            return 0
        if not is_no(os.environ.get("LAUNCH_AFTER_INSTALL", "")):
            state = read_state(layout)
            print(f"llama.cpp for {state.get('llama')}: {state.get('llama_how')}.", flush=True)
            return launch(layout, arguments)
        print("Everything is installed; not starting, because LAUNCH_AFTER_INSTALL says no.")
        return 0
    except Stop as sentence:
        print(f"\n{sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to go on.", file=sys.stderr)
        return 130


def prepare(layout: Layout, arguments: Sequence[str], *, anew: bool = False) -> None:
    """Installs what is not there yet, or all of it `anew`; nothing but a few looks at the disk when all is there."""
    chosen = os.environ.get("GPU_CHOICE", "")
    answer = {"gpu": parse_gpu(chosen)} if chosen else {}
    if keeping.unfinished(layout):
        leave(layout, arguments)
        with only_one(layout):  # it may be unfinished because another process is at it
            recover(layout)
    reason, new = work_to_do(layout, read_state(layout), answer)
    if anew and layout.env.exists():
        reason, new = "A new environment is made beside the old one.", True
    if not reason:
        return
    leave(layout, arguments)
    print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
    check_machine(layout, new)
    layout.files.mkdir(exist_ok=True)
    with only_one(layout) as lock:
        recover(layout)  # whoever was waited for may have been ended in the middle
        if not anew:
            reason, new = work_to_do(layout, read_state(layout), answer)  # again: another start may have done it by now
        if reason:
            replace(layout, lock, new)


def recover(layout: Layout) -> None:
    """Brings back what an interrupted update or repair moved aside. Under the lock only."""
    if keeping.unfinished(layout) and keeping.bring_back(layout):
        print("The last update did not finish; the environment before it is back.", flush=True)


def leave(layout: Layout, arguments: Sequence[str]) -> None:
    """Goes on with the Python beneath the environment, which cannot be replaced by its own Python."""
    if Path(sys.prefix) != layout.env:
        return
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, str(layout.root / "one_click.py"), *arguments]
    if os.name == "nt":  # there the terminal would not wait for what it becomes
        sys.exit(subprocess.call(command))
    os.execv(base, command)


def replace(layout: Layout, lock: Sequence[int], new: bool) -> None:
    """Installs; where that fails, the environment that was there before is there again."""
    old = read_state(layout)
    kept = new and keeping.set_aside(layout)
    try:
        install(layout, lock, new, old)
    except BaseException:
        if kept and keeping.bring_back(layout):
            print("\nThe environment before it is untouched, and in use again.", flush=True)
        raise


def install(layout: Layout, lock: Sequence[int], new: bool, old: Mapping[str, Any]) -> None:
    """Steps 2 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    print("[2/5] Choosing what fits your graphics card ...", flush=True)
    answer = choose_gpu(old)
    cuda128 = bool(answer.get("cuda128"))
    tools = list(filter(shutil.which, ("nvcc", "hipcc", "glslc")))
    plan = llama_plan(answer["gpu"], answer["cuda118"], tools, cuda128)
    if answer["gpu"] in "BD" and plan[0].wheels == "cpu":
        print("      No GPU compiler (ROCm's hipcc, or Vulkan's glslc) is installed: llama.cpp will use the processor.")
    write_state(layout, {**old, **answer, "complete": False})
    compiles = compiler.works(layout)
    plan = llama_release.among(plan, answer["gpu"], requirements.llama(layout), compiler=compiles)
    runner = Runner(layout, lock)
    packages = Packages(runner)
    llama = LlamaRelease(packages)

    print(f"[3/5] {'Making' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        environment.make(runner)
    packages.read_settings()
    if not new and any(old.get(key) != value for key, value in answer.items()):
        llama.remove()
    if new and not compiles and not any(map(llama.at_hand, plan)):
        environment.give_up(
            layout,
            "llama.cpp must be compiled on this machine, as no ready-made package can be had, and that needs a C "
            f"and a C++ compiler. {compiler.ADVICE}",
        )

    print("[4/5] Installing packages ...", flush=True)
    others = layout.tmp / "requirements.txt"
    others.write_text(requirements.others(layout), "utf-8")
    packages.install("-r", str(others), what="the packages of requirements.txt")

    print("[5/5] Installing llama.cpp, and trying everything ...", flush=True)
    kept = not new and all(old.get(key) == value for key, value in answer.items())
    build, how = llama.install(plan, installed=str(old.get("llama", "")) if kept else "")
    print(f"      llama.cpp for {build} on {processor.name()}: {how}.", flush=True)
    runs, said = trial.imports(runner)
    if not runs:
        raise Stop(f"What was installed does not run ({said}). Delete the folder installer_files and start again.")
    shutil.rmtree(layout.tmp, ignore_errors=True)
    torch = bool(old.get("torch"))
    if torch or answer["gpu"] == "A":
        torch = with_torch(packages, torch_build(answer["gpu"], answer["cuda118"], cuda128), asked=torch)
    state = {
        **answer,
        "torch": torch,
        "llama": build,
        "llama_how": how,
        "processor": processor.mark(),
        "root": str(layout.root),
        "python": environment.python_version(layout.python),
    }
    state |= {"fingerprint": requirements.fingerprint(layout), "packages": environment.installed_names(layout)}
    write_state(layout, {**state, "complete": True})
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def with_torch(packages: Packages, build: TorchBuild, *, asked: bool) -> bool:
    """Installs torch; whether it is there now. What nobody asked for may fail with a sentence."""
    packages.layout.tmp.mkdir(parents=True, exist_ok=True)
    try:
        torch_packages.install(packages, build)
    except Stop as sentence:
        if asked:
            raise
        print(f"      {sentence} llama.cpp works without it; --install-torch tries again.", flush=True)
        return False
    return True


@contextlib.contextmanager
def finished(layout: Layout) -> Iterator[Sequence[int]]:
    """The lock, and under it a finished environment to add to. Raises: Stop."""
    layout.files.mkdir(exist_ok=True)
    with only_one(layout) as lock:
        if not read_state(layout).get("complete"):
            raise Stop("The installation is not finished, so nothing can be added to it. Start the web UI once, then "
                       "try again.")  # fmt: skip
        yield lock


def add_torch(layout: Layout) -> None:
    """Adds torch and what runs on it, for the loaders and the training that need them; later installations keep it."""
    with finished(layout) as lock:
        state = read_state(layout)
        packages = Packages(Runner(layout, lock))
        packages.read_settings()
        torch_packages.install(packages, _torch_of(state))
        write_state(layout, {**state, "torch": True, "packages": environment.installed_names(layout)})


def _torch_of(state: Mapping[str, Any]) -> TorchBuild:
    return torch_build(state.get("gpu", "N"), bool(state.get("cuda118")), bool(state.get("cuda128")))


def install_requirements(path: str) -> None:
    """Adds the packages of a requirements file to the finished environment (run_tests.sh, extensions)."""
    layout = Layout(Path(__file__).resolve().parent)
    with finished(layout) as lock:
        packages = Packages(Runner(layout, lock))
        packages.read_settings()
        packages.install("-r", str(Path(path).resolve()), what=f"the packages of {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
