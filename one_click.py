"""Installs the web UI's requirements into installer_files/ once, and then becomes server.py.

The start scripts only find a Python; this script does the rest in five steps. The steps are in installer/; both use the
standard library only, run on Python 3.10 to 3.13 and import nothing of the project. installer_files/state.json records
the last run; "complete" is written last, so that an interrupted installation is noticed. If an update fails, the
previous environment is started, and the failure is recorded so that no start tries the same again by itself.

--install-torch adds torch and what needs it (requirements-torch.txt) and ends; NVIDIA cards get torch and ExLlamaV2
automatically. --update fetches the project's newest version and installs its requirements, --repair creates the
environment again, --go-back swaps it with the previous one, --clean deletes the previous one. Environment variables:
GPU_CHOICE (A, B, C, D or N) and USE_CUDA118 answer the questions; LAUNCH_AFTER_INSTALL=no stops after installing;
WEBUI_NEVER_INSTALL=yes starts what is installed and changes nothing. All other arguments are passed to server.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer import console, prefetch, preset_answers, project, sizes, unexpected_errors
from installer.early_server import EarlyServer
from installer.environment import (
    additions,
    compiling,
    environment,
    held_environment,
    in_place_update,
    previous,
    requirements,
    rollback,
    smoke_test,
)
from installer.environment.fingerprints import changed_parts, fingerprints
from installer.environment.packages import Packages
from installer.environment.plan import ANYWHERE, what_to_install
from installer.environment.swap import change_in_place as changed_in_place
from installer.environment.swap import swap_environment
from installer.errors import InstallStopped
from installer.gpu_choice import answers_differ, changed_answers, choose_gpu, take_answers
from installer.hardware import compiler, machine, processor
from installer.hardware.limits import print_limits
from installer.layout import Layout
from installer.llama_cpp import release
from installer.llama_cpp import unused_gpu as wanting
from installer.llama_cpp.llama_builds import LlamaBuild, excluded_builds, plan_llama_builds
from installer.llama_cpp.release import LlamaRelease
from installer.llama_cpp.wheel import LlamaWheel
from installer.lock import install_lock
from installer.preflight import check_machine, check_space
from installer.runner import Runner
from installer.server import launch
from installer.state import read_state, write_state
from installer.torch import torch_packages
from installer.torch.torch_builds import TorchBuild, torch_build, torch_warning


def main(arguments: Sequence[str]) -> int:
    """Report any failure as one sentence and return the exit code: 0, 1, or 130 for Ctrl+C."""
    layout = Layout(Path(__file__).resolve().parent)
    console.tolerate_encodings()
    try:
        return run(layout, arguments)
    except InstallStopped as sentence:
        print(f"\n{sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to continue.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"\n{unexpected_errors.describe_error(layout, error)}", file=sys.stderr)
        return 1


def run(layout: Layout, arguments: Sequence[str]) -> int:
    """Do what the arguments ask for and return the exit code. Raises: InstallStopped."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise InstallStopped(
            f"This is Python {sys.version_info[0]}.{sys.version_info[1]}, but the web UI requires 3.10 to 3.13. "
            f"Use {project.script_name('start')}, which finds or downloads a suitable version."
        )
    preset_answers.check_answers()
    os.chdir(layout.root)
    changes = {"--update", "--repair", "--go-back", "--clean", "--install-torch"} & set(arguments)
    if held_environment.installs_forbidden() and changes:
        raise InstallStopped(
            f"WEBUI_NEVER_INSTALL is set, so {' '.join(sorted(changes))} has no effect. Unset it first."
        )
    if "--clean" in arguments:
        return previous.delete_previous(layout)
    if "--go-back" in arguments:
        leave_environment(layout, arguments)
        return previous.go_back(layout)
    if "--update" in arguments and project.update_project(layout.root):
        arguments = [each for each in arguments if each != "--update"]
        again = [sys.executable, str(layout.root / "one_click.py"), *arguments, "--updated"]
        return subprocess.call(again)  # this file may have changed by now
    asked = {"--update", "--updated", "--repair"} & set(arguments)
    early = EarlyServer(layout, arguments)
    prepare(layout, arguments, anew="--repair" in arguments, asked=bool(asked), early=early)
    if "--install-torch" in arguments:
        leave_environment(layout, arguments)
        additions.add_torch(layout)
        return 0
    if asked:
        print("Everything is up to date.")
        print_unused_gpu(layout)
        return 0
    if preset_answers.preset_flag(preset_answers.LAUNCH) is not False:
        state = read_state(layout)
        if "llama" in state:
            print(f"llama.cpp for {state['llama']}: {state.get('llama_how')}.", flush=True)
        print_unused_gpu(layout)
        return early.serve() if early.fits() else launch(layout, arguments)
    print("Installation complete; not starting because LAUNCH_AFTER_INSTALL is set to no.")
    print_unused_gpu(layout)
    return 0


def prepare(
    layout: Layout,
    arguments: Sequence[str],
    *,
    anew: bool = False,
    asked: bool = False,
    early: EarlyServer | None = None,
) -> None:
    """Install what is missing, or everything `anew`; only checks a few files if nothing is missing.

    `asked`: the user asked for it (--update, --repair), so what failed before is tried again, and a failure is an
    error. Otherwise a failure is an error only if there is nothing to start. `early`: the server of the start that may
    follow. Raises: InstallStopped.
    """
    if held_environment.installs_forbidden():
        held_environment.check_environment(layout, changed_answers(read_state(layout)))
        return
    if rollback.is_update_unfinished(layout) or in_place_update.is_interrupted(layout):
        leave_environment(layout, arguments)
        with install_lock(layout):  # it may be unfinished because another process is installing
            recover(layout)
    answer = take_answers(layout)
    reason, new = next_step(layout)
    if anew and layout.env.exists():
        reason, new = "A new environment is created and the old one is kept.", True
    if not reason or (not asked and held_environment.keeps_environment(layout, answer)):
        return
    leave_environment(layout, arguments)
    try:
        starts = (
            new
            and not asked
            and "--install-torch" not in arguments
            and preset_answers.preset_flag(preset_answers.LAUNCH) is not False
        )
        renew_environment(layout, reason, new, anew=anew, asked=asked, early=early if starts else None)
    except InstallStopped as sentence:
        if early:
            early.end()
        if asked or not held_environment.falls_back(layout, answer, sentence):
            raise


def renew_environment(
    layout: Layout, reason: str, new: bool, *, anew: bool, asked: bool, early: EarlyServer | None = None
) -> None:
    """Install under the lock, after printing the reason. Raises: InstallStopped."""
    try:
        if new:
            environment.refuse_portable(layout)
        print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
        check_machine(layout)
        layout.files.mkdir(exist_ok=True)
        with install_lock(layout) as lock:
            recover(layout)  # the process that was waited for may have been killed halfway
            if not anew:
                # again: another start may have done it by now, or failed at it
                reason, new = next_step(layout)
            answer = changed_answers(read_state(layout))
            if reason and (asked or not held_environment.keeps_environment(layout, answer)):
                install(layout, lock, new, answer, early)
    except OSError as error:
        raise InstallStopped(unexpected_errors.describe_error(layout, error)) from error


def next_step(layout: Layout) -> tuple[str, bool]:
    """(why something must be installed, whether the environment must be created again), as what_to_install says, and
    also for a GPU that is not used yet.
    """
    state = read_state(layout)
    reason, new = what_to_install(layout, state, changed_answers(state))
    wanted = state.get("wanted")
    if reason or not isinstance(wanted, Mapping):
        return reason, new
    if not wanting.is_cpu_build(str(state.get("llama"))) and (seen := smoke_test.list_usable_gpus(Runner(layout))):
        print(f"llama.cpp now finds the GPU: {', '.join(seen)}.", flush=True)
        with contextlib.suppress(OSError):  # printed again then
            write_state(layout, {key: value for key, value in state.items() if key != "wanted"})
        return "", False
    return wanting.retry_reason(wanted, machine.detect_machine(), wanting.is_reachable), False


def print_unused_gpu(layout: Layout) -> None:
    """The last line of output, if a GPU was chosen and llama.cpp does not use it."""
    wanted = read_state(layout).get("wanted")
    if isinstance(wanted, Mapping):
        print(f"\n{wanted.get('said')}\n", flush=True)


def recover(layout: Layout) -> None:
    """Restore what an interrupted update or repair moved aside. Only under the lock."""
    want = read_state(layout).get("wanting")
    if in_place_update.restore_environment(layout):
        print("The last change of the environment did not finish; the environment was restored.", flush=True)
    elif rollback.is_update_unfinished(layout) and rollback.recover(layout):
        print("The last update did not finish; the previous environment was restored.", flush=True)
    else:
        return
    if want:
        held_environment.hold_environment(layout, want, "It was interrupted.")


def leave_environment(layout: Layout, arguments: Sequence[str]) -> None:
    """Continue with the system's Python: an environment cannot be replaced by its own Python."""
    if Path(sys.prefix) != layout.env or environment.is_portable(layout):
        return
    base = getattr(sys, "_base_executable", sys.executable)
    command = [base, str(layout.root / "one_click.py"), *arguments]
    if os.name == "nt":  # the terminal would not wait for the process that replaces it
        sys.exit(subprocess.call(command))
    os.execv(base, command)


def install(
    layout: Layout, lock: Sequence[int], new: bool, answered: Mapping[str, Any], early: EarlyServer | None = None
) -> None:
    """Step 2 and then the others; the previous environment is kept until all is finished.

    `early`: the server of the start that follows; it imports and the demo model is downloaded while everything is
    tested.
    """
    old = read_state(layout)
    layout.log.unlink(missing_ok=True)
    print("[2/5] Choosing packages for your GPU ...", flush=True)
    here = machine.detect_machine()
    answer = choose_gpu(old, here)
    gpu, cuda118, cuda128 = answer["gpu"], answer["cuda118"], answer["cuda128"]
    plan = plan_llama_builds(gpu, cuda118, here.tools, cuda128, here)
    compiles = compiler.has_compilers(layout)
    plan = release.add_releases(plan, gpu, requirements.llama_requirement(layout), compiler=compiles, cards=here.cards)
    ruled_out = excluded_builds(gpu, cuda118, cuda128, here)
    print_limits(gpu, here, ruled_out)
    llama = LlamaRelease(Packages(Runner(layout, lock)), cards=here.cards)
    parts = {"main", "llama", "torch"} if new else changed_parts(layout, old)
    if answers_differ(old, answer):
        parts |= {"llama", "torch"}
    if not new and retries_gpu_build(llama, plan, old.get("wanted"), here):
        parts |= {"llama"}
    build = torch_build(gpu, cuda118, cuda128)
    torch = build if "torch" in parts and (old.get("torch") or gpu == "A") else None
    if torch and not old.get("torch") and (problem := torch_warning(torch, here)):
        print(f"      {problem} Use --install-torch to install it anyway.", flush=True)
        torch = None
    kept = "" if "llama" in parts else llama.still(str(old.get("llama", "")))
    if not kept:
        parts |= {"llama"}
    needs = sizes.install_size(torch, cuda=gpu == "A", base=bool(parts - {"torch"}))
    room = not parts or check_space(layout, needs, new=new)
    want = held_environment.desired_state(layout, old, answered)
    task = InstallTask(new, old, answer, plan, compiles, parts, torch, here, ruled_out, kept, early)
    if not parts:
        fill_environment(layout, llama, task)
        return
    with swap_environment(layout, room=room) if new else changed_in_place(layout):
        write_state(layout, {**old, **answer, "complete": False, "wanting": want})
        fill_environment(layout, llama, task)
    llama.throw_away_unused()


@dataclass(frozen=True)
class InstallTask:
    """What step 2 chose for the steps after it: `parts` are installed ("main", "llama", "torch"), the others stay."""

    new: bool
    old: Mapping[str, Any]
    answer: Mapping[str, Any]
    plan: Sequence[LlamaBuild]
    compiles: bool
    parts: set[str]
    torch: TorchBuild | None
    here: machine.Machine
    ruled_out: Mapping[str, str]
    kept: str  # the test result of the installed llama.cpp, which stays then
    early: EarlyServer | None  # the server of the start that follows; None if there is none


def retries_gpu_build(llama: LlamaWheel, plan: Sequence[LlamaBuild], wanted: object, here: machine.Machine) -> bool:
    """Whether to try again to get llama.cpp for a GPU that is not used: something changed, or a build is available
    now.
    """
    if not isinstance(wanted, Mapping):
        return False
    if wanted.get("mark") != here.mark:
        return True
    llama.packages.read_settings()
    return any(llama.at_hand(build) for build in plan if build.kind)


def fill_environment(layout: Layout, llama: LlamaRelease, task: InstallTask) -> None:
    """Steps 3 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    new, old, answer, plan, parts, here = task.new, task.old, task.answer, task.plan, task.parts, task.here
    packages, runner, gpu = llama.packages, llama.runner, answer["gpu"]

    print(f"[3/5] {'Creating' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        environment.make_environment(runner)
    with ThreadPoolExecutor(1) as beside:
        settings = beside.submit(packages.read_settings)
        if new:
            environment.add_uv(runner)
        settings.result()
    if new and not task.compiles and not any(map(llama.at_hand, plan)):
        environment.discard_environment(
            layout,
            "llama.cpp must be compiled on this machine because no prebuilt package is available, and that "
            f"requires a C and C++ compiler. {compiler.advise_compiler()}",
        )

    print(f"[4/5] {'Installing packages ...' if 'main' in parts else 'Packages are up to date.'}", flush=True)
    if "main" in parts:
        others = layout.tmp / "requirements.txt"
        others.write_text(requirements.other_requirements(layout), "utf-8")
        packages.install_lock(others)

    print("[5/5] Installing and testing llama.cpp ...", flush=True)
    early = None if task.torch else task.early  # torch may replace what it has imported
    if early:
        early.begin()
    demo = prefetch.prefetch(runner, task.early.arguments if task.early else None)
    byte_code = compiling.compile_in_background(runner, wanted="main" in parts)
    needed = early.needed() if early else contextlib.nullcontext()
    with demo, byte_code, ThreadPoolExecutor(1) as beside, needed:  # the page needs no llama.cpp, and uses another core
        page = beside.submit(early.imports if early and early.runs else smoke_test.can_import_program, runner)
        build, how = (str(old.get("llama")), task.kept) if task.kept else llama.install(plan)
        print(f"      llama.cpp for {build} on {processor.cpu_name()}: {how}.", flush=True)
        runs, said = page.result()
    if not runs:
        raise InstallStopped(
            f"The installed program does not run ({said}); the full output is in {layout.log}. Delete the folder "
            f"{layout.env}, then start again."
        )
    shutil.rmtree(layout.tmp, ignore_errors=True)
    torch = bool(old.get("torch"))
    if task.torch:
        torch = torch_packages.add_torch_packages(packages, task.torch, asked=torch)
    state: dict[str, Any] = {
        **answer,
        "torch": torch,
        "llama": build,
        "llama_how": how,
        "processor": processor.cpu_fingerprint(),
        "root": ANYWHERE if old.get("root") == ANYWHERE and not new else str(layout.root),
        "python": environment.python_version(layout.python),
    }
    state |= {"fingerprint": requirements.requirements_fingerprint(layout), "parts": fingerprints(layout)}
    state |= {"commit": project.current_commit(layout.root), "packages": environment.installed_names(layout)}
    if gpu != "N":
        layout.tmp.mkdir(parents=True, exist_ok=True)
        if seen := smoke_test.list_usable_gpus(runner):  # after torch, which may have replaced libraries
            print(f"      llama.cpp finds {', '.join(seen)}.", flush=True)
        else:
            reasons = wanting.BuildReasons(task.ruled_out, llama.absent, llama.failed)
            state["wanted"] = wanting.record_unused_gpu(gpu, here, build, reasons, old.get("wanted"))
        shutil.rmtree(layout.tmp, ignore_errors=True)
    write_state(layout, {**state, "complete": True})
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def install_requirements(path: str) -> None:
    """Add the packages of a requirements file to the finished environment (run_tests.sh, extensions)."""
    additions.add_requirements(Layout(Path(__file__).resolve().parent), Path(path).resolve())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
