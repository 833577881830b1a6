"""A card that was chosen and that llama.cpp does not use: why, what to do, and when another try may help.

state.json keeps it as "wanted": the sentence, what kind of reason it was, a mark of what can change the outcome, and
how often it was tried in vain. So a start that finds nothing changed tries nothing and says the sentence again. It must
not install anything.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer import release_table
from installer.gpu import GPUS
from installer.llama_builds import GLIBC, LLAMA_WHEELS, PROCESSOR
from installer.llama_wheel import UNREACHABLE
from installer.machine import Machine
from installer.nvidia import written

#: How often it is tried in vain while an index is said to be reachable that packages cannot be had from.
TRIES = 3

_DRIVERS = {
    "A": "Install NVIDIA's present driver (nvidia.com/drivers) and see that the command nvidia-smi lists the card.",
    "B": "Install AMD's present driver; on Linux also libvulkan1 and mesa-vulkan-drivers, and the right to use "
    "/dev/dri (the groups video and render).",
    "C": "Start it on the Mac itself: virtual machines have no Metal.",
    "D": "Install Intel's present driver; on Linux also libvulkan1 and mesa-vulkan-drivers, and the right to use "
    "/dev/dri (the groups video and render).",
}


@dataclass(frozen=True)
class Reasons:
    """Builds that the machine rules out, and those that could not be had, each with its reason; what was in vain."""

    left_out: Mapping[str, str]
    absent: Mapping[str, str]
    failed: Sequence[str]


def want(gpu: str, machine: Machine, llama: str, reasons: Reasons, old: Any = None) -> dict[str, Any]:
    """What state.json keeps of a card that is not used. `llama`: the build in use; `old`: what was kept before."""
    why, because, todo = _why(gpu, machine, llama, reasons)
    tries = old["tries"] + 1 if isinstance(old, Mapping) and old.get("mark") == machine.mark else 1
    said = (
        f"{GPUS[gpu].upper()} WAS CHOSEN, BUT LLAMA.CPP SEES NO GRAPHICS CARD AND USES THE PROCESSOR: {because}. "
        f"{todo} {'The next start tries again.' if why == 'network' else 'A start after that tries again.'}"
    )
    return {"why": why, "said": said, "mark": machine.mark, "tries": tries}


def again(wanted: Mapping[str, Any], machine: Machine, reachable: Callable[[str], bool]) -> str:
    """Why another try may help now, a sentence; "" where nothing has changed."""
    if wanted.get("mark") != machine.mark:
        return (
            "The graphics card was not used by llama.cpp; card, driver or compilers have changed, so it is tried again."
        )
    if wanted.get("why") == "network" and wanted.get("tries", 0) < TRIES and reachable(f"{LLAMA_WHEELS}/"):
        return "llama.cpp for the graphics card could not be fetched; its index answers now, so it is tried again."
    return ""


def reachable(url: str) -> bool:
    """Whether a server answers there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=15).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def for_processor(llama: str) -> bool:
    """Whether a build of this name can never use a card."""
    return llama in {build.name for build in PROCESSOR} | {release_table.CPU}


def _why(gpu: str, machine: Machine, llama: str, reasons: Reasons) -> tuple[str, str, str]:
    """(the kind of reason, what happened as a clause, what to do as a sentence)."""
    left_out, absent, failed = reasons.left_out, reasons.absent, reasons.failed
    drivers = [problem for problem in left_out.values() if "driver" in problem]
    unreachable = [name for name, problem in absent.items() if problem == UNREACHABLE]
    if gpu == "A" and not machine.cards:
        return "driver", "NVIDIA's driver lists no card", _DRIVERS[gpu]
    if not for_processor(llama):
        return "driver", f"llama.cpp for {llama} is installed and finds none", _DRIVERS[gpu]
    if drivers and not any("CUDA" in each for each in (*absent, *failed)):
        return "driver", f"the driver is too old ({drivers[-1]})", _DRIVERS[gpu]
    if unreachable:
        return (
            "network",
            f"{', '.join(unreachable)}: {LLAMA_WHEELS} cannot be reached",
            "Allow abetlen.github.io and github.com in the proxy or firewall, or start when there is a network.",
        )
    if failed:
        todo = _DRIVERS[gpu] if gpu != "A" else f"{_DRIVERS[gpu]} Or compile it: install the CUDA Toolkit."
        return "failed", "; ".join(failed), todo
    if (2, 0) < machine.glibc < GLIBC:
        return (
            "glibc",
            f"the packages for it need glibc {written(GLIBC)} or newer, and this system has {written(machine.glibc)}",
            "Update the system (Ubuntu 22.04, Debian 12, Fedora 36 and later have it), or install the card's compiler.",
        )
    problems = [f"{name}: {problem}" for name, problem in (*left_out.items(), *absent.items())]
    if any("no code" in problem for problem in problems):
        return "card", "; ".join(problems), "Another card is needed, or llama.cpp compiled for this one by hand."
    return "none", "; ".join(problems) or "no package was found", _DRIVERS[gpu]
