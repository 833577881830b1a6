"""llama.cpp into the environment: ready-made, kept from an earlier time, or compiled here and kept; then tried.

It is given the ways to try (llama_builds.py), and must not know of cards, questions or what is remembered.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from installer import compiler, environment, requirements
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

    def install(self, plan: Sequence[Build]) -> str:
        """Installs llama.cpp the first way that works here and returns its name."""
        problem = "no package was found"
        for build in plan:
            if not build.wheels and not self.at_hand(build):
                self.compile(build)
            command = self.at_hand(build)
            if not command:
                continue
            if not self.runner.stream(*command, doing="installing llama.cpp"):
                problem = "its message is above"
                continue
            if build.libraries:
                self.packages.install(*build.libraries, what=f"the libraries of {build.name}")
            runs, problem = environment.loads(self.runner, "llama_cpp")
            if runs:
                print(f"      llama.cpp is there, for {build.name}.", flush=True)
                return build.name
            print(f"      llama.cpp for {build.name} does not run here ({problem}).", flush=True)
            self.remove()
            shutil.rmtree(self.kept(build), ignore_errors=True)
        raise Stop(f"llama.cpp could not be installed ({problem}). Mend that and start again.")

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
        """Where a compiled llama.cpp is kept, outside installer_files, so that starting over need not compile again."""
        name = re.sub(r"[^\w.]+", "-", f"{self.requirement}-{build.name}-without-AMX")
        return cache_folder(self.runner.environ).parent / "text-generation-webui" / name

    def compile(self, build: Build) -> None:
        """Compiles llama.cpp (by pip: uv's own cache of builds depends on the index) and keeps the package."""
        if not compiler.works(self.layout):
            raise Stop(f"llama.cpp must be compiled here, and that needs a C and a C++ compiler. {compiler.ADVICE}")
        print(
            f"      No ready-made llama.cpp for {build.name}: compiling it, which takes up to 5 minutes on 2 cores\n"
            f"      and less on more. The result is kept for the next time.",
            flush=True,
        )
        made = self.layout.tmp / "wheel"
        # pip's own cache does not tell builds with different settings apart
        command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "--wheel-dir", str(made)]
        environ = self.runner.environ
        environ["CMAKE_ARGS"] = f"{environ.get('CMAKE_ARGS', '')} {build.cmake}".strip()
        options = " ".join(compiler.accepted(self.layout, WITHOUT_AMX))
        for variable in ("CFLAGS", "CXXFLAGS"):
            environ[variable] = f"{environ.get(variable, '')} {options}".strip()
        command.append(self.requirement)
        if not self.runner.stream(self.layout.python, *command, doing="compiling llama.cpp"):
            raise Stop("llama.cpp could not be compiled; the reason is above. Mend it and start again.")
        self.kept(build).mkdir(parents=True, exist_ok=True)
        for wheel in made.glob("*.whl"):
            part = self.kept(build) / f"{wheel.name}.part"
            shutil.copyfile(wheel, part)
            part.replace(self.kept(build) / wheel.name)
