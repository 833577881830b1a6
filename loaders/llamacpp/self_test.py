"""Tests whether this build of llama.cpp computes correctly here, with a tiny model of many quantization types.

`python -m loaders.llamacpp.self_test` uses the program's own code, with one and with several threads, and if llama.cpp
sees a GPU with all layers on it, and prints one line; llama.cpp's own output goes to standard error. The installer
starts it in a separate process, because a build that does not fit the processor crashes. It must not know how llama.cpp
was installed.
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
from loaders.gpus import Gpu
from loaders.llamacpp.loader import build_model, engine_limits
from loaders.llamacpp.loading import load_gguf
from loaders.llamacpp.options import LlamaCppOptions
from loaders.params import SamplingParams

MODEL = Path(__file__).with_suffix(".gguf")
EXPECTED = Path(__file__).with_suffix(".json")
#: Tokens that are read, and generated.
PROMPT, REPLY = 100, 20
#: Processors round differently; the error of a defective kernel is as large as the differences between the scores.
_TOLERANCE = 0.3
#: More layers than the model has: -1 would leave out those for which a full GPU has no room.
_ALL = 256


def compute_scores(threads: int, layers: int = 0, kernel: str = "auto") -> npt.NDArray[np.float32]:
    """The log-probabilities of the prompt's tokens except the first; then a reply is generated.

    `layers` go to a GPU, if llama.cpp finds one; -1 for all. `kernel`: the option flash_attn. Raises: UserError.
    """
    options = LlamaCppOptions.parse(
        {"n_ctx": 256, "threads": threads, "threads_batch": threads, "parallel": 1, "n_gpu_layers": layers}
        | {"flash_attn": kernel}
    )
    prompt = [3 + 37 * position % 256 for position in range(PROMPT)]
    limits = engine_limits(options)
    # not tested in a separate process first: this is one
    with load_gguf(MODEL, options, limits, limits.copies, lambda *_: True, build_model, tried=True) as model:
        found = model.score(prompt)
        greedy = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
        written = sum(1 for _ in model.generate(Request(prompt, greedy, REPLY)))
    if written != REPLY:
        raise ArithmeticError(f"only {written} of {REPLY} tokens were generated")
    return found


def check_scores(threads: int, layers: int = 0, kernel: str = "auto") -> None:
    """Raises: ArithmeticError if the numbers are wrong, UserError if the model does not load."""
    expected = np.array(json.loads(EXPECTED.read_text("utf-8")), np.float32)
    found = compute_scores(threads, layers, kernel)
    error = float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
    if not error < _TOLERANCE:  # written this way, NaN counts as too large
        where = f"with {threads} threads" if not layers else "with all layers on the GPU"
        raise ArithmeticError(f"{where} the results are wrong (error {error:.2f})")


def main() -> None:
    several = min(max(os.cpu_count() or 1, 2), 8)
    logging.basicConfig(format="%(message)s")  # the reason of a GPU library's abort is reported nowhere else
    logging.getLogger("llama.cpp").setLevel(logging.DEBUG)
    check_scores(1, kernel="on")
    check_scores(several, kernel="off")  # both are tested; a load would measure which one is faster
    cards = [name for name, *_ in _cards()]
    if cards:
        check_scores(several, layers=_ALL)
    tried = f", with all layers on {', '.join(cards)}" if cards else ""
    sys.stdout.write(f"{PROMPT} tokens read and {REPLY} written, with 1 and with {several} threads{tried}\n")


def _cards() -> list[Gpu]:
    from loaders.llamacpp.placement import devices

    return devices.list_gpus()


if __name__ == "__main__":
    try:
        main()
    except (ArithmeticError, UserError) as error:  # on one line, because the installer shows the last one
        sys.exit(str(error))
