"""Where a model would go and what it would take there, without loading a weight: llama.cpp is asked to pretend.

`python -m loaders.llamacpp.dry_run` reads a question as JSON and prints the answer: the best placement for a wish, and
llama.cpp's own account of what it takes, device by device. A process of its own, for llama.cpp ends the whole program
where a file makes no sense to it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from errors import InvalidInput, LoadCancelled, ModelFileError
from loaders.cards import check_that_they_answer
from loaders.llamacpp import child, fit, speed
from loaders.llamacpp.measured import Measured
from loaders.llamacpp.placement import MEMORY, BySize, Card, Placement, Sizes

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import Weights

_PATIENCE = 120  # seconds
_FRESH = 30  # seconds for which an answer holds
_CLOSE = 50  # this part of a card's memory more or less free makes no other answer


@dataclass(frozen=True)
class Question:
    """`context`: fields of llama_context_params, sorted. `embedding`: those of the context for embeddings, () to leave
    it out. `stamp` changes when the file does. `most`: bytes that may go to a card, or 0. `pretended`:
    cards' free bytes by name, other than they are. `threads`: how many compute on the processor.
    """

    parts: tuple[str, ...]
    context: tuple[tuple[str, Any], ...]
    wish: fit.Wish = fit.Wish()
    shape: fit.Shape = fit.Shape(0)
    embedding: tuple[tuple[str, Any], ...] = ()
    stamp: float = 0.0
    most: int = 0
    pretended: tuple[tuple[str, int], ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class Answer:
    """The placement and what it takes by device; what embeddings take besides, by device; all cards there are. What is
    kept free on each card, and how many bytes a second each device that is used reads (0: not known), by its name.
    """

    placement: Placement
    sizes: BySize
    cards: tuple[Card, ...] = ()
    embedding: Mapping[str, int] | None = None
    margins: Mapping[str, int] = field(default_factory=dict)
    bandwidths: Mapping[str, float] = field(default_factory=dict)


def asked(question: Question, cards: Sequence[Card] | None = None) -> Answer | None:
    """What llama.cpp says; None where it does not come back with an answer.

    An answer holds for a while: what the cards have free changes. Where it is known, by `cards`, an answer holds only
    for as much as that, about. That there was none is not kept.

    Raises: InvalidInput, where the wish does not go with the cards; ModelFileError, where llama.cpp crashes over the
    file; Unavailable, where it does over a card.
    """
    try:
        answer = _remembered(question, int(time.monotonic() // _FRESH))
        return answer if cards is None or _still(answer.cards, cards) else _ask(question)
    except child.Crashed as error:
        if question.wish.layers:
            check_that_they_answer()
        raise error.about(Path(question.parts[0])) from None
    except (OSError, KeyError, LoadCancelled):
        return None


def _still(before: Sequence[Card], now: Sequence[Card]) -> bool:
    """Whether the cards have about as much free as before."""
    return [card.name for card in before] == [card.name for card in now] and all(
        abs(card.free - then.free) <= then.total // _CLOSE for card, then in zip(now, before, strict=True)
    )


@lru_cache(maxsize=64)
def _remembered(question: Question, _while: int) -> Answer:
    return _ask(question)


def _ask(question: Question) -> Answer:
    until = time.monotonic() + _PATIENCE
    asked, cards = asdict(question), question.wish.layers != 0
    value = child.run("loaders.llamacpp.dry_run", asked, lambda: time.monotonic() < until, cards=cards)
    if value is None:
        raise KeyError
    if refused := value.get("refused"):
        raise InvalidInput(refused)
    return Answer(
        _placement(value["placement"]),
        {name: Sizes(**size) for name, size in value["sizes"].items()},
        tuple(Card(*each) for each in value["cards"]),
        value["embedding"],
        value["margins"],
        value["bandwidths"],
    )


def _placement(value: Mapping[str, Any]) -> Placement:
    return Placement(**{**value, "cards": tuple(value["cards"]), "split": tuple(value["split"])})


def _answer(question: Question) -> Answer:
    """Raises: InvalidInput, ModelFileError, LookupError where llama.cpp gives no account."""
    from loaders.llamacpp import devices, native

    native.start(False)
    pretended = dict(question.pretended)
    there = devices.cards() if question.wish.layers else ()
    cards = [card._replace(free=pretended.get(card.name, card.free)) for card in there]

    memory, known = psutil.virtual_memory().available, Measured()
    wish = replace(question.wish, kept=known.margins(cards))
    placement, sizes = fit.best(
        wish, question.shape, cards, memory, lambda tried: measured(question, tried), question.most
    )
    embedding = None
    if question.embedding:
        weights = _weights(question, placement)
        with suppress(ModelFileError):  # not every model makes any
            embedding = {
                name: size.cache + size.buffers for name, size in _account(weights, question.embedding).items()
            }
        weights.close()
    by_name = {card.name: card for card in cards}
    bandwidths = {MEMORY: known.bandwidth(None, lambda: speed.memory_bandwidth(question.threads))}
    for name in placement.cards:
        bandwidths[name] = known.bandwidth(by_name[name], partial(devices.bandwidth, name))
    return Answer(placement, sizes, tuple(cards), embedding, fit.margins(wish, cards), bandwidths)


def measured(question: Question, placement: Placement) -> BySize:
    """What a placement takes, asked in this process. Raises: ModelFileError, LookupError."""
    weights = _weights(question, placement)
    try:
        return _without_doubles(_account(weights, question.context), question, placement, weights)
    finally:
        weights.close()


def _weights(question: Question, placement: Placement) -> Weights:
    from loaders.llamacpp import native

    return native.Weights(
        question.parts, placement=placement, mmap=False, mlock=False, progress=lambda _: True, pretend=True
    )


def _account(weights: Weights, fields: tuple[tuple[str, Any], ...]) -> BySize:
    from loaders.llamacpp import devices, native

    with native.counting():
        context = native.Context(weights, **dict(fields))
        rows = sum(size for (_, kind), size in native.sizes().items() if kind == "output")
    sizes = devices.account(context.pointer)
    context.close()
    if sizes is None:
        raise LookupError
    held = sizes.get(MEMORY, Sizes())  # the rows of logits lie there, and are in no account
    return {**sizes, MEMORY: Sizes(held.weights, held.cache, held.buffers + rows, held.rearranged)}


def _without_doubles(sizes: BySize, question: Question, placement: Placement, weights: Weights) -> BySize:
    """Less what llama.cpp counts twice where nothing is allocated and several cards work at several batches at once.

    It then forgets on which card the first norm of a card is computed (ggml_backend_sched_reserve_size resets the
    scheduler after the graph was built), and counts the copies of that norm's input besides those of its result: as
    many as there are batches under way, of n_ubatch tokens rounded up to all sequences, each a row of floats.
    """
    from loaders.llamacpp import native
    from loaders.llamacpp.library import C

    copies, context = native.copies(), dict(question.context)
    if copies <= 1:
        return sizes
    sequences = context["n_seq_max"]
    tokens = -(-min(context["n_ubatch"], context["n_ctx"]) // sequences) * sequences
    double = copies * tokens * C.llama_model_n_embd(weights.pointer) * 4
    behind = [name for name in placement.cards if sizes.get(name, Sizes()).cache][1:]
    return {
        name: replace(size, buffers=max(size.buffers - double * (name in behind), 0)) for name, size in sizes.items()
    }


def _question(given: Mapping[str, Any]) -> Question:
    wished: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in given["wish"].items() if key != "kept"
    }
    pairs: dict[str, Any] = {
        key: tuple((name, value) for name, value in given[key]) for key in ("context", "embedding", "pretended")
    }
    wish, shape = fit.Wish(**wished), fit.Shape(**given["shape"])
    return Question(
        tuple(given["parts"]), wish=wish, shape=shape, most=given["most"], threads=given["threads"], **pairs
    )


def main() -> None:
    given = _question(json.loads(sys.stdin.read()))
    try:
        made = asdict(_answer(given))
    except (LookupError, ModelFileError):  # no account; or no model, which the load itself says
        return
    except InvalidInput as error:
        made = {"refused": str(error)}
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
