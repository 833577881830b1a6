"""Which card to install for: given, as last time, asked or detected. It must not know what is installed for a card."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from installer import answers
from installer import gpu as cards
from installer.console import ask, is_no, is_yes
from installer.cuda import best
from installer.gpu import GPUS, parse_gpu
from installer.layout import Layout
from installer.machine import Machine
from installer.nvidia import Card, written
from installer.state import read_state, write_state
from installer.torch_builds import CUDA_118, CUDA_128, nvidia_stack, problem_of, torch_build

#: What chooses each stack for NVIDIA's cards, whatever was chosen before.
_ANSWERS = {
    "CUDA 11.8": f"{answers.CUDA_118}=yes",
    "CUDA 12.1": f"{answers.CUDA_118}=no and {answers.CUDA_128}=no",
    "CUDA 12.8": f"{answers.CUDA_128}=yes",
}


def given(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the environment's variables answer otherwise than last time; {} where they say nothing new. Raises: Stop."""
    answer: dict[str, Any] = {}
    if letter := answers.gpu():
        answer["gpu"] = letter
    if answer.get("gpu", state.get("gpu")) == "A":
        answer |= _asked_for(state)
    return {key: value for key, value in answer.items() if not _same(state.get(key), value)}


def heard(layout: Layout) -> dict[str, Any]:
    """As `given`; an answer that changes nothing now is remembered, as it counts at the next update. Raises: Stop."""
    state = read_state(layout)
    answer = given(state)
    asked = _answered(state)
    if state.get("gpu") == "A" and not answer and asked != _before(state):
        with contextlib.suppress(OSError):  # then it is heard when it is given again
            write_state(layout, {**state, "asked": asked})
    return answer


def differs(state: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the answers are others than last time. An answer that was never given counts as no."""
    return not all(_same(state.get(key), value) for key, value in answer.items() if key != "asked")


def choose_gpu(state: Mapping[str, Any], machine: Machine | None = None) -> dict[str, Any]:
    """The answers to the questions: from the environment, else from last time, else asked, else detected.

    "cuda118" and "cuda128" are the stacks for NVIDIA's cards, CUDA 12.1 where neither is true; "cuda118_driver" is the
    driver for which CUDA 11.8 was taken without a question, "asked" what the variables answered, now or earlier.
    Raises: Stop.
    """
    machine = machine or Machine()
    terminal = sys.stdin is not None and sys.stdin.isatty()
    gpu = answers.gpu()
    if not gpu and (gpu := parse_gpu(str(state.get("gpu", "")))):
        print(f"      As last time: {gpu}, {GPUS[gpu]} (GPU_CHOICE overrides it).")
    if not gpu:
        gpu, reason = cards.detect_gpu(
            machine.system, machine.processor, machine.cards[0].name if machine.cards else "", machine.adapters
        )
        if terminal:
            print("\nWhat is your GPU?\n" + "\n".join(f"  {letter}) {name}" for letter, name in GPUS.items()))
            print(f"Recommended: {gpu}, because {reason}.")
            gpu = ask(f"Answer [{gpu}]: ", parse_gpu, gpu)
        else:
            print(f"      Chosen by itself: {gpu}, {GPUS[gpu]}, because {reason} (GPU_CHOICE overrides it).")
    if gpu != "A":
        return {"gpu": gpu, "cuda118": False, "cuda128": False}
    asked = _answered(state)
    return {"gpu": gpu, **_cuda(state, machine, terminal=terminal), **({"asked": asked} if asked else {})}


def _cuda(state: Mapping[str, Any], machine: Machine, *, terminal: bool) -> dict[str, Any]:
    """The stack for an NVIDIA card: as asked for, else the newest that runs on the card and its driver."""
    card = best(machine.cards)
    stack, why = nvidia_stack(machine)
    wish = _asked_for(state)
    before = bool(state.get("cuda118")) and not state.get("cuda118_driver")  # what the driver decided is decided anew
    cuda118 = bool(wish.get("cuda118", before))
    if "cuda118" not in wish and "cuda118" not in state and terminal and stack is not CUDA_118:
        question = f"Use CUDA 11.8 instead of {stack.name[5:]}? Only for very old cards (Kepler or older). [y/N]: "
        cuda118 = ask(question, lambda text: "y" if is_yes(text) else "n" if is_no(text) else "", "n") == "y"
    elif "cuda118" not in wish and not cuda118 and stack is CUDA_118 and not wish.get("cuda128"):
        print(f"      CUDA 11.8, because {why} (USE_CUDA118=no overrides it).")
        return {"cuda118": True, "cuda128": False, "cuda118_driver": written(card.driver) if card else ""}
    cuda128 = not cuda118 and bool(wish.get("cuda128", stack is CUDA_128))
    chosen = torch_build("A", cuda118, cuda128)
    if card and chosen is stack:
        print(f"      {_said(card, stack.name, why)}")
    elif problem := problem_of(chosen, machine):
        better = f" {stack.name} does ({_ANSWERS[stack.name]})." if not problem_of(stack, machine) else ""
        print(f"      {chosen.name} was asked for, and does not run on this machine: {problem}.{better}")
    return {"cuda118": cuda118, "cuda128": cuda128}


def _said(card: Card, stack: str, why: str) -> str:
    told = [card.name]
    told += [f"compute capability {written(card.capability)}"] if card.capability else []
    told += [f"driver {written(card.driver)}"] if card.driver else []
    return f"{', '.join(told)}: {stack}{f' ({why})' if why else ''}."


def _asked_for(state: Mapping[str, Any]) -> dict[str, bool]:
    """The stack as it was asked for, now or earlier: CUDA 11.8 wins where both say yes."""
    wish = _answered(state)
    return {**wish, "cuda128": False} if wish.get("cuda118") else wish


def _answered(state: Mapping[str, Any]) -> dict[str, bool]:
    """USE_CUDA118 and USE_CUDA128, as far as they are given, or were at earlier starts; the newer answer counts."""
    now = {"cuda118": answers.flag(answers.CUDA_118), "cuda128": answers.flag(answers.CUDA_128)}
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
