"""Installs what the web UI needs into installer_files/, once, and then becomes server.py.

The start scripts are thin shells over this file: they find a Python, this does the rest, in five steps. What the steps
are made of lies in installer/, one thing a file; both use the standard library only, run on Python 3.10 to 3.13, and
import nothing of the project. What is known about the last run lies in installer_files/state.json; "complete" is
written there last, so that an interrupted installation is noticed. Where an update fails, the environment before it is
started, and the failure is remembered, so that no start tries the same again by itself.

--install-torch adds torch and what runs on it (requirements-torch.txt) and ends; NVIDIA cards get it, and ExLlamaV2, by
themselves. --update fetches the project's newest version and installs what it needs, --repair makes the environment
anew, --go-back changes it for the one before, --clean throws that one away. Environment variables: GPU_CHOICE (A,
B, C, D or N) and USE_CUDA118 answer the questions; LAUNCH_AFTER_INSTALL=no stops after installing;
WEBUI_NEVER_INSTALL=yes starts what is there and changes nothing. Everything else on the command line goes on to
server.py unchanged.
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
    earlier,
    environment,
    holding,
    keeping,
    mishaps,
    part,
    processor,
    project,
    requirements,
    sizes,
    torch_packages,
    trial,
)
from installer.choice import choose_gpu
from installer.console import is_no, is_yes
from installer.disk import amount, size
from installer.errors import Stop
from installer.fingerprints import changed, fingerprints
from installer.gpu import parse_gpu
from installer.layout import Layout
from installer.llama_builds import Build, llama_plan
from installer.llama_wheel import FILES as LLAMA_FILES
from installer.llama_wheel import LlamaWheel
from installer.lock import only_one
from installer.packages import Packages
from installer.preflight import check_machine, check_space
from installer.runner import Runner
from installer.server import launch
from installer.state import read_state, write_state
from installer.torch_builds import TorchBuild, torch_build
from installer.work import work_to_do


def main(arguments: Sequence[str]) -> int:
    """Whatever happens is one sentence, and the exit code tells: 0, 1, or 130 for Ctrl+C."""
    layout = Layout(Path(__file__).resolve().parent)
    try:
        return run(layout, arguments)
    except Stop as sentence:
        print(f"\n{sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to go on.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"\n{mishaps.sentence(layout, error)}", file=sys.stderr)
        return 1


def run(layout: Layout, arguments: Sequence[str]) -> int:
    """What the arguments ask for; the exit code. Raises: Stop."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise Stop(
            f"This is Python {sys.version_info[0]}.{sys.version_info[1]}, and the web UI needs 3.10 to 3.13. Start it "
            f"by {project.script('start')}, which finds one that fits, or fetches it."
        )
    os.chdir(layout.root)
    changes = {"--update", "--repair", "--go-back", "--clean", "--install-torch"} & set(arguments)
    if never() and changes:
        raise Stop(f"WEBUI_NEVER_INSTALL is set, so {' '.join(sorted(changes))} changes nothing. Unset it to do that.")
    if "--clean" in arguments:
        return earlier.clean(layout)
    if "--go-back" in arguments:
        leave(layout, arguments)
        return earlier.go_back(layout)
    if "--update" in arguments and project.update(layout.root):
        arguments = [each for each in arguments if each != "--update"]
        again = [sys.executable, str(layout.root / "one_click.py"), *arguments, "--updated"]
        return subprocess.call(again)  # this file may be another one by now
    asked = {"--update", "--updated", "--repair"} & set(arguments)
    prepare(layout, arguments, anew="--repair" in arguments, asked=bool(asked))
    if "--install-torch" in arguments:
        add_torch(layout)
        return 0
    if asked:
        print("Everything is up to date.")
        return 0
    if not is_no(os.environ.get("LAUNCH_AFTER_INSTALL", "")):
        state = read_state(layout)
        if "llama" in state:
            print(f"llama.cpp for {state['llama']}: {state.get('llama_how')}.", flush=True)
        return launch(layout, arguments)
    print("Everything is installed; not starting, because LAUNCH_AFTER_INSTALL says no.")
    return 0


def never() -> bool:
    """Whether nothing may be installed at a start: for containers, and for folders that several users share."""
    return is_yes(os.environ.get("WEBUI_NEVER_INSTALL", ""))


def prepare(layout: Layout, arguments: Sequence[str], *, anew: bool = False, asked: bool = False) -> None:
    """Installs what is not there yet, or all of it `anew`; nothing but a few looks at the disk when all is there.

    `asked`: the user asked for it (--update, --repair), so what failed before is tried again, and fails where it fails.
    Otherwise a failure ends only where nothing is there to start. Raises: Stop.
    """
    chosen = os.environ.get("GPU_CHOICE", "")
    answer = {"gpu": parse_gpu(chosen)} if chosen else {}
    if never():
        holding.look(layout, answer)
        return
    if keeping.unfinished(layout) or part.interrupted(layout):
        leave(layout, arguments)
        with only_one(layout):  # it may be unfinished because another process is at it
            recover(layout)
    reason, new = work_to_do(layout, read_state(layout), answer)
    if anew and layout.env.exists():
        reason, new = "A new environment is made beside the old one.", True
    if not reason or (not asked and holding.stays(layout, answer)):
        return
    leave(layout, arguments)
    try:
        renew(layout, reason, new, answer, anew=anew, asked=asked)
    except Stop as sentence:
        if asked or not holding.goes_on(layout, answer, sentence):
            raise


def renew(layout: Layout, reason: str, new: bool, answer: Mapping[str, Any], *, anew: bool, asked: bool) -> None:
    """One installation at a time, with the reason said first. Raises: Stop."""
    try:
        print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
        check_machine(layout)
        layout.files.mkdir(exist_ok=True)
        with only_one(layout) as lock:
            recover(layout)  # whoever was waited for may have been ended in the middle
            if not anew:
                # again: another start may have done it by now, or failed at it
                reason, new = work_to_do(layout, read_state(layout), answer)
            if reason and (asked or not holding.stays(layout, answer)):
                install(layout, lock, new, answer)
    except OSError as error:
        raise Stop(mishaps.sentence(layout, error)) from error


def recover(layout: Layout) -> None:
    """Brings back what an interrupted update or repair moved aside. Under the lock only."""
    want = read_state(layout).get("wanting")
    if part.restore(layout):
        print("The last change of the environment did not finish; it is as it was before.", flush=True)
    elif keeping.unfinished(layout) and keeping.recover(layout):
        print("The last update did not finish; the environment before it is back.", flush=True)
    else:
        return
    if want:
        holding.hold(layout, want, "It was ended in the middle.")


def leave(layout: Layout, arguments: Sequence[str]) -> None:
    """Goes on with the Python beneath the environment, which cannot be replaced by its own Python."""
    if Path(sys.prefix) != layout.env:
        return
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, str(layout.root / "one_click.py"), *arguments]
    if os.name == "nt":  # there the terminal would not wait for what it becomes
        sys.exit(subprocess.call(command))
    os.execv(base, command)


def install(layout: Layout, lock: Sequence[int], new: bool, given: Mapping[str, Any]) -> None:
    """Step 2, and then the rest, with the old environment or the old part of it kept until all is done."""
    old = read_state(layout)
    print("[2/5] Choosing what fits your graphics card ...", flush=True)
    answer = choose_gpu(old)
    cuda128 = bool(answer.get("cuda128"))
    tools = list(filter(shutil.which, ("nvcc", "hipcc", "glslc")))
    plan = llama_plan(answer["gpu"], answer["cuda118"], tools, cuda128)
    if answer["gpu"] in "BD" and plan[0].wheels == "cpu":
        print("      No GPU compiler (ROCm's hipcc, or Vulkan's glslc) is installed: llama.cpp will use the processor.")
    parts = {"main", "llama", "torch"} if new else changed(layout, old)
    if any(old.get(key) != value for key, value in answer.items()):
        parts |= {"llama", "torch"}
    build = torch_build(answer["gpu"], answer["cuda118"], cuda128)
    torch = build if "torch" in parts and (old.get("torch") or answer["gpu"] == "A") else None
    if parts:
        needs = sizes.size(torch, cuda=answer["gpu"] == "A", base=bool(parts - {"torch"}))
        check_space(layout, needs, new=new)
    layout.log.unlink(missing_ok=True)
    want = holding.wanted(layout, old, given)
    with kept(layout, new, LLAMA_FILES if "llama" in parts else ()):
        write_state(layout, {**old, **answer, "complete": False, "wanting": want})
        fill(layout, lock, new, old, answer, plan, parts, torch)


@contextlib.contextmanager
def kept(layout: Layout, new: bool, names: Sequence[str]) -> Iterator[None]:
    """What was there before is there again where this fails: the environment (`new`), or the files of these names."""
    if not new:
        part.move_aside(layout, names)
        try:
            yield
        except BaseException:
            part.restore(layout)
            print("\nThe environment is as it was before.", flush=True)
            raise
        part.done(layout)
        return
    aside = keeping.set_aside(layout)
    try:
        yield
    except BaseException:
        if aside and keeping.bring_back(layout):
            print("\nThe environment before it is untouched, and in use again.", flush=True)
        raise
    if aside:
        print(f"The environment before this one is kept for --go-back ({amount(size(layout.last))}; "
              "--clean throws it away).", flush=True)  # fmt: skip


def fill(
    layout: Layout,
    lock: Sequence[int],
    new: bool,
    old: Mapping[str, Any],
    answer: Mapping[str, Any],
    plan: Sequence[Build],
    parts: set[str],
    torch_wanted: TorchBuild | None,
) -> None:
    """Steps 3 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    runner = Runner(layout, lock)
    packages = Packages(runner)
    llama = LlamaWheel(packages)

    print(f"[3/5] {'Making' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        environment.make(runner)
    packages.read_settings()
    if new and not compiler.works(layout) and not any(map(llama.at_hand, plan)):
        environment.give_up(
            layout,
            "llama.cpp must be compiled on this machine, as no ready-made package can be had, and that needs a C "
            f"and a C++ compiler. {compiler.advice()}",
        )

    print(f"[4/5] {'Installing packages ...' if 'main' in parts else 'The packages stay as they are.'}", flush=True)
    if "main" in parts:
        others = layout.tmp / "requirements.txt"
        others.write_text(requirements.others(layout), "utf-8")
        packages.install("-r", str(others), what="the packages of requirements.txt")

    print("[5/5] Installing llama.cpp, and trying everything ...", flush=True)
    build, how = llama.install(plan, installed="" if "llama" in parts else str(old.get("llama", "")))
    print(f"      llama.cpp for {build} on {processor.name()}: {how}.", flush=True)
    runs, said = trial.imports(runner)
    if not runs:
        raise Stop(
            f"What was installed does not run ({said}); all it said is in {layout.log}. Delete the folder "
            f"{layout.env} and start again."
        )
    shutil.rmtree(layout.tmp, ignore_errors=True)
    torch = bool(old.get("torch"))
    if torch_wanted:
        torch = with_torch(packages, torch_wanted, asked=torch)
    state = {
        **answer,
        "torch": torch,
        "llama": build,
        "llama_how": how,
        "processor": processor.mark(),
        "root": str(layout.root),
        "python": environment.python_version(layout.python),
    }
    state |= {"fingerprint": requirements.fingerprint(layout), "parts": fingerprints(layout)}
    state |= {"commit": project.commit(layout.root), "packages": environment.installed_names(layout)}
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
        state |= {"torch": True, "packages": environment.installed_names(layout)}
        if isinstance(state.get("parts"), dict):
            state["parts"] = {**state["parts"], "torch": fingerprints(layout)["torch"]}
        write_state(layout, state)


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
