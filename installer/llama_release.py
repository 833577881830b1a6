"""llama.cpp from its own release builds: its libraries beside the environment, and the binding without any of its own.

A release brings a variant for each kind of processor, and backends for cards, of which one is chosen when it starts. It
lies in installer_files/llama, and the environment points to it (pointer.py). Ways that are no release are left to
LlamaWheel, whose interface this has. It must not know which releases there are; see release_table.py.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from installer import archive, machine, pointer, release_table
from installer.cuda import best
from installer.llama_builds import Build
from installer.llama_wheel import LlamaWheel
from installer.nvidia import Card
from installer.packages import Packages
from installer.release_table import Pins, Release


def among(plan: Sequence[Build], gpu: str, requirement: str, *, compiler: bool, pins: Pins | None = None,
          cards: Sequence[Card] = ()) -> list[Build]:  # fmt: skip
    """The plan with the releases that fit this machine and can be fetched. Says why where none can."""
    pins = pins or Pins.read()
    system, processor = platform.system(), platform.machine()
    fitting = release_table.releases(system, processor, gpu, best(cards))
    reasons = {release: pins.why_not(release, requirement, _libc()) for release in fitting}
    found = [release for release, reason in reasons.items() if not reason]
    if fitting and not found:
        print(f"      llama.cpp's own builds are passed over: {reasons[fitting[0]]}.", flush=True)
    first = release_table.comes_first(system, processor, gpu, compiler=compiler)
    return release_table.with_releases(plan, found, first=first)


def _libc() -> tuple[int, ...]:
    """Glibc's version; zeros where there is another C library, or none that is asked for."""
    return machine.glibc() or (0, 0)


class LlamaRelease(LlamaWheel):
    """Gets llama.cpp by any way of a plan, releases and others."""

    def __init__(self, packages: Packages, pins: Pins | None = None, cards: Sequence[Card] = ()) -> None:
        super().__init__(packages, cards)
        self.pins = pins or Pins.read()
        self.folder = self.layout.files / "llama"

    def still(self, installed: str) -> str:
        return "" if pointer.dangles(self.layout) else super().still(installed)

    def remove(self) -> None:
        super().remove()
        pointer.remove(self.layout)

    def at_hand(self, build: Build) -> list[str | Path]:
        if not isinstance(build, Release):
            return super().at_hand(build)
        return [] if self.pins.why_not(build, self.requirement, _libc()) else [self._place(build)]

    def kept(self, build: Build) -> tuple[Path, ...]:
        return (self._place(build),) if isinstance(build, Release) else super().kept(build)

    def _place(self, release: Release) -> Path:
        return self.folder / re.sub(r"[^\w.]+", "-", f"{self.pins.tag}-{release.name.partition(' (')[0]}")

    def _get(self, build: Build) -> str:
        if not isinstance(build, Release):
            if pointer.libraries(self.layout.env):
                self.remove()  # the binding that is there has no libraries of its own
            return super()._get(build)
        problem = self.pins.why_not(build, self.requirement, _libc())
        if not problem:
            try:
                self.remove()
                self._fetch(build)
                problem = self._binding()
                if not problem:
                    pointer.write(self.layout, self._place(build).name)
            except archive.Unfit as error:
                problem = str(error)
            except OSError as error:
                problem = f"{error.filename or self.folder} cannot be written ({error.strerror or error})"
        if problem:
            print(f"      {build.name} cannot be used: {problem}.", flush=True)
            self.failed.append(f"{build.name}: {problem}")
            return ""
        return f"release {self.pins.tag} of llama.cpp"

    def _fetch(self, release: Release) -> None:
        """The libraries into their folder, all of them or none. Raises: Unfit, OSError."""
        place = self._place(release)
        hashes = {name: (self.pins.sha256 or {})[name] for name in release.archives}
        if _is_whole(place, hashes):
            return
        part, tmp = place.with_name(f"{place.name}.part"), self.layout.tmp
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        tmp.mkdir(parents=True, exist_ok=True)
        try:
            for name, sha256 in hashes.items():
                file = tmp / name.format(tag=self.pins.tag)
                address = f"{self.pins.address}/{self.pins.tag}/{file.name}"
                archive.fetch(address, file, sha256, self.runner.environ)
                archive.unpack(file, part)
                file.unlink()
            found = {path.name: _sha256(path) for path in part.iterdir()}
            (part / pointer.MANIFEST).write_text(json.dumps({"archives": hashes, "files": found}, indent=1), "utf-8")
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _binding(self) -> str:
        """Installs the binding as Python alone; why that did not work, or "".

        Its source package is made into a package without CMake, and so without a compiler. The result is kept.
        """
        name = self.requirement.replace("-", "_").replace("==", "-")
        wheel = next((path for path in self.folder.glob(f"{name}-*-none-any.whl") if zipfile.is_zipfile(path)), None)
        if wheel is None:
            made = self.layout.tmp / "binding"
            shutil.rmtree(made, ignore_errors=True)
            # uncached: pip would take what has no libraries for what has
            command = [
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--no-cache-dir",
                "--no-binary",
                "llama-cpp-python",
            ]
            if not self.runner.stream(
                self.layout.python, *command, "--wheel-dir", str(made), self.requirement,
                doing="fetching llama-cpp-python", environ={"SKBUILD_WHEEL_CMAKE": "false"},
            ):  # fmt: skip
                return "llama-cpp-python cannot be had without its libraries; the reason is above"
            found = next(made.glob("*-none-any.whl"), None)
            if found is None:
                return "llama-cpp-python brought libraries of its own"
            part = self.folder / f"{found.name}.part"
            shutil.copyfile(found, part)
            wheel = part.replace(self.folder / found.name)
        return "" if self._installed(self.packages.command("--no-deps", str(wheel))) else "its message is above"

    def throw_away_unused(self) -> None:
        """Throws away releases that no environment uses: neither this one nor one that may come back."""
        envs = (self.layout.env, self.layout.last, self.layout.older, self.layout.between, self.layout.part)
        used = [pointer.libraries(env) for env in envs]
        for place in self.folder.glob("*/"):
            if place not in used and place.is_dir():
                shutil.rmtree(place, ignore_errors=True)


def _is_whole(place: Path, hashes: dict[str, str]) -> bool:
    """Whether the folder holds all that was unpacked from these archives, unchanged."""
    try:
        manifest = json.loads((place / pointer.MANIFEST).read_text("utf-8"))
        return manifest["archives"] == hashes and all(
            _sha256(place / name) == sha256 for name, sha256 in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
