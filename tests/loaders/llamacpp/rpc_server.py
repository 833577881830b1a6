"""A stand-in for a GPU: llama.cpp's own RPC server on loopback, which computes on this machine's CPU.

`python -m tests.loaders.llamacpp.rpc_server PORT OTHER` tells whoever connects to OTHER how many bytes are taken in it:
by the C library's own count, for resident memory also holds what was freed and not given back to the system.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import threading

from loaders.llamacpp import native
from loaders.llamacpp.library import declare_function, ggml, load_rpc


class _Counts(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    )


def taken() -> int:
    """Bytes that this process has allocated and not freed; -1 if the C library does not count them."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return -1
    function.restype = _Counts
    counts = function()
    return int(counts.hblkhd + counts.uordblks)


def _tell(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            asked, _ = server.accept()
            with asked:
                asked.sendall(str(taken()).encode())


def main(port: str, other: str) -> None:
    native.initialize(False)
    by_name = declare_function(ggml, "ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    devices = (ctypes.c_void_p * 1)(by_name(b"CPU"))
    kinds = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    start = declare_function(load_rpc(), "ggml_backend_rpc_start_server", None, *kinds)
    threading.Thread(target=_tell, args=(int(other),), daemon=True).start()
    start(f"127.0.0.1:{port}".encode(), None, 1, 1, devices)


if __name__ == "__main__":
    main(*sys.argv[1:])
