"""The real program ends within seconds, whatever it is doing, and texts in progress are restored."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths
from modules.prompts.drafts import Drafts

ROOT = Path(__file__).resolve().parents[2]
HANGS = 15  # seconds: five are required, and the machine may be busy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

#: The real server; a thread starts what is to be interrupted, and reports the text that must be kept.
PROGRAM = r"""
import json, os, signal, sys, threading, time
from pathlib import Path
import server
from loaders.params import SamplingParams
from modules.app import App
from modules.chat.reply_settings import ReplySettings

root, state, argv = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
server.ROOT = root
build = App.build
PARAMS = SamplingParams(max_new_tokens=2000, temperature=0, ban_eos_token=True)

def say(**what):
    sys.stdout.write("\nSTATE " + json.dumps(what) + "\n")  # at once: others write, too
    sys.stdout.flush()

def loaded(app):
    while app.models.loaded is None:
        time.sleep(0.05)

def reply(app):
    loaded(app)
    id = app.chats.new().id
    given = app.chats.send(id, "Count to a thousand.", ReplySettings(params=PARAMS))
    for update in given:
        if len(update.text) > 60:
            return id, given, update.text
    raise AssertionError("it said too little")

def growing(app):
    id, given, text = reply(app)
    say(id=id, text=text)
    for _ in given:
        pass

def unread(app):
    id, given, text = reply(app)
    say(id=id, text=text)
    threading.Event().wait()

def stuck(app):
    id, given, text = reply(app)
    if "--in-process" in argv:
        app.models.loaded._engine._choose = lambda run: threading.Event().wait()
    else:
        os.kill(app.models.loaded.pid, signal.SIGSTOP)
    say(id=id, text=text)
    for _ in given:
        pass

def draft(app):
    loaded(app)
    id, said = app.drafts.new("notebook").id, False
    for growth in app.draft_writer.continue_draft(id, PARAMS, start="Once upon a time"):
        if len(growth.text) > 60 and not said:
            said = True
            say(draft=id, text=growth.text)

def prompt(app):
    loaded(app)
    stream = app.generator.session().start("word " * 7000, PARAMS.changed(max_new_tokens=100))
    say()
    next(stream)

def load(app):
    for loader in app.models._loaders.values():
        loader.load = classmethod(lambda *_: threading.Event().wait())
    threading.Thread(target=app.models.load, args=(app.catalog.names()[0],), daemon=True).start()
    while app.models.state.phase != "loading":
        time.sleep(0.05)
    say()

def download(app):
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(1)  # as the downloads have: Python waits for its threads
    pool.submit(threading.Event().wait)
    app.downloads.close = lambda: pool.shutdown(wait=True)
    say()

def training(app):
    type(app.training)._command = lambda *_: [sys.executable, "-c", "import time; time.sleep(25)"]
    from modules.training.lora.settings import LoraSettings
    app.training.start(LoraSettings())
    say()

def idle(app):
    if "--model" not in argv:
        loaded(app)
    say()

def built(*given):
    app = build(*given)
    def run():
        try:
            globals()[state](app)
        except Exception as error:
            if "unloaded" not in str(error):
                print("FAILED", repr(error), flush=True)
    threading.Thread(target=run, daemon=True).start()
    return app

App.build = built
server.run(argv)
"""


class Program:
    def __init__(self, root: Path, state: str, *argv: str) -> None:
        def heed() -> None:  # a shell that starts the tests in the background lets them ignore Ctrl+C
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root), state, "--threads", "1", "--threads-batch", "1", *argv],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=heed,  # noqa: PLW1509  it only sets a signal
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Wait until that state is reached; returns the text that must be kept."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            assert not line.startswith("FAILED"), line
            if line.startswith("STATE "):
                return dict(json.loads(line.removeprefix("STATE ")))
        raise AssertionError("".join(self.lines))

    def ends(self, *numbers: signal.Signals) -> None:
        began = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.3)
        assert self.process.wait(HANGS) == 0
        print(f"it ended after {time.monotonic() - began:.1f} s")


@pytest.fixture
def root(tmp_path: Path, demo_model_path: Path) -> Path:
    for name in ("presets", "characters", "instruction-templates", "prompts", "grammars", "banned-strings"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / demo_model_path.name).symlink_to(demo_model_path)
    return tmp_path


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    running: list[Program] = []
    yield running
    for each in running:
        each.process.kill()
        each.process.communicate()


STATES = {
    "idle": ("idle", (signal.SIGINT,), ()),
    "the page": ("idle", (signal.SIGTERM,), ("page",)),
    "a reply": ("growing", (signal.SIGTERM,), ()),
    "a reply in this process": ("growing", (signal.SIGTERM,), ("--in-process",)),
    "a reply that nobody reads": ("unread", (signal.SIGINT,), ()),
    "a step that never returns": ("stuck", (signal.SIGTERM,), ()),
    "a step that never returns, twice": ("stuck", (signal.SIGINT, signal.SIGINT), ()),
    "a step that never returns, in this process": ("stuck", (signal.SIGTERM,), ("--in-process",)),
    "a draft": ("draft", (signal.SIGINT,), ()),
    "a long prompt": ("prompt", (signal.SIGTERM,), ("--n-ctx", "8192")),
    "a load in this process": ("load", (signal.SIGINT,), ("--model", "none", "--in-process")),
    "a download": ("download", (signal.SIGTERM,), ("--model", "none")),
    "a training": ("training", (signal.SIGTERM,), ("--model", "none")),
}


@pytest.mark.parametrize("name", STATES)
def test_it_ends_in_time_and_keeps_what_grew(name: str, root: Path, programs: list[Program]) -> None:
    state, numbers, argv = STATES[name]
    port = str(free_port())
    given = ["--listen-port", port] if argv == ("page",) else ["--nowebui", "--api", "--api-port", port, *argv]
    program = Program(root, state, *given)
    programs.append(program)
    kept = program.state()
    program.ends(*numbers)
    assert "FAILED" not in "".join(program.lines)
    paths = Paths.under(root)
    if "id" in kept:
        text = ConversationStore(paths).open(kept["id"]).path()[-1].text
        print(f"{len(kept['text'])} characters were seen, {len(text)} are kept")
        assert text.startswith(kept["text"].rstrip())
    if "draft" in kept:
        assert Drafts(paths.logs / "drafts").open(kept["draft"]).text.startswith(kept["text"])


def test_connections_that_are_half_open_hold_nothing_up(root: Path, programs: list[Program]) -> None:
    port = free_port()
    program = Program(root, "idle", "--nowebui", "--api", "--api-port", str(port), "--model", "none")
    programs.append(program)
    program.state()
    end = time.monotonic() + 60
    while True:
        try:
            sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
    for each in sockets:
        each.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
    program.ends(signal.SIGTERM)
    for each in sockets:
        each.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
