"""Lends this machine's GPUs, or its memory and processor, to llama.cpp on another one: llama.cpp's own RPC server.

`python -m loaders.llamacpp.rpc_node --host ADDRESS --port PORT`. It must not know which models are loaded on it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[2])

from errors import InvalidInput, UserError
from loaders.llamacpp.rpc import PORT

_HERE = ("127.0.0.1", "localhost")
_CPU = "CPU"


def serve(host: str, port: int, threads: int, names: Sequence[str]) -> None:
    """Serve these devices, one client at a time, until the process ends.

    Returns if it cannot start, after llama.cpp has said why. Raises: BrokenPackage; Unsupported, without RPC;
    InvalidInput for a device that does not exist.
    """
    from loaders.llamacpp import library, native

    native.initialize()
    kinds = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    start = library.declare_function(library.load_rpc(), "ggml_backend_rpc_start_server", None, *kinds)
    by_name = library.declare_function(library.ggml, "ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    found = [by_name(name.encode()) for name in names]
    if None in found:
        raise InvalidInput(f"llama.cpp finds no device {names[found.index(None)]} on this machine.")
    start(f"{host}:{port}".encode(), None, threads, len(found), (ctypes.c_void_p * len(found))(*found))


def choose_devices(asked: str) -> list[str]:
    """The names of the devices to lend: those asked for, else all GPUs, else the processor."""
    from loaders.llamacpp.placement import devices

    if names := [each.strip() for each in asked.split(",") if each.strip()]:
        return names
    return [card.name for card in devices.list_gpus()] or [_CPU]


def warning(host: str) -> str:
    """What whoever lends a machine should know."""
    who = "programs on this machine" if host in _HERE else f"everyone who can reach {host}"
    return (
        "llama.cpp's RPC has no keys and no encryption, and faults in it can be used to run code: it is for trusted "
        f"networks only. Now {who} can use it."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl+C. Returns 1, after one sentence, if it cannot start."""
    from loaders.llamacpp.engine.threads import choose_threads

    parser = argparse.ArgumentParser(
        prog="python -m loaders.llamacpp.rpc_node", description="Lend this machine to llama.cpp on another one."
    )
    parser.add_argument("--host", default=_HERE[0], help="The address to listen at (default: this machine only).")
    parser.add_argument("--port", type=int, default=PORT, help=f"The port (default: {PORT}).")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the number of cores).")
    parser.add_argument("--devices", default="", help="What to lend, by llama.cpp's names: CUDA0,CPU (default: GPUs).")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # llama.cpp's loop never returns to Python
    try:
        with socket.socket() as trial:
            if os.name != "nt":  # there, it would allow two programs at one address
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((asked.host, asked.port))
        names = choose_devices(asked.devices)
        where = f"{asked.host}:{asked.port}"
        sys.stdout.write(
            f"WARNING: {warning(asked.host)}\n"
            f"Lending {', '.join(names)} at {where}: start the other machine's program with --rpc {where}\n"
        )
        sys.stdout.flush()
        serve(asked.host, asked.port, asked.threads or choose_threads(0)[0], names)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        sys.stderr.write(f"Cannot listen at {asked.host}:{asked.port}: {said}. Use another --host or --port.\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
