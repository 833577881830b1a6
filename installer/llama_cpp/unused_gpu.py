"""A chosen GPU that llama.cpp does not use: why, what to do, and when to try again.

state.json keeps it as "wanted": the sentence, the kind of reason, a fingerprint of what can change the outcome, and how
often it was tried without success. So a start that finds nothing changed tries nothing and prints the sentence again.
It must not install anything.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer.hardware.gpu import GPUS
from installer.hardware.machine import Machine
from installer.hardware.nvidia import format_version
from installer.llama_cpp import release_table
from installer.llama_cpp.llama_builds import GLIBC, LLAMA_WHEELS, PROCESSOR
from installer.llama_cpp.wheel import UNREACHABLE

#: How often it is tried if an index can be reached but its packages cannot be downloaded.
TRIES = 3

_DRIVERS = {
    "A": "Install the current NVIDIA driver (nvidia.com/drivers) and check that the command nvidia-smi lists the GPU.",
    "B": "Install the current AMD driver; on Linux also libvulkan1 and mesa-vulkan-drivers, and get access to /dev/dri "
    "(the groups video and render).",
    "C": "Start it directly on the Mac: virtual machines do not support Metal.",
    "D": "Install the current Intel driver; on Linux also libvulkan1 and mesa-vulkan-drivers, and get access to "
    "/dev/dri (the groups video and render).",
}


@dataclass(frozen=True)
class BuildReasons:
    """Builds that the machine excludes and builds that could not be downloaded, each with its reason, and failed
    attempts.
    """

    left_out: Mapping[str, str]
    absent: Mapping[str, str]
    failed: Sequence[str]


def record_unused_gpu(gpu: str, machine: Machine, llama: str, reasons: BuildReasons, old: Any = None) -> dict[str, Any]:
    """What state.json keeps about a GPU that is not used. `llama`: the build in use; `old`: what was stored before."""
    why, because, todo = _why(gpu, machine, llama, reasons)
    tries = old["tries"] + 1 if isinstance(old, Mapping) and old.get("mark") == machine.mark else 1
    said = (
        f"YOU CHOSE {GPUS[gpu].upper()}, BUT LLAMA.CPP FINDS NO GPU AND USES THE CPU: {because}. {todo} "
        f"{'The next start tries again.' if why == 'network' else 'The start after that tries again.'}"
    )
    return {"why": why, "said": said, "mark": machine.mark, "tries": tries}


def retry_reason(wanted: Mapping[str, Any], machine: Machine, reachable: Callable[[str], bool]) -> str:
    """Why another attempt may succeed now, a sentence; "" if nothing has changed."""
    if wanted.get("mark") != machine.mark:
        return "llama.cpp did not use the GPU; the GPU, driver or compilers have changed, so it is tried again."
    if wanted.get("why") == "network" and wanted.get("tries", 0) < TRIES and reachable(f"{LLAMA_WHEELS}/"):
        return "llama.cpp for the GPU could not be downloaded; its index is reachable now, so it is tried again."
    return ""


def is_reachable(url: str) -> bool:
    """Whether a server responds there, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=15).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def is_cpu_build(llama: str) -> bool:
    """Whether a build of this name can never use a GPU."""
    return llama in {build.name for build in PROCESSOR} | {release_table.CPU}


def _why(gpu: str, machine: Machine, llama: str, reasons: BuildReasons) -> tuple[str, str, str]:
    """(the kind of reason, what happened as a clause, what to do as a sentence)."""
    left_out, absent, failed = reasons.left_out, reasons.absent, reasons.failed
    drivers = [problem for problem in left_out.values() if "driver" in problem]
    unreachable = [name for name, problem in absent.items() if problem == UNREACHABLE]
    if gpu == "A" and not machine.cards:
        return "driver", "the NVIDIA driver lists no GPU", _DRIVERS[gpu]
    if not is_cpu_build(llama):
        return "driver", f"llama.cpp for {llama} is installed but finds none", _DRIVERS[gpu]
    if drivers and not any("CUDA" in each for each in (*absent, *failed)):
        return "driver", f"the driver is too old ({drivers[-1]})", _DRIVERS[gpu]
    if unreachable:
        return (
            "network",
            f"{', '.join(unreachable)}: {LLAMA_WHEELS} is unreachable",
            "Allow abetlen.github.io and github.com in the proxy or firewall, or start with a network connection.",
        )
    if failed:
        todo = _DRIVERS[gpu] if gpu != "A" else f"{_DRIVERS[gpu]} Or install the CUDA Toolkit to compile it."
        return "failed", "; ".join(failed), todo
    if (2, 0) < machine.glibc < GLIBC:
        return (
            "glibc",
            f"its packages require glibc {format_version(GLIBC)} or newer, but this system has "
            f"{format_version(machine.glibc)}",
            "Update the system (Ubuntu 22.04, Debian 12, Fedora 36 or later), or install the GPU vendor's compiler.",
        )
    problems = [f"{name}: {problem}" for name, problem in (*left_out.items(), *absent.items())]
    if any("no code" in problem for problem in problems):
        return "card", "; ".join(problems), "Use another GPU, or compile llama.cpp for this one by hand."
    return "none", "; ".join(problems) or "no package was found", _DRIVERS[gpu]
