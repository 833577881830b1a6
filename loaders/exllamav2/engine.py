"""The engine over ExLlamaV2's generator: requests are admitted in the order in which they arrived.

With paged attention, up to `parallel` replies run in the generator's batch; without it, one at a time. Scores, and
guidance without paged attention, run alone; newer requests wait for them. It handles token ids and Jobs; it must not
know about text, chats or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from errors import EngineFailed, NonFiniteLogits, OutOfGpuMemory, UserError
from loaders.base import Lora, Tokenizer
from loaders.engine.decoding_request import DecodingRequest
from loaders.engine.engine import Engine
from loaders.exllamav2.adapters import ExLlamaV2Adapters
from loaders.exllamav2.dynamic_job import SamplerJob
from loaders.exllamav2.guidance_pair import GuidancePair
from loaders.exllamav2.native import ROWS, ExLlamaV2Weights, count_pages, is_out_of_memory
from loaders.exllamav2.options import Bits
from loaders.job import Job, LogitsRequest, ScoreRequest
from loaders.sampler import make_sampler


class ExLlamaV2Engine(Engine[DecodingRequest]):
    """`room` may be called from any thread; `change_loras` only from the engine's own."""

    def __init__(
        self, weights: ExLlamaV2Weights, tokenizer: Tokenizer, end_ids: frozenset[int], parallel: int, cache: Bits
    ) -> None:
        super().__init__("ExLlamaV2", parallel if weights.paged else 1)
        self._weights = weights
        self._generator = weights.generator
        self._paged = weights.paged
        self._pages = int(weights.generator.max_pages)
        self._guessed = int(weights.generator.num_draft_tokens)  # tokens that one step may draft
        self._tokenizer = tokenizer
        self._ends = end_ids
        self._kind = cache
        self._adapters = ExLlamaV2Adapters(weights.model)
        self._loras: list[Any] | None = None
        self._pair: GuidancePair | None = None
        self._replies: dict[DecodingRequest, SamplerJob] = {}  # the requests in the generator
        self._alone: DecodingRequest | None = None
        self._thread.start()

    def room(self, prompts: Sequence[Sequence[int]]) -> int:
        """How many tokens can follow these prompts; 0 or less if they do not fit."""
        guessed = self._guessed
        new = self._weights.context_length - max(len(ids) for ids in prompts) - guessed
        if self._paged and self._together(prompts):
            while new > 0 and sum(count_pages(len(ids) + new + guessed) for ids in prompts) > self._pages:
                new -= 1
        return new

    def change_loras(self, loras: Sequence[Lora]) -> None:
        """Activate exactly these adapters. Raises: IncompatibleAdapter, and then nothing has changed."""
        self._loras = self._adapters.set(loras)
        self._generator.current_loras = self._loras

    def close(self) -> None:
        super().close()
        self._generator = self._pair = self._loras = None

    # --- places ---

    def _fits(self, item: Job | DecodingRequest) -> bool:
        return self._alone is None and not isinstance(item.job, ScoreRequest) and self._together(item.job.prompts)

    def _together(self, prompts: Sequence[object]) -> bool:
        """Whether the generator itself can process these prompts: two only with pages, and not with draft tokens."""
        return len(prompts) == 1 or (self._paged and not self._guessed)

    def _prepare(self, job: Job) -> DecodingRequest:
        if isinstance(job, ScoreRequest):
            return DecodingRequest(job, None, self._tokenizer, self._ends, 0)
        if isinstance(job, LogitsRequest):
            return DecodingRequest(job, None, self._tokenizer, self._ends, 1)
        new = min(job.request.max_tokens, self.room(job.prompts))
        sampler = make_sampler(job, self._tokenizer, self._ends, n_ctx=self._weights.context_length)
        return DecodingRequest(job, sampler, self._tokenizer, self._ends, new)

    def _place(self, run: DecodingRequest) -> None:
        job = run.job
        if isinstance(job, ScoreRequest):
            run.steps = self._score(job, run)
        elif self._together(job.prompts):
            self._enqueue(run, job.prompts)
            return
        else:
            run.steps = self._guide(job, run)
        self._alone = run
        job.start()

    def _enqueue(self, run: DecodingRequest, texts: Sequence[Sequence[int]]) -> None:
        """Let the generator compute what follows these texts: it starts the job when it has pages for it."""
        written = len(texts[0]) - len(run.job.request.ids)
        # it stops early by as many tokens as it may draft
        reply = SamplerJob(run, texts, run.max_new - written + self._guessed, self._ends)
        self._generator.enqueue(reply)
        self._replies[run] = reply

    def _release(self, run: DecodingRequest) -> None:
        if run is self._alone:
            self._alone = None
        if reply := self._replies.pop(run, None):
            self._generator.cancel(reply)  # no effect if the generator has ended it already

    def _forget(self) -> None:
        self._generator.reset_page_table()  # pages are found by their tokens only
        if self._pair:
            self._pair.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _abandon_step(self) -> None:
        """Make sure that nothing it may have half written is reused."""
        self._generator.pending_jobs.clear()
        self._generator.active_jobs.clear()
        self._generator.reset_page_table()

    def _explain(self, error: BaseException) -> UserError | None:
        return OutOfGpuMemory() if is_out_of_memory(error) else EngineFailed(f"ExLlamaV2 failed ({error!r}).")

    # --- one step ---

    def _step(self) -> bool:
        if not self._runs:
            return False
        if self._alone:
            self._alone.advance()
        else:
            self._generator.iterate()
        for run in list(self._runs):
            reply = self._replies.get(run)
            if reply and run.job.first_token and not run.job.report.reuse_reason:
                run.note_reuse(reply.reused)
            if run.over is not None:
                self._end(run, run.over)
            elif reply and reply.back:  # what is left of its text is found in the pages
                self._generator.cancel(reply)
                self._enqueue(run, reply.texts)
        return True

    def _guide(self, job: Job, run: DecodingRequest) -> Iterator[None]:
        """Guidance without pages: both prompts in a separate cache, decoded together."""
        if self._pair is None:
            self._pair = GuidancePair(self._weights, self._kind)
        pair = self._pair
        for reused in pair.read(job.prompts, self._loras):
            if not job.report.reuse_reason:
                run.note_reuse(reused)
            yield
        pair.begin(job.prompts)
        tokens = [ids[-1] for ids in job.prompts]
        while run.over is None:
            tokens = [run.choose(pair.step(tokens, self._loras))] * 2
            if run.dropped:
                pair.go_back(run.dropped)
            yield

    def _score(self, job: ScoreRequest, run: DecodingRequest) -> Iterator[None]:
        """The log-probability of each token after the first, in the generator's own cache, which is empty
        afterwards.
        """
        ids, cache, n_vocab = list(job.request.ids), self._weights.cache, self._tokenizer.n_vocab
        self._generator.reset_page_table()
        for at in range(0, len(ids) - 1, ROWS):
            piece = ids[at : min(at + ROWS, len(ids) - 1)]
            cache.current_seq_len = at
            logits = self._weights.model.forward(torch.tensor([piece], dtype=torch.long), cache, loras=self._loras)
            logprobs = torch.log_softmax(logits[0, :, :n_vocab].float(), dim=-1)
            after = torch.tensor(ids[at + 1 : at + 1 + len(piece)], device=logprobs.device)
            found = logprobs.gather(1, after[:, None])[:, 0].cpu().numpy()
            if found.size and not (found <= 0).all():  # NaN is not
                run.over = NonFiniteLogits()
            job.logprobs[at : at + len(piece)] = found
            yield
