"""Work that needs a process with its own GPUs, because llama.cpp never unregisters a device.

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

from errors import Unsupported
from loaders.forecast import Forecast
from loaders.llamacpp.placement.placement import MemoryByDevice

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
SERVERS = "TEXTGEN_TEST_RPC_SERVERS"
_COUNTS = "TEXTGEN_TEST_RPC_COUNTS"  # the ports on which the servers report their used memory


class Cards:
    """This many GPUs."""

    def __init__(self, number: int) -> None:
        ports = [(_free_port(), _free_port()) for _ in range(number)]
        module = "tests.loaders.llamacpp.rpc_server"
        self._servers = [
            subprocess.Popen(
                [sys.executable, "-m", module, str(port), str(other)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for port, other in ports
        ]
        for pair, server in zip(ports, self._servers, strict=True):
            for port in pair:
                _wait_for(port, server)
        addresses = ",".join(f"127.0.0.1:{port}" for port, _ in ports)
        self._counts = ",".join(str(other) for _, other in ports)
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _start, (addresses, self._counts))

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return self._pool.submit(function, *arguments).result(timeout=900)

    def taken(self) -> list[int]:
        """Bytes in use in each server."""
        return taken(self._counts)

    def kill(self, number: int) -> None:
        """End a server, like a GPU that disappears."""
        self._servers[number].kill()
        self._servers[number].wait()

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


def _start(addresses: str, counts: str) -> None:
    os.environ[SERVERS], os.environ[_COUNTS] = addresses, counts


def machines() -> tuple[str, ...]:
    """The addresses of the servers."""
    return tuple(os.environ[SERVERS].split(","))


def taken(counts: str = "") -> list[int]:
    """Bytes in use in each server; -1 if its C library does not count them, or it is gone."""
    found = []
    for port in (counts or os.environ[_COUNTS]).split(","):
        found.append(-1)
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=60) as server:
            found[-1] = int(server.makefile().read())
    return found


def has_rpc() -> bool:
    """Whether the installed llama.cpp supports RPC servers."""
    from loaders.llamacpp.library import load_rpc

    try:
        return hasattr(load_rpc(), "ggml_backend_rpc_add_server")
    except Unsupported:
        return False


#: Bytes that a server's count may differ by between two questions, which take a little memory themselves. A model, its
#: cache and its buffers are far larger.
_ASKING = 2**16


def _settled() -> list[int]:
    """The same, after the servers have freed what the last process used."""
    found, now = [], taken()
    while not found or any(abs(after - before) > _ASKING for after, before in zip(now, found, strict=True)):
        time.sleep(0.1)
        found, now = now, taken()
    return now


@dataclass(frozen=True)
class Told:
    """The result of a load: the forecast, llama.cpp's breakdown by device, the notes, and a greedy reply. `reported`:
    the bytes that each server reported as used by it.
    """

    forecast: Forecast
    taken: MemoryByDevice
    notes: tuple[str, ...]
    reply: tuple[int, ...]
    reported: tuple[int, ...] = ()


def load(path: Path, options: Mapping[str, Any], prompt: Sequence[int] = (), length: int = 8) -> Told:
    """Forecast, load, answer and close."""
    from loaders.base import Request
    from loaders.llamacpp.loader import LlamaCpp
    from loaders.llamacpp.placement import devices
    from loaders.params import SamplingParams

    parsed = LlamaCpp.Options.parse({"rpc": os.environ[SERVERS], **options})
    forecast = LlamaCpp.forecast(path, parsed)
    assert forecast
    before = _settled()
    with LlamaCpp.load(path, parsed, lambda *_: True) as model:
        account = devices.memory_breakdown(model._context.pointer)  # type: ignore[attr-defined]
        assert account
        reported = tuple(after - then for after, then in zip(taken(), before, strict=True))
        greedy = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
        reply = [token.id for token in model.generate(Request(list(prompt), greedy, length))] if prompt else []
        return Told(forecast, account, model.notes, tuple(reply), reported)


def load_and_count(path: Path, options: Mapping[str, Any]) -> int:
    """Load, close, and count the bytes then in use in this process; -1 if unknown."""
    from tests.loaders.llamacpp import rpc_server

    load(path, options)
    return rpc_server.taken()


def load_on_full_cards(path: Path, options: Mapping[str, Any], most: int) -> tuple[str, list[int], tuple[str, ...]]:
    """A load on GPUs that only have room for `most` layers, although they report more: the final error, how many layers
    were tried, and the notes.
    """
    from errors import UserError
    from loaders.llamacpp import loading, native

    tried = []
    real = loading._brought_in

    def full(path: Path, plan: Any, place: Any, progress: Any) -> Any:
        tried.append(place.placement.layers)
        if place.placement.layers > most:
            raise native.LlamaOutOfMemory("it", "llama.cpp says: unable to allocate RPC0 buffer")
        return real(path, plan, place, progress)

    loading._brought_in = full
    try:
        return "", tried, load(path, options).notes
    except UserError as error:
        return f"{type(error).__name__}: {error}", tried, ()
    finally:
        loading._brought_in = real


def refusal(path: Path, options: Mapping[str, Any]) -> tuple[str, str]:
    """The error of a load: its class and its sentence."""
    from errors import UserError

    try:
        load(path, options)
    except UserError as error:
        return type(error).__name__, str(error)
    return "", ""


def cards() -> list[Any]:
    from loaders.llamacpp import native
    from loaders.llamacpp.placement import devices

    native.initialize()
    return devices.list_gpus(machines())


def cards_of_a_child() -> tuple[Any, ...]:
    from loaders import gpus

    return gpus._asked(machines())


def learn(path: Path, options: Mapping[str, Any], file: Path) -> tuple[Forecast, Forecast]:
    """The forecasts before and after two loads with replies, each of which takes 50 MiB more of the GPU than llama.cpp
    reports (servers are not asked for their free memory while others compute on them).
    """
    from loaders.base import Request
    from loaders.llamacpp.loader import LlamaCpp
    from loaders.llamacpp.placement import devices, dry_run, measurements
    from loaders.params import SamplingParams

    parsed = LlamaCpp.Options.parse({"rpc": os.environ[SERVERS], **options})
    real = devices.list_gpus, devices.free_gpu_bytes, measurements._FAR
    measurements._FAR = 1e9  # machines that run tests may be very busy
    os.environ[measurements.VARIABLE] = str(file)
    try:
        first = LlamaCpp.forecast(path, parsed)
        assert first is not None
        empty, took = [card._replace(free=card.total) for card in devices.list_gpus(machines())], first.devices[1].total
        devices.list_gpus = lambda *_: empty
        devices.free_gpu_bytes = lambda _: empty[0].total - took - 50 * 2**20
        for _ in range(2):
            with LlamaCpp.load(path, parsed, lambda *_: True) as model:
                list(model.generate(Request([100, 200, 300], SamplingParams(ban_eos_token=True), 32)))
        dry_run._remembered.cache_clear()
        later = LlamaCpp.forecast(path, parsed)
    finally:
        devices.list_gpus, devices.free_gpu_bytes, measurements._FAR = real
        del os.environ[measurements.VARIABLE]
    assert later is not None
    return first, later


def bandwidth() -> float:
    from loaders.llamacpp.placement import devices

    cards()
    return devices.measure_gpu_bandwidth("RPC0")
