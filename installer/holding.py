"""An environment that is older than the program wants, and in use nonetheless: the newer one failed, or was given up.

What was wanted then is remembered in the state, so that no start tries the same again by itself on the same machine;
--update and --repair do, and so does each start when something newer is wanted. It must not know how anything is
installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from installer import answers, environment, machine, processor, project, trial
from installer.errors import Stop
from installer.fingerprints import fingerprints
from installer.layout import Layout
from installer.runner import Runner, last_line
from installer.state import read_state, write_state
from installer.work import work_to_do

ANSWERS = ("gpu", "cuda118", "cuda128")


def never() -> bool:
    """Whether nothing may be installed at a start: for containers, and for folders that several users share."""
    return bool(answers.flag(answers.NEVER))


def wanted(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what an installation would be made from; what is not answered is as last time. Raises: Stop."""
    answers = {name: answer.get(name, state.get(name)) or False for name in ANSWERS}
    return {**fingerprints(layout), **answers, "root": str(layout.root), "processor": processor.mark()}


def hold(layout: Layout, want: Mapping[str, Any], why: str, *, chosen: bool = False) -> None:
    """Remembers that the present environment stays, and why. `chosen`: by the user, who went back to it.

    Where the state cannot be written, the next start tries once more.
    """
    kept = {"wanted": dict(want), "why": why, "chosen": chosen, "machine": machine.look().mark}
    with contextlib.suppress(OSError):
        write_state(layout, {**read_state(layout), "held": kept})


def held(state: Mapping[str, Any], want: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is remembered ("why", "chosen") where it is about this very wish; else nothing.

    What failed on another machine, with other cards or another driver, may go well on this one.
    """
    kept = state.get("held")
    if not isinstance(kept, Mapping) or kept.get("wanted") != dict(want):
        return {}
    return kept if kept.get("chosen") or kept.get("machine") == machine.look().mark else {}


def usable(layout: Layout, *, compute: bool) -> tuple[bool, str]:
    """Whether the environment can run the program as it is now: (yes or no, what went wrong).

    `compute`: whether llama.cpp is tried as well, which takes a second more.
    """
    if not environment.python_version(layout.python):
        return False, "its Python does not run"
    runner = Runner(layout)
    more = {"PYTHONPATH": str(layout.root), "PYTHONDONTWRITEBYTECODE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    done, said = runner.output(layout.python, "-c", f"import llama_cpp, {trial.PROGRAM}", **more)
    return trial.computes(runner) if done and compute else (done, last_line(said))


def stays(layout: Layout, answer: Mapping[str, Any]) -> bool:
    """Whether the environment is used as it is, as what is wanted now failed before or was given up. Raises: Stop."""
    state = read_state(layout)
    kept = held(state, wanted(layout, state, answer))
    if not kept:
        return False
    fits, said = usable(layout, compute=False)
    if fits:
        why = "you went back to it" if kept.get("chosen") else f"the newer one failed: {kept.get('why')}"
        again = project.script("update", layout.root)
        print(f"An environment is in use that is older than the program wants ({why}); {again} makes the newer one.")
        return True
    if kept.get("chosen"):
        raise Stop(
            f"The environment that you went back to cannot run this version of the program ({said}). "
            f"{version_of(layout, state)}Or go forward again: {project.script('update')} --go-back."
        )
    return False


def goes_on(layout: Layout, answer: Mapping[str, Any], sentence: Stop) -> bool:
    """After a failure: whether the environment before it can be started, which is then said and remembered."""
    state = read_state(layout)
    if not layout.env.exists() or state.get("complete") is False:
        return False
    want = wanted(layout, state, answer)
    fits, said = usable(layout, compute=True)
    if not fits:
        raise Stop(f"{sentence} What was installed before cannot run this version of the program ({said}).")
    again = project.script("update", layout.root)
    why = str(sentence).replace("start again", f"run {again}")  # a start alone does not try it again
    hold(layout, want, why)
    print(f"\n{why}\nWhat was installed before is in use, and runs this version of the program.", flush=True)
    return True


def look(layout: Layout, answer: Mapping[str, Any]) -> None:
    """Where nothing may be installed: whether what is there can run the program. Raises: Stop."""
    state = read_state(layout)
    reason, _ = work_to_do(layout, state, answer)
    if not reason:
        return
    why = reason.partition(";")[0] if layout.env.exists() else "Nothing is installed here"
    there = layout.env.exists() and state.get("complete") is not False
    fits, said = usable(layout, compute=False) if there else (False, "it is missing or half made")
    if not fits:
        raise Stop(
            f"{why}, and WEBUI_NEVER_INSTALL forbids to change that; the environment cannot run this version of the "
            f"program ({said}). Unset WEBUI_NEVER_INSTALL and start once, where this folder can be written to."
        )
    print(f"{why}. The environment is used as it is, as WEBUI_NEVER_INSTALL is set.", flush=True)


def version_of(layout: Layout, state: Mapping[str, Any]) -> str:
    """Which version of the program the environment belongs to, where it is another one and known."""
    made, now = str(state.get("commit") or ""), project.commit(layout.root)
    if not made or made == now:
        return ""
    return (
        f"It was made for commit {made[:9]} of the program, which is at {now[:9] or 'an unknown one'} now: "
        f"git checkout {made[:9]} brings that version back as well. "
    )
