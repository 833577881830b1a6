"""Installs llama.cpp from its own release builds: libraries beside the environment, and the binding without libraries.

A release contains a variant for each kind of processor, and GPU backends, of which one is chosen at startup. It is
stored in installer_files/llama, and the environment points to it (library_pointer.py). Builds that are not releases are
passed on to LlamaWheel, which has the same interface. It must not know which releases there are; see release_table.py.
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

from installer.environment.packages import Packages
from installer.hardware import machine
from installer.hardware.cuda import newest_card
from installer.hardware.nvidia import NvidiaGpu
from installer.llama_cpp import archive, library_pointer, release_table
from installer.llama_cpp.llama_builds import LlamaBuild
from installer.llama_cpp.release_table import LlamaReleaseBuild, ReleasePins
from installer.llama_cpp.wheel import LlamaWheel


def add_releases(
    plan: Sequence[LlamaBuild],
    gpu: str,
    requirement: str,
    *,
    compiler: bool,
    pins: ReleasePins | None = None,
    cards: Sequence[NvidiaGpu] = (),
) -> list[LlamaBuild]:
    """The plan with the releases that fit this machine and can be downloaded. Prints why if none can."""
    pins = pins or ReleasePins.read()
    system, processor = platform.system(), platform.machine()
    fitting = release_table.fitting_releases(system, processor, gpu, newest_card(cards))
    reasons = {release: pins.why_not(release, requirement, _libc()) for release in fitting}
    found = [release for release, reason in reasons.items() if not reason]
    if fitting and not found:
        print(f"      llama.cpp's own releases are skipped: {reasons[fitting[0]]}.", flush=True)
    first = release_table.prefers_releases(system, processor, gpu, compiler=compiler)
    return release_table.merge_releases(plan, found, first=first)


def _libc() -> tuple[int, ...]:
    """The version of glibc; zeros for another C library, or if none is needed."""
    return machine.glibc_version() or (0, 0)


class LlamaRelease(LlamaWheel):
    """Gets llama.cpp by any way of a plan, releases and others."""

    def __init__(self, packages: Packages, pins: ReleasePins | None = None, cards: Sequence[NvidiaGpu] = ()) -> None:
        super().__init__(packages, cards)
        self.pins = pins or ReleasePins.read()
        self.folder = self.layout.files / "llama"

    def still(self, installed: str) -> str:
        return "" if library_pointer.is_dangling(self.layout) else super().still(installed)

    def remove(self) -> None:
        super().remove()
        library_pointer.remove_pointer(self.layout)

    def at_hand(self, build: LlamaBuild) -> list[str | Path]:
        if not isinstance(build, LlamaReleaseBuild):
            return super().at_hand(build)
        return [] if self.pins.why_not(build, self.requirement, _libc()) else [self._place(build)]

    def kept(self, build: LlamaBuild) -> tuple[Path, ...]:
        return (self._place(build),) if isinstance(build, LlamaReleaseBuild) else super().kept(build)

    def _place(self, release: LlamaReleaseBuild) -> Path:
        return self.folder / re.sub(r"[^\w.]+", "-", f"{self.pins.tag}-{release.name.partition(' (')[0]}")

    def _get(self, build: LlamaBuild) -> str:
        if not isinstance(build, LlamaReleaseBuild):
            if library_pointer.pointed_folder(self.layout.env):
                self.remove()  # the installed binding has no libraries of its own
            return super()._get(build)
        problem = self.pins.why_not(build, self.requirement, _libc())
        if not problem:
            try:
                self.remove()
                self._fetch(build)
                problem = self._binding()
                if not problem:
                    library_pointer.write_pointer(self.layout, self._place(build).name)
            except archive.UnusableArchive as error:
                problem = str(error)
            except OSError as error:
                problem = f"{error.filename or self.folder} cannot be written ({error.strerror or error})"
        if problem:
            print(f"      {build.name} cannot be used: {problem}.", flush=True)
            self.failed.append(f"{build.name}: {problem}")
            return ""
        return f"release {self.pins.tag} of llama.cpp"

    def _fetch(self, release: LlamaReleaseBuild) -> None:
        """Download the libraries into their folder, all or none. Raises: UnusableArchive, OSError."""
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
            (part / library_pointer.MANIFEST).write_text(
                json.dumps({"archives": hashes, "files": found}, indent=1), "utf-8"
            )
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _binding(self) -> str:
        """Install the binding as pure Python; returns why that failed, or "".

        Its source package is built without CMake, and so without a compiler. The result is kept.
        """
        name = self.requirement.replace("-", "_").replace("==", "-")
        wheel = next((path for path in self.folder.glob(f"{name}-*-none-any.whl") if zipfile.is_zipfile(path)), None)
        if wheel is None:
            made = self.layout.tmp / "binding"
            shutil.rmtree(made, ignore_errors=True)
            # uncached: pip would confuse a build without libraries with one that has them
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
                doing="downloading llama-cpp-python", environ={"SKBUILD_WHEEL_CMAKE": "false"},
            ):  # fmt: skip
                return "llama-cpp-python could not be installed without its libraries; the reason is above"
            found = next(made.glob("*-none-any.whl"), None)
            if found is None:
                return "llama-cpp-python contained libraries of its own"
            part = self.folder / f"{found.name}.part"
            shutil.copyfile(found, part)
            wheel = part.replace(self.folder / found.name)
        return "" if self._installed(self.packages.command("--no-deps", str(wheel))) else "its message is above"

    def throw_away_unused(self) -> None:
        """Delete releases that no environment uses, neither this one nor one that may be restored."""
        envs = (self.layout.env, self.layout.last, self.layout.older, self.layout.between, self.layout.part)
        used = [library_pointer.pointed_folder(env) for env in envs]
        for place in self.folder.glob("*/"):
            if place not in used and place.is_dir():
                shutil.rmtree(place, ignore_errors=True)


def _is_whole(place: Path, hashes: dict[str, str]) -> bool:
    """Whether the folder holds everything that was unpacked from these archives, unchanged."""
    try:
        manifest = json.loads((place / library_pointer.MANIFEST).read_text("utf-8"))
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
