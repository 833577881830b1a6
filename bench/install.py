"""A fresh clone to its first reply, compared with the same packages installed by uv and the demo model; a later start
compared with server.py alone. On the CPU stack, with a warm package cache.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.figure import ROOT, Figure, Side, in_turn, write
from installer.environment import requirements
from installer.environment.environment import UV
from installer.layout import Layout
from modules.config.paths import Paths
from modules.library.demo_model import DemoModel

#: As in a user's shell: byte code compiled at an import is kept.
_ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_ENVIRON |= {"GPU_CHOICE": "N", "PYTHONUNBUFFERED": "1"}
_BODY = json.dumps({"prompt": "The capital of France is", "max_tokens": 1}).encode()


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until_reply(command: list[str], folder: Path) -> float:
    """Seconds from the command to the first reply of its API; the page answers before that."""
    page, api = _port(), _port()
    started = time.perf_counter()
    arguments = ["--api", "--api-port", str(api), "--listen-port", str(page), "--threads", "1"]
    with subprocess.Popen(
        [*command, *arguments], cwd=folder, env=_ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as server:
        for address, body in ((f"http://127.0.0.1:{page}/", None), (f"http://127.0.0.1:{api}/v1/completions", _BODY)):
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            while True:
                if server.poll() is not None:
                    raise SystemExit(f"{command[0]} ended with {server.returncode}")
                try:
                    urllib.request.urlopen(request, timeout=60).close()
                    break
                except (urllib.error.URLError, ConnectionError):  # not started yet, or the model is not loaded
                    time.sleep(0.05)
        seconds = time.perf_counter() - started
        server.terminate()
    return seconds


def fresh_clone() -> float:
    """Clone, install, first reply."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        started = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        cloned = time.perf_counter() - started
        return cloned + until_reply(["./start_linux.sh"], clone)


def by_uv() -> float:
    """The same packages installed into an environment, and the demo model; nothing is tested or started."""
    layout = Layout(ROOT)
    kept = Path("~/.cache/text-generation-webui").expanduser()
    wheel = next(kept.glob("*-the-processor-*/*.whl"))
    with tempfile.TemporaryDirectory() as folder:
        env, others = Path(folder) / "env", Path(folder) / "requirements.txt"
        others.write_text(requirements.other_requirements(layout))
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True, env=_ENVIRON)
        python = str(env / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", UV], check=True, env=_ENVIRON)
        copy = {**_ENVIRON, "UV_LINK_MODE": "copy"}
        install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, "-r", str(others)], check=True, env=copy)
        subprocess.run([*install, "--no-deps", str(wheel)], check=True, env=copy)
        DemoModel(Paths.under(Path(folder))).fetch(lambda _fraction, _doing: True)
        return time.perf_counter() - started


def main() -> None:
    ours, peer = in_turn(3, fresh_clone, by_uv)
    clone = Path(tempfile.mkdtemp()) / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    until_reply(["./start_linux.sh"], clone)
    python = str(Layout(clone).python)
    again, server = in_turn(
        5, lambda: until_reply(["./start_linux.sh"], clone), lambda: until_reply([python, "server.py"], clone)
    )
    shutil.rmtree(clone.parent, ignore_errors=True)
    write(
        "install",
        [
            Figure(
                "install", "fresh clone to the first reply, warm caches", "s", Side("start_linux.sh", ours),
                Side("venv, uv and the demo model", peer), 1.5, at_most=True,
            ),
            Figure(
                "install", "a later start to the first reply", "s", Side("start_linux.sh", again),
                Side("python server.py", server), 1.2, at_most=True,
            ),
        ],
        "The first includes what the peer leaves out: trying llama.cpp and, beside it, the first import of everything, "
        "which also compiles it; starting the server, and the reply.",
    )  # fmt: skip
