"""Engines for tests: the base class alone, the HF engine without torch, and any engine with steps that the test
controls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from errors import UserError
from loaders.base import Finish, Request, Token, TokenStream
from loaders.engine.active_request import ActiveRequest
from loaders.engine.engine import Engine
from loaders.engine.engine_model import QueuedModel
from loaders.hf_common.decoder import Decoder
from loaders.hf_common.engine import SearchStrategy, SequentialEngine
from loaders.job import Job
from loaders.logits import Floats
from loaders.params import SamplingParams
from tests.fake_engine import EOS, ByteTokenizer

HANG = 60  # seconds after which a test is considered to hang
PARAMS = SamplingParams(do_sample=False, ban_eos_token=True)


def in_thread(do: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """It, begun; and what it gave or raised, once it has ended."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(do())
        except UserError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def read(stream: TokenStream) -> list[Token]:
    """All of its tokens; nobody waits for ever for them. Raises: its error."""
    thread, results = in_thread(lambda: list(stream))
    thread.join(HANG)
    assert results, "the stream does not end"
    (result,) = results
    if isinstance(result, UserError):
        raise result
    assert isinstance(result, list)
    return result


class CountingEngine(Engine[ActiveRequest]):
    """The base class alone: each step gives every request a token."""

    def __init__(self) -> None:
        super().__init__("counting", 2)
        self._read: set[tuple[int, ...]] = set()
        self._thread.start()

    def _prepare(self, job: Job) -> ActiveRequest:
        return ActiveRequest(job)

    def _place(self, run: ActiveRequest) -> None:
        ids = tuple(run.job.request.ids)
        run.job.start()
        run.job.report.reused_tokens = len(ids) if ids in self._read else 0
        self._read.add(ids)

    def _release(self, run: ActiveRequest) -> None:
        pass

    def _can_pause(self, run: ActiveRequest) -> bool:
        return True

    def _forget(self) -> None:
        self._read.clear()

    def _step(self) -> bool:
        runs = list(self._runs)
        for run in runs:
            run.turn += 1
            run.job.put(Token(65, b"A"))
            if run.job.report.new_tokens >= run.job.request.max_tokens:
                self._end(run, Finish.LENGTH)
        return bool(runs)


def next_token(tokens: Sequence[int]) -> int:
    """The token that the decoder below generates after these."""
    return sum((place + 1) * token for place, token in enumerate(tokens)) % 200


class SummingDecoder(Decoder):
    """The next token depends on all tokens that it holds."""

    n_ctx, n_vocab = 4096, 300

    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        tokens = [*self.cached_ids(branch), *ids]
        rows = [next_token(tokens[: len(tokens) - after]) for after in reversed(range(keep))]
        return np.eye(self.n_vocab, dtype=np.float32)[rows] * 9

    def _truncate(self, branch: int, length: int) -> bool:
        return True

    def _empty(self, branch: int) -> None:
        pass


class EngineModel(QueuedModel):
    """A model that only consists of an engine."""

    def __init__(self, engine: Engine[Any], tokenizer: ByteTokenizer) -> None:
        super().__init__()
        self._engine, self.tokenizer = engine, tokenizer

    def _check_room(self, job: Job) -> None:
        pass

    def close(self) -> None:
        self._engine.close()


def small_tokenizer() -> ByteTokenizer:
    tokenizer = ByteTokenizer()
    tokenizer.n_vocab = SummingDecoder.n_vocab
    return tokenizer


def decoder_model(search: SearchStrategy | None = None, grammars: Any = None) -> EngineModel:
    """The engine of the HF loaders with a decoder that does not need torch."""
    tokenizer = small_tokenizer()
    engine = SequentialEngine(
        SummingDecoder(), tokenizer, frozenset({EOS}), name="decoder", search=search, grammars=grammars
    )
    return EngineModel(engine, tokenizer)


class EngineUnderTest:
    """A model and its engine, whose steps run freely or are held until the test lets one run."""

    def __init__(self, model: QueuedModel, *, samples: bool = True) -> None:
        self.model = model
        self.engine: Any = model._engine
        self.places: int = self.engine._places
        self.samples = samples
        self.error: BaseException | None = None  # raised by the next step
        self._step: Callable[[], bool] = self.engine._step
        self._free = threading.Event()
        self._free.set()
        self._allowed = threading.Semaphore(0)
        self._done = 0
        self.engine._step = self._held_step

    def _held_step(self) -> bool:
        while not (self._free.is_set() or self._allowed.acquire(timeout=0.01) or self.engine._queue.closed):
            pass
        if self.error and self.engine._runs:
            error, self.error = self.error, None
            raise error
        try:
            return self._step()
        finally:
            self._done += 1

    def hold(self) -> None:
        """Run no more steps from now on; one may be in progress."""
        self._free.clear()

    def let_one_go(self) -> None:
        """Run one step while they are held; the engine must have something to do."""
        done = self._done
        self._allowed.release()
        self.wait_for(lambda: self._done > done)

    def go_on(self) -> None:
        self._free.set()

    def prompt(self, number: int) -> list[int]:
        """A different prompt for each number; they differ from the first token on."""
        dice = np.random.default_rng(number)
        return [33 + number, *(int(each) for each in dice.integers(40, 190, 47))]

    def start(self, number: int, tokens: int = 400, label: str = "", **more: Any) -> Job:
        """A request with this prompt; its reply would be long."""
        stream = self.model.generate(Request(self.prompt(number), PARAMS, tokens, label=label, **more))
        assert isinstance(stream, Job)
        return stream

    def fill(self, tokens: int = 400, *, count: int = 0, written: int = 1, label: str = "") -> list[Job]:
        """As many requests as there are places, or `count`, each with this many tokens `written`. The steps are
        held.
        """
        self.hold()
        streams = [self.start(number, tokens, label) for number in range(count or self.places)]
        while min(stream.report.new_tokens for stream in streams) < written:
            self.let_one_go()
        return streams

    def wait_for(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + HANG
        while not what():
            assert time.monotonic() < until
            time.sleep(0.002)
