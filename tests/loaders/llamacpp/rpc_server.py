"""A stand-in for a GPU: our own RPC node on loopback, which lends this machine's CPU.

`python -m tests.loaders.llamacpp.rpc_server PORT OTHER` tells whoever connects to OTHER how many bytes are taken in it:
by the C library's own count, for resident memory also holds what was freed and not given back to the system.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import threading

from loaders.llamacpp import rpc_node


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
    threading.Thread(target=_tell, args=(int(other),), daemon=True).start()
    rpc_node.serve("127.0.0.1", int(port), 1, ["CPU"])


if __name__ == "__main__":
    main(*sys.argv[1:])
