"""Whether this build of llama.cpp computes here: a tiny model with many types of quantization is run.

`python -m loaders.llamacpp.self_test` goes the program's own way, with one thread and with several, and where llama.cpp
sees a graphics card with all layers on it, and prints one line; what llama.cpp itself says goes to standard error. The
installer starts it in a process of its own, for a build that does not fit the processor ends it by a signal.
It must not know how llama.cpp was installed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from errors import UserError
from loaders.base import Request
from loaders.llamacpp.loader import LlamaCpp
from loaders.llamacpp.placement import Card
from loaders.params import SamplingParams

MODEL = Path(__file__).with_suffix(".gguf")
EXPECTED = Path(__file__).with_suffix(".json")
#: Tokens that are read, and written.
PROMPT, REPLY = 100, 20
#: Processors round differently; a kernel that is broken is off by as much as the scores differ among themselves.
_TOLERANCE = 0.3
#: More layers than the model has: -1 would leave out those for which a full card has no room.
_ALL = 256


def scores(threads: int, layers: int = 0) -> npt.NDArray[np.float32]:
    """The log-probabilities of the prompt's tokens but the first; then a reply is written.

    `layers` go to a graphics card, where llama.cpp finds one; -1 for all. Raises: UserError.
    """
    options = LlamaCpp.Options.parse(
        {"n_ctx": 256, "threads": threads, "threads_batch": threads, "parallel": 1, "n_gpu_layers": layers}
    )
    prompt = [3 + 37 * position % 256 for position in range(PROMPT)]
    with LlamaCpp.load(MODEL, options, lambda *_: True) as model:
        found = model.score(prompt)
        greedy = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
        written = sum(1 for _ in model.generate(Request(prompt, greedy, REPLY)))
    if written != REPLY:
        raise ArithmeticError(f"{written} of {REPLY} tokens came")
    return found


def check(threads: int, layers: int) -> None:
    """Raises: ArithmeticError where the numbers are wrong, UserError where the model does not load."""
    expected = np.array(json.loads(EXPECTED.read_text("utf-8")), np.float32)
    found = scores(threads, layers)
    error = float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
    if not error < _TOLERANCE:  # so written, a NaN is too large as well
        where = f"with {threads} threads" if not layers else "with all layers on the graphics card"
        raise ArithmeticError(f"{where} it computes wrong numbers (an error of {error:.2f})")


def main() -> None:
    several = min(max(os.cpu_count() or 1, 2), 8)
    logging.basicConfig(format="%(message)s")  # why a card's library gives up is said nowhere else
    logging.getLogger("llama.cpp").setLevel(logging.DEBUG)
    check(1, layers=0)
    check(several, layers=0)
    cards = [name for name, *_ in _cards()]
    if cards:
        check(several, layers=_ALL)
    tried = f", with all layers on {', '.join(cards)}" if cards else ""
    sys.stdout.write(f"{PROMPT} tokens read and {REPLY} written, with 1 and with {several} threads{tried}\n")


def _cards() -> list[Card]:
    from loaders.llamacpp import devices

    return devices.cards()


if __name__ == "__main__":
    try:
        main()
    except (ArithmeticError, UserError) as error:  # in one line, for the installer shows the last one
        sys.exit(str(error))
