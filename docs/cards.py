"""The table of getting-started.md: the torch and llama.cpp that are installed for each system, GPU and driver.

It is generated from the installer's own tables, so that it matches what the installer does. No GPU is queried.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu, format_version
from installer.llama_cpp.llama_builds import GLIBC, LlamaBuild, plan_llama_builds
from installer.torch.torch_builds import TorchBuild, newest_nvidia_stack, torch_build

RTX50 = NvidiaGpu("RTX 50 series", (12, 0))
NEWER = NvidiaGpu("Turing to RTX 40 series", (8, 6))
PASCAL = NvidiaGpu("Pascal (GTX 10 series)", (6, 1))
MAXWELL = NvidiaGpu("Maxwell (GTX 900)", (5, 2))
KEPLER = NvidiaGpu("Kepler (GTX 600, 700)", (3, 5))

_NVIDIA = (
    (RTX50, (580, 95)), (RTX50, (572, 16)), (NEWER, (580, 95)), (NEWER, (552, 44)), (PASCAL, (580, 95)),
    (PASCAL, (475, 14)), (MAXWELL, (580, 95)), (KEPLER, (475, 14)),
)  # fmt: skip
_OLD = (2, 31)


@dataclass(frozen=True)
class Row:
    """A machine, the letter of the answer, and the result."""

    machine: Machine
    gpu: str
    card: str
    torch: TorchBuild
    ways: tuple[LlamaBuild, ...]

    @property
    def found(self) -> list[LlamaBuild]:
        """The existing prebuilt packages, in the order in which they are tried."""
        return [way for way in self.ways if way.wheels and exists(way, self.machine)]


def exists(build: LlamaBuild, machine: Machine) -> bool:
    """Whether the workflows build such a package for this system."""
    new = not machine.glibc or machine.glibc >= GLIBC or build.kind not in ("CUDA", "ROCm")
    return new and (not build.places or machine.place in build.places)


def rows() -> list[Row]:
    """All rows of the table, in order."""
    made = []
    for system, processor, glibc in (("Windows", "AMD64", ()), ("Linux", "x86_64", GLIBC), ("Linux", "x86_64", _OLD)):
        for card, driver in _NVIDIA if glibc != _OLD else _NVIDIA[2:3]:
            each = NvidiaGpu(card.name, card.capability, driver)
            machine = Machine(system, processor, glibc, (each,))
            made.append(_row(machine, "A", f"{card.name}, driver {format_version(driver)}"))
        for gpu, name in (("B", "AMD"), ("D", "Intel Arc"), ("N", "none")):
            made.append(_row(Machine(system, processor, glibc), gpu, name))
    made += [
        _row(Machine("Linux", "aarch64", GLIBC), "N", "none"),
        _row(Machine("Darwin", "arm64"), "C", "Apple M"),
        _row(Machine("Darwin", "x86_64"), "N", "none"),
    ]
    return made


def _row(machine: Machine, gpu: str, card: str) -> Row:
    stack = newest_nvidia_stack(machine)[0] if gpu == "A" else torch_build(gpu, cuda118=False)
    cuda118, cuda128 = stack.name == "CUDA 11.8", stack.name == "CUDA 12.8"
    return Row(machine, gpu, card, stack, tuple(plan_llama_builds(gpu, cuda118, (), cuda128, machine)))


def cards_table() -> str:
    """The table, in Markdown."""
    lines = [
        "| system | GPU | torch | llama.cpp, prebuilt, in this order | layers left on the CPU |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows():
        glibc = f", glibc {format_version(row.machine.glibc)}" if row.machine.glibc else ""
        there = row.torch.pythons.get(row.machine.place, ())
        torch = f"{row.torch.requirement.partition('==')[2]}, {row.torch.name}" if there else "none"
        torch += f" (Python {there[0]} to {there[-1]})" if there and there[-1] != "3.13" else ""
        found = [f"{way.name}{_translated(way, row.machine)}" for way in row.found]
        ways = ", ".join(found) or "none: it is compiled"
        lines.append(f"| {row.machine.place}{glibc} | {row.card} | {torch} | {ways} | {_left(row)} |")
    return "\n".join(lines) + "\n"


def _translated(way: LlamaBuild, machine: Machine) -> str:
    newer = way.code and machine.cards and machine.cards[0].capability[0] > way.code.newest[0]
    return "\\*" if newer else ""


def _left(row: Row) -> str:
    """What the first package's CPU code was compiled for."""
    if not row.found:
        return "all that this processor has"
    first = row.found[0]
    if first.kind == "CUDA" or (row.machine.windows and first.wheels == "cpu"):
        return "what the builder's processor had: AVX2, at times AVX-512"
    if first.kind == "ROCm":
        return "no AVX"
    return "NEON" if row.machine.place.endswith("arm64") else "AVX2"


if __name__ == "__main__":
    sys.stdout.write(cards_table())
