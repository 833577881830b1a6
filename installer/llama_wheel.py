"""llama.cpp into the environment: ready-made, kept from an earlier time, or compiled here and kept; each is tried.

It is given the ways to try (llama_builds.py), and must not know of cards, questions or what is remembered.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from installer import compiler, processor, requirements, trial
from installer.disk import cache_folder, own_cache, user_caches
from installer.errors import Stop
from installer.llama_builds import LLAMA_WHEELS, WITHOUT_AMX, Build
from installer.nvidia import Card, written
from installer.packages import Packages

#: What it is in site-packages, a glob pattern.
_DISTRIBUTION = "llama_cpp_python-*.dist-info"
_NOT_IN_NAMES = r"[^\w.]+"
UNREACHABLE = "its index cannot be reached"
#: What uv and pip say where no server answers.
_NO_NETWORK = r"(?i)failed to fetch|error sending request|connect|timed? ?out|dns|resolve host|certificate|retrying"


class LlamaWheel:
    """Gets the llama-cpp-python that requirements.txt names."""

    def __init__(self, packages: Packages, cards: Sequence[Card] = ()) -> None:
        self.packages = packages
        self.cards = cards  # NVIDIA's, of this machine
        self.runner = packages.runner
        self.layout = packages.layout
        self.requirement = requirements.llama(packages.layout)
        self.failed: list[str] = []  # what was tried in vain, each with its reason
        self.no_compiler = False  # whether one of them needed a compiler that is missing
        self.absent: dict[str, str] = {}  # the ready-made ones that could not be had, each with the reason

    def still(self, installed: str) -> str:
        """How the one that is there, of this name, was tried; "" where it does not compute. Nothing is changed."""
        if not installed:
            return ""
        computes, said = trial.computes(self.runner)
        if computes:
            return f"kept as it was; {said}"
        self._note(f"the one that was installed for {installed}", said)
        return ""

    def install(self, plan: Sequence[Build]) -> tuple[str, str]:
        """Installs llama.cpp the first way that computes here. Returns its name, and how it was got and tried.

        Raises: Stop.
        """
        blind: list[tuple[Build, str]] = []  # for a card, they compute, but llama.cpp sees none
        present: Build | None = None
        for build in plan:
            if blind and (not build.kind or build.kind in {each.kind for each, _ in blind}):
                continue  # the processor is what the first of them uses, and another of its kind sees no more
            how = self._get(build)
            if not how:
                continue
            present = build
            if build.libraries and not self._libraries(build):
                present = None
                continue
            computes, said = trial.computes(self.runner)
            if computes and build.kind and not trial.cards(self.runner):
                blind.append((build, f"{how}{self._after()}; tried: {said}"))
                print(f"      llama.cpp for {build.name} computes, but sees no graphics card.", flush=True)
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
        hint = f" {compiler.advice()}" if self.no_compiler else " Mend that and start again."
        raise Stop(f"llama.cpp could not be installed ({tried}). What was said is in {self.layout.log}.{hint}")

    def remove(self) -> None:
        self.packages.uninstall("llama-cpp-python")

    def at_hand(self, build: Build) -> list[str | Path]:
        """The command that installs this llama.cpp without compiling; [] where there is none, ready-made or kept."""
        arguments = ["--no-deps", "--only-binary", "llama-cpp-python", self.requirement]
        if not build.wheels:
            found = [wheel for folder in self.kept(build) for wheel in sorted(folder.glob("*.whl"))]
            kept = [wheel for wheel in found if zipfile.is_zipfile(wheel)]  # not what a full disk or a crash cut off
            return self.packages.command("--no-deps", str(kept[0])) if kept else []
        index = f"{LLAMA_WHEELS}/{build.wheels}"
        patience = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "1"}
        there, said = self.runner.output(*self.packages.command("--dry-run", *arguments, index=index), **patience)
        self.absent.pop(build.name, None)
        if not there:
            self.absent[build.name] = UNREACHABLE if re.search(_NO_NETWORK, said) else "none was found for this system"
        return self.packages.command(*arguments, index=index) if there else []

    def kept(self, build: Build) -> tuple[Path, ...]:
        """Where a compiled llama.cpp is kept: outside installer_files, so that starting over need not compile again.

        The last folder is inside, for where nothing can be written outside. A build is for the processor it was made
        on, for the settings it was made with, and for the compiler and the card that it was made by and for.
        """
        environ = self.runner.environ
        asked = [environ.get(name, "") for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS")]
        settings = [build.cmake, *WITHOUT_AMX, *asked, compiler.version(), *self._cuda(build)]
        mark = hashlib.sha256(" ".join([processor.mark(), *settings]).encode()).hexdigest()[:12]
        name = re.sub(_NOT_IN_NAMES, "-", f"{self.requirement}-{build.name}-{mark}")
        inside, outside = self.layout.files / "wheels" / name, self._outside()
        return (outside / name, inside) if outside else (inside,)

    def _outside(self) -> Path | None:
        """The folder of ours outside installer_files, beside uv's; None where nothing can be written there."""
        environ = self.runner.environ
        if cache_folder(environ, self.layout) == own_cache(self.layout):
            return None
        named = environ.get("UV_CACHE_DIR")
        caches = Path(named).parent if named else user_caches(environ)
        return caches / "text-generation-webui" if caches else None

    def _cuda(self, build: Build) -> list[str]:
        """What a build for CUDA is made by and for: nvcc compiles for the cards that it finds."""
        if "CUDA" not in build.cmake:
            return []
        nvcc = shutil.which("nvcc")
        version = self.runner.quiet(nvcc, "--version") if nvcc else ""
        return [" ".join(version.split()), *(written(card.capability) for card in self.cards)]

    def _tidy(self) -> None:
        """Throws away what was kept of other versions; of this one, machines that share the folder may need all."""
        for folder in filter(None, (self._outside(), self.layout.files / "wheels")):
            for each in folder.glob("llama-cpp-python-*"):
                if not each.name.startswith(f"{re.sub(_NOT_IN_NAMES, '-', self.requirement)}-"):
                    shutil.rmtree(each, ignore_errors=True)

    def compile(self, build: Build) -> str:
        """Compiles llama.cpp (by pip: uv's own cache of builds depends on the index) and keeps the package.

        Returns why it could not be compiled, "" where it could.
        """
        if not compiler.works(self.layout):
            self.no_compiler = True
            return "no C and C++ compiler"
        print(
            f"      No ready-made llama.cpp for {build.name}: compiling it, which takes up to 5 minutes on 2 cores\n"
            f"      and less on more. The result is kept for the next time. What the compiler says goes to\n"
            f"      {self.layout.log}",
            flush=True,
        )
        made = self.layout.tmp / "wheel"
        shutil.rmtree(made, ignore_errors=True)
        # pip's own cache does not tell builds with different settings apart
        command = ["-m", "pip", "wheel", "--verbose", "--no-deps", "--no-cache-dir", "--wheel-dir", str(made)]
        environ = self.runner.environ
        options = " ".join(compiler.accepted(self.layout, WITHOUT_AMX))
        more = {name: f"{environ.get(name, '')} {options}".strip() for name in ("CFLAGS", "CXXFLAGS")}
        more["CMAKE_ARGS"] = f"{environ.get('CMAKE_ARGS', '')} {build.cmake}".strip()
        done, said = self.runner.logged(
            self.layout.python, *command, self.requirement, doing="compiling llama.cpp", environ=more
        )
        if not done:
            print(
                f"      It could not be compiled ({said}); what the compiler said is in {self.layout.log}", flush=True
            )
            return f"it could not be compiled: {said}"
        return self._keep(build, list(made.glob("*.whl")))

    def _keep(self, build: Build, wheels: Sequence[Path]) -> str:
        """Keeps what was compiled, in the first folder where that is possible; why it is in none, or ""."""
        *outside, inside = self.kept(build)
        for folder in (*outside, inside):
            try:
                for wheel in wheels:
                    _copy(wheel, folder)
            except OSError as error:
                problem = f"{folder} cannot be written to ({error.strerror or error})"
                continue
            if folder == inside:
                print(f"      The compiled package is kept in {inside}: no other folder can be written to.", flush=True)
            return ""
        return problem

    def _get(self, build: Build) -> str:
        """Installs a build; how it was got, "" where it cannot be had."""
        command = self.at_hand(build)
        if command and self._installed(command):
            return "ready-made" if build.wheels else "compiled here before"
        if build.wheels:
            self.failed += [f"{build.name}: its message is above"] if command else []
            return ""
        if command:
            print("      The package that was kept cannot be installed; it is compiled again.", flush=True)
        problem = self.compile(build)
        if not problem:
            command = self.at_hand(build)
            problem = "the compiled package is broken" if not command else "its message is above"
            if command and self._installed(command):
                return "compiled here"
        self.failed.append(f"{build.name}: {problem}")
        return ""

    def _there(self) -> bool:
        return any(self.layout.site_packages.glob(_DISTRIBUTION))

    def _installed(self, command: Sequence[str | Path]) -> bool:
        if self._there():  # another build of the same version would count as this one
            self.remove()
        return self.runner.stream(*command, doing="installing llama.cpp")

    def _libraries(self, build: Build) -> bool:
        """Whether what a ready-made package needs besides itself could be installed."""
        try:
            self.packages.install(*build.libraries, what=f"the libraries of {build.name}")
        except Stop as sentence:
            self._fails(build.name, str(sentence))
            return False
        return True

    def _fails(self, what: str, said: str) -> None:
        self._note(what, said)
        self.remove()

    def _note(self, what: str, said: str) -> None:
        print(f"      llama.cpp for {what} does not run here ({said}). All it said is in {self.layout.log}", flush=True)
        self.failed.append(f"{what}: {said}")

    def _after(self) -> str:
        return f", as others do not run here ({'; '.join(self.failed)})" if self.failed else ""


def _copy(wheel: Path, folder: Path) -> None:
    """All of it under its name, or nothing, even where the power fails. Raises: OSError."""
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
