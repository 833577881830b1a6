"""Lists the GPUs as llama.cpp's library sees them, and reads its own breakdown of memory per device.

It must not know of files, options or decisions. Importing it imports llama_cpp; `python -m
loaders.llamacpp.placement.devices` reads the addresses of other machines as JSON, and prints the GPUs.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from errors import InvalidInput, Unavailable, Unsupported
from loaders.gpus import Gpu
from loaders.llamacpp import child_process, library
from loaders.llamacpp.library import C, base, declare_function, ggml
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice
from loaders.llamacpp.rpc import NETWORK

_CPU, _GPU, _INTEGRATED = 0, 1, 2  # ggml_backend_dev_type


class _Properties(ctypes.Structure):
    """ggml_backend_dev_props."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", ctypes.c_bool * 64),  # five, and room for more
    )


_pointer = ctypes.c_void_p
_properties = declare_function(base, "ggml_backend_dev_get_props", None, _pointer, ctypes.POINTER(_Properties))
_registry = declare_function(base, "ggml_backend_dev_backend_reg", _pointer, _pointer)
_registry_name = declare_function(base, "ggml_backend_reg_name", ctypes.c_char_p, _pointer)
_offers = declare_function(base, "ggml_backend_reg_get_proc_address", _pointer, _pointer, ctypes.c_char_p)
_description = declare_function(base, "ggml_backend_dev_description", ctypes.c_char_p, _pointer)
_by_name = declare_function(ggml, "ggml_backend_dev_by_name", _pointer, ctypes.c_char_p)
_is_host = declare_function(base, "ggml_backend_buft_is_host", ctypes.c_bool, _pointer)
_device_of = declare_function(base, "ggml_backend_buft_get_device", _pointer, _pointer)
_main_memory = declare_function(base, "ggml_backend_cpu_buffer_type", _pointer)
_own_kind = declare_function(base, "ggml_backend_dev_buffer_type", _pointer, _pointer)
_alloc = declare_function(base, "ggml_backend_buft_alloc_buffer", _pointer, _pointer, ctypes.c_size_t)
_clear = declare_function(base, "ggml_backend_buffer_clear", None, _pointer, ctypes.c_uint8)
_free = declare_function(base, "ggml_backend_buffer_free", None, _pointer)
_CLEARED, _ROUNDS = 2**27, 4  # bytes, and repetitions
_FASTEST = 2e13  # bytes per second: a higher result means that it did not wait for the end


def list_gpus(machines: Sequence[str] = ()) -> list[Gpu]:
    """The GPUs that llama.cpp would use by default, in its order, with those of other machines, by their addresses.

    As in its llama_prepare_model_devices: other machines first; a GPU that two backends list counts once; an
    integrated one counts only if there is no other, and only for one backend. Raises: BrokenPackage, Unsupported,
    Unavailable.
    """
    library.load_backends()
    for address in machines:
        library.add_server(address)
    if not C.llama_supports_gpu_offload():
        return []
    servers: list[Gpu] = []
    found: dict[bytes, Gpu] = {}
    integrated: list[tuple[int, Gpu]] = []
    for i in range(library.dev_count()):
        device = library.dev_get(i)
        kind = library.dev_type(device)
        network = (_registry_name(_registry(device)) or b"").decode() == NETWORK
        if kind not in (_GPU, _INTEGRATED) or (network and (_description(device) or b"").decode() not in machines):
            continue
        told = _Properties()
        _properties(device, ctypes.byref(told))
        card = _card(device, told, integrated=kind == _INTEGRATED)
        if kind == _INTEGRATED:
            integrated.append((_registry(device), card))
        elif network:
            servers.append(card)
        else:
            found.setdefault(told.device_id or str(device).encode(), card)
    own = list(found.values()) or [card for registry, card in integrated if registry == integrated[0][0]]
    return [*servers, *own]


def _card(device: int, told: _Properties, *, integrated: bool) -> Gpu:
    rows = bool(_offers(_registry(device), b"ggml_backend_split_buffer_type"))
    return Gpu(
        (told.name or b"?").decode("utf-8", "replace"),
        told.memory_free,
        told.memory_total,
        " ".join((told.description or b"").decode("utf-8", "replace").split()),
        integrated,
        rows,
    )


def free_gpu_bytes(name: str) -> int | None:
    """Free bytes of a GPU now; None for one in the network, whose connection belongs to the process that computes on
    it.
    """
    device = _by_name(name.encode())
    if not device or (_registry_name(_registry(device)) or b"").decode() == NETWORK:
        return None
    left, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.dev_memory(device, ctypes.byref(left), ctypes.byref(total))
    return left.value


def measure_gpu_bandwidth(name: str) -> float:
    """Bytes per second with which a GPU fills its memory, the best of several rounds; 0 if there is no room for the
    test.

    Reading is about as fast, and nothing faster measures it for every kind of GPU.
    """
    device = _by_name(name.encode())
    buffer = _alloc(_own_kind(device), _CLEARED) if device else None
    if not buffer:
        return 0.0
    best, left = 0.0, ctypes.c_size_t()
    for value in range(_ROUNDS):
        started = time.perf_counter()
        _clear(buffer, value)
        library.dev_memory(device, ctypes.byref(left), ctypes.byref(left))  # a response arrives when that is done
        best = max(best, _CLEARED / (time.perf_counter() - started))
    _free(buffer)
    return best if best < _FASTEST else 0.0


def make_device_list(names: Sequence[str]) -> Any:
    """The devices of these names as llama_model_params needs them; keep it until the model is loaded.

    An empty list ends at once: no GPU is used. Raises: InvalidInput if one no longer exists.
    """
    found = [_by_name(name.encode()) for name in names]
    if None in found:
        raise InvalidInput(f"The GPU {names[found.index(None)]} is no longer available. Load the model again.")
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def keep_experts_in_memory(blocks: int) -> Any:
    """For llama_model_params: keep the experts of the first blocks in main memory; keep it as above."""
    numbers = "|".join(map(str, range(blocks)))
    pattern = rf"blk\.({numbers})\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode()
    return (_Override * 2)(_Override(pattern, _main_memory()), _Override(None, None))


class _Map(ctypes.Structure):
    """A std::map: larger than two words in every library, so that it is returned through memory."""

    _fields_ = (("words", ctypes.c_size_t * 8),)


#: The function's name, by system; the offsets of its tree, and of a node's children (in words).
_LINUX_NAME = "_Z26llama_get_memory_breakdownPK13llama_context"
_WINDOWS_NAME = (
    "?llama_get_memory_breakdown@@YA?AV?$map@PEAUggml_backend_buffer_type@@Ullama_memory_breakdown_data@@U?$less@"
    "PEAUggml_backend_buffer_type@@@std@@V?$allocator@U?$pair@QEAUggml_backend_buffer_type@@"
    "Ullama_memory_breakdown_data@@@std@@@4@@std@@PEBUllama_context@@@Z"
)
_MOST = 256  # devices and kinds of buffers


def memory_breakdown(context: Any) -> MemoryByDevice | None:
    """The memory of the model and this context by device, as computed by llama.cpp; None if it does not report it.

    Also in a dry run, where nothing is allocated: compute_buffers.py is more accurate for buffers then. The function is
    for llama.cpp's own programs and returns a std::map, which is read in the layout of this system's C++ library: a
    tree of nodes (two or three pointers to others, a colour, then the pair). Only Linux's has been run. Each call leaks
    a few hundred bytes.
    """
    try:
        name = _WINDOWS_NAME if os.name == "nt" else _LINUX_NAME
        function = getattr(C.llama_cpp._lib, name)
    except AttributeError:
        return None
    function.restype, function.argtypes = _Map, [ctypes.c_void_p]
    found = function(ctypes.cast(context, ctypes.c_void_p))
    sizes: dict[str, DeviceMemory] = {}
    for kind, weights, cache, buffers in _entries(found.words):
        device, copied = set_placement(kind)
        held = sizes.get(device, DeviceMemory())
        sizes[device] = DeviceMemory(
            held.weights + weights, held.cache + cache, held.buffers + buffers, held.rearranged + weights * copied
        )
    return sizes


def _entries(words: Any) -> Iterator[tuple[int, int, int, int]]:
    """The pairs of the map: a buffer type's address; bytes of weights, cache and buffers."""
    if os.name == "nt":  # MSVC: {head, size}; the head's parent is the root, and an end is marked
        root, left, right = _words(words[0])[1], 0, 2
    elif sys.platform == "darwin":  # libc++: {first, root, size}
        root, left, right = words[1], 0, 1
    else:  # libstdc++: {compare, colour, root, first, last, size}
        root, left, right = words[2], 2, 3
    waiting, seen = [root], 0
    while waiting and seen < _MOST:
        node = waiting.pop()
        if not node or (os.name == "nt" and ctypes.c_ubyte.from_address(node + 25).value):
            continue
        seen += 1
        held = _words(node)
        waiting += [held[left], held[right]]
        yield held[4], held[5], held[6], held[7]


def _words(address: int) -> Any:
    return (ctypes.c_size_t * 8).from_address(address)


def set_placement(kind: int) -> tuple[str, bool]:
    """The device of a buffer type, and whether it contains copies that are rearranged for the CPU."""
    if _is_host(kind):  # main memory, including what GPUs read from (CUDA_Host, Vulkan_Host)
        return MEMORY, False
    device = _device_of(kind)
    if device is None or library.dev_type(device) not in (_GPU, _INTEGRATED):
        return MEMORY, True
    return ctypes.string_at(library.dev_name(device)).decode("utf-8", "replace"), False


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"cards": list_gpus(child_process.read_question()["machines"])}
    except (Unavailable, Unsupported) as error:
        answer = {"refused": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
