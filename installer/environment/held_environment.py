"""An older environment that stays in use because the newer one failed or the user went back.

The state remembers what was to be installed then, so that no start tries the same again on the same machine. --update
and --repair do try again, and so does any start that would install something newer. It must not know how anything is
installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from installer import preset_answers, project
from installer.environment import environment, smoke_test
from installer.environment.fingerprints import fingerprints
from installer.environment.plan import what_to_install
from installer.errors import InstallStopped
from installer.hardware import machine, processor
from installer.layout import Layout
from installer.runner import Runner, last_line
from installer.state import read_state, write_state

ANSWERS = ("gpu", "cuda118", "cuda128")


def installs_forbidden() -> bool:
    """Whether starts may not install anything: for containers, and for folders that several users share."""
    return bool(preset_answers.preset_flag(preset_answers.NEVER))


def desired_state(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides what an installation would contain; unanswered questions are answered as last time.
    Raises: InstallStopped.
    """
    answers = {name: answer.get(name, state.get(name)) or False for name in ANSWERS}
    return {**fingerprints(layout), **answers, "root": str(layout.root), "processor": processor.cpu_fingerprint()}


def hold_environment(layout: Layout, want: Mapping[str, Any], why: str, *, chosen: bool = False) -> None:
    """Remember that the present environment stays, and why. `chosen`: the user went back to it.

    If the state cannot be written, the next start tries again.
    """
    kept = {"wanted": dict(want), "why": why, "chosen": chosen, "machine": machine.detect_machine().mark}
    with contextlib.suppress(OSError):
        write_state(layout, {**read_state(layout), "held": kept})


def read_hold(state: Mapping[str, Any], want: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stored reason ("why", "chosen") if it is for exactly this installation; else empty.

    What failed on another machine, or with another GPU or driver, may work on this one.
    """
    kept = state.get("held")
    if not isinstance(kept, Mapping) or kept.get("wanted") != dict(want):
        return {}
    return kept if kept.get("chosen") or kept.get("machine") == machine.detect_machine().mark else {}


def can_run(layout: Layout, *, compute: bool) -> tuple[bool, str]:
    """Whether the environment can run the program as it is now: (result, what went wrong).

    `compute`: also test llama.cpp, which takes a second more.
    """
    if not environment.python_version(layout.python):
        return False, "its Python does not run"
    runner = Runner(layout)
    more = {"PYTHONPATH": str(layout.root), "PYTHONDONTWRITEBYTECODE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    done, said = runner.output(layout.python, "-c", f"import llama_cpp, {smoke_test.PROGRAM}", **more)
    return smoke_test.can_compute(runner) if done and compute else (done, last_line(said))


def keeps_environment(layout: Layout, answer: Mapping[str, Any]) -> bool:
    """Whether the environment is used as it is, because the installation needed now failed before or was undone.
    Raises: InstallStopped.
    """
    state = read_state(layout)
    kept = read_hold(state, desired_state(layout, state, answer))
    if not kept:
        return False
    fits, said = can_run(layout, compute=False)
    if fits:
        why = "you went back to it" if kept.get("chosen") else f"the newer one failed: {kept.get('why')}"
        again = project.script_name("update", layout.root)
        print(
            f"The environment in use is older than this version of the program requires ({why}); run {again} to "
            "create a new one."
        )
        return True
    if kept.get("chosen"):
        raise InstallStopped(
            f"The environment that you went back to cannot run this version of the program ({said}). "
            f"{held_version(layout, state)}Or return to the newer one with {project.script_name('update')} "
            "--go-back."
        )
    return False


def falls_back(layout: Layout, answer: Mapping[str, Any], sentence: InstallStopped) -> bool:
    """After a failure: whether the previous environment can be started. If so, print and remember that."""
    state = read_state(layout)
    if not layout.env.exists() or state.get("complete") is False:
        return False
    want = desired_state(layout, state, answer)
    fits, said = can_run(layout, compute=True)
    if not fits:
        raise InstallStopped(f"{sentence} The previous environment cannot run this version of the program ({said}).")
    again = project.script_name("update", layout.root)
    why = str(sentence).replace("start again", f"run {again}")  # a plain start does not try it again
    hold_environment(layout, want, why)
    print(f"\n{why}\nThe previous environment is used; it can run this version of the program.", flush=True)
    return True


def check_environment(layout: Layout, answer: Mapping[str, Any]) -> None:
    """Where nothing may be installed: test whether the environment can run the program. Raises: InstallStopped."""
    state = read_state(layout)
    reason, _ = what_to_install(layout, state, answer)
    if not reason:
        return
    why = reason.partition(";")[0] if layout.env.exists() else "Nothing is installed"
    there = layout.env.exists() and state.get("complete") is not False
    fits, said = can_run(layout, compute=False) if there else (False, "it is missing or incomplete")
    if not fits:
        raise InstallStopped(
            f"{why}, but WEBUI_NEVER_INSTALL is set; the environment cannot run this version of the program "
            f"({said}). Unset WEBUI_NEVER_INSTALL and start once with write access to this folder."
        )
    print(f"{why}. The environment is used unchanged because WEBUI_NEVER_INSTALL is set.", flush=True)


def held_version(layout: Layout, state: Mapping[str, Any]) -> str:
    """The program version that the environment belongs to, if it is a different one and known."""
    made, now = str(state.get("commit") or ""), project.current_commit(layout.root)
    if not made or made == now:
        return ""
    return (
        f"It was created for commit {made[:9]} of the program, but the program is now at "
        f"{now[:9] or 'an unknown commit'}: run git checkout {made[:9]} to restore that version as well. "
    )
