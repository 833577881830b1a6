"""Which GPU to install for: preset, as last time, asked or detected. It must not know what is installed for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from installer import preset_answers
from installer.console import ask, is_no, is_yes
from installer.hardware import gpu as cards
from installer.hardware.cuda import newest_card
from installer.hardware.gpu import GPUS, parse_gpu
from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu, format_version
from installer.layout import Layout
from installer.state import read_state, write_state
from installer.torch.torch_builds import CUDA_118, CUDA_128, newest_nvidia_stack, torch_build, torch_problem

#: The variables that choose a stack for NVIDIA cards, overriding earlier choices.
_ANSWERS = {
    "CUDA 11.8": f"{preset_answers.CUDA_118}=yes",
    "CUDA 12.1": f"{preset_answers.CUDA_118}=no and {preset_answers.CUDA_128}=no",
    "CUDA 12.8": f"{preset_answers.CUDA_128}=yes",
}


def changed_answers(state: Mapping[str, Any]) -> dict[str, Any]:
    """The answers in environment variables that differ from last time; {} if there are none. Raises: InstallStopped."""
    answer: dict[str, Any] = {}
    if letter := preset_answers.preset_gpu():
        answer["gpu"] = letter
    if answer.get("gpu", state.get("gpu")) == "A":
        answer |= _asked_for(state)
    return {key: value for key, value in answer.items() if not _same(state.get(key), value)}


def take_answers(layout: Layout) -> dict[str, Any]:
    """As `changed_answers`, but an answer that changes nothing now is stored for the next update.

    Raises: InstallStopped.
    """
    state = read_state(layout)
    answer = changed_answers(state)
    asked = _answered(state)
    if state.get("gpu") == "A" and not answer and asked != _before(state):
        with contextlib.suppress(OSError):  # so that it counts if it is given again
            write_state(layout, {**state, "asked": asked})
    return answer


def answers_differ(state: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the answers differ from last time. An answer that was never given counts as no."""
    return not all(_same(state.get(key), value) for key, value in answer.items() if key != "asked")


def choose_gpu(state: Mapping[str, Any], machine: Machine | None = None) -> dict[str, Any]:
    """The answers to the questions: from the environment, else from last time, else asked, else detected.

    "cuda118" and "cuda128" are the stacks for NVIDIA's cards, CUDA 12.1 if neither is true; "cuda118_driver" is the
    driver for which CUDA 11.8 was taken without a question, "asked" what the variables answered, now or earlier.
    Raises: InstallStopped.
    """
    machine = machine or Machine()
    terminal = sys.stdin is not None and sys.stdin.isatty()
    gpu = preset_answers.preset_gpu()
    if not gpu and (gpu := parse_gpu(str(state.get("gpu", "")))):
        print(f"      Same as last time: {gpu}, {GPUS[gpu]} (set GPU_CHOICE to change it).")
    if not gpu:
        gpu, reason = cards.detect_gpu(
            machine.system, machine.processor, machine.cards[0].name if machine.cards else "", machine.adapters
        )
        if terminal:
            print("\nWhat is your GPU?\n" + "\n".join(f"  {letter}) {name}" for letter, name in GPUS.items()))
            print(f"Recommended: {gpu}, because {reason}.")
            gpu = ask(f"Answer [{gpu}]: ", parse_gpu, gpu)
        else:
            print(f"      Detected: {gpu}, {GPUS[gpu]}, because {reason} (set GPU_CHOICE to change it).")
    if gpu != "A":
        return {"gpu": gpu, "cuda118": False, "cuda128": False}
    asked = _answered(state)
    return {"gpu": gpu, **_cuda(state, machine, terminal=terminal), **({"asked": asked} if asked else {})}


def _cuda(state: Mapping[str, Any], machine: Machine, *, terminal: bool) -> dict[str, Any]:
    """The stack for an NVIDIA card: as requested, else the newest that runs with the card and its driver."""
    card = newest_card(machine.cards)
    stack, why = newest_nvidia_stack(machine)
    wish = _asked_for(state)
    before = bool(state.get("cuda118")) and not state.get("cuda118_driver")  # what the driver decided is decided again
    cuda118 = bool(wish.get("cuda118", before))
    if "cuda118" not in wish and "cuda118" not in state and terminal and stack is not CUDA_118:
        question = f"Use CUDA 11.8 instead of {stack.name[5:]}? Only for very old GPUs (Kepler or older). [y/N]: "
        cuda118 = ask(question, lambda text: "y" if is_yes(text) else "n" if is_no(text) else "", "n") == "y"
    elif "cuda118" not in wish and not cuda118 and stack is CUDA_118 and not wish.get("cuda128"):
        print(f"      CUDA 11.8, because {why} (set USE_CUDA118=no to change it).")
        return {"cuda118": True, "cuda128": False, "cuda118_driver": format_version(card.driver) if card else ""}
    cuda128 = not cuda118 and bool(wish.get("cuda128", stack is CUDA_128))
    chosen = torch_build("A", cuda118, cuda128)
    if card and chosen is stack:
        print(f"      {_said(card, stack.name, why)}")
    elif problem := torch_problem(chosen, machine):
        better = f" {stack.name} does ({_ANSWERS[stack.name]})." if not torch_problem(stack, machine) else ""
        print(f"      {chosen.name} was requested, but does not run on this machine: {problem}.{better}")
    return {"cuda118": cuda118, "cuda128": cuda128}


def _said(card: NvidiaGpu, stack: str, why: str) -> str:
    told = [card.name]
    told += [f"compute capability {format_version(card.capability)}"] if card.capability else []
    told += [f"driver {format_version(card.driver)}"] if card.driver else []
    return f"{', '.join(told)}: {stack}{f' ({why})' if why else ''}."


def _asked_for(state: Mapping[str, Any]) -> dict[str, bool]:
    """The stack that was requested, now or earlier: CUDA 11.8 wins if both are set."""
    wish = _answered(state)
    return {**wish, "cuda128": False} if wish.get("cuda118") else wish


def _answered(state: Mapping[str, Any]) -> dict[str, bool]:
    """USE_CUDA118 and USE_CUDA128 as set now or at earlier starts; the newer answer counts."""
    now = {
        "cuda118": preset_answers.preset_flag(preset_answers.CUDA_118),
        "cuda128": preset_answers.preset_flag(preset_answers.CUDA_128),
    }
    before = _before(state)
    if now["cuda118"]:
        before.pop("cuda128", None)
    if now["cuda128"] and (state.get("cuda118") or before.get("cuda118")):
        before["cuda118"] = False
    return {**before, **{key: answer for key, answer in now.items() if answer is not None}}


def _before(state: Mapping[str, Any]) -> dict[str, bool]:
    asked = state.get("asked", {})
    return {key: asked[key] for key in ("cuda118", "cuda128") if isinstance(asked.get(key), bool)}


def _same(before: Any, now: Any) -> bool:
    return bool(before) == now if isinstance(now, bool) else before == now
