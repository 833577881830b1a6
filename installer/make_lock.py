"""`python -m installer.make_lock`: makes each requirements*.txt of its .in: every package exactly, with its hashes.

For developers, after a change of a .in file; it needs uv and the package index. What stands in one file is left out
of those that are installed after it, and so is torch with all that it brings: which build of it fits depends on the
machine (torch_builds.py). `--upgrade` takes the newest versions that the .in files allow.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.10"  # the oldest that is promised; --universal goes on from it
DEV_PYTHON = "3.11"  # the oldest that the test tools run on
#: In the order of installation, with the oldest Python and what is there by then.
LOCKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("requirements", PYTHON, ()),
    ("requirements-torch", PYTHON, ("requirements", "torch")),
    ("requirements-exllamav2", PYTHON, ("requirements", "torch", "requirements-torch")),
    ("requirements-dev", DEV_PYTHON, ("requirements", "torch", "requirements-torch")),
)


#: A package of a lock: its name, and its version with a marker. What it is with extras constrains it without them.
#: modules/extensions/installing.py has the same, for it must not import the installer.
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]\n]*\])?(==[^\\\n#]+)", re.MULTILINE)


def names(text: str) -> set[str]:
    """The packages that a lock names."""
    return {name for name, _ in _PIN.findall(text)}


def pins(text: str) -> str:
    """A lock without its hashes and comments: what others may be held to."""
    return "".join(f"{name}{version.rstrip()}\n" for name, version in _PIN.findall(text))


def compiled(
    source: Path, target: Path | None, python: str, constraints: Sequence[Path] = (), left_out: Iterable[str] = ()
) -> str:
    """What uv makes of it; into the target, whose versions are kept, with hashes. Raises: SystemExit."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", python]
    command += [str(source), "--no-header"]
    for each in constraints:
        command += ["--constraint", str(each)]
    for name in sorted(left_out):
        command += ["--no-emit-package", name]
    if target:
        command += [
            "--generate-hashes",
            "--output-file",
            str(target),
            *(["--upgrade"] if "--upgrade" in sys.argv else []),
        ]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if made.returncode:
        raise SystemExit(f"{source.name} cannot be resolved: {made.stderr.strip()}")
    return made.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch = Path(folder) / "torch.in"
        torch.write_text("torch\n", "utf-8")
        known = {"torch": names(compiled(torch, None, PYTHON))}
        constraints: list[Path] = []
        for name, python, there in LOCKS:
            target = ROOT / f"{name}.txt"
            compiled(ROOT / f"{name}.in", target, python, constraints, set().union(*(known[each] for each in there)))
            text = f"# Made of {name}.in by `python -m installer.make_lock`: change that file.\n" + target.read_text(
                "utf-8"
            )
            target.write_text(text, "utf-8")
            known[name] = names(text)
            print(f"{target.name}: {len(known[name])} packages")
            constraints.append(Path(folder) / target.name)
            constraints[-1].write_text(pins(text), "utf-8")


if __name__ == "__main__":
    main()
