"""The memory of compute buffers per device for a dry-run context: llama.cpp's own allocator is called with the last
graph that its scheduler split, which is the largest possible step.

llama.cpp computes it, too, but first forgets on which GPU the norms are computed (ggml_backend_sched_reserve_size
resets what building the graph has set), so with several GPUs, or with experts in main memory, it is up to 18 MiB off.
The scheduler's struct is private: its beginning is declared here and compared with the results of public functions. It
must not know of files, options or decisions. Importing it imports llama_cpp.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from errors import BrokenPackage
from loaders.llamacpp.library import BINDING, C, base, declare_function
from loaders.llamacpp.placement.devices import set_placement

_BACKENDS = 16  # GGML_SCHED_MAX_BACKENDS
_GET_SCHEDULER = "_ZNK13llama_context9get_schedEv"  # exported on Linux and macOS only

_pointer, _ints = ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
_number_of = declare_function(base, "ggml_backend_sched_get_n_backends", ctypes.c_int, _pointer)
_backend = declare_function(base, "ggml_backend_sched_get_backend", _pointer, _pointer, ctypes.c_int)
_kind = declare_function(base, "ggml_backend_sched_get_buffer_type", _pointer, _pointer, _pointer)
_nodes = declare_function(base, "ggml_graph_n_nodes", ctypes.c_int, _pointer)
_allocator = declare_function(base, "ggml_gallocr_new_n", _pointer, ctypes.POINTER(_pointer), ctypes.c_int)
_measure = declare_function(
    base, "ggml_gallocr_reserve_n_size", None, _pointer, _pointer, _pointer, _pointer, ctypes.POINTER(ctypes.c_size_t)
)
_free = declare_function(base, "ggml_gallocr_free", None, _pointer)


class _Graph(ctypes.Structure):
    """The beginning of a ggml_cgraph."""

    _fields_ = (("size", ctypes.c_int), ("n_nodes", ctypes.c_int), ("n_leafs", ctypes.c_int), ("nodes", _pointer))


class _Scheduler(ctypes.Structure):
    """The beginning of a ggml_backend_sched."""

    _fields_ = (
        ("is_reset", ctypes.c_bool),
        ("is_alloc", ctypes.c_bool),
        ("n_backends", ctypes.c_int),
        ("backends", _pointer * _BACKENDS),
        ("kinds", _pointer * _BACKENDS),
        ("allocator", _pointer),
        ("hash_set", _pointer * 3),
        ("backend_of_tensor", _pointer),
        ("copies", _pointer),
        ("backend_of_node", _pointer),
        ("backend_of_leaf", _pointer),
        ("backend_of_node_before", _pointer),
        ("backend_of_leaf_before", _pointer),
        ("graph", _Graph),
    )


def compute_buffers(context: Any) -> Mapping[str, int] | None:
    """Bytes by device, named as in the breakdown; None if this build of llama.cpp does not allow it.

    `context`: a llama_context of a dry-run model, unchanged since its creation.
    """
    if C.__version__ != BINDING:  # another llama.cpp than the one whose struct is known
        return None
    try:
        scheduler = declare_function(C.llama_cpp._lib, _GET_SCHEDULER, _pointer, _pointer)(
            ctypes.cast(context, _pointer)
        )
    except BrokenPackage:
        return None
    if not scheduler:
        return None
    held = _Scheduler.from_address(scheduler)
    number = held.n_backends
    if number != _number_of(scheduler) or not 0 < number <= _BACKENDS or not _is_as_told(held, scheduler):
        return None
    graph = ctypes.addressof(held) + _Scheduler.graph.offset
    sizes, kinds = (ctypes.c_size_t * number)(), (_pointer * number)(*held.kinds[:number])
    allocator = _allocator(kinds, number)
    _measure(allocator, graph, held.backend_of_node, held.backend_of_leaf, sizes)
    _free(allocator)
    found: dict[str, int] = {}
    for kind, size in dict(zip(kinds, sizes, strict=True)).items():  # one buffer per kind
        device, _ = set_placement(kind)
        found[device] = found.get(device, 0) + size
    return found


def _is_as_told(held: _Scheduler, scheduler: int) -> bool:
    """Whether the struct has the layout declared here."""
    told = [_backend(scheduler, i) for i in range(held.n_backends)]
    return (
        held.backends[: held.n_backends] == told
        and held.kinds[: held.n_backends] == [_kind(scheduler, each) for each in told]
        and not held.is_reset
        and 0 < held.graph.n_nodes <= held.graph.size
        and 0 < held.graph.n_leafs <= held.graph.size
        and bool(held.graph.nodes)
        and bool(held.backend_of_node and held.backend_of_leaf)
    )
