"""Installs what the web UI needs into installer_files/, once, and then becomes server.py.

The start scripts are thin shells over this file: they find a Python, this does the rest. So it uses the standard
library only, runs on Python 3.10 to 3.13, and imports nothing of the project. What it knows about the last run lies
in installer_files/state.json; "complete" is written there last, so that an interrupted installation is noticed.

Environment variables: GPU_CHOICE (A, B, C, D or N) and USE_CUDA118 answer the questions; LAUNCH_AFTER_INSTALL=no stops
after installing. Everything on the command line goes on to server.py unchanged.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if sys.platform != "win32":
    import fcntl

RECIPE = 1  # raise it when this file installs something differently: every installation is then brought up to date
UV = "uv==0.13.9"
GIB = 2**30
NEEDED_NEW, NEEDED_UPDATE = 2 * GIB, GIB  # measured: 1 GiB at the peak, compiling and caches included; CUDA adds 1
LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
GPUS = {"A": "NVIDIA", "B": "AMD", "C": "Apple M series", "D": "Intel Arc", "N": "none (use the processor only)"}
COMPILER_ADVICE = (
    "Install one (Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; "
    "Arch: sudo pacman -S base-devel; macOS: xcode-select --install) and start again."
)


class Stop(Exception):
    """Ends the installation with a sentence for the user: what happened, and what to do. Never a traceback."""


class Layout:
    """Where everything lies, from the project's folder alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requirements = root / "requirements.txt"
        self.files = root / "installer_files"
        self.env = self.files / "env"
        self.python = self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.tmp = self.files / "tmp"
        self.state = self.files / "state.json"

    @property
    def site_packages(self) -> Path:
        return next(self.env.glob("lib/python3*/site-packages"), self.env / "Lib" / "site-packages")


# --- what is remembered ---------------------------------------------------------------------------------------------


def read_state(layout: Layout) -> dict[str, Any]:
    """The last run's state.json; an unreadable one counts as none, so that the installation is repaired."""
    try:
        state = json.loads(layout.state.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(layout: Layout, state: Mapping[str, Any]) -> None:
    part = layout.state.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(state, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(layout.state)


def fingerprint(layout: Layout) -> str:
    """What an installation was made from; where it differs, the environment is brought up to date."""
    try:
        requirements = layout.requirements.read_bytes()
    except OSError as error:
        raise Stop(f"{layout.requirements} cannot be read; get the complete project and start again.") from error
    return hashlib.sha256(f"{RECIPE}\n".encode() + requirements).hexdigest()


def installed_names(layout: Layout) -> list[str]:
    """The distributions in the environment, without versions: an extension may have changed those."""
    return sorted({path.name.split("-")[0].lower() for path in layout.site_packages.glob("*.dist-info")})


def python_version(python: Path) -> str:
    """For example "3.12", or an empty string for a Python that does not run (any more)."""
    if python.parent.parent == Path(sys.prefix):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def work_to_do(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, bool]:
    """(why something must be installed, whether the environment must be made anew); ("", False) when all is there."""
    if not layout.env.exists():
        return "This is the first start: everything is installed now, once.", True
    if not state.get("complete"):
        return "The last installation did not finish; it is made anew (downloads are kept).", True
    if state.get("root") != str(layout.root):
        return "The folder was moved since the installation; the environment is made anew.", True
    version = python_version(layout.python)
    if not version or version != state.get("python"):
        return "The environment's Python no longer runs; the environment is made anew.", True
    missing = sorted(set(state.get("packages", [])) - set(installed_names(layout)))
    if missing:
        return f"Packages are missing from the environment ({', '.join(missing)}); it is made anew.", True
    if any(state.get(key) != value for key, value in answer.items()):
        return "Another graphics card was chosen than last time; llama.cpp is installed for it.", False
    if state.get("fingerprint") != fingerprint(layout):
        return "The requirements changed since the last start; the environment is brought up to date.", False
    return "", False


# --- what can be known before anything is done ------------------------------------------------------------------------


def path_problem(root: Path) -> str:
    """Why an environment cannot work under this path, or "". Spaces, accents, quotes, $ and ; were tried and work."""
    text = str(root)
    if os.pathsep in text:
        return f"contains {os.pathsep!r}, which separates paths: Python environments cannot work with it"
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return "contains a tab, a line break or another control character"
    if any("\udc80" <= char <= "\udcff" for char in text):
        return "contains bytes that are not UTF-8 text"
    return ""


def disk_problem(folders: Sequence[Path], needed: int) -> str:
    """Which of the folders' disks is too full, or ""."""
    for folder in folders:
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        free = shutil.disk_usage(there).free
        if free < needed:
            return (
                f"The disk of {there} has {free / GIB:.1f} GiB free, and the installation needs {needed / GIB:.0f} GiB."
            )
    return ""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where uv keeps downloads and what it compiled."""
    home = Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return Path(environ.get("UV_CACHE_DIR") or home / "uv")


def can_write(folder: Path) -> bool:
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def check_machine(layout: Layout, new: bool) -> None:
    """Everything that can be found missing without changing anything; raises Stop."""
    problem = path_problem(layout.root)
    if problem:
        path = str(layout.root).encode("utf-8", "replace").decode()
        raise Stop(f"This folder's path {problem}. Move it to another path and start again: {path!r}")
    if not can_write(layout.files):
        raise Stop(f"This folder cannot be written to: {layout.root}. Change its owner or permissions and start again.")
    problem = disk_problem([layout.files, cache_folder(os.environ)], NEEDED_NEW if new else NEEDED_UPDATE)
    if problem:
        raise Stop(f"{problem} Free some space, or move the folder to another disk, and start again.")


def compiler_works(layout: Layout) -> bool:
    """Whether a C and a C++ compiler are there with their headers: a small program of each is compiled."""
    layout.tmp.mkdir(parents=True, exist_ok=True)
    for variable, names, language, header in (
        ("CC", ("cc", "gcc", "clang"), "c", "stdlib.h"),
        ("CXX", ("c++", "g++", "clang++"), "c++", "cstdlib"),
    ):
        compiler = os.environ.get(variable) or next(filter(shutil.which, names), "")
        command = [*compiler.split(), "-x", language, "-", "-o", str(layout.tmp / "compiler-test")]
        source = f"#include <{header}>\nint main(void) {{ return 0; }}\n"
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
    return True


# --- the graphics card ------------------------------------------------------------------------------------------------


def is_yes(text: str) -> bool:
    return text.strip().lower() in {"y", "yes", "true", "1", "t", "on"}


def is_no(text: str) -> bool:
    return text.strip().lower() in {"n", "no", "false", "0", "f", "off"}


def parse_gpu(answer: str) -> str:
    """One of the letters of GPUS, or "" for any other answer."""
    letter = answer.strip().upper()
    return letter if letter in GPUS else ""


def pci_cards(drm: Path = Path("/sys/class/drm")) -> list[tuple[str, str]]:
    """(vendor, device) of each graphics card that Linux knows, for example ("0x10de", "0x2684")."""
    cards = []
    for vendor in sorted(drm.glob("card*/device/vendor")):
        with contextlib.suppress(OSError):
            cards.append((vendor.read_text().strip(), vendor.with_name("device").read_text().strip()))
    return cards


def nvidia_card() -> str:
    """The name of the first card that NVIDIA's driver lists, or ""."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed.stdout, re.MULTILINE)
    return found[1] if found and listed.returncode == 0 else ""


def detect_gpu(system: str, machine: str, nvidia: str, cards: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(the letter that fits this machine, the reason in words)."""
    if system == "Darwin":
        return (
            ("C", "this is a Mac with Apple's processor") if machine == "arm64" else ("N", "this is a Mac with Intel")
        )
    if nvidia:
        return "A", f"NVIDIA's driver lists {nvidia}"
    vendors = [vendor for vendor, _ in cards]
    if "0x10de" in vendors:
        return (
            "N",
            "there is an NVIDIA card but its driver does not answer; install the driver, then start with GPU_CHOICE=A",
        )
    if "0x1002" in vendors:
        return "B", "Linux lists an AMD graphics card"
    if any(vendor == "0x8086" and device.lower().startswith(("0x56", "0xe2")) for vendor, device in cards):
        return "D", "Linux lists an Intel Arc card"
    return "N", "no graphics card was found that models can run on"


def choose_gpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to the questions: from the environment, else from last time, else asked, else detected."""
    terminal = sys.stdin is not None and sys.stdin.isatty()
    given = os.environ.get("GPU_CHOICE", "")
    gpu = parse_gpu(given)
    if given and not gpu:
        raise Stop(f"GPU_CHOICE is {given!r}, but it must be one of {', '.join(GPUS)}. Correct it and start again.")
    if not gpu and (gpu := parse_gpu(str(state.get("gpu", "")))):
        print(f"      As last time: {gpu}, {GPUS[gpu]} (GPU_CHOICE overrides it).")
    if not gpu:
        gpu, reason = detect_gpu(platform.system(), platform.machine(), nvidia_card(), pci_cards())
        if terminal:
            print("\nWhat is your GPU?\n" + "\n".join(f"  {letter}) {name}" for letter, name in GPUS.items()))
            print(f"Recommended: {gpu}, because {reason}.")
            gpu = ask(f"Answer [{gpu}]: ", parse_gpu, gpu)
        else:
            print(f"      Chosen by itself: {gpu}, {GPUS[gpu]}, because {reason} (GPU_CHOICE overrides it).")
    cuda118 = gpu == "A" and bool(state.get("cuda118", False))
    if gpu == "A" and "USE_CUDA118" in os.environ:
        cuda118 = is_yes(os.environ["USE_CUDA118"])
    elif gpu == "A" and terminal and "cuda118" not in state:
        question = "Use CUDA 11.8 instead of 12.1? Only for very old cards (Kepler or older). [y/N]: "
        cuda118 = ask(question, lambda text: "y" if is_yes(text) else "n" if is_no(text) else "", "n") == "y"
    return {"gpu": gpu, "cuda118": cuda118}


def ask(question: str, parse: Any, default: str) -> str:
    """Repeats the question until parse() accepts the answer; Enter alone, or no input any more, takes the default."""
    while True:
        try:
            answer = input(question)
        except EOFError:
            return default
        if not answer.strip():
            return default
        if parsed := str(parse(answer)):
            return parsed
        print("Please answer with one of the letters shown.")


# --- llama.cpp --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """One way to get llama.cpp: ready-made (`wheels`, a folder of LLAMA_WHEELS) or compiled with `cmake` settings."""

    name: str
    wheels: str = ""
    cmake: str = ""
    libraries: tuple[str, ...] = ()  # CUDA's runtime, which the ready-made packages need but do not bring


CUDA_WHEELS = {
    "cu118": Build("CUDA 11.8", "cu118", "", ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia-cublas-cu11==11.11.3.6")),
    "cu121": Build("CUDA 12.1", "cu121", "", ("nvidia-cuda-runtime-cu12==12.1.105", "nvidia-cublas-cu12==12.1.3.1")),
    "cu124": Build("CUDA 12.4", "cu124", "", ("nvidia-cuda-runtime-cu12==12.4.127", "nvidia-cublas-cu12==12.4.5.8")),
}


def llama_plan(gpu: str, cuda118: bool, tools: Sequence[str]) -> list[Build]:
    """The ways to get llama.cpp for this card, best first; `tools` are the GPU compilers that the machine has."""
    cuda = [CUDA_WHEELS[name] for name in (("cu118",) if cuda118 else ("cu121", "cu124")) if gpu == "A"]
    if gpu == "A" and "nvcc" in tools:
        return [*cuda, Build("CUDA", cmake="-DGGML_CUDA=on")]
    if gpu == "B" and "hipcc" in tools:
        return [Build("ROCm", cmake="-DGGML_HIP=on")]
    if gpu in "BD" and "glslc" in tools:
        return [Build("Vulkan", cmake="-DGGML_VULKAN=on")]
    if gpu == "C":
        return [Build("Metal", "metal"), Build("Metal", cmake="-DGGML_METAL=on")]
    return [*cuda, Build("the processor", "cpu"), Build("the processor")]


# --- installing -------------------------------------------------------------------------------------------------------


def uv_settings(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `pip config list` says of index, proxy and certificates in uv's words: uv does not read pip's settings."""
    options: dict[str, str] = {}
    for line in pip_config.splitlines():
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            options.setdefault(name.rpartition(".")[2], " ".join(str(ast.literal_eval(value)).split()))
    settings = {
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": options.get("extra-index-url", ""),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in options else "",  # what pip does
        "UV_FIND_LINKS": options.get("find-links", "").replace(" ", ","),
        "UV_INSECURE_HOST": options.get("trusted-host", ""),
        "SSL_CERT_FILE": options.get("cert", ""),
        "HTTPS_PROXY": options.get("proxy", ""),
        "HTTP_PROXY": options.get("proxy", ""),
    }
    return {name: value for name, value in settings.items() if value and name not in environ}


def clean_environ(layout: Layout) -> dict[str, str]:
    """The environment less what mixes other Pythons' packages into ours, plus CUDA's libraries if we have them."""
    foreign = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    environ = {name: value for name, value in os.environ.items() if name not in foreign} | {"PYTHONNOUSERSITE": "1"}
    libraries = [str(path) for path in sorted(layout.site_packages.glob("nvidia/*/lib"))]
    if libraries and os.name != "nt":
        environ["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [environ.get("LD_LIBRARY_PATH")])])
    return environ


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


class Installer:
    """Fills the environment: with uv, and where uv does not reach the package index, with pip."""

    def __init__(self, layout: Layout, lock: Sequence[int] = ()) -> None:
        self.layout = layout
        self.lock = lock  # inherited by what is started, so that a child which outlives us still holds it
        self.uv = True
        # Copies, not hard links: an edited or broken file must not reach uv's cache, or starting over repairs nothing.
        self.environ = clean_environ(layout) | {"UV_LINK_MODE": "copy"}
        self.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(layout.tmp))
        if not can_write(cache_folder(os.environ)):
            self.environ["UV_CACHE_DIR"] = str(layout.files / "cache")
        layout.tmp.mkdir(parents=True, exist_ok=True)
        found = re.search(r"^llama-cpp-python==[^\s;]+", layout.requirements.read_text("utf-8"), re.MULTILINE)
        if not found:
            raise Stop("requirements.txt does not name llama-cpp-python; get the complete project and start again.")
        self.llama = found[0]

    def output(self, *command: str | Path, **more: str) -> tuple[bool, str]:
        """Runs a command unseen, with `more` environment variables: (whether it succeeded, what it printed)."""
        ran = subprocess.run(
            command, env=self.environ | more, pass_fds=self.lock, cwd=self.layout.tmp, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        return ran.returncode == 0, ran.stdout

    def stream(self, *command: str | Path, doing: str) -> bool:
        """Runs a command in front of the user, with a sign of life every half minute."""
        started = time.monotonic()
        with subprocess.Popen(
            command, env=self.environ, pass_fds=self.lock, cwd=self.layout.tmp, stdin=subprocess.DEVNULL
        ) as process:
            while True:
                try:
                    return process.wait(timeout=30) == 0
                except subprocess.TimeoutExpired:
                    print(f"      still {doing}, {time.monotonic() - started:.0f} s so far ...", flush=True)

    def command(self, *arguments: str, index: str = "") -> list[str | Path]:
        """The command that installs `arguments`, from another index than the configured one if `index` is given."""
        python = self.layout.python
        if self.uv:
            tool = ["-m", "uv", "pip", "install", "--python", str(python)]
            return [python, *tool, *(["--default-index", index] if index else []), *arguments]
        tool = ["-m", "pip", "install", "--quiet", "--retries", "1"]
        return [python, *tool, *(["--index-url", index] if index else []), *arguments]

    def make_environment(self) -> None:
        """A new environment with pip and uv in it. Getting uv is also the first look at the network."""
        shutil.rmtree(self.layout.env, ignore_errors=True)
        done, said = self.output(sys.executable, "-I", "-m", "venv", self.layout.env)
        if not done:
            self.give_up(f"Python's venv could not make {self.layout.env} ({last_line(said)}).")
        done, said = self.output(self.layout.python, "-m", "pip", "install", "--quiet", "--retries", "1", UV)
        if not done:
            self.give_up(
                f"The package index cannot be reached (pip: {last_line(said)}). Check the network connection, and your "
                "proxy or mirror if you use one (HTTPS_PROXY, pip config), and start again."
            )

    def give_up(self, sentence: str) -> NoReturn:
        """Takes back the half-made environment and says why."""
        for made in (self.layout.env, self.layout.tmp):
            shutil.rmtree(made, ignore_errors=True)
        raise Stop(f"{sentence} Nothing was installed.")

    def read_settings(self) -> None:
        self.environ |= uv_settings(self.output(self.layout.python, "-m", "pip", "config", "list")[1], self.environ)

    def install(self, *arguments: str, what: str) -> None:
        """Installs packages, or raises Stop; when uv fails, falls back to pip for good."""
        if self.stream(*self.command(*arguments), doing=f"installing {what}"):
            return
        if self.uv:
            print("      uv could not do it (see above); trying with pip ...", flush=True)
            self.uv = False
            self.install(*arguments, what=what)
            return
        full = disk_problem([self.layout.files, cache_folder(os.environ)], GIB // 4)
        hint = full or "Its message is above; check the network connection and the space on the disk."
        raise Stop(f"pip could not install {what}. {hint} Then start again.")

    def at_hand(self, build: Build) -> list[str | Path]:
        """The command that installs this llama.cpp without compiling; [] where there is none, ready-made or kept."""
        arguments = ["--no-deps", "--only-binary", "llama-cpp-python", self.llama]
        if not build.wheels:
            kept = sorted(self.kept(build).glob("*.whl"))
            return self.command("--no-deps", str(kept[0])) if kept else []
        index = f"{LLAMA_WHEELS}/{build.wheels}"
        patience = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "0"}
        there, _ = self.output(*self.command("--dry-run", *arguments, index=index), **patience)
        return self.command(*arguments, index=index) if there else []

    def kept(self, build: Build) -> Path:
        """Where a compiled llama.cpp is kept, outside installer_files, so that starting over need not compile again."""
        name = re.sub(r"[^\w.]+", "-", f"{self.llama}-{build.name}")
        return cache_folder(self.environ).parent / "text-generation-webui" / name

    def compile(self, build: Build) -> None:
        """Compiles llama.cpp (by pip: uv's own cache of builds depends on the index) and keeps the package."""
        if not compiler_works(self.layout):
            raise Stop(f"llama.cpp must be compiled here, and that needs a C and a C++ compiler. {COMPILER_ADVICE}")
        print(
            f"      No ready-made llama.cpp for {build.name}: compiling it, which takes 5 minutes on 2 cores and less\n"
            "      on more. The result is kept for the next time.",
            flush=True,
        )
        made = self.layout.tmp / "wheel"
        command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), self.llama]
        if build.cmake:  # pip's cache does not tell builds with different settings apart
            command.append("--no-cache-dir")
            self.environ["CMAKE_ARGS"] = f"{self.environ.get('CMAKE_ARGS', '')} {build.cmake}".strip()
        if not self.stream(self.layout.python, *command, doing="compiling llama.cpp"):
            raise Stop("llama.cpp could not be compiled; the reason is above. Mend it and start again.")
        self.kept(build).mkdir(parents=True, exist_ok=True)
        for wheel in made.glob("*.whl"):
            part = self.kept(build) / f"{wheel.name}.part"
            shutil.copyfile(wheel, part)
            part.replace(self.kept(build) / wheel.name)

    def loads(self, modules: str) -> tuple[bool, str]:
        """Whether the modules can be imported as server.py would: (yes or no, the last thing that was said)."""
        done, said = self.output(self.layout.python, "-c", f"import {modules}", **clean_environ(self.layout))
        return done, last_line(said)

    def install_llama(self, plan: Sequence[Build]) -> str:
        """Installs llama.cpp the first way that works here and returns its name."""
        problem = "no package was found"
        for build in plan:
            if not build.wheels and not self.at_hand(build):
                self.compile(build)
            command = self.at_hand(build)
            if not command:
                continue
            if not self.stream(*command, doing="installing llama.cpp"):
                problem = "its message is above"
                continue
            if build.libraries:
                self.install(*build.libraries, what=f"the libraries of {build.name}")
            runs, problem = self.loads("llama_cpp")
            if runs:
                print(f"      llama.cpp is there, for {build.name}.", flush=True)
                return build.name
            print(f"      llama.cpp for {build.name} does not run here ({problem}).", flush=True)
            self.output(self.layout.python, "-m", "pip", "uninstall", "--yes", "llama-cpp-python")
            shutil.rmtree(self.kept(build), ignore_errors=True)
        raise Stop(f"llama.cpp could not be installed ({problem}). Mend that and start again.")


@contextlib.contextmanager
def only_one(layout: Layout) -> Iterator[tuple[int, ...]]:
    """Lets one installation at a time into the folder; a second one waits."""
    if sys.platform != "win32":
        with (layout.files / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another installation is at work in this folder; waiting for it ...", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield (file.fileno(),)
    else:
        yield ()


def install(layout: Layout, lock: Sequence[int], new: bool) -> None:
    """Steps 2 to 5. state.json says "complete" only after the last."""
    started = time.monotonic()
    print("[2/5] Choosing what fits your graphics card ...", flush=True)
    old = read_state(layout)
    answer = choose_gpu(old)
    plan = llama_plan(answer["gpu"], answer["cuda118"], list(filter(shutil.which, ("nvcc", "hipcc", "glslc"))))
    if answer["gpu"] in "BD" and plan[0].wheels == "cpu":
        print("      No GPU compiler (ROCm's hipcc, or Vulkan's glslc) is installed: llama.cpp will use the processor.")
    write_state(layout, {**old, **answer, "complete": False})
    installer = Installer(layout, lock)
    print(f"[3/5] {'Making' if new else 'Checking'} the environment in installer_files/env ...", flush=True)
    if new:
        installer.make_environment()
    installer.read_settings()
    if not new and any(old.get(key) != value for key, value in answer.items()):
        installer.output(layout.python, "-m", "pip", "uninstall", "--yes", "llama-cpp-python")
    if new and not compiler_works(layout) and not any(map(installer.at_hand, plan)):
        installer.give_up(
            "llama.cpp must be compiled on this machine, as no ready-made package can be had, and that needs a C "
            f"and a C++ compiler. {COMPILER_ADVICE}"
        )
    print("[4/5] Installing packages ...", flush=True)
    lines = layout.requirements.read_text("utf-8").splitlines(keepends=True)
    others = layout.tmp / "requirements.txt"
    others.write_text("".join(line for line in lines if not line.startswith("llama-cpp-python")), "utf-8")
    installer.install("-r", str(others), what="the packages of requirements.txt")
    print("[5/5] Installing llama.cpp, and trying everything ...", flush=True)
    llama = installer.install_llama(plan)
    runs, said = installer.loads("gradio, llama_cpp")
    if not runs:
        raise Stop(f"What was installed does not run ({said}). Delete the folder installer_files and start again.")
    shutil.rmtree(layout.tmp, ignore_errors=True)
    state = {**answer, "llama": llama, "root": str(layout.root), "python": python_version(layout.python)}
    state |= {"fingerprint": fingerprint(layout), "packages": installed_names(layout), "complete": True}
    write_state(layout, state)
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def install_requirements(path: str) -> None:
    """Adds the packages of a requirements file to the finished environment (run_tests.sh, extensions)."""
    layout = Layout(Path(__file__).resolve().parent)
    with only_one(layout) as lock:
        installer = Installer(layout, lock)
        installer.read_settings()
        installer.install("-r", str(Path(path).resolve()), what=f"the packages of {path}")


def launch(layout: Layout, arguments: Sequence[str]) -> int:
    """Becomes server.py, so that signals and the exit code are its own."""
    server = layout.root / "server.py"
    if not server.exists():
        raise Stop(f"{server} is missing; get the complete project (git clone) and start again.")
    command = [str(layout.python), str(server), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(layout.python, command, clean_environ(layout))
    return subprocess.call(command, env=clean_environ(layout))


def prepare(layout: Layout, arguments: Sequence[str]) -> None:
    """Installs what is not there yet; nothing but a few looks at the disk when all is there."""
    chosen = os.environ.get("GPU_CHOICE", "")
    answer = {"gpu": parse_gpu(chosen)} if chosen else {}
    reason, new = work_to_do(layout, read_state(layout), answer)
    if not reason:
        return
    if Path(sys.prefix) == layout.env:  # the environment cannot replace itself: go on with the Python beneath it
        base = getattr(sys, "_base_executable", sys.executable)
        os.execv(base, [base, str(layout.root / "one_click.py"), *arguments])
    print(f"{reason}\n[1/5] Checking this machine ...", flush=True)
    check_machine(layout, new)
    layout.files.mkdir(exist_ok=True)
    with only_one(layout) as lock:
        reason, new = work_to_do(layout, read_state(layout), answer)  # again: another start may have done it by now
        if reason:
            install(layout, lock, new)


def main(arguments: Sequence[str]) -> int:
    layout = Layout(Path(__file__).resolve().parent)
    os.chdir(layout.root)
    try:
        prepare(layout, arguments)
        if not is_no(os.environ.get("LAUNCH_AFTER_INSTALL", "")):
            return launch(layout, arguments)
        print("Everything is installed; not starting, because LAUNCH_AFTER_INSTALL says no.")
        return 0
    except Stop as sentence:
        print(f"\n{sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
