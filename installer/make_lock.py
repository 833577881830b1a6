"""`python -m installer.make_lock`: creates each requirements*.txt from its .in file, with exact versions and hashes.

For developers, after changing a .in file; it needs uv and the package index. Packages of one file are omitted from
those that are installed after it, and so is torch with its dependencies: which build of it fits depends on the machine
(torch_builds.py). `--upgrade` takes the newest versions that the .in files allow.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.10"  # the oldest that is supported; --universal covers later ones
DEV_PYTHON = "3.11"  # the oldest that the test tools run on
#: In the order of installation, with the oldest Python and what is installed by then.
LOCKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("requirements", PYTHON, ()),
    ("requirements-torch", PYTHON, ("requirements", "torch")),
    ("requirements-exllamav2", PYTHON, ("requirements", "torch", "requirements-torch")),
    ("requirements-dev", DEV_PYTHON, ("requirements", "torch", "requirements-torch")),
)


#: A package of a lock file: its name, and its version with a marker. A constraint for it is written without extras.
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]\n]*\])?(==[^\\\n#]+)", re.MULTILINE)


def package_names(text: str) -> set[str]:
    """The packages that a lock file names."""
    return {name for name, _ in _PIN.findall(text)}


def strip_hashes(text: str) -> str:
    """A lock file without hashes and comments, to be used as constraints."""
    return "".join(f"{name}{version.rstrip()}\n" for name, version in _PIN.findall(text))


def compile_lock(
    source: Path, target: Path | None, python: str, constraints: Sequence[Path] = (), left_out: Iterable[str] = ()
) -> str:
    """Run uv and write the target with hashes, keeping its versions. Raises: SystemExit."""
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
        known = {"torch": package_names(compile_lock(torch, None, PYTHON))}
        constraints: list[Path] = []
        for name, python, there in LOCKS:
            target = ROOT / f"{name}.txt"
            compile_lock(
                ROOT / f"{name}.in", target, python, constraints, set().union(*(known[each] for each in there))
            )
            text = f"# Made of {name}.in by `python -m installer.make_lock`: change that file.\n" + target.read_text(
                "utf-8"
            )
            target.write_text(text, "utf-8")
            known[name] = package_names(text)
            print(f"{target.name}: {len(known[name])} packages")
            constraints.append(Path(folder) / target.name)
            constraints[-1].write_text(strip_hashes(text), "utf-8")


if __name__ == "__main__":
    main()
