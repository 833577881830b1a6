"""Kills the model's process 200 times while four streams run, two in chats and two over the API.

Counted: requests of page and API that were not answered meanwhile, unreadable chat files, replies that lost text, and
the server's memory before and after. `python -m bench.kills 20` does 20 and writes nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from bench.figure import Figure, Side, write
from bench.llama_programs import free_port
from bench.one_stream import model_file
from errors import UserError
from loaders.params import SamplingParams
from loaders.process.proxy import ProcessModel
from modules.api import launch
from modules.app import App
from modules.chat.reply_settings import ReplySettings
from modules.library.recovery import Recovery

KILLS, CHATS = 200, 30
LONGEST = 1.5  # seconds from the start of the streams to the kill
PARAMS = SamplingParams(ban_eos_token=True, max_new_tokens=200)


class Streams:
    """Four streams that restart whenever they end, and what went wrong with them."""

    def __init__(self, app: App, port: int) -> None:
        self.app, self.port = app, port
        self.chats: list[str] = []
        self.over = threading.Event()
        self.cut = self.whole = 0
        self.wrong: list[str] = []
        makers = (self.chat, self.chat, self.api, self.api)
        self.threads = [threading.Thread(target=self.go_on, args=(each,), daemon=True) for each in makers]
        for thread in self.threads:
            thread.start()

    def go_on(self, write_one: object) -> None:
        assert callable(write_one)
        while not self.over.is_set():
            try:
                write_one()
                self.whole += 1
            except UserError:
                self.cut += 1
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")

    def chat(self) -> None:
        """A reply in a conversation: what was shown must be in the file, even if it ends in the middle.

        Once there are CHATS of them, the oldest goes: what the server knows of each would count as growth.
        """
        chats = self.app.chats
        id, shown = chats.new().id, ""
        self.chats.append(id)
        if len(self.chats) > CHATS:
            chats.delete(self.chats.pop(0))
        reply = chats.send(id, "Tell me a story.", ReplySettings(params=PARAMS))
        try:
            for update in reply:
                shown = update.text
        finally:
            kept = chats.open(id).path()[-1].text if shown else ""
            if not kept.startswith(shown.rstrip()):
                self.wrong.append(f"shown {shown[-40:]!r}, kept {kept[-40:]!r}")

    def api(self) -> None:
        """A streamed reply: it must end with [DONE] or with an error object."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            body = {"prompt": "Once", "max_tokens": 200, "stream": True, "ban_eos_token": True}
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            lines = [line for line in connection.getresponse() if line.strip()]
        if b'"error"' in b"".join(lines):
            raise UserError
        if b"[DONE]" not in lines[-1]:
            self.wrong.append(f"the API's last line was {lines[-1]!r}")


def answered(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200


def readable(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        return False


def measure(kills: int) -> tuple[list[Figure], str]:
    """The figures, and a note."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        given = ["--nowebui", "--api-port", str(port), "--user-data-dir", folder]
        given += ["--model-dir", str(model_file().parent)]
        app = App.build(Path(__file__).resolve().parents[1], [*given, "--n-ctx", "4096"])
        app.models._recovery = Recovery(rest=0)
        served = launch(app)
        app.models.load(model_file().name)
        streams, moments, silent, kept_waiting = Streams(app, port), random.Random(1), 0, list[float]()
        own = psutil.Process()
        memory: list[int] = []
        for number in range(kills):
            model = app.models.current()
            assert isinstance(model, ProcessModel)
            time.sleep(moments.uniform(0, LONGEST))
            os.kill(model.pid, signal.SIGKILL)
            killed = time.monotonic()
            while app.models.loaded in (model, None):
                silent += not answered(port)
                time.sleep(0.02)
            kept_waiting.append(time.monotonic() - killed)
            if (number + 1) % max(kills // 10, 1) == 0:  # the first: imports and caches of the first replies are loaded
                memory.append(own.memory_info().rss)
        streams.over.set()
        for thread in streams.threads:
            thread.join(120)
        whole, cut = streams.whole, streams.cut
        streams.api()  # the next reply must work without help
        streams.chat()
        memory.append(own.memory_info().rss)
        files = list((Path(folder) / "logs").rglob("*.json"))
        damaged = sum(not readable(file) for file in files)
        served.close()
        app.close()
    back = sorted(kept_waiting)[len(kept_waiting) // 2]
    later, early = Side("at the end", [memory[-1] / 1e6]), Side("after a tenth of the kills", [memory[0] / 1e6])
    kept, cut_off = Side("kept, with what had come", [cut - len(streams.wrong)]), Side("cut", [cut])
    readable_files, all_files = Side("readable", [len(files) - damaged]), Side("all", [len(files)])
    figures = [
        Figure("memory", "the server's memory", "MB", later, early, 1.05, at_most=True),
        Figure("kept", "replies that were being written", "", kept, cut_off, 1.0),
        Figure("files", "chat files", "", readable_files, all_files, 1.0),
    ]
    sizes = ", ".join(f"{size / 1e6:.1f}" for size in memory)
    return figures, (
        f"{kills} kills: {cut:,} replies cut, {whole:,} whole, {len(streams.wrong)} wrong {streams.wrong[:3]}; "
        f"{silent} requests not answered meanwhile. The model is back after {back:.1f} s (median). The server's memory "
        f"after each tenth of the kills, and at the end: {sizes} MB."
    )


def main(kills: int = KILLS) -> None:
    figures, notes = measure(kills)
    print(*(figure.row() for figure in figures), notes, sep="\n")
    if kills == KILLS:
        write("kills", figures, notes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
