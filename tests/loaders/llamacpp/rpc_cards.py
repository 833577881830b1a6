"""Work that needs a process with cards of its own: what llama.cpp registers there, it never forgets.

`Cards` starts RPC servers and one process that sees them as graphics cards; the functions below are called in that.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from loaders.forecast import Forecast
from loaders.llamacpp.placement import BySize

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
SERVERS = "TEXTGEN_TEST_RPC_SERVERS"


class Cards:
    """So many cards."""

    def __init__(self, number: int) -> None:
        self._ports = [_free_port() for _ in range(number)]
        module = "tests.loaders.llamacpp.rpc_server"
        self._servers = [
            subprocess.Popen(
                [sys.executable, "-m", module, str(port)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for port in self._ports
        ]
        for port, server in zip(self._ports, self._servers, strict=True):
            _wait_for(port, server)
        addresses = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start, (addresses,))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return self._pool.submit(function, *arguments).result(timeout=300)

    def memory(self) -> list[int]:
        """Resident bytes of each server."""
        import psutil

        return [psutil.Process(server.pid).memory_info().rss for server in self._servers]

    def close(self) -> None:
        self._pool.shutdown()
        for server in self._servers:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the RPC server on port {port} did not start")


def _start(addresses: str) -> None:
    os.environ[SERVERS] = addresses


def has_rpc() -> bool:
    """Whether the llama.cpp that is installed can serve, and use servers."""
    from loaders.llamacpp.library import ggml

    return hasattr(ggml, "ggml_backend_rpc_add_server")


@dataclass(frozen=True)
class Told:
    """A load: what was forecast, what llama.cpp took by device, the notes, and a greedy reply."""

    forecast: Forecast
    taken: BySize
    notes: tuple[str, ...]
    reply: tuple[int, ...]


def load(path: Path, options: Mapping[str, Any], prompt: Sequence[int] = (), length: int = 8) -> Told:
    """Forecast, load, answer and close."""
    from loaders.base import Request
    from loaders.llamacpp import devices
    from loaders.llamacpp.loader import LlamaCpp
    from loaders.params import SamplingParams

    parsed = LlamaCpp.Options.parse(options)
    forecast = LlamaCpp.forecast(path, parsed)
    assert forecast
    with LlamaCpp.load(path, parsed, lambda *_: True) as model:
        taken = devices.account(model._context.pointer)  # type: ignore[attr-defined]
        assert taken
        greedy = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
        reply = [token.id for token in model.generate(Request(list(prompt), greedy, length))] if prompt else []
        return Told(forecast, taken, model.notes, tuple(reply))


def load_on_full_cards(path: Path, options: Mapping[str, Any], most: int) -> tuple[str, list[int], tuple[str, ...]]:
    """A load on cards that have room for no more than `most` layers, though they tell of more: the sentence that ends
    it, how many layers were tried, and the notes.
    """
    from errors import UserError
    from loaders.llamacpp import loader, native

    tried = []
    real = loader._brought_in

    def full(path: Path, plan: Any, place: Any, progress: Any) -> Any:
        tried.append(place.placement.layers)
        if place.placement.layers > most:
            raise native.OutOfMemory("it", "llama.cpp says: unable to allocate RPC0 buffer")
        return real(path, plan, place, progress)

    loader._brought_in = full
    try:
        return "", tried, load(path, options).notes
    except UserError as error:
        return f"{type(error).__name__}: {error}", tried, ()
    finally:
        loader._brought_in = real


def refusal(path: Path, options: Mapping[str, Any]) -> tuple[str, str]:
    """The error of a load: its class and its sentence."""
    from errors import UserError

    try:
        load(path, options)
    except UserError as error:
        return type(error).__name__, str(error)
    return "", ""


def cards() -> list[Any]:
    from loaders.llamacpp import devices, native

    native.start(False)
    return devices.cards()
