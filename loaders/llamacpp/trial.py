"""A file on trial before it comes into the server's own process: loaded and decoded for one token in another one.

llama.cpp ends the program it runs in where a file breaks its assumptions, some only when the first token is computed.
`python -m loaders.llamacpp.trial` reads a question as JSON. It computes on the processor, on weights that are mapped
from the file: what it has read the system keeps, and the load itself finds it there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders.llamacpp import child

_FIELDS = ("flash_attn_type", "type_k", "type_v")  # of the context's, those that choose what is computed


@dataclass(frozen=True)
class Question:
    """`stamps`: size and time of each part. `compute`: decode a token, for which all weights are read."""

    parts: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    context: tuple[tuple[str, Any], ...]
    compute: bool


def check(parts: Sequence[Path], context: dict[str, Any], memory: int, go_on: Callable[[], bool]) -> None:
    """Try a model with these fields of llama_context_params, once for as long as the file does not change.

    `memory`: free bytes; weights that would not fit into them are not read. Raises: ModelFileError, LoadCancelled.
    """
    stamps = tuple((each.st_size, each.st_mtime_ns) for each in (part.stat() for part in parts))
    question = Question(
        tuple(map(str, parts)),
        stamps,
        tuple((name, context[name]) for name in _FIELDS),
        compute=sum(size for size, _ in stamps) < 0.8 * memory,
    )
    try:
        _passes(question, _Asker(go_on))
    except child.Crashed as error:
        raise ModelFileError(
            parts[0].name,
            f"it would end the program ({error}). The file is damaged, or of a kind that this llama.cpp cannot run.",
        ) from None
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
    child.run("loaders.llamacpp.trial", asdict(question), asker.go_on)
    return True


def _try(parts: Sequence[str], context: dict[str, Any], *, compute: bool) -> None:
    from loaders.llamacpp import native

    native.start(False)
    weights = native.Weights(
        parts,
        n_gpu_layers=0,
        tensor_split=(),
        mmap=True,
        mlock=False,
        progress=lambda _: True,
        pretend=not compute,
        trial=True,
    )
    made = native.Context(
        weights, n_ctx=256, n_batch=32, n_ubatch=32, n_seq_max=1, n_threads=2, n_threads_batch=2, offload_kqv=False,
        op_offload=False, **context,
    )  # fmt: skip
    if compute:
        batch = native.Batch(1)
        batch.add([0], 0, 0, last=True, all_rows=False)
        made.decode(batch)
    made.close()
    weights.close()


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    _try(given["parts"], dict(given["context"]), compute=given["compute"])
    sys.stdout.write('{"passed": true}\n')
