"""A model in a process of its own compared with one in this process: speed, the first token, memory after unloading.
And four streams of a server whose page is being clicked, compared with llama-server's.

The same file, threads and prompts, alternately. Needs llama-server (see bench/llama_server.py) and Chromium.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.figure import ROOT, Figure, Side, in_turn, write
from bench.llama_programs import free_port
from bench.llama_server import SAMPLING, TOKENS, Run, ask_ours, ask_peer, llama_server, together
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model
from loaders.process import load_in_this_process, load_model

ROUNDS, LOADS = 31, 5
UNLOADED = 30.0  # MB
LATER = 3.0  # ms

#: Opens the page and clicks from tab to tab until it is ended.
CLICKING = """
import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[2], args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page()
    page.goto(sys.argv[1])
    page.get_by_role("tab").first.wait_for()
    print("ready", flush=True)
    while True:
        for tab in page.get_by_role("tab").all()[:5]:
            if tab.is_visible():
                tab.click()
            page.wait_for_timeout(500)
"""


def load(function: object, **options: object) -> Model:
    kind = loader_named("llama.cpp")
    given = kind.Options.parse({"threads": default_threads(), "threads_batch": default_threads(), **options})
    return function(kind, model_file(), given, lambda _fraction, _doing: True)  # type: ignore[operator,no-any-return]


def speed_and_first_token() -> list[Figure]:
    here, there = load(load_in_this_process, n_ctx=2048), load(load_model, n_ctx=2048)
    prompt = here.tokenizer.encode("Story number 1: once upon a time in a land far away")

    def ask(model: Model, tokens: int) -> Run:
        time.sleep(0.2)  # the other one's threads still wait actively for their next step
        return ask_ours(model, prompt, tokens)

    with here, there:
        speeds = in_turn(ROUNDS, lambda: ask(there, TOKENS).speed, lambda: ask(here, TOKENS).speed)
        firsts = in_turn(ROUNDS, lambda: ask(there, 1).to_first * 1000, lambda: ask(here, 1).to_first * 1000)
    apart, own = "in a process of its own", "in this process"
    later = [there - here for there, here in zip(*firsts, strict=True)]
    return [
        Figure("", "one stream", "tokens/s", Side(apart, speeds[0]), Side(own, speeds[1]), 0.98),
        Figure("", "the first token", "ms", Side(apart, firsts[0]), Side(own, firsts[1])),
        Figure("", "how much later it comes", "ms", Side(apart, later), Side("allowed", [LATER]), 1.0, at_most=True),
    ]


def memory_after_unloading() -> Figure:
    """How much more memory this program and its child processes use than before the load."""
    own, more = psutil.Process(), []
    load(load_model, n_ctx=8192).close()  # imports
    for _ in range(LOADS):
        before = own.memory_info().rss
        model = load(load_model, n_ctx=8192)
        ask_ours(model, model.tokenizer.encode("Once upon a time"), 32)
        model.close()
        left = sum(each.memory_info().rss for each in own.children(recursive=True) if each.status() != "zombie")
        more.append((own.memory_info().rss - before + left) / 1e6)
    return Figure(
        "", "memory after unloading", "MB", Side("more than before", more), Side("allowed", [UNLOADED]), 1.0, True
    )


@contextmanager
def our_server() -> Iterator[tuple[str, str]]:
    """The addresses of the page and of the API of a server with the model loaded."""
    page, api, threads = free_port(), free_port(), str(default_threads())
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(ROOT / "server.py"), "--user-data-dir", folder, "--model-dir",
            str(model_file().parent), "--model", model_file().name, "--api", "--api-port", str(api), "--listen-port",
            str(page), "--threads", threads, "--threads-batch", threads, "--n-ctx", "8192", "--parallel", "4",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                ours = f"http://127.0.0.1:{api}"
                for _ in range(1200):
                    try:
                        urllib.request.urlopen(f"http://127.0.0.1:{page}").close()
                        ask_server(ours, [1000], 1)
                        break
                    except OSError:
                        time.sleep(0.1)
                yield f"http://127.0.0.1:{page}", ours
            finally:
                process.terminate()


@contextmanager
def clicked(page: str) -> Iterator[None]:
    browser = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with subprocess.Popen([sys.executable, "-c", CLICKING, page, browser], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield
        finally:
            process.terminate()


def ask_server(url: str, prompt: list[int], tokens: int = TOKENS) -> Run:
    body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "ban_eos_token": True, "seed": 1, **SAMPLING}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    run = Run()
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data: {") and b'"finish_reason":null' in line.replace(b" ", b""):
                run.note()
    return run


def four_streams() -> Figure:
    encode = load(load_model, n_ctx=256)
    with encode:
        prompts = [encode.tokenizer.encode(f"Story number {i}: once upon a time in a land far away") for i in range(4)]
    with (
        our_server() as (page, ours),
        llama_server(default_threads(), parallel=4, n_ctx=8192) as peer,
        clicked(page),
    ):
        sides = in_turn(
            ROUNDS // 2,
            lambda: together(4, lambda prompt: ask_server(ours, prompt), prompts)[0],
            lambda: together(4, lambda prompt: ask_peer(peer, prompt), prompts)[0],
        )
    return Figure(
        "", "4 streams over HTTP while our page is being clicked, total", "tokens/s", Side("this program", sides[0]),
        Side("llama-server", sides[1]), 1.0,
    )  # fmt: skip


def main() -> None:
    found = [*speed_and_first_token(), memory_after_unloading(), four_streams()]
    write(
        "processes",
        found,
        f"{default_threads()} threads, simple-1's samplers. The page is open in Chromium on the same cores; a tab is "
        "clicked every half second, while either side streams.",
    )


if __name__ == "__main__":
    main()
