"""llama.cpp's libraries as loaded by the binding: their folder, their backends, and whether they match the binding.

ctypes trusts the binding's declarations of structs and functions: a library of another commit would write to wrong
addresses and compute garbage. So everything that can be checked is checked first: the commit, the size and values of
the structs that llama.cpp fills, the functions. Importing this module imports llama_cpp, and may raise BrokenPackage.
It must not know of models, or where the libraries came from: the binding uses LLAMA_CPP_LIB_PATH, or its own.
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

from errors import BrokenPackage, Unavailable, Unsupported

#: A build of llama.cpp without other machines, and how to get one with them.
_WITHOUT_RPC = (
    "The installed llama.cpp was built without RPC, so it cannot use other machines. Compile it with RPC, in the shell "
    "that cmd_linux.sh, cmd_macos.sh or cmd_windows.bat opens, with the variable CMAKE_ARGS set to -DGGML_RPC=ON: pip "
    "install --force-reinstall --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36"
)
_ADVICE = "Run the start script with --repair. If you set LLAMA_CPP_LIB_PATH yourself, unset it instead."


def _misfit(why: str) -> BrokenPackage:
    return BrokenPackage("llama.cpp", "llama-cpp-python", why, _ADVICE)


try:
    import llama_cpp
except (OSError, RuntimeError, AttributeError) as error:  # no such file, not loadable, or a function is missing
    where = f" (in {os.environ['LLAMA_CPP_LIB_PATH']})" if "LLAMA_CPP_LIB_PATH" in os.environ else ""
    raise _misfit(f"llama.cpp's library{where} is missing or incompatible: {error}") from None

C = llama_cpp
_lib = C.llama_cpp._lib
#: The folder of the library that the binding has loaded, with its backends.
FOLDER = Path(_lib._name).absolute().parent

#: The supported version of the binding, and the commit of llama.cpp that it was written for.
BINDING, COMMIT = "0.3.36", "0c1e57098bba43ac29e6e3b677cdceebdd22334f"

#: The default values of that commit's functions, without pointers.
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
_ROOM = 512  # bytes after a struct, for a library whose struct is longer


def _handle(name: str) -> Any:
    """A handle to one of ggml's libraries that were loaded with libllama.

    libllama's own handle finds the functions of everything it was linked with, except on Windows. (Loading libggml.so
    would load it a second time if libllama was linked with a copy of it, libggml.so.0: two lists of GPUs.)
    """
    if os.name == "nt":
        return C.llama_cpp.load_shared_library(name, FOLDER)
    return ctypes.CDLL(_lib._name, handle=_lib._handle)


def declare_function(handle: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Declare a function that the binding lacks. Raises: BrokenPackage."""
    try:
        function = getattr(handle, name)
    except AttributeError:
        raise _misfit(f"the llama.cpp in {FOLDER} lacks the function {name}") from None
    function.restype, function.argtypes = result, list(arguments)
    return function


ggml, base = _handle("ggml"), _handle("ggml-base")
_SIZE = ctypes.POINTER(ctypes.c_size_t)
reg_count = declare_function(ggml, "ggml_backend_reg_count", ctypes.c_size_t)
load_all = declare_function(ggml, "ggml_backend_load_all_from_path", None, ctypes.c_char_p)
dev_count = declare_function(ggml, "ggml_backend_dev_count", ctypes.c_size_t)
dev_get = declare_function(ggml, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
dev_type = declare_function(base, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
dev_name = declare_function(base, "ggml_backend_dev_name", ctypes.c_void_p, ctypes.c_void_p)
dev_memory = declare_function(base, "ggml_backend_dev_memory", None, ctypes.c_void_p, _SIZE, _SIZE)


def load_runtime(folder: Path) -> None:
    """Load the CUDA libraries beside the backend first, so that it uses these.

    LD_LIBRARY_PATH is searched before the backend's own folder and contains torch's libraries, which may be older than
    it needs.
    """
    for name in ("libcudart", "libcublasLt", "libcublas"):
        for path in sorted(folder.glob(f"{name}.so*")):
            with suppress(OSError):  # the backend will not load then and stays unused
                ctypes.CDLL(str(path))


def load_backends() -> None:
    """Load the backends in the library's folder, if it has none built in. Calling it again does nothing.

    llama.cpp itself would look in the program's folder, which is Python's, and in the working folder. Raises:
    BrokenPackage.
    """
    if not reg_count():
        load_runtime(FOLDER)
        load_all(os.fsencode(FOLDER))
    if not reg_count():
        raise _misfit(f"the llama.cpp in {FOLDER} finds no backend that runs on this machine")


def load_rpc() -> Any:
    """The library with the RPC functions: a backend, if these are separate libraries.

    Raises: Unsupported if there is none.
    """
    if hasattr(ggml, "ggml_backend_rpc_add_server"):
        return ggml
    for path in sorted(FOLDER.glob("*ggml-rpc.*")):
        return ctypes.CDLL(str(path))
    raise Unsupported(_WITHOUT_RPC)


@lru_cache
def add_server(address: str) -> None:
    """Add a machine that runs llama.cpp's RPC server as a GPU; it cannot be removed from this process any more.

    `loaders.llamacpp.rpc.check_machines` must come first. Raises: Unsupported; Unavailable if it has no devices.
    """
    add = declare_function(load_rpc(), "ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
    found = add(address.encode())
    if not found:
        raise Unavailable(f"The machine at {address} (rpc) lends nothing. Start its program with --devices CPU.")
    declare_function(ggml, "ggml_backend_register", None, ctypes.c_void_p)(found)


def check_library() -> None:
    """Raises: BrokenPackage if the library is not the one the binding was written for."""
    known = C.__version__ == BINDING
    if known and (why := explain_commit_mismatch()):
        raise _misfit(why)
    tokens = (C.llama_token * 1)(7)
    for name, values in DEFAULTS.items():
        arguments = (tokens, 1) if name == "llama_batch_get_one" else ()
        size, struct = _filled(name, *arguments)
        mine = ctypes.sizeof(struct)
        if size > mine or size < mine - 7:  # a struct ends with up to seven bytes of padding
            raise _misfit(f"{name} of the llama.cpp in {FOLDER} writes {size} bytes, but {mine} were expected")
        wrong = [field for field, value in values.items() if getattr(struct, field, value) != value]
        if known and wrong:
            raise _misfit(f"{name} of the llama.cpp in {FOLDER} returns other values for {', '.join(wrong)}")


def explain_commit_mismatch() -> str:
    """Why the library is of another commit than the binding; "" if it is the same, or unknown."""
    try:
        told = declare_function(base, "ggml_commit", ctypes.c_char_p)()
    except BrokenPackage:
        return ""
    found = re.match(r"[0-9a-f]{7,40}(?=-dirty$|$)", (told or b"").decode("ascii", "replace"))
    if found is None or COMMIT.startswith(found[0]):
        return ""
    return f"the llama.cpp in {FOLDER} was built from commit {found[0][:9]}, but {COMMIT[:9]} is required"


def _filled(name: str, *arguments: Any) -> tuple[int, Any]:
    """The struct that a function of llama.cpp returns: (the bytes that it wrote, the struct)."""
    function = getattr(C, name)
    kind = function.restype
    size = ctypes.sizeof(kind)
    if platform.machine().lower() not in ("x86_64", "amd64"):  # on other platforms no argument contains its address
        padded = type("Padded", (ctypes.Structure,), {"_fields_": [("known", kind), ("rest", ctypes.c_ubyte * _ROOM)]})
        return size, _call(function, padded, *arguments).known
    # A struct of this size is written to the address in a hidden first argument: call it twice, over different bytes.
    buffers = [(ctypes.c_ubyte * (size + _ROOM))(*[byte] * (size + _ROOM)) for byte in (0xA5, 0x5A)]
    for buffer in buffers:
        _call(function, ctypes.c_void_p, buffer, *arguments)
    same = [at for at, (first, second) in enumerate(zip(*buffers, strict=True)) if first == second]
    return max(same, default=-1) + 1, kind.from_buffer(buffers[0])


def _call(function: Any, result: Any, *arguments: Any) -> Any:
    """Call a function of the library with another declaration than the binding's, passing arrays by address."""
    kinds = [ctypes.c_int32 if isinstance(each, int) else ctypes.c_void_p for each in arguments]
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return ctypes.CFUNCTYPE(result, *kinds)(address)(*arguments)


check_library()
