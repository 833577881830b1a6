"""llama.cpp into the environment: ready-made, kept from an earlier time, or compiled here and kept; each is tried.

It is given the ways to try (llama_builds.py), and must not know of cards, questions or what is remembered.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from installer import compiler, processor, requirements, trial
from installer.disk import cache_folder
from installer.errors import Stop
from installer.llama_builds import LLAMA_WHEELS, WITHOUT_AMX, Build
from installer.packages import Packages


class LlamaWheel:
    """Gets the llama-cpp-python that requirements.txt names."""

    def __init__(self, packages: Packages) -> None:
        self.packages = packages
        self.runner = packages.runner
        self.layout = packages.layout
        self.requirement = requirements.llama(packages.layout)
        self.failed: list[str] = []  # what was tried in vain, each with its reason

    def install(self, plan: Sequence[Build], installed: str = "") -> tuple[str, str]:
        """Installs llama.cpp the first way that computes here. Returns its name, and how it was got and tried.

        `installed`: the name of one that is there already, which is only tried. Raises: Stop.
        """
        if installed:
            computes, said = trial.computes(self.runner)
            if computes:
                return installed, f"kept as it was; {said}"
            self._fails(f"the one that was installed for {installed}", said)
        for build in plan:
            how = self._get(build)
            if not how:
                continue
            if build.libraries:
                self.packages.install(*build.libraries, what=f"the libraries of {build.name}")
            computes, said = trial.computes(self.runner)
            if computes:
                return build.name, f"{how}{self._after()}; tried: {said}"
            self._fails(f"{build.name} ({how})", said)
            shutil.rmtree(self.kept(build), ignore_errors=True)
        tried = "; ".join(self.failed) or "no package was found"
        raise Stop(f"llama.cpp could not be installed ({tried}). Mend that and start again.")

    def remove(self) -> None:
        self.packages.uninstall("llama-cpp-python")

    def at_hand(self, build: Build) -> list[str | Path]:
        """The command that installs this llama.cpp without compiling; [] where there is none, ready-made or kept."""
        arguments = ["--no-deps", "--only-binary", "llama-cpp-python", self.requirement]
        if not build.wheels:
            kept = sorted(self.kept(build).glob("*.whl"))
            return self.packages.command("--no-deps", str(kept[0])) if kept else []
        index = f"{LLAMA_WHEELS}/{build.wheels}"
        patience = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "0"}
        there, _ = self.runner.output(*self.packages.command("--dry-run", *arguments, index=index), **patience)
        return self.packages.command(*arguments, index=index) if there else []

    def kept(self, build: Build) -> Path:
        """Where a compiled llama.cpp is kept, outside installer_files, so that starting over need not compile again.

        A build is for the processor it was made on, and for the settings it was made with.
        """
        environ = self.runner.environ
        asked = [environ.get(name, "") for name in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS")]
        settings = [build.cmake, *WITHOUT_AMX, *asked]
        mark = hashlib.sha256(" ".join([processor.mark(), *settings]).encode()).hexdigest()[:12]
        name = re.sub(r"[^\w.]+", "-", f"{self.requirement}-{build.name}-{mark}")
        return cache_folder(environ).parent / "text-generation-webui" / name

    def compile(self, build: Build) -> str:
        """Compiles llama.cpp (by pip: uv's own cache of builds depends on the index) and keeps the package.

        Returns why it could not be compiled, "" where it could.
        """
        if not compiler.works(self.layout):
            return "no C and C++ compiler"
        print(
            f"      No ready-made llama.cpp for {build.name}: compiling it, which takes up to 5 minutes on 2 cores\n"
            f"      and less on more. The result is kept for the next time.",
            flush=True,
        )
        kept, made = self.kept(build), self.layout.tmp / "wheel"
        shutil.rmtree(made, ignore_errors=True)
        # pip's own cache does not tell builds with different settings apart
        command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "--wheel-dir", str(made)]
        environ = self.runner.environ
        options = " ".join(compiler.accepted(self.layout, WITHOUT_AMX))
        more = {name: f"{environ.get(name, '')} {options}".strip() for name in ("CFLAGS", "CXXFLAGS")}
        more["CMAKE_ARGS"] = f"{environ.get('CMAKE_ARGS', '')} {build.cmake}".strip()
        if not self.runner.stream(
            self.layout.python, *command, self.requirement, doing="compiling llama.cpp", environ=more
        ):
            return "it could not be compiled; the reason is above"
        kept.mkdir(parents=True, exist_ok=True)
        for wheel in made.glob("*.whl"):
            part = kept / f"{wheel.name}.part"
            shutil.copyfile(wheel, part)
            part.replace(kept / wheel.name)
        return ""

    def _get(self, build: Build) -> str:
        """Installs a build; how it was got, "" where it cannot be had."""
        how = "ready-made" if build.wheels else "compiled here before"
        if not build.wheels and not self.at_hand(build):
            how, problem = "compiled here", self.compile(build)
            if problem:
                self.failed.append(f"{build.name}: {problem}")
                return ""
        command = self.at_hand(build)
        if not command:
            return ""
        if self.runner.stream(*command, doing="installing llama.cpp"):
            return how
        self.failed.append(f"{build.name}: its message is above")
        return ""

    def _fails(self, what: str, said: str) -> None:
        print(f"      llama.cpp for {what} does not run here ({said}).", flush=True)
        self.failed.append(f"{what}: {said}")
        self.remove()

    def _after(self) -> str:
        return f", as others do not run here ({'; '.join(self.failed)})" if self.failed else ""
