"""A file on trial before it comes into the server's own process: in another one it is loaded, its vocabulary is used, a
context for embeddings is made, and a token is decoded.

llama.cpp ends the program it runs in where a file breaks its assumptions, some only when the first token is computed.
`python -m loaders.llamacpp.trial` reads a question as JSON. It computes on the processor, on weights that are mapped
from the file: what it has read the system keeps, and the load itself finds it there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ModelFileError
from loaders.base import Lora
from loaders.llamacpp import child
from loaders.llamacpp.placement import Placement

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import Batch, Context

#: A text with every byte that UTF-8 can have: a vocabulary that lacks pieces for some ends the program where one comes.
_EVERY_BYTE = "".join(
    chr(code)
    for code in (
        *range(0x800),
        *range(0x800, 0xD800, 64),
        *range(0xE000, 0x10000, 64),
        *range(0x10000, 0x110000, 0x8000),
    )
)

_FIELDS = ("flash_attn_type", "type_k", "type_v")  # of the context's, those that choose what is computed


@dataclass(frozen=True)
class Question:
    """`stamps`: what changes with each part. `compute`: decode a token, for which all weights are read. `shift`: drop
    tokens of the context, too. `adapter`: the path of a LoRA adapter that is to act.
    """

    parts: tuple[str, ...]
    stamps: tuple[tuple[int, ...], ...]
    context: tuple[tuple[str, Any], ...]
    compute: bool
    shift: bool = False
    adapter: str = ""


def check(
    parts: Sequence[Path], context: dict[str, Any], memory: int, go_on: Callable[[], bool], *, shift: bool = False
) -> bool:
    """Try a model with these fields of llama_context_params, once for as long as the file does not change.

    `memory`: free bytes; weights that would not fit into them are not read. Returns whether the context can be
    shifted, where that is asked for. Raises: ModelFileError, LoadCancelled.
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


def check_adapter(parts: Sequence[Path], adapter: Path, context: dict[str, Any], memory: int) -> None:
    """Try a model with a LoRA adapter. Raises: ModelFileError."""
    question = _question((*parts, adapter), context, memory)
    _ask(replace(question, parts=question.parts[:-1], adapter=str(adapter)), adapter, lambda: True)


def _question(parts: Sequence[Path], context: dict[str, Any], memory: int, *, shift: bool = False) -> Question:
    """Raises: OSError."""
    found = [part.stat() for part in parts]
    return Question(
        tuple(map(str, parts)),
        tuple((each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino) for each in found),
        tuple((name, context[name]) for name in _FIELDS),
        compute=sum(each.st_size for each in found) < 0.8 * memory,
        shift=shift,
    )


def _ask(question: Question, file: Path, go_on: Callable[[], bool]) -> None:
    """Raises: ModelFileError, LoadCancelled."""
    try:
        _passes(question, _Asker(go_on))
    except child.Crashed as error:
        raise error.about(file) from None
    except OSError:
        return  # no process could be started: the load itself will tell


class _Asker:
    """Whether to go on, without being a part of what is remembered."""

    def __init__(self, go_on: Callable[[], bool]) -> None:
        self.go_on = go_on

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asker)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=256)
def _passes(question: Question, asker: _Asker) -> bool:
    """True where it was got through. What crashes or is cancelled is not remembered. Raises: as child.run."""
    child.run("loaders.llamacpp.trial", asdict(question), asker.go_on, cards=False)
    return True


def _try(question: Question) -> None:
    from loaders.llamacpp import native
    from loaders.llamacpp.adapters import Adapters
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    native.start(False)
    weights = native.Weights(
        question.parts,
        placement=Placement(),
        mmap=question.compute,  # llama.cpp ends the program where it is to map a file and to take nothing
        mlock=False,
        progress=lambda _: True,
        pretend=not question.compute,
        trial=True,
    )
    tokenizer = LlamaTokenizer(weights, None)
    tokenizer.encode(_EVERY_BYTE, add_bos=True)
    for token in range(tokenizer.n_vocab):
        tokenizer.piece(token, special=True)
    size: dict[str, Any] = {"n_ctx": 256, "n_batch": 32, "n_ubatch": 32, "n_seq_max": 1, "n_threads": 2}
    size |= {"n_threads_batch": 2, "offload_kqv": False, "op_offload": False}
    for more in ({"embeddings": True}, {}):  # as for /v1/embeddings, and as for replies
        made = native.Context(weights, **size, **dict(question.context), **more)
        if question.adapter and not more:
            Adapters(weights, made).set([Lora(Path(question.adapter))])
        if question.compute and not more:
            _decode(native.Batch(1), made, shift=question.shift)
        made.close()
    weights.close()


def _decode(batch: Batch, context: Context, *, shift: bool) -> None:
    """A token; with `shift` a second one, then one more after the first has been dropped."""
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
    given = json.loads(sys.stdin.read())
    _try(Question(**{**given, "context": tuple((name, value) for name, value in given["context"])}))
    sys.stdout.write('{"passed": true}\n')
