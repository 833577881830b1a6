"""Installs llama.cpp from a wheel: prebuilt, kept from earlier, or compiled here and kept; each is tested.

It is given the builds to try (llama_builds.py) and must not know of GPUs, questions or what is remembered.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from installer.environment import requirements, smoke_test
from installer.environment.packages import Packages
from installer.errors import InstallStopped
from installer.hardware import compiler, processor
from installer.hardware.disk import cache_folder, project_cache, user_caches
from installer.hardware.nvidia import NvidiaGpu, format_version
from installer.llama_cpp.llama_builds import LLAMA_WHEELS, WITHOUT_AMX, LlamaBuild

#: Its files in site-packages, a glob pattern.
_DISTRIBUTION = "llama_cpp_python-*.dist-info"
_NOT_IN_NAMES = r"[^\w.]+"
UNREACHABLE = "its index is unreachable"
#: Messages of uv and pip if no server responds.
_NO_NETWORK = r"(?i)failed to fetch|error sending request|connect|timed? ?out|dns|resolve host|certificate|retrying"


class LlamaWheel:
    """Installs the llama-cpp-python version that requirements.txt names."""

    def __init__(self, packages: Packages, cards: Sequence[NvidiaGpu] = ()) -> None:
        self.packages = packages
        self.cards = cards  # NVIDIA's, of this machine
        self.runner = packages.runner
        self.layout = packages.layout
        self.requirement = requirements.llama_requirement(packages.layout)
        self.failed: list[str] = []  # failed attempts, each with its reason
        self.no_compiler = False  # whether one of them needed a missing compiler
        self.absent: dict[str, str] = {}  # prebuilt ones that could not be downloaded, each with the reason

    def still(self, installed: str) -> str:
        """The test result of the installed build of this name; "" if it does not work. Nothing is changed."""
        if not installed:
            return ""
        computes, said = smoke_test.can_compute(self.runner)
        if computes:
            return f"kept unchanged; {said}"
        self._note(f"the installed build for {installed}", said)
        return ""

    def install(self, plan: Sequence[LlamaBuild]) -> tuple[str, str]:
        """Install the first build that works here. Returns its name, and how it was obtained and tested.

        Raises: InstallStopped.
        """
        blind: list[tuple[LlamaBuild, str]] = []  # built for a GPU and working, but llama.cpp sees no GPU
        present: LlamaBuild | None = None
        for build in plan:
            if blind and (not build.kind or build.kind in {each.kind for each, _ in blind}):
                continue  # the first of them runs on the CPU, and another of its kind sees no more
            how = self._get(build)
            if not how:
                continue
            present = build
            if build.libraries and not self._libraries(build):
                present = None
                continue
            computes, said = smoke_test.can_compute(self.runner)
            if computes and build.kind and not smoke_test.list_usable_gpus(self.runner):
                blind.append((build, f"{how}{self._after()}; tried: {said}"))
                print(f"      llama.cpp for {build.name} works, but finds no GPU.", flush=True)
                continue
            if computes:
                self._tidy()
                return build.name, f"{how}{self._after()}; tried: {said}"
            self._fails(f"{build.name} ({how})", said)
            present = None
            for folder in self.kept(build):
                shutil.rmtree(folder, ignore_errors=True)
        if blind and ((present is blind[0][0] and self._there()) or self._get(blind[0][0])):
            return blind[0][0].name, blind[0][1]
        if blind:
            return self.install([build for build in plan if not build.kind])
        tried = "; ".join(self.failed) or "no package was found"
        hint = f" {compiler.advise_compiler()}" if self.no_compiler else " Fix that, then start again."
        raise InstallStopped(
            f"llama.cpp could not be installed ({tried}). The full output is in {self.layout.log}.{hint}"
        )

    def remove(self) -> None:
        self.packages.uninstall("llama-cpp-python")

    def at_hand(self, build: LlamaBuild) -> list[str | Path]:
        """The command that installs this llama.cpp without compiling; [] if there is none, prebuilt or kept."""
        arguments = ["--no-deps", "--only-binary", "llama-cpp-python", self.requirement]
        if not build.wheels:
            found = [wheel for folder in self.kept(build) for wheel in sorted(folder.glob("*.whl"))]
            kept = [wheel for wheel in found if zipfile.is_zipfile(wheel)]  # not a truncated file
            return self.packages.command("--no-deps", str(kept[0])) if kept else []
        index = f"{LLAMA_WHEELS}/{build.wheels}"
        patience = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "1"}
        there, said = self.runner.output(*self.packages.command("--dry-run", *arguments, index=index), **patience)
        self.absent.pop(build.name, None)
        if not there:
            self.absent[build.name] = (
                UNREACHABLE if re.search(_NO_NETWORK, said) else "no build was found for this system"
            )
        return self.packages.command(*arguments, index=index) if there else []

    def kept(self, build: LlamaBuild) -> tuple[Path, ...]:
        """The folders for compiled builds: outside installer_files, so that a fresh installation need not compile
        again.

        The last folder is inside, in case nothing can be written outside. A build is valid for the processor, the
        settings, the compiler and the GPU that it was made with.
        """
        environ = self.runner.environ
        asked = [environ.get(name, "") for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS")]
        settings = [build.cmake, *WITHOUT_AMX, *asked, compiler.compiler_version(), *self._cuda(build)]
        mark = hashlib.sha256(" ".join([processor.cpu_fingerprint(), *settings]).encode()).hexdigest()[:12]
        name = re.sub(_NOT_IN_NAMES, "-", f"{self.requirement}-{build.name}-{mark}")
        inside, outside = self.layout.files / "wheels" / name, self._outside()
        return (outside / name, inside) if outside else (inside,)

    def _outside(self) -> Path | None:
        """Our folder outside installer_files, beside uv's; None if nothing can be written there."""
        environ = self.runner.environ
        if cache_folder(environ, self.layout) == project_cache(self.layout):
            return None
        named = environ.get("UV_CACHE_DIR")
        caches = Path(named).parent if named else user_caches(environ)
        return caches / "text-generation-webui" if caches else None

    def _cuda(self, build: LlamaBuild) -> list[str]:
        """What a CUDA build depends on: nvcc compiles for the GPUs that it finds."""
        if "CUDA" not in build.cmake:
            return []
        nvcc = shutil.which("nvcc")
        version = self.runner.quiet(nvcc, "--version") if nvcc else ""
        return [" ".join(version.split()), *(format_version(card.capability) for card in self.cards)]

    def _tidy(self) -> None:
        """Delete builds of other versions; those of this version may be needed by machines that share the folder."""
        for folder in filter(None, (self._outside(), self.layout.files / "wheels")):
            for each in folder.glob("llama-cpp-python-*"):
                if not each.name.startswith(f"{re.sub(_NOT_IN_NAMES, '-', self.requirement)}-"):
                    shutil.rmtree(each, ignore_errors=True)

    def compile(self, build: LlamaBuild) -> str:
        """Compile llama.cpp (with pip: uv's build cache depends on the index) and keep the package.

        Returns why it could not be compiled, or "".
        """
        if not compiler.has_compilers(self.layout):
            self.no_compiler = True
            return "no C and C++ compiler"
        print(
            f"      No prebuilt llama.cpp for {build.name}; compiling it, which takes up to 5 minutes on 2 "
            "cores\n      and less on more. The result is kept for the next installation. Compiler output goes "
            f"to\n      {self.layout.log}",
            flush=True,
        )
        made = self.layout.tmp / "wheel"
        shutil.rmtree(made, ignore_errors=True)
        # pip's own cache does not distinguish builds with different settings
        command = ["-m", "pip", "wheel", "--verbose", "--no-deps", "--no-cache-dir", "--wheel-dir", str(made)]
        environ = self.runner.environ
        options = " ".join(compiler.accepted_options(self.layout, WITHOUT_AMX))
        more = {name: f"{environ.get(name, '')} {options}".strip() for name in ("CFLAGS", "CXXFLAGS")}
        more["CMAKE_ARGS"] = f"{environ.get('CMAKE_ARGS', '')} {build.cmake}".strip()
        done, said = self.runner.logged(
            self.layout.python, *command, self.requirement, doing="compiling llama.cpp", environ=more
        )
        if not done:
            print(f"      It could not be compiled ({said}); the compiler output is in {self.layout.log}", flush=True)
            return f"it could not be compiled: {said}"
        return self._keep(build, list(made.glob("*.whl")))

    def _keep(self, build: LlamaBuild, wheels: Sequence[Path]) -> str:
        """Keep a compiled build in the first folder where that is possible; returns why it could not be kept, or ""."""
        *outside, inside = self.kept(build)
        for folder in (*outside, inside):
            try:
                for wheel in wheels:
                    _copy(wheel, folder)
            except OSError as error:
                problem = f"{folder} is not writable ({error.strerror or error})"
                continue
            if folder == inside:
                print(
                    f"      The compiled package is kept in {inside} because no other folder is writable.", flush=True
                )
            return ""
        return problem

    def _get(self, build: LlamaBuild) -> str:
        """Install a build; returns how it was obtained, or "" if it is not available."""
        command = self.at_hand(build)
        if command and self._installed(command):
            return "ready-made" if build.wheels else "compiled here before"
        if build.wheels:
            self.failed += [f"{build.name}: its message is above"] if command else []
            return ""
        if command:
            print("      The stored package cannot be installed, so it is compiled again.", flush=True)
        problem = self.compile(build)
        if not problem:
            command = self.at_hand(build)
            problem = "the compiled package is damaged" if not command else "its message is above"
            if command and self._installed(command):
                return "compiled here"
        self.failed.append(f"{build.name}: {problem}")
        return ""

    def _there(self) -> bool:
        return any(self.layout.site_packages.glob(_DISTRIBUTION))

    def _installed(self, command: Sequence[str | Path]) -> bool:
        if self._there():  # another build of the same version would be taken for this one
            self.remove()
        return self.runner.stream(*command, doing="installing llama.cpp")

    def _libraries(self, build: LlamaBuild) -> bool:
        """Whether the libraries that a prebuilt package needs could be installed."""
        try:
            self.packages.install(*build.libraries, what=f"the libraries of {build.name}")
        except InstallStopped as sentence:
            self._fails(build.name, str(sentence))
            return False
        return True

    def _fails(self, what: str, said: str) -> None:
        self._note(what, said)
        self.remove()

    def _note(self, what: str, said: str) -> None:
        print(
            f"      llama.cpp for {what} does not run here ({said}). The full output is in {self.layout.log}",
            flush=True,
        )
        self.failed.append(f"{what}: {said}")

    def _after(self) -> str:
        return f", because others do not run here ({'; '.join(self.failed)})" if self.failed else ""


def _copy(wheel: Path, folder: Path) -> None:
    """Copy completely or not at all, even if the power fails. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{wheel.name}.part"
    try:
        with wheel.open("rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        part.replace(folder / wheel.name)
    finally:
        part.unlink(missing_ok=True)
