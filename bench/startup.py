"""Time from process start to the page answering with the demo model loaded, compared with `python -c "import
gradio"`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from bench.figure import ROOT, Figure, Side, in_turn, write


def import_gradio() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True, cwd=ROOT)
    return time.perf_counter() - started


def start_server() -> float:
    """Seconds until the page answers 200 and the program has reported that the model is loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "server.py", "--listen-port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:
        assert server.stdout
        said = ""
        for line in server.stdout:
            said += line
            if "Loaded " in said and "http://127.0.0.1" in said:
                break
        else:
            raise SystemExit(f"the server ended:\n{said}")
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                time.sleep(0.01)
        seconds = time.perf_counter() - started
        server.terminate()
    return seconds


def main() -> None:
    probe = (
        "import sys, server; from modules.app import App; import modules.ui; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    heavy = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    a, b = in_turn(7, start_server, import_gradio)
    write(
        "startup",
        [
            Figure(
                "startup",
                "process start to HTTP 200 with the demo model loaded",
                "s",
                Side("server.py", a),
                Side('python -c "import gradio"', b),
                2.0,
                at_most=True,
            )
        ],
        f"Which of torch and transformers were imported: {heavy.stdout.strip()}.",
    )
