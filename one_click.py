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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer import (
    ahead,
    answers,
    compiler,
    console,
    earlier,
    environment,
    holding,
    keeping,
    llama_release,
    machine,
    mishaps,
    part,
    processor,
    project,
    requirements,
    sizes,
    torch_packages,
    trial,
)
from installer import wanted as wanting
from installer.choice import choose_gpu, differs, given, heard
from installer.errors import Stop
from installer.exchange import changed as changed_in_place
from installer.exchange import exchanged
from installer.fingerprints import changed, fingerprints
from installer.layout import Layout
from installer.limits import say_limits
from installer.llama_builds import Build, left_out, llama_plan
from installer.llama_release import LlamaRelease
from installer.llama_wheel import LlamaWheel
from installer.lock import only_one
from installer.packages import Packages
from installer.preflight import check_machine, check_space
from installer.runner import Runner
from installer.server import launch
from installer.state import read_state, write_state
from installer.torch_builds import TorchBuild, torch_build, useless
from installer.work import work_to_do


def main(arguments: Sequence[str]) -> int:
    """Whatever happens is one sentence, and the exit code tells: 0, 1, or 130 for Ctrl+C."""
    layout = Layout(Path(__file__).resolve().parent)
    console.bear_all()
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
    answers.check()
    os.chdir(layout.root)
    changes = {"--update", "--repair", "--go-back", "--clean", "--install-torch"} & set(arguments)
    if holding.never() and changes:
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
        leave(layout, arguments)
        add_torch(layout)
        return 0
    if asked:
        print("Everything is up to date.")
        say_wanted(layout)
        return 0
    if answers.flag(answers.LAUNCH) is not False:
        state = read_state(layout)
        if "llama" in state:
            print(f"llama.cpp for {state['llama']}: {state.get('llama_how')}.", flush=True)
        say_wanted(layout)
        return launch(layout, arguments)
    print("Everything is installed; not starting, because LAUNCH_AFTER_INSTALL says no.")
    say_wanted(layout)
    return 0


def prepare(layout: Layout, arguments: Sequence[str], *, anew: bool = False, asked: bool = False) -> None:
    """Installs what is not there yet, or all of it `anew`; nothing but a few looks at the disk when all is there.

    `asked`: the user asked for it (--update, --repair), so what failed before is tried again, and fails where it fails.
    Otherwise a failure ends only where nothing is there to start. Raises: Stop.
    """
    if holding.never():
        holding.look(layout, given(read_state(layout)))
        return
    if keeping.unfinished(layout) or part.interrupted(layout):
        leave(layout, arguments)
        with only_one(layout):  # it may be unfinished because another process is at it
            recover(layout)
    answer = heard(layout)
    reason, new = what_to_do(layout)
    if anew and layout.env.exists():
        reason, new = "A new environment is made beside the old one.", True
    if not reason or (not asked and holding.stays(layout, answer)):
        return
    leave(layout, arguments)
    try:
        starts = new and not asked and "--install-torch" not in arguments and answers.flag(answers.LAUNCH) is not False
        renew(layout, reason, new, anew=anew, asked=asked, start=arguments if starts else None)
    except Stop as sentence:
        if asked or not holding.goes_on(layout, answer, sentence):
            raise


def renew(
    layout: Layout, reason: str, new: bool, *, anew: bool, asked: bool, start: Sequence[str] | None = None
) -> None:
    """One installation at a time, with the reason said first. Raises: Stop."""
    try:
        print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
        check_machine(layout)
        layout.files.mkdir(exist_ok=True)
        with only_one(layout) as lock:
            recover(layout)  # whoever was waited for may have been ended in the middle
            if not anew:
                # again: another start may have done it by now, or failed at it
                reason, new = what_to_do(layout)
            answer = given(read_state(layout))
            if reason and (asked or not holding.stays(layout, answer)):
                install(layout, lock, new, answer, start)
    except OSError as error:
        raise Stop(mishaps.sentence(layout, error)) from error


def what_to_do(layout: Layout) -> tuple[str, bool]:
    """(why something must be installed, whether anew), as work_to_do says, and for a card that is not used yet."""
    state = read_state(layout)
    reason, new = work_to_do(layout, state, given(state))
    wanted = state.get("wanted")
    if reason or not isinstance(wanted, Mapping):
        return reason, new
    if not wanting.for_processor(str(state.get("llama"))) and (seen := trial.cards(Runner(layout))):
        print(f"llama.cpp sees the graphics card now: {', '.join(seen)}.", flush=True)
        with contextlib.suppress(OSError):  # then it is said again
            write_state(layout, {key: value for key, value in state.items() if key != "wanted"})
        return "", False
    return wanting.again(wanted, machine.look(), wanting.reachable), False


def say_wanted(layout: Layout) -> None:
    """The last line, where a card was chosen and llama.cpp does not use it."""
    wanted = read_state(layout).get("wanted")
    if isinstance(wanted, Mapping):
        print(f"\n{wanted.get('said')}\n", flush=True)


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


def install(
    layout: Layout, lock: Sequence[int], new: bool, answered: Mapping[str, Any], start: Sequence[str] | None = None
) -> None:
    """Step 2, and then the rest, with the environment as it was kept until all is done.

    `start`: the arguments of the start that follows, whose demo model is fetched meanwhile.
    """
    old = read_state(layout)
    layout.log.unlink(missing_ok=True)
    print("[2/5] Choosing what fits your graphics card ...", flush=True)
    here = machine.look()
    answer = choose_gpu(old, here)
    gpu, cuda118, cuda128 = answer["gpu"], answer["cuda118"], answer["cuda128"]
    plan = llama_plan(gpu, cuda118, here.tools, cuda128, here)
    compiles = compiler.works(layout)
    plan = llama_release.among(plan, gpu, requirements.llama(layout), compiler=compiles, cards=here.cards)
    ruled_out = left_out(gpu, cuda118, cuda128, here)
    say_limits(gpu, here, ruled_out)
    llama = LlamaRelease(Packages(Runner(layout, lock)), cards=here.cards)
    parts = {"main", "llama", "torch"} if new else changed(layout, old)
    if differs(old, answer):
        parts |= {"llama", "torch"}
    if not new and retries(llama, plan, old.get("wanted"), here):
        parts |= {"llama"}
    build = torch_build(gpu, cuda118, cuda128)
    torch = build if "torch" in parts and (old.get("torch") or gpu == "A") else None
    if torch and not old.get("torch") and (problem := useless(torch, here)):
        print(f"      {problem} --install-torch installs it all the same.", flush=True)
        torch = None
    kept = "" if "llama" in parts else llama.still(str(old.get("llama", "")))
    if not kept:
        parts |= {"llama"}
    needs = sizes.size(torch, cuda=gpu == "A", base=bool(parts - {"torch"}))
    room = not parts or check_space(layout, needs, new=new)
    want = holding.wanted(layout, old, answered)
    task = Task(new, old, answer, plan, compiles, parts, torch, here, ruled_out, kept, start)
    if not parts:
        fill(layout, llama, task)
        return
    with exchanged(layout, room=room) if new else changed_in_place(layout):
        write_state(layout, {**old, **answer, "complete": False, "wanting": want})
        fill(layout, llama, task)
    llama.throw_away_unused()


@dataclass(frozen=True)
class Task:
    """What step 2 chose for the steps after it: `parts` are done ("main", "llama", "torch"), the others stay."""

    new: bool
    old: Mapping[str, Any]
    answer: Mapping[str, Any]
    plan: Sequence[Build]
    compiles: bool
    parts: set[str]
    torch: TorchBuild | None
    here: machine.Machine
    ruled_out: Mapping[str, str]
    kept: str  # how the llama.cpp that is there was tried, which stays then
    start: Sequence[str] | None  # the arguments of the start that follows; None where none does


def retries(llama: LlamaWheel, plan: Sequence[Build], wanted: object, here: machine.Machine) -> bool:
    """Whether llama.cpp for a card that is not used is fetched again: something changed, or it is to be had now."""
    if not isinstance(wanted, Mapping):
        return False
    if wanted.get("mark") != here.mark:
        return True
    llama.packages.read_settings()
    return any(llama.at_hand(build) for build in plan if build.kind)


def fill(layout: Layout, llama: LlamaRelease, task: Task) -> None:
    """Steps 3 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    new, old, answer, plan, parts, here = task.new, task.old, task.answer, task.plan, task.parts, task.here
    packages, runner, gpu = llama.packages, llama.runner, answer["gpu"]

    print(f"[3/5] {'Making' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        environment.make(runner)
    packages.read_settings()
    if new and not task.compiles and not any(map(llama.at_hand, plan)):
        environment.give_up(
            layout,
            "llama.cpp must be compiled on this machine, as no ready-made package can be had, and that needs a C "
            f"and a C++ compiler. {compiler.advice()}",
        )

    print(f"[4/5] {'Installing packages ...' if 'main' in parts else 'The packages stay as they are.'}", flush=True)
    if "main" in parts:
        others = layout.tmp / "requirements.txt"
        others.write_text(requirements.others(layout), "utf-8")
        packages.install_lock(others)

    print("[5/5] Installing llama.cpp, and trying everything ...", flush=True)
    with ahead.fetched(runner, task.start), ThreadPoolExecutor(1) as beside:
        page = beside.submit(trial.imports, runner)  # it needs no llama.cpp, and another core than its trial
        build, how = (str(old.get("llama")), task.kept) if task.kept else llama.install(plan)
        print(f"      llama.cpp for {build} on {processor.name()}: {how}.", flush=True)
        runs, said = page.result()
    if not runs:
        raise Stop(
            f"What was installed does not run ({said}); all it said is in {layout.log}. Delete the folder "
            f"{layout.env} and start again."
        )
    shutil.rmtree(layout.tmp, ignore_errors=True)
    torch = bool(old.get("torch"))
    if task.torch:
        torch = torch_packages.add(packages, task.torch, asked=torch)
    state: dict[str, Any] = {
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
    if gpu != "N":
        layout.tmp.mkdir(parents=True, exist_ok=True)
        if seen := trial.cards(runner):  # after torch, which may have exchanged libraries
            print(f"      llama.cpp sees {', '.join(seen)}.", flush=True)
        else:
            reasons = wanting.Reasons(task.ruled_out, llama.absent, llama.failed)
            state["wanted"] = wanting.want(gpu, here, build, reasons, old.get("wanted"))
        shutil.rmtree(layout.tmp, ignore_errors=True)
    write_state(layout, {**state, "complete": True})
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


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
        with changed_in_place(layout):
            packages.read_settings()
            torch_packages.add(packages, _torch_of(state), asked=True)
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
        packages.install_lock(Path(path).resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
