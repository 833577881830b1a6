"""What a GGUF will take in memory, from its header alone, and how many of its layers fit on a GPU.

Sizes in bytes. An estimate for refusing what cannot work and for choosing a split; it must not know of the engine.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from errors import NotEnoughMemory
from loaders.forecast import DeviceForecast, in_words
from loaders.forecast import Forecast as ByDevice
from loaders.llamacpp.gguf import GGUFHeader, Tensor

#: Bytes per value of the KV cache types (ggml blocks of 32 values, with their scale).
CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

#: What llama.cpp takes beside weights and cache: compute buffers, output rows, the vocabulary.
_OVERHEAD = 150_000_000
#: Types of which llama.cpp makes a copy for the CPU (ggml-cpu/repack.cpp), and the processors on which it does.
_REARRANGED = ("Q4_0", "Q4_K", "IQ4_NL")
_REARRANGING = ("x86_64", "amd64", "arm64", "aarch64")
#: Kept free on a GPU for the desktop and for what grows while it runs.
_GPU_MARGIN = 600_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes by part, and what one layer takes of weights and cache together."""

    weights: int
    cache: int
    overhead: int
    per_layer: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.overhead


def forecast(header: GGUFHeader, n_ctx: int, cache_type: str, key_type: str = "") -> Forecast:
    """What the model takes with a context of `n_ctx` tokens. `key_type`: that of the keys, where it is another."""
    weights = sum(tensor.size for tensor in header.tensors)
    keys, values = _cache_values_per_token(header)
    cache = int(n_ctx * (keys * CACHE_BYTES[key_type or cache_type] + values * CACHE_BYTES[cache_type]))
    layers = max(header.n_layers, 1)
    in_layers = sum(tensor.size for tensor in header.tensors if tensor.name.startswith("blk."))
    return Forecast(weights, cache, _OVERHEAD, (in_layers + cache) // layers)


def _cache_values_per_token(header: GGUFHeader) -> tuple[int, int]:
    """Keys and values that one token adds to the cache, over all layers."""
    heads = header.get("attention.head_count", 0)
    kv_heads = header.get("attention.head_count_kv", heads)
    n_heads = max(heads) if isinstance(heads, list) else heads
    width = int(header.get("embedding_length", 0)) // max(n_heads, 1)
    kv_heads_of_all = int(sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * header.n_layers)
    keys = int(header.get("attention.key_length", width))
    return kv_heads_of_all * keys, kv_heads_of_all * int(header.get("attention.value_length", width))


def refuse_if_too_big(header: GGUFHeader, plan: Forecast, available: int, n_ctx: int, on_gpu: int = 0) -> None:
    """`on_gpu`: bytes that go to graphics cards. Raises: NotEnoughMemory, with what would help."""
    needed = plan.total - on_gpu
    if needed <= available:
        return
    if needed - plan.cache < available and not on_gpu:
        advice = f"Of that, the context of {n_ctx:,} tokens takes {plan.cache / 1e9:.1f} GB: lower n_ctx or cache_type."
    else:
        advice = "Choose a smaller model or a stronger quantization, or close other programs."
    raise NotEnoughMemory(header.path.name, needed, available, advice)


def layers_that_fit(header: GGUFHeader, plan: Forecast, free: int, *, cache_on_cpu: bool = False) -> tuple[int, str]:
    """How many layers go to a GPU with `free` bytes, and the reason in words."""
    layers = header.n_layers + 1  # the output layer counts, as llama.cpp counts it
    room = free - _GPU_MARGIN - _OVERHEAD
    sizes = (on_gpu(header, plan, count, cache_on_cpu=cache_on_cpu) for count in range(layers, 0, -1))
    fitting, taken = next(((layers - n, size + _OVERHEAD) for n, size in enumerate(sizes) if size <= room), (0, 0))
    return fitting, f"{fitting} of {layers} layers on the GPU: {taken / 1e9:.1f} of {free / 1e9:.1f} GB free"


def by_device(
    header: GGUFHeader,
    plan: Forecast,
    n_gpu_layers: int,
    reason: str,
    buffers: dict[str, int] | None,
    card: tuple[str, int] | None,
    free: int,
    *,
    cache_on_cpu: bool = False,
    mapped: bool = True,
) -> ByDevice:
    """What goes to the machine's memory and what to the `card` (its name and free bytes), with `n_gpu_layers` on it.

    As llama.cpp splits them: the last layers go to the GPU, the output layer counts as one more, the token embedding
    stays (and is copied where it is the output layer, too). `mapped`: the file itself is in memory, beside what
    llama.cpp rearranges of it for the CPU. `buffers`: compute buffers by device, where known.
    """
    moved, copied, cache = _moved(header, plan, n_gpu_layers, cache_on_cpu=cache_on_cpu)
    names = {tensor.name for tensor in moved}
    on_cpu = [tensor for tensor in header.tensors if tensor.name not in names]
    rearranged = sum(tensor.size for tensor in on_cpu if _is_rearranged(tensor)) if mapped else 0
    weights = sum(tensor.size for tensor in moved)
    known = buffers if buffers is not None else {"CPU": plan.overhead}
    on_cpu_buffers = sum(size for device, size in known.items() if device.startswith(("CPU", "CUDA_Host")))
    devices = [
        DeviceForecast("memory", plan.weights - weights + rearranged, plan.cache - cache, on_cpu_buffers, free),
    ]
    if card and n_gpu_layers:
        rest = sum(known.values()) - on_cpu_buffers
        devices.append(DeviceForecast(card[0], weights + copied, cache, rest, card[1], _GPU_MARGIN))
    return ByDevice(tuple(devices), in_words(tuple(devices), reason))


def on_gpu(header: GGUFHeader, plan: Forecast, n_gpu_layers: int, *, cache_on_cpu: bool = False) -> int:
    """Bytes of weights and cache that go to the graphics cards with so many layers there."""
    moved, copied, cache = _moved(header, plan, n_gpu_layers, cache_on_cpu=cache_on_cpu)
    return sum(tensor.size for tensor in moved) + copied + cache


def _moved(
    header: GGUFHeader, plan: Forecast, n_gpu_layers: int, *, cache_on_cpu: bool
) -> tuple[list[Tensor], int, int]:
    """What goes to the cards: tensors; bytes of the embedding that is copied as an output layer; bytes of cache."""
    if not n_gpu_layers:
        return [], 0, 0
    first = max(header.n_layers - n_gpu_layers, 0)
    output = n_gpu_layers > header.n_layers
    tied = not any(tensor.name == "output.weight" for tensor in header.tensors)
    copied = sum(t.size for t in header.tensors if t.name == "token_embd.weight") if output and tied else 0
    share = 0.0 if cache_on_cpu or not header.n_layers else (header.n_layers - first) / header.n_layers
    return [t for t in header.tensors if _goes(t, first, output)], copied, round(plan.cache * share)


def _is_rearranged(tensor: Tensor) -> bool:
    """Whether llama.cpp keeps a copy of these weights in the order in which this CPU multiplies (ggml's repack)."""
    matrix = len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    return matrix and tensor.type in _REARRANGED and platform.machine().lower() in _REARRANGING


def _goes(tensor: Tensor, first: int, output: bool) -> bool:
    name, _, rest = tensor.name.partition(".")
    if name == "blk":
        number = rest.partition(".")[0]
        return number.isdecimal() and int(number) >= first
    return output and name.startswith("output")
