"""Tests a file in a separate process before it is loaded into the server's own: loads it, uses its vocabulary, creates
a context for embeddings, and decodes a token.

llama.cpp aborts the process if a file violates its assumptions, sometimes only at the first token. `python -m
loaders.llamacpp.load_trial` reads a request as JSON. It computes on the CPU, with weights mapped from the file: the
system caches what it has read, and the real load finds it there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ModelFileError
from loaders.llamacpp import child_process
from loaders.llamacpp.placement.placement import Placement
from loaders.memo import remembered

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.batch import LlamaBatch
    from loaders.llamacpp.native import LlamaContext, LlamaWeights

#: A text with every byte of UTF-8: a vocabulary without pieces for some would crash the process when one occurs.
_EVERY_BYTE = "".join(
    chr(code)
    for code in (
        *range(0x800),
        *range(0x800, 0xD800, 64),
        *range(0xE000, 0x10000, 64),
        *range(0x10000, 0x110000, 0x8000),
    )
)

_OF_THE_SYSTEM = re.compile("map|alloc|memory|open|read", re.IGNORECASE)

_FIELDS = ("flash_attn_type", "type_k", "type_v")  # the fields of the context that select what is computed


@dataclass(frozen=True)
class TrialRequest:
    """`stamps`: values that change with each part of the file. `compute`: decode a token, for which all weights are
    read. `shift`: also drop tokens from the context. `adapter`: the path of a LoRA adapter to apply.
    """

    parts: tuple[str, ...]
    stamps: tuple[tuple[int, ...], ...]
    context: tuple[tuple[str, Any], ...]
    compute: bool
    shift: bool = False
    adapter: str = ""


def try_model(
    parts: Sequence[Path], context: dict[str, Any], memory: int, go_on: Callable[[], bool], *, shift: bool = False
) -> bool:
    """Test a model with these fields of llama_context_params; the result is cached until the file changes.

    `memory`: free bytes; weights that do not fit are not read. Returns whether the context can be shifted, if
    requested. Raises: ModelFileError, LoadCancelled.
    """
    question = _question(parts, context, memory, shift=shift)
    if not shift:
        _ask(question, parts[0], go_on)
        return False
    try:
        _ask(question, parts[0], go_on)
    except ModelFileError:
        _ask(replace(question, shift=False), parts[0], go_on)
        return False
    return True


def refuse_model(
    parts: Sequence[Path], context: dict[str, Any], memory: int, go_on: Callable[[], bool], *, shift: bool = False
) -> None:
    """As `try_model`, for a file that is not loaded right after that: also refuse what llama.cpp refuses by itself.

    Raises: ModelFileError, LoadCancelled.
    """
    if not try_model(parts, context, memory, go_on, shift=shift):
        shift = False
    if why := _ask(_question(parts, context, memory, shift=shift), parts[0], go_on):
        raise ModelFileError(parts[0].name, why)


def try_adapter(parts: Sequence[Path], adapter: Path, context: dict[str, Any], memory: int) -> None:
    """Test a model with a LoRA adapter. Raises: ModelFileError."""
    question = _question((*parts, adapter), context, memory)
    _ask(replace(question, parts=question.parts[:-1], adapter=str(adapter)), adapter, lambda: True)


def _question(parts: Sequence[Path], context: dict[str, Any], memory: int, *, shift: bool = False) -> TrialRequest:
    """Raises: OSError."""
    found = [part.stat() for part in parts]
    return TrialRequest(
        tuple(map(str, parts)),
        tuple((each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino) for each in found),
        tuple((name, context[name]) for name in _FIELDS),
        compute=sum(each.st_size for each in found) < 0.8 * memory,
        shift=shift,
    )


def _ask(question: TrialRequest, file: Path, go_on: Callable[[], bool]) -> str:
    """Why llama.cpp refuses the file, as the end of a sentence; "" if it does not. Raises: ModelFileError,
    LoadCancelled.
    """
    try:
        return _refusal(question, go_on)
    except child_process.ChildCrashed as error:
        raise error.about(file) from None
    except OSError:
        return ""  # no process could be started: the real load will show the error


@remembered(256, key=lambda question, _: question)
def _refusal(question: TrialRequest, go_on: Callable[[], bool]) -> str:
    """Crashes and cancellations are not cached. Raises: as ask_child."""
    answer = child_process.ask_child("loaders.llamacpp.load_trial", asdict(question), go_on)
    return str(answer.get("refused", "")) if answer else ""


def _try(question: TrialRequest) -> str:
    """Why llama.cpp refuses the file; "" if it does not."""
    from loaders.llamacpp import native
    from loaders.llamacpp.batch import LlamaBatch
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    native.initialize()
    try:
        weights = native.LlamaWeights(
            question.parts,
            placement=Placement(),
            mmap=question.compute,  # llama.cpp aborts if it should map a file without allocating
            mlock=False,
            progress=lambda _: True,
            pretend=not question.compute,
            trial=True,
        )
    except ModelFileError as error:
        why = str(error).partition(": ")[2]
        # what is said of mapping and memory hangs on this process
        return "" if isinstance(error, native.LlamaOutOfMemory) or _OF_THE_SYSTEM.search(why) else why
    tokenizer = LlamaTokenizer(weights, None)
    tokenizer.encode(_EVERY_BYTE, add_bos=True)
    for token in range(tokenizer.n_vocab):
        tokenizer.piece(token, special=True)
    size: dict[str, Any] = {"n_ctx": 256, "n_batch": 32, "n_ubatch": 32, "n_seq_max": 1, "n_threads": 2}
    size |= {"n_threads_batch": 2, "offload_kqv": False, "op_offload": False}
    for more in ({"embeddings": True}, {}):  # for /v1/embeddings, and for replies
        made = native.LlamaContext(weights, **size, **dict(question.context), **more)
        if question.adapter and not more:
            _adapt(weights, made, Path(question.adapter))
        if question.compute and not more:
            _decode(LlamaBatch(1), made, shift=question.shift)
        made.close()
    weights.close()
    return ""


def _adapt(weights: LlamaWeights, context: LlamaContext, adapter: Path) -> None:
    # here, because these take as long to import as all the rest
    from loaders.base import Lora
    from loaders.llamacpp.adapters import LlamaCppAdapters

    LlamaCppAdapters(weights, context).set([Lora(adapter)])


def _decode(batch: LlamaBatch, context: LlamaContext, *, shift: bool) -> None:
    """Decode a token; with `shift` a second one, then one more after the first has been dropped."""
    for position in (0, 1) if shift else (0,):
        batch.clear()
        batch.add([0], position, 0, last=True, all_rows=False)
        context.decode(batch)
    if shift and context.can_shift:
        context.shift(0, 0, 1)
        batch.clear()
        batch.add([0], 1, 0, last=True, all_rows=False)
        context.decode(batch)


if __name__ == "__main__":
    given = child_process.read_question()
    why = _try(TrialRequest(**{**given, "context": tuple((name, value) for name, value in given["context"])}))
    sys.stdout.write(json.dumps({"refused": why}) + "\n")
