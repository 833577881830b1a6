"""The graphics cards as llama.cpp's library lists them, and its own account of what it takes on each device.

It must not know of files, of options or of what is chosen. Importing it imports llama_cpp; `python -m
loaders.llamacpp.devices` prints the cards as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from errors import InvalidInput
from loaders.llamacpp import library
from loaders.llamacpp.library import C, base, declared, ggml
from loaders.llamacpp.placement import MEMORY, BySize, Card, Sizes

_CPU, _GPU, _INTEGRATED = 0, 1, 2  # ggml_backend_dev_type
_NETWORK = "RPC"


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
_properties = declared(base, "ggml_backend_dev_get_props", None, _pointer, ctypes.POINTER(_Properties))
_registry = declared(base, "ggml_backend_dev_backend_reg", _pointer, _pointer)
_registry_name = declared(base, "ggml_backend_reg_name", ctypes.c_char_p, _pointer)
_offers = declared(base, "ggml_backend_reg_get_proc_address", _pointer, _pointer, ctypes.c_char_p)
_by_name = declared(ggml, "ggml_backend_dev_by_name", _pointer, ctypes.c_char_p)
_is_host = declared(base, "ggml_backend_buft_is_host", ctypes.c_bool, _pointer)
_device_of = declared(base, "ggml_backend_buft_get_device", _pointer, _pointer)
_main_memory = declared(base, "ggml_backend_cpu_buffer_type", _pointer)
_own_kind = declared(base, "ggml_backend_dev_buffer_type", _pointer, _pointer)
_alloc = declared(base, "ggml_backend_buft_alloc_buffer", _pointer, _pointer, ctypes.c_size_t)
_clear = declared(base, "ggml_backend_buffer_clear", None, _pointer, ctypes.c_uint8)
_free = declared(base, "ggml_backend_buffer_free", None, _pointer)
_CLEARED, _ROUNDS = 2**27, 4  # bytes, and times
_FASTEST = 2e13  # bytes a second: what is told to be faster did not wait until it was done


def cards() -> list[Card]:
    """The cards that llama.cpp would use by itself, in its order. Raises: BrokenPackage.

    As in its llama_prepare_model_devices: servers in the network first; a card that two backends list counts once; an
    integrated one counts only where there is no other, and of one backend.
    """
    library.load_backends()
    if not C.llama_supports_gpu_offload():
        return []
    servers: list[Card] = []
    found: dict[bytes, Card] = {}
    integrated: list[tuple[int, Card]] = []
    for i in range(library.dev_count()):
        device = library.dev_get(i)
        kind = library.dev_type(device)
        if kind not in (_GPU, _INTEGRATED):
            continue
        told = _Properties()
        _properties(device, ctypes.byref(told))
        card = _card(device, told, integrated=kind == _INTEGRATED)
        if kind == _INTEGRATED:
            integrated.append((_registry(device), card))
        elif (_registry_name(_registry(device)) or b"").decode() == _NETWORK:
            servers.append(card)
        else:
            found.setdefault(told.device_id or str(device).encode(), card)
    own = list(found.values()) or [card for registry, card in integrated if registry == integrated[0][0]]
    return [*servers, *own]


def _card(device: int, told: _Properties, *, integrated: bool) -> Card:
    rows = bool(_offers(_registry(device), b"ggml_backend_split_buffer_type"))
    return Card(
        (told.name or b"?").decode("utf-8", "replace"),
        told.memory_free,
        told.memory_total,
        " ".join((told.description or b"").decode("utf-8", "replace").split()),
        integrated,
        rows,
    )


def free(name: str) -> int | None:
    """Free bytes of a card now; None for one in the network, whose connection belongs to whoever computes on it."""
    device = _by_name(name.encode())
    if not device or (_registry_name(_registry(device)) or b"").decode() == _NETWORK:
        return None
    left, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.dev_memory(device, ctypes.byref(left), ctypes.byref(total))
    return left.value


def bandwidth(name: str) -> float:
    """Bytes a second that a card fills its memory with, the best of some rounds; 0 where it has no room for the try.

    Reading is about as fast, and nothing quicker tells it for every kind of card.
    """
    device = _by_name(name.encode())
    buffer = _alloc(_own_kind(device), _CLEARED) if device else None
    if not buffer:
        return 0.0
    best, left = 0.0, ctypes.c_size_t()
    for value in range(_ROUNDS):
        started = time.perf_counter()
        _clear(buffer, value)
        library.dev_memory(device, ctypes.byref(left), ctypes.byref(left))  # an answer comes when that is done
        best = max(best, _CLEARED / (time.perf_counter() - started))
    _free(buffer)
    return best if best < _FASTEST else 0.0


def device_list(names: Sequence[str]) -> Any:
    """The devices of these names as llama_model_params wants them; to be kept until the model is loaded.

    An empty list ends at once: no card is touched. Raises: InvalidInput, where one is not there any more.
    """
    found = [_by_name(name.encode()) for name in names]
    if None in found:
        raise InvalidInput(f"The graphics card {names[found.index(None)]} is not there any more. Load the model again.")
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def experts_in_memory(blocks: int) -> Any:
    """What keeps the experts of the first blocks in main memory, for llama_model_params; to be kept as above."""
    numbers = "|".join(map(str, range(blocks)))
    pattern = rf"blk\.({numbers})\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode()
    return (_Override * 2)(_Override(pattern, _main_memory()), _Override(None, None))


class _Map(ctypes.Structure):
    """A std::map: larger than two words in every library, so that it is returned through memory."""

    _fields_ = (("words", ctypes.c_size_t * 8),)


#: The function's name, by system; where its tree is held, and where in a node its children are (in words).
_LINUX_NAME = "_Z26llama_get_memory_breakdownPK13llama_context"
_WINDOWS_NAME = (
    "?llama_get_memory_breakdown@@YA?AV?$map@PEAUggml_backend_buffer_type@@Ullama_memory_breakdown_data@@U?$less@"
    "PEAUggml_backend_buffer_type@@@std@@V?$allocator@U?$pair@QEAUggml_backend_buffer_type@@"
    "Ullama_memory_breakdown_data@@@std@@@4@@std@@PEBUllama_context@@@Z"
)
_MOST = 256  # devices and kinds of buffers


def account(context: Any) -> BySize | None:
    """What the model and this context take by device, by llama.cpp's own reckoning; None where it does not tell.

    Also where nothing was taken, as the model pretends. The function is for llama.cpp's own programs and returns a
    std::map, which is read as the C++ library of this system lays it out: a tree of nodes (two or three pointers to
    others, a colour, then the pair). Only Linux's has been run. A few hundred bytes are left behind by each call.
    """
    try:
        name = _WINDOWS_NAME if os.name == "nt" else _LINUX_NAME
        function = getattr(C.llama_cpp._lib, name)
    except AttributeError:
        return None
    function.restype, function.argtypes = _Map, [ctypes.c_void_p]
    found = function(ctypes.cast(context, ctypes.c_void_p))
    sizes: dict[str, Sizes] = {}
    for kind, weights, cache, buffers in _entries(found.words):
        device, copied = _place(kind)
        held = sizes.get(device, Sizes())
        sizes[device] = Sizes(
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


def _place(kind: int) -> tuple[str, bool]:
    """The device of a buffer type, and whether it holds copies that are rearranged for the processor."""
    if _is_host(kind):  # the machine's own, and what cards read from (CUDA_Host, Vulkan_Host)
        return MEMORY, False
    device = _device_of(kind)
    if device is None or library.dev_type(device) not in (_GPU, _INTEGRATED):
        return MEMORY, True
    return ctypes.string_at(library.dev_name(device)).decode("utf-8", "replace"), False


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"cards": cards()}) + "\n")
