"""llama.cpp's libraries as the binding has loaded them: their folder, their backends, and whether they fit the binding.

ctypes believes what the binding says of structs and functions: a library of another commit would write beside them, and
compute garbage. So what can be asked is asked before anything else is: the commit, the size and the values of the
structs that llama.cpp fills, the functions. Importing this module imports llama_cpp, and may raise BrokenPackage. It
must not know of models, nor where the libraries came from: the binding takes LLAMA_CPP_LIB_PATH, or its own.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from errors import BrokenPackage
from loaders.llamacpp.child import SERVERS

_ADVICE = (
    "Start the start script with --repair; where you have set LLAMA_CPP_LIB_PATH yourself, take that away instead."
)


def _misfit(why: str) -> BrokenPackage:
    return BrokenPackage("llama.cpp", "llama-cpp-python", why, _ADVICE)


try:
    import llama_cpp
except (OSError, RuntimeError, AttributeError) as error:  # no such file, cannot be loaded, lacks a function
    where = f" (in {os.environ['LLAMA_CPP_LIB_PATH']})" if "LLAMA_CPP_LIB_PATH" in os.environ else ""
    raise _misfit(f"llama.cpp's library{where} is missing or does not fit it: {error}") from None

C = llama_cpp
_lib = C.llama_cpp._lib
#: Where the library lies that the binding has loaded; the backends lie beside it.
FOLDER = Path(_lib._name).absolute().parent

#: The binding whose structs are known here, and the commit of llama.cpp that it was written for.
BINDING, COMMIT = "0.3.36", "0c1e57098bba43ac29e6e3b677cdceebdd22334f"

#: What that commit's functions return, less the pointers.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama_model_default_params": {
        "n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "main_gpu": 0, "vocab_only": False,
        "check_tensors": False, "use_extra_bufts": True, "no_host": False, "no_alloc": False, "load_mtp": False,
    },
    "llama_context_default_params": {
        "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_rs_seq": 0, "n_outputs_max": 0,
        "n_outputs_max_per_seq": 1, "n_threads": 4, "n_threads_batch": 4, "ctx_type": 0, "rope_scaling_type": -1,
        "pooling_type": -1, "attention_type": -1, "flash_attn_type": -1, "rope_freq_base": 0.0, "rope_freq_scale": 0.0,
        "yarn_ext_factor": -1.0, "yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0,
        "yarn_orig_ctx": 0, "defrag_thold": -1.0, "type_k": 1, "type_v": 1, "embeddings": False, "offload_kqv": True,
        "no_perf": True, "op_offload": True, "swa_full": True, "kv_unified": False, "n_samplers": 0,
    },
    "llama_batch_get_one": {"n_tokens": 1},
}  # fmt: skip
_ROOM = 512  # bytes behind a struct, for a library whose struct is longer


def _handle(name: str) -> Any:
    """A handle to a library of ggml's that loading libllama has loaded.

    libllama's own handle finds the functions of all that it was linked with, except on Windows. (To load libggml.so
    would be to load it again wherever libllama was linked with a copy of it, libggml.so.0: two lists of cards.)
    """
    if os.name == "nt":
        return C.llama_cpp.load_shared_library(name, FOLDER)
    return ctypes.CDLL(_lib._name, handle=_lib._handle)


def declared(handle: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A function that the binding does not declare. Raises: BrokenPackage."""
    try:
        function = getattr(handle, name)
    except AttributeError:
        raise _misfit(f"the llama.cpp in {FOLDER} lacks the function {name}") from None
    function.restype, function.argtypes = result, list(arguments)
    return function


ggml, base = _handle("ggml"), _handle("ggml-base")
_SIZE = ctypes.POINTER(ctypes.c_size_t)
reg_count = declared(ggml, "ggml_backend_reg_count", ctypes.c_size_t)
load_all = declared(ggml, "ggml_backend_load_all_from_path", None, ctypes.c_char_p)
dev_count = declared(ggml, "ggml_backend_dev_count", ctypes.c_size_t)
dev_get = declared(ggml, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
dev_type = declared(base, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
dev_name = declared(base, "ggml_backend_dev_name", ctypes.c_void_p, ctypes.c_void_p)
dev_memory = declared(base, "ggml_backend_dev_memory", None, ctypes.c_void_p, _SIZE, _SIZE)


def load_runtime(folder: Path) -> None:
    """Load CUDA's own libraries that lie beside the backend, so that it takes these.

    LD_LIBRARY_PATH goes before the backend's own folder, and names torch's, which may be older than it wants.
    """
    for name in ("libcudart", "libcublasLt", "libcublas"):
        for path in sorted(folder.glob(f"{name}.so*")):
            with suppress(OSError):  # the backend will miss it, and stay out
                ctypes.CDLL(str(path))


def load_backends() -> None:
    """Load the backends that lie beside the library, where it has none built in. Calling it again does nothing.

    llama.cpp by itself would look beside the program, which is Python, and in the working folder. Raises:
    BrokenPackage.
    """
    if not reg_count():
        load_runtime(FOLDER)
        load_all(os.fsencode(FOLDER))
    if not reg_count():
        raise _misfit(f"the llama.cpp in {FOLDER} finds nothing there that computes on this machine")
    for server in os.environ.get(SERVERS, "").split(","):
        if server:
            _add_server(server)


@lru_cache
def _add_server(address: str) -> None:
    """Let an RPC server of llama.cpp's count as a graphics card. Raises: BrokenPackage."""
    add = declared(ggml, "ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
    found = add(address.encode())
    if not found:
        raise _misfit(f"no RPC server of llama.cpp answers at {address}")
    declared(ggml, "ggml_backend_register", None, ctypes.c_void_p)(found)


def check() -> None:
    """Raises: BrokenPackage, where the library is not what the binding was written for."""
    known = C.__version__ == BINDING
    if known and (why := other_commit()):
        raise _misfit(why)
    tokens = (C.llama_token * 1)(7)
    for name, values in DEFAULTS.items():
        arguments = (tokens, 1) if name == "llama_batch_get_one" else ()
        size, struct = _filled(name, *arguments)
        mine = ctypes.sizeof(struct)
        if size > mine or size < mine - 7:  # a struct ends in up to seven bytes that nobody writes
            raise _misfit(f"{name} of the llama.cpp in {FOLDER} fills {size} bytes, and {mine} are known")
        wrong = [field for field, value in values.items() if getattr(struct, field, value) != value]
        if known and wrong:
            raise _misfit(f"{name} of the llama.cpp in {FOLDER} gives other values for {', '.join(wrong)}")


def other_commit() -> str:
    """Why the library is of another commit than the binding; "" where it is the same one, or does not tell."""
    try:
        told = declared(base, "ggml_commit", ctypes.c_char_p)()
    except BrokenPackage:
        return ""
    found = re.match(r"[0-9a-f]{7,40}(?=-dirty$|$)", (told or b"").decode("ascii", "replace"))
    if found is None or COMMIT.startswith(found[0]):
        return ""
    return f"the llama.cpp in {FOLDER} was built from commit {found[0][:9]}, and it needs {COMMIT[:9]}"


def _filled(name: str, *arguments: Any) -> tuple[int, Any]:
    """The struct that a function of llama.cpp returns: (the bytes that it has written, the struct)."""
    function = getattr(C, name)
    kind = function.restype
    size = ctypes.sizeof(kind)
    if platform.machine().lower() not in ("x86_64", "amd64"):  # elsewhere no argument says where it is written to
        padded = type("Padded", (ctypes.Structure,), {"_fields_": [("known", kind), ("rest", ctypes.c_ubyte * _ROOM)]})
        return size, _call(function, padded, *arguments).known
    # A struct of this size is written to where a hidden first argument points: twice, over bytes that differ.
    buffers = [(ctypes.c_ubyte * (size + _ROOM))(*[byte] * (size + _ROOM)) for byte in (0xA5, 0x5A)]
    for buffer in buffers:
        _call(function, ctypes.c_void_p, buffer, *arguments)
    same = [at for at, (first, second) in enumerate(zip(*buffers, strict=True)) if first == second]
    return max(same, default=-1) + 1, kind.from_buffer(buffers[0])


def _call(function: Any, result: Any, *arguments: Any) -> Any:
    """Call a function of the library, arrays by their address, with another declaration than the binding's."""
    kinds = [ctypes.c_int32 if isinstance(each, int) else ctypes.c_void_p for each in arguments]
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return ctypes.CFUNCTYPE(result, *kinds)(address)(*arguments)


check()
