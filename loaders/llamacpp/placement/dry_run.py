"""Finds where a model would go and how much memory it would take, with llama.cpp but without loading weights.

`python -m loaders.llamacpp.placement.dry_run` reads a request as JSON and prints the result: the best placement, and
llama.cpp's own memory breakdown per device. A separate process, because llama.cpp aborts the whole program if a file is
invalid.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from errors import InvalidInput, LoadCancelled, ModelFileError, Unavailable
from loaders.gpus import Gpu, check_gpus_respond
from loaders.llamacpp import child_process, rpc
from loaders.llamacpp.placement import search, speed
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement
from loaders.memo import remembered

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import LlamaWeights

_PATIENCE = 120  # seconds
_FRESH = 30  # seconds for which a result is valid
_CLOSE = 50  # a smaller change of a GPU's free memory does not invalidate a result


@dataclass(frozen=True)
class DryRunRequest:
    """`context`: fields of llama_context_params, sorted. `embedding`: those of the context for embeddings, () to leave
    it out. `stamp` changes when the file does. `most`: maximum bytes per GPU, or 0. `pretended`: assumed free bytes of
    GPUs by name. `threads`: how many compute on the CPU. `machines`: the addresses of others that lend their memory.
    """

    parts: tuple[str, ...]
    context: tuple[tuple[str, Any], ...]
    wish: search.PlacementRequest = search.PlacementRequest()
    shape: search.ModelShape = search.ModelShape(0)
    embedding: tuple[tuple[str, Any], ...] = ()
    stamp: float = 0.0
    most: int = 0
    pretended: tuple[tuple[str, int], ...] = ()
    threads: int = 1
    machines: tuple[str, ...] = ()


@dataclass(frozen=True)
class DryRunResult:
    """The placement and its memory by device; the additional memory of embeddings, by device; all existing GPUs. The
    bytes kept free on each GPU, and the bandwidth of each used device (0: unknown), by name.
    """

    placement: Placement
    sizes: MemoryByDevice
    cards: tuple[Gpu, ...] = ()
    embedding: Mapping[str, int] | None = None
    margins: Mapping[str, int] = field(default_factory=dict)
    bandwidths: Mapping[str, float] = field(default_factory=dict)


def run_dry(question: DryRunRequest, cards: Sequence[Gpu] | None = None) -> DryRunResult | None:
    """llama.cpp's result; None if it gives none.

    A result is cached for a while, because the GPUs' free memory changes. If that is known from `cards`, a result is
    only valid for about the same amounts. A missing result is not cached.

    Raises: InvalidInput if the request does not fit the GPUs; ModelFileError if llama.cpp crashes because of the file;
    Unavailable if it does because of a GPU, or if a machine cannot be used.
    """
    try:
        answer = _remembered(question, int(time.monotonic() // _FRESH))
        return answer if cards is None or _still(answer.cards, cards) else _ask(question)
    except child_process.ChildCrashed as error:
        if question.wish.layers:
            check_gpus_respond(question.machines)
        raise error.about(Path(question.parts[0])) from None
    except (OSError, KeyError, LoadCancelled):
        return None


def _still(before: Sequence[Gpu], now: Sequence[Gpu]) -> bool:
    """Whether the GPUs have about as much free as before."""
    return [card.name for card in before] == [card.name for card in now] and all(
        abs(card.free - then.free) <= then.total // _CLOSE for card, then in zip(now, before, strict=True)
    )


@remembered(64)
def _remembered(question: DryRunRequest, _while: int) -> DryRunResult:
    return _ask(question)


def _ask(question: DryRunRequest) -> DryRunResult:
    if question.wish.layers:
        rpc.check_machines(question.machines)
    until = time.monotonic() + _PATIENCE
    value = child_process.ask_child(
        "loaders.llamacpp.placement.dry_run", asdict(question), lambda: time.monotonic() < until
    )
    if value is None:
        raise KeyError
    if refused := value.get("refused"):
        raise InvalidInput(refused)
    return DryRunResult(
        _placement(value["placement"]),
        {name: DeviceMemory(**size) for name, size in value["sizes"].items()},
        tuple(Gpu(*each) for each in value["cards"]),
        value["embedding"],
        value["margins"],
        value["bandwidths"],
    )


def _placement(value: Mapping[str, Any]) -> Placement:
    return Placement(**{**value, "cards": tuple(value["cards"]), "split": tuple(value["split"])})


def _answer(question: DryRunRequest) -> DryRunResult:
    """Raises: InvalidInput, ModelFileError, LookupError if llama.cpp reports no breakdown."""
    from loaders.llamacpp import native
    from loaders.llamacpp.placement import devices

    native.initialize()
    pretended = dict(question.pretended)
    there = devices.list_gpus(question.machines) if question.wish.layers else ()
    cards = [card._replace(free=pretended.get(card.name, card.free)) for card in there]

    known, machine = Measurements(), psutil.virtual_memory()
    memory = machine.available - known.memory_margin(machine.total)
    wish = replace(question.wish, kept=known.margins(cards))
    placement, sizes = search.find_best_placement(
        wish, question.shape, cards, memory, lambda tried: measure_placement(question, tried), question.most
    )
    embedding = None
    if question.embedding:
        weights = _weights(question, placement)
        with suppress(ModelFileError):  # not every model supports embeddings
            embedding = {
                name: size.cache + size.buffers for name, size in _account(weights, question.embedding).items()
            }
        weights.close()
    by_name = {card.name: card for card in cards}
    bandwidths = {MEMORY: known.bandwidth(None, lambda: speed.measure_memory_bandwidth(question.threads))}
    for name in placement.cards:
        bandwidths[name] = known.bandwidth(by_name[name], partial(devices.measure_gpu_bandwidth, name))
    return DryRunResult(placement, sizes, tuple(cards), embedding, search.safety_margins(wish, cards), bandwidths)


def measure_placement(question: DryRunRequest, placement: Placement) -> MemoryByDevice:
    """The memory of a placement, computed in this process. Raises: ModelFileError, LookupError."""
    weights = _weights(question, placement)
    try:
        return _account(weights, question.context)
    finally:
        weights.close()


def _weights(question: DryRunRequest, placement: Placement) -> LlamaWeights:
    from loaders.llamacpp import native

    return native.LlamaWeights(
        question.parts, placement=placement, mmap=False, mlock=False, progress=lambda _: True, pretend=True
    )


def _account(weights: LlamaWeights, fields: tuple[tuple[str, Any], ...]) -> MemoryByDevice:
    from loaders.llamacpp import native
    from loaders.llamacpp.placement import compute_buffers, devices

    with native.track_allocations():
        context = native.LlamaContext(weights, **dict(fields))
        rows = sum(size for (_, kind), size in native.allocated_sizes().items() if kind == "output")
    try:
        sizes, computing = devices.memory_breakdown(context.pointer), compute_buffers.compute_buffers(context.pointer)
    finally:
        context.close()
    if sizes is None:
        raise LookupError
    if computing is not None:
        sizes = {name: replace(size, buffers=computing.get(name, 0)) for name, size in sizes.items()}
    held = sizes.get(MEMORY, DeviceMemory())  # the rows of logits are there, and in no breakdown
    return {**sizes, MEMORY: replace(held, buffers=held.buffers + rows)}


def _question(given: Mapping[str, Any]) -> DryRunRequest:
    wished: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in given["wish"].items() if key != "kept"
    }
    pairs: dict[str, Any] = {
        key: tuple((name, value) for name, value in given[key]) for key in ("context", "embedding", "pretended")
    }
    wish, shape = search.PlacementRequest(**wished), search.ModelShape(**given["shape"])
    return DryRunRequest(
        tuple(given["parts"]),
        wish=wish,
        shape=shape,
        most=given["most"],
        threads=given["threads"],
        machines=tuple(given["machines"]),
        **pairs,
    )


def main() -> None:
    given = _question(child_process.read_question())
    try:
        made = asdict(_answer(given))
    except (LookupError, ModelFileError):  # no breakdown; or no model, which the real load reports
        return
    except (InvalidInput, Unavailable) as error:
        made = {"refused": str(error)}
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
