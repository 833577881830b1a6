"""Long computations in llama.cpp can be cancelled while they run, and other requests lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import Cancelled, LoadCancelled, ModelClosed, UserError
from loaders import loader_named
from loaders.base import Model, Request
from loaders.llamacpp import native, thread_control
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine import attention
from loaders.llamacpp.placement import measurements
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.zoo import ggufs

PROMPT = [7 + i % 900 for i in range(480)]
GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)


class Steps:
    """The codes of all steps from now on; `at_first` is called when the first step with many rows begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[int] = []
        self.at_first: Callable[[], object] | None = None
        decode = native.LlamaContext.decode

        def noted(context: native.LlamaContext, batch: LlamaBatch) -> int:
            if self.at_first and batch.size > 100:
                do, self.at_first = self.at_first, None
                do()
            self.codes.append(decode(context, batch))
            return self.codes[-1]

        monkeypatch.setattr(native.LlamaContext, "decode", noted)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def _reply(model: Model, cancel: threading.Event) -> None:
    list(model.generate(Request(PROMPT, GREEDY, 4, cancel=cancel)))


#: Requests for many tokens at once.
ASKERS: dict[str, Callable[[Model, threading.Event], object]] = {
    "a reply": _reply,
    "a score": lambda model, cancel: model.score(PROMPT, cancel, len(PROMPT) - 2),
    "a vector": lambda model, cancel: model.embed([PROMPT], cancel),
}


@pytest.mark.parametrize("asker", ASKERS)
def test_what_nobody_wants_any_more_is_stopped(demo_model: Model, steps: Steps, asker: str) -> None:
    demo_model.set_loras([])  # nothing is reused
    cancel = threading.Event()
    steps.at_first = cancel.set
    try:
        ASKERS[asker](demo_model, cancel)
    except Cancelled:
        assert asker != "a reply"
    assert steps.codes == [2]


def test_behind_transformers_too(llamacpp_hf_model: Model, steps: Steps) -> None:
    cold = _tokens(llamacpp_hf_model, PROMPT)
    cancel = threading.Event()
    steps.codes.clear()
    steps.at_first = cancel.set
    other = PROMPT[:20] + PROMPT[::-1]
    list(llamacpp_hf_model.generate(Request(other, GREEDY, 4, cancel=cancel)))
    assert steps.codes == [2]
    assert _tokens(llamacpp_hf_model, PROMPT) == cold


def _tokens(model: Model, ids: list[int]) -> list[int]:
    return [token.id for token in model.generate(Request(ids, GREEDY, 6))]


def test_a_model_that_is_closed_waits_for_no_vector(demo_model_path: Path, steps: Steps) -> None:
    loader = loader_named("llama.cpp")
    model = loader.load(demo_model_path, loader.Options.parse({"n_ctx": 512, "threads": 1}), keep_going)
    closing = threading.Thread(target=model.close)
    steps.codes.clear()
    steps.at_first = closing.start
    with pytest.raises(ModelClosed):
        model.embed([PROMPT])
    closing.join()
    assert steps.codes == [2]


@pytest.mark.parametrize("measuring", ["attention kernel", "fastest thread count"])
def test_a_load_is_cancelled_while_it_measures(
    demo_model_path: Path, steps: Steps, measuring: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    monkeypatch.setattr(thread_control, "DISTURBING", float("inf"))  # whatever other tests do
    attention.time_kernels.cache_clear()
    loader = loader_named("llama.cpp")
    with pytest.raises(LoadCancelled):
        loader.load(
            demo_model_path, loader.Options.parse({"n_ctx": 512}), lambda _, doing: measuring not in doing
        ).close()
    assert steps.codes[-1] == 2
    assert bool(attention.time_kernels.results()) == (measuring != "attention kernel")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Model]]:
    folder, opened = tmp_path_factory.mktemp("zoo"), list[Model]()

    def load(name: str, **options: Any) -> Model:
        loader = loader_named("llama.cpp")
        options = {"n_ctx": 2048, "threads": 1, "flash_attn": "on", **options}
        opened.append(loader.load(ggufs.make(name, folder), loader.Options.parse(options), keep_going))
        return opened[-1]

    yield load
    for model in opened:
        model.close()


@pytest.mark.parametrize("replying", [False, True], ids=["beside a prompt", "beside a reply"])
@pytest.mark.parametrize(
    ("name", "options", "stops"),
    [("llama", {}, True), ("gemma3", {}, True), ("gemma3", {"n_ubatch": 64}, False), ("mamba2", {}, False)],
    ids=str,
)
def test_a_step_is_not_stopped_where_that_takes_more_from_others_than_it_spares(
    zoo: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], stops: bool,
    replying: bool,
) -> None:  # fmt: skip
    model = zoo(name, **options)
    engine: Any = model._engine  # type: ignore[attr-defined]
    monkeypatch.setattr(engine._pace, "piece", lambda *_: 512)
    other, leaves = threading.Event(), threading.Event()
    found: list[bool] = []
    seen = threading.Event()
    decode = engine._context.decode

    def noted(batch: LlamaBatch) -> int:
        going = [run for run in engine._runs if run.job.request.cancel is leaves]
        if not found and going and 300 < going[0].branches[0].added < batch.size:
            leaves.set()
            found.append(not engine._wanted())
        if engine._runs[0].job.report.new_tokens:
            seen.set()
        return int(decode(batch))

    monkeypatch.setattr(engine._context, "decode", noted)
    ids = [40 + i % 900 for i in range(1030)]
    stays = model.generate(Request(ids, GREEDY, 200 if replying else 2, cancel=other))
    if replying:
        assert seen.wait(60)
    goes = model.generate(Request([41, *ids[:700]], GREEDY, 2, cancel=leaves))
    list(goes)
    other.set()
    list(stays)
    assert found == [stops]


def test_vectors_asked_for_by_many_while_the_model_closes(demo_model_path: Path) -> None:
    """Each gets a vector or an error."""
    loader = loader_named("llama.cpp")
    model = loader.load(demo_model_path, loader.Options.parse({"n_ctx": 256, "threads": 2}), keep_going)
    right = model.embed([[5, 6, 7]])
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.extend(bool(np.allclose(model.embed([[5, 6, 7]] * 3), right, atol=1e-3)) for _ in range(5))
        except UserError as error:
            answers.append(isinstance(error, ModelClosed))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    model.close()
    for thread in threads:
        thread.join(60)
    assert len(answers) >= 12
    assert all(answers)
