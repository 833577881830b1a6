"""A graphics card that is none: llama.cpp's own RPC server on loopback, which computes on this machine's processor.

`python -m tests.loaders.llamacpp.rpc_server PORT`
"""

from __future__ import annotations

import ctypes
import sys

from loaders.llamacpp import native
from loaders.llamacpp.library import declared, ggml


def main(port: str) -> None:
    native.start(False)
    by_name = declared(ggml, "ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    devices = (ctypes.c_void_p * 1)(by_name(b"CPU"))
    kinds = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    start = declared(ggml, "ggml_backend_rpc_start_server", None, *kinds)
    start(f"127.0.0.1:{port}".encode(), None, 1, 1, devices)


if __name__ == "__main__":
    main(sys.argv[1])
