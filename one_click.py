"""Installs what the web UI needs into installer_files/, once, and then becomes server.py.

The start scripts are thin shells over this file: they find a Python, this does the rest, in five steps. What the steps
are made of lies in installer/, one thing a file; both use the standard library only, run on Python 3.10 to 3.13, and
import nothing of the project. What is known about the last run lies in installer_files/state.json; "complete" is
written there last, so that an interrupted installation is noticed.

--install-torch adds torch and what runs on it (requirements-torch.txt) and ends. Environment variables: GPU_CHOICE (A,
B, C, D or N) and USE_CUDA118 answer the questions; LAUNCH_AFTER_INSTALL=no stops after installing. Everything else on
the command line goes on to server.py unchanged.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from installer import compiler, environment, requirements, torch_packages
from installer.choice import choose_gpu
from installer.console import is_no
from installer.errors import Stop
from installer.gpu import parse_gpu
from installer.layout import Layout
from installer.llama_builds import llama_plan
from installer.llama_wheel import LlamaWheel
from installer.lock import only_one
from installer.packages import Packages
from installer.preflight import check_machine
from installer.runner import Runner
from installer.server import launch
from installer.state import read_state, write_state
from installer.torch_builds import torch_build
from installer.work import work_to_do


def main(arguments: Sequence[str]) -> int:
    layout = Layout(Path(__file__).resolve().parent)
    os.chdir(layout.root)
    wants_torch = "--install-torch" in arguments
    try:
        prepare(layout, arguments)
        if wants_torch:
            add_torch(layout)
            return 0
        if not is_no(os.environ.get("LAUNCH_AFTER_INSTALL", "")):
            return launch(layout, arguments)
        print("Everything is installed; not starting, because LAUNCH_AFTER_INSTALL says no.")
        return 0
    except Stop as sentence:
        print(f"\n{sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to go on.", file=sys.stderr)
        return 130


def prepare(layout: Layout, arguments: Sequence[str]) -> None:
    """Installs what is not there yet; nothing but a few looks at the disk when all is there."""
    chosen = os.environ.get("GPU_CHOICE", "")
    answer = {"gpu": parse_gpu(chosen)} if chosen else {}
    reason, new = work_to_do(layout, read_state(layout), answer)
    if not reason:
        return
    if Path(sys.prefix) == layout.env:  # the environment cannot replace itself: go on with the Python beneath it
        base = getattr(sys, "_base_executable", sys.executable)
        os.execv(base, [base, str(layout.root / "one_click.py"), *arguments])
    print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
    check_machine(layout, new)
    layout.files.mkdir(exist_ok=True)
    with only_one(layout) as lock:
        reason, new = work_to_do(layout, read_state(layout), answer)  # again: another start may have done it by now
        if reason:
            install(layout, lock, new)


def install(layout: Layout, lock: Sequence[int], new: bool) -> None:
    """Steps 2 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    print("[2/5] Choosing what fits your graphics card ...", flush=True)
    old = read_state(layout)
    answer = choose_gpu(old)
    plan = llama_plan(answer["gpu"], answer["cuda118"], list(filter(shutil.which, ("nvcc", "hipcc", "glslc"))))
    if answer["gpu"] in "BD" and plan[0].wheels == "cpu":
        print("      No GPU compiler (ROCm's hipcc, or Vulkan's glslc) is installed: llama.cpp will use the processor.")
    write_state(layout, {**old, **answer, "complete": False})
    runner = Runner(layout, lock)
    packages = Packages(runner)
    llama = LlamaWheel(packages)

    print(f"[3/5] {'Making' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        environment.make(runner)
    packages.read_settings()
    if not new and any(old.get(key) != value for key, value in answer.items()):
        llama.remove()
    if new and not compiler.works(layout) and not any(map(llama.at_hand, plan)):
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
    build = llama.install(plan)
    runs, said = environment.loads(runner, "gradio, llama_cpp")
    if not runs:
        raise Stop(f"What was installed does not run ({said}). Delete the folder installer_files and start again.")
    shutil.rmtree(layout.tmp, ignore_errors=True)
    if old.get("torch"):
        torch_packages.install(packages, torch_build(answer["gpu"], answer["cuda118"]))
    state = {
        **answer,
        "torch": bool(old.get("torch")),
        "llama": build,
        "root": str(layout.root),
        "python": environment.python_version(layout.python),
    }
    state |= {"fingerprint": requirements.fingerprint(layout), "packages": environment.installed_names(layout)}
    write_state(layout, {**state, "complete": True})
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def add_torch(layout: Layout) -> None:
    """Adds torch and what runs on it, for the loaders and the training that need them; later installations keep it."""
    with only_one(layout) as lock:
        state = read_state(layout)
        packages = Packages(Runner(layout, lock))
        packages.read_settings()
        torch_packages.install(packages, torch_build(state.get("gpu", "N"), bool(state.get("cuda118"))))
        write_state(layout, {**state, "torch": True, "packages": environment.installed_names(layout)})


def install_requirements(path: str) -> None:
    """Adds the packages of a requirements file to the finished environment (run_tests.sh, extensions)."""
    layout = Layout(Path(__file__).resolve().parent)
    with only_one(layout) as lock:
        packages = Packages(Runner(layout, lock))
        packages.read_settings()
        packages.install("-r", str(Path(path).resolve()), what=f"the packages of {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
