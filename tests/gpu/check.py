"""Every check that needs a GPU, in one command; docs/gpu.md explains how to bring it to such a machine.

    python -m tests.gpu.check --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out DIR     all steps
    python -m tests.gpu.check --list                                               what they are
    python -m tests.gpu.check --gguf ... --out DIR --only plain,cfg                some of them

Each step runs in a process of its own: one that fails, hangs or crashes is reported with its last words, and the
others go on. DIR gets figures.json, figures.md and a log for each step.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[2])

from tests.gpu import figures
from tests.gpu.figures import Figure
from tests.gpu.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]


def run_step(name: str, work: Path, gguf: Path, out: Path, seconds: float) -> list[Figure]:
    """One step in a separate process: its figures, or one that says how it failed."""
    result, log = out / f"{name}.json", out / f"{name}.log"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.gpu.check", "--inside", name, "--gguf", str(gguf), "--work", str(work)]
    began = time.monotonic()
    try:
        with log.open("wb") as stream:
            command += ["--out", str(out)]
            code = subprocess.run(
                command, check=False, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
        how = f"exit status {code}"
    except subprocess.TimeoutExpired:
        code, how = 1, f"not done after {seconds:.0f} s"
    found = figures.load(result) if result.is_file() else []
    if code or not result.is_file():
        words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        found.append(Figure(name, "failed", f"{how}: {words[-1][:200] if words else 'no output'}", "to run", False))
    found.append(Figure(name, "seconds, all told", f"{time.monotonic() - began:.0f}"))
    return found


def run_all(names: Sequence[str], work: Path, gguf: Path, out: Path, seconds: float) -> bool:
    """Run the steps in order, writing after each. Returns whether all figures meet their requirements."""
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    found: list[Figure] = []
    ends = time.monotonic() + seconds
    for name in names:
        left = ends - time.monotonic()
        if left < 5:
            found.append(Figure(name, "not run", "no time was left"))
        else:
            print(f"== {name}", flush=True)
            found += run_step(name, work, gguf, out, left)
            print(figures.table(each for each in found if each.step == name), flush=True)
        figures.save(out / "figures.json", found)
        (out / "figures.md").write_text(figures.table(found))
    return all(each.ok is not False for each in found)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"), help="where figures and logs go")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/gpu-work"), help="where models are made; kept between runs"
    )
    parser.add_argument("--only", default="", help="steps, with commas between")
    parser.add_argument("--seconds", type=float, default=3600, help="the time for all steps together")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.list:
        for name, step in STEPS.items():
            print(f"{name:12} {(step.__doc__ or '').splitlines()[0]}")
        return 0
    names = [name.strip() for name in given.only.split(",") if name.strip()] or list(STEPS)
    if unknown := [name for name in [*names, *([given.inside] if given.inside else [])] if name not in STEPS]:
        parser.error(f"no such step: {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    if given.gguf is None:
        parser.error("--gguf is needed")
    if given.inside:
        figures.save(given.out / f"{given.inside}.json", list(STEPS[given.inside](given.work, given.gguf)))
        return 0
    os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 4))
    return 0 if run_all(names, given.work, given.gguf.resolve(), given.out.resolve(), given.seconds) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
