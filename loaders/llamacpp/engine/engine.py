"""The engine of llama.cpp: all running requests are decoded in one batch of one context.

Each step: fill a batch (one token for each running reply, then prompt tokens), decode it, and choose a token for each
request whose logits were computed. A request that waits for its grammar is not in the batch. It handles token ids and
Jobs; it must not know about text, chats or files.
"""

from __future__ import annotations

import contextlib
import logging
import time

from errors import EngineFailed, ModelClosed
from loaders.base import Finish
from loaders.engine.engine import GRACE, Engine
from loaders.grammar.matcher import GrammarEngine
from loaders.job import Job, LogitsRequest, ScoreRequest
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine import batching, fallback_state
from loaders.llamacpp.engine.batch_request import BatchRequest, Branch
from loaders.llamacpp.engine.checkpoints import WORTH, WORTH_WINDOWED, Checkpoints, choose_places
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.engine.prompt_cache import PromptCache
from loaders.llamacpp.engine.prompt_chunking import YIELDING_STEP, PromptChunker
from loaders.llamacpp.engine.sequence_pool import SequencePool
from loaders.llamacpp.engine.speculation import DraftOptions, Speculation
from loaders.llamacpp.engine.warm_starts import WarmStarts
from loaders.llamacpp.native import LlamaContext
from loaders.llamacpp.thread_control import ThreadControl
from loaders.llamacpp.tokenizer import LlamaTokenizer
from loaders.logits import Floats, make_token, require_finite, token_logprob
from loaders.sampler import make_sampler
from loaders.sampling import SamplerBuffers

log = logging.getLogger(__name__)


class BatchEngine(Engine[BatchRequest]):
    """Continuous batching over one context."""

    _grammars: GrammarEngine

    def __init__(
        self,
        context: LlamaContext,
        tokenizer: LlamaTokenizer,
        limits: EngineLimits,
        grammars: GrammarEngine,
        drafts: DraftOptions | None = None,
        disk: DiskCache | None = None,
        *,
        keep_all: bool = False,
    ) -> None:
        """`disk`: where states of lasting requests are kept, with `keep_all` those of all; closed with the engine."""
        super().__init__("llama.cpp", limits.parallel, grammars)
        self._context = context
        self._tokenizer = tokenizer
        self._limits = limits
        self._batch = LlamaBatch(limits.tokens)
        # a shift renumbers cells, so none may belong to two sequences
        can_fork = limits.shared and limits.keep is None
        checkpoints = Checkpoints(limits.checkpoints, limits.cache_bytes // 2)
        states = PromptCache(limits.cache_bytes, checkpoints)
        self._sequences = SequencePool(
            context, limits.sequences, shared=can_fork, states=states, shifts=limits.keep is not None
        )
        self._scratch = SamplerBuffers(tokenizer.n_vocab)
        self._pace = PromptChunker(limits.n_batch)
        self._speculation = Speculation(context, limits, drafts, tokenizer.end_ids)
        self._warm: WarmStarts | None = None
        if disk:
            self._warm = WarmStarts(disk, self._sequences, super().submit, limits.cache_bytes, keep_all=keep_all)
        drafting = [drafts.model.context] if drafts and drafts.model else []
        self._threads = ThreadControl([context, *drafting])
        self._beside = 0  # rows of replies in the batch of this step
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a request, once its state has been read if that is on disk. Raises: ModelClosed, EngineFailed."""
        if self._warm:
            self._warm.enter(job)
        else:
            super().submit(job)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        running, waiting = super().jobs()
        return running, [*waiting, *(self._warm.line() if self._warm else ())]

    def close(self) -> None:
        super().close()
        self._threads.rest()
        if self._warm:
            self._warm.close(failed=not isinstance(self._queue.closed, ModelClosed))

    def labels(self) -> frozenset[str]:
        """Whose states are kept, in memory or on disk. From any thread."""
        return frozenset(self._sequences.labels()) | (self._warm.labels if self._warm else frozenset())

    @property
    def saving(self) -> bool:
        """Whether it is being closed, and states are still being written. From any thread."""
        return self._warm is not None and self._warm.saving

    def seconds_per_token(self) -> float:
        """The time per token of a reply that is alone in its step; 0 if too few have been measured. From any thread."""
        return self._pace.cost.of_one()

    # --- places ---

    def _fits(self, item: Job | BatchRequest) -> bool:
        """Idle sequences are freed if necessary."""
        prompts = [branch.ids for branch in item.branches] if isinstance(item, BatchRequest) else item.prompts
        if self._sequences.free < len(prompts):
            return False
        held = sum(run.size for run in self._runs) + 2 * len(self._runs)
        return not self._limits.shared or held + sum(len(ids) for ids in prompts) < self._context.n_ctx

    def _refuses(self, job: Job) -> str:
        if len(job.prompts) == 1 and self._sequences.spares(list(job.request.ids), job.request.max_tokens):
            return ""
        return "the cache has no room for it beside the chats that it holds"

    def _held(self, run: BatchRequest) -> int:
        sequence = run.branches[0].sequence
        return len(sequence.ids) if sequence else 0

    def _prepare(self, job: Job) -> BatchRequest:
        sampler = make_sampler(
            job,
            self._tokenizer,
            self._tokenizer.end_ids,
            n_ctx=self._context.n_ctx,
            grammar=self._grammars.of(job.request.params),
            scratch=self._scratch,
        )
        run = BatchRequest(job, sampler, branches=[Branch(list(ids)) for ids in job.prompts])
        if isinstance(job, ScoreRequest):
            run.branches[0].ids.pop()  # nothing follows the last token: its logits are not needed
        return run

    def _place(self, run: BatchRequest) -> None:
        """Give each branch a sequence; the report says how much of the prompt it already holds, and why."""
        reasons, job = [], run.job
        if self._warm:
            self._warm.add_for(job)
        for branch in run.branches:
            # for scores, every token's logits are needed, which the cache does not contain
            beginning = [] if isinstance(job, ScoreRequest) else branch.ids
            branch.sequence, reason = self._sequences.take(
                beginning, job.request.max_tokens, careful=job.request.yields, label=job.request.label
            )
            reasons.append(reason)
            lasts = not (isinstance(job, ScoreRequest | LogitsRequest) or job.request.yields)
            if self._context.loses_past and lasts:
                worth = WORTH_WINDOWED if self._context.window else WORTH
                branch.places = choose_places(branch.ids, len(branch.sequence.ids), self._tokenizer.special_ids, worth)
        if not job.started:
            job.start()
            job.report.reuse_reason = reasons[0]
            job.report.reused_tokens = len(run.branches[0].sequence.ids) if run.branches[0].sequence else 0

    def _release(self, run: BatchRequest) -> None:
        run.fallback = None
        self._speculation.release(run)
        for branch in run.branches:
            if branch.sequence:
                if (surplus := -branch.pending) > 0:  # tokens of a draft
                    self._sequences.take_back(branch.sequence, surplus, begun=False)
                # a negative prompt is not worth a file; what yields leaves what it continues as it was
                if self._warm and branch is run.branches[0] and not run.job.request.yields:
                    branch.sequence.lasting = self._warm.lasts(run.job)
                self._sequences.release(branch.sequence, careful=run.job.request.yields)
                branch.sequence = None

    def _end(self, item: Job | BatchRequest, why: Finish | BaseException) -> None:
        if self._warm:
            self._warm.end(item.job)
        super()._end(item, why)

    def _can_pause(self, run: BatchRequest) -> bool:
        """The cache cells it holds must fit in main memory."""
        return all(branch.sequence and self._sequences.keeps(branch.sequence) for branch in run.branches)

    def _forget(self) -> None:
        self._sequences.clear()

    def _forget_label(self, label: str) -> None:
        self._sequences.forget(label)
        self._speculation.forget(label)
        if self._warm:
            self._warm.forget(label)

    def _use_rest(self) -> bool:
        return self._warm is not None and self._warm.keep_next()

    def _rest(self) -> None:
        self._threads.rest()
        super()._rest()
        self._threads.begin()

    # --- one step ---

    def _fill(self) -> None:
        self._speculation.draft([run for run in self._runs if not run.job.request.yields])
        self._beside = batching.begin_batch(self._batch, self._runs)
        if not batching.has_unread_prompts(self._runs):
            return  # the cost limit of a chunk is fitted each time, except while only replies run
        if all(isinstance(run.job, ScoreRequest) for run in self._runs):
            # if nobody waits for a token, chunks have one size: the results do not depend on the machine's speed
            room = self._limits.n_batch
        elif self._runs[0].job.request.yields:  # who comes now waits for this step
            room = self._pace.piece(0, self._sequences.held, YIELDING_STEP)
        else:
            room = self._pace.piece(self._beside, self._sequences.held)
        batching.add_prompt_tokens(self._batch, self._runs, min(room, self._limits.tokens - self._batch.size))

    def _step(self) -> bool:
        self._fill()
        if not self._batch.size:
            return False
        self._threads.adapt(self._batch.size)
        started = time.monotonic()
        # steps with replies only are short
        short = self._batch.size == self._beside
        with contextlib.nullcontext() if short else self._context.stop.unless(self._wanted):
            code = self._context.decode(self._batch)
        if code == 0:
            seconds = time.monotonic() - started
            self._pace.cost.note(self._batch.size, self._sequences.held, seconds)
            self._threads.note(self._batch.size, seconds)
            for branch in [branch for run in self._runs for branch in run.branches if branch.added]:
                if branch.sequence:
                    branch.sequence.unsettled = False
                    if len(branch.sequence.ids) in branch.places:
                        self._sequences.checkpoint(branch.sequence)
            for run in [run for run in self._runs if run.chooses]:
                self._guard(run, self._check_draft if run.draft else self._choose)
            if short:
                self._speculation.note(self._batch.size, seconds)
            self._settle(GRACE)
        elif code == 1:
            self._take_back()
            self._make_room()
        elif code == 2:
            self._take_back(begun=True)
        else:
            log.error("llama_decode failed with code %d", code)
            raise EngineFailed(f"llama.cpp could not compute a step (code {code}). Try again.")
        return True

    def _wanted(self) -> bool:
        """Whether the running step is worth finishing: called by another thread meanwhile.

        It is stopped if that saves more tokens than must be read again because of it.
        """
        if self._queue.closed is not None:
            return False
        gone = lost = 0
        for run in self._runs:
            leaves = run.job.cancelled or self._in_the_way(run.job)
            for branch in run.branches:
                gone += branch.added if leaves else 0
                lost += 0 if leaves else branch.added
                if branch.added and branch.sequence and not self._context.goes_back(self._batch.size):
                    lost += len(branch.sequence.ids) - branch.added
        return not gone or gone <= lost

    def _choose(self, run: BatchRequest) -> None:
        """The next token of a request, or the query to its grammar."""
        if isinstance(run.job, ScoreRequest):
            self._score(run, run.job)
            return
        logits = run.logits(self._context.logits)
        if isinstance(run.job, LogitsRequest):
            run.job.logits = require_finite(logits).copy()
            self._end(run, Finish.STOP)
            return
        if run.sampler.waits:  # it lost its sequence meanwhile, and was read again
            return
        token = run.sampler.begin(logits)
        if token is None:
            run.held = logits.copy()
        else:
            self._chosen(run, token, logits)

    def _check_draft(self, run: BatchRequest) -> None:
        """Accept the draft's tokens as far as they are what is chosen anyway, and the token after them."""
        draft, run.draft = run.draft, None
        assert draft
        count = len(draft.tokens)
        for place in range(count + 1):
            logits = run.logits(self._context.logits, count - place)
            token = run.sampler.begin(logits)
            if token is None:
                token = run.sampler.outcome(GRACE)
            right = place < count and token == draft.tokens[place] and not run.sampler.dropped
            if not right:  # before the request may end: what follows is not part of it
                self._speculation.judge(run, draft, place)
                for branch in run.branches:
                    if branch.sequence and count > place:
                        self._sequences.take_back(branch.sequence, count - place, begun=False)
            if token is None:
                run.held = logits.copy()
                return
            self._chosen(run, token, logits)
            if not right or run not in self._runs:
                return

    def _continue(self, run: BatchRequest, seconds: float) -> None:
        if run.held is not None and (token := run.sampler.outcome(seconds)) is not None:
            logits, run.held = run.held, None
            self._chosen(run, token, logits)

    def _chosen(self, run: BatchRequest, token: int, logits: Floats) -> None:
        """Continue a request with a token: pass it to its reader, and append it to its branches."""
        request, sampler = run.job.request, run.sampler
        if sampler.dropped:
            fallback_state.go_back(self._context, self._sequences, run, sampler.dropped)
        if token in self._tokenizer.end_ids:
            self._end(run, Finish.STOP)
            return
        run.push(token)
        run.turn += 1
        made = make_token(token, sampler.chosen_from(logits), self._tokenizer, request.alternatives)
        for each in sampler.deliver(made):
            run.job.put(each)
        if run.job.report.new_tokens + sampler.held >= request.max_tokens:
            self._end(run, Finish.LENGTH)
            return
        fallback_state.keep(self._context, run)
        for branch in run.branches:
            if len(branch.ids) >= self._context.n_ctx and not self._shift(branch):
                self._end(run, Finish.LENGTH)
                return

    def _score(self, run: BatchRequest, job: ScoreRequest) -> None:
        """The log-probabilities of the tokens that follow those of this step."""
        branch = run.branches[0]
        end = len(branch.ids) - branch.pending
        for row, at in zip(
            range(branch.row - branch.added + 1, branch.row + 1), range(end - branch.added, end), strict=True
        ):
            job.logprobs[at] = token_logprob(self._context.logits(row), job.request.ids[at + 1])
        if not branch.pending:
            self._end(run, Finish.STOP)

    # --- lack of room ---

    def _shift(self, branch: Branch) -> bool:
        """Drop the older half of a full branch after the tokens to keep. False where that is off or impossible."""
        if self._limits.keep is None or not self._context.can_shift or not branch.sequence:
            return False
        held = len(branch.sequence.ids)
        keep = min(self._limits.keep, held // 2)  # there would be nothing left to drop
        drop = (held - keep) // 2
        if not drop:
            return False
        for run in self._runs:
            if branch in run.branches:
                run.fallback = None  # its positions are others now
        self._sequences.shift(branch.sequence, keep, drop)
        del branch.ids[keep : keep + drop]
        return True

    def _take_back(self, *, begun: bool = False) -> None:
        """Remove what the failed batch was to add; `begun`: part of it has been computed."""
        for run in self._runs:
            for branch in run.branches:
                if branch.added and branch.sequence:
                    self._sequences.take_back(branch.sequence, branch.added, begun=begun)

    def _make_room(self) -> None:
        """The shared cache is full: empty an idle sequence, else send the youngest request back to wait."""
        if yielding := [run for run in self._runs if run.job.request.yields]:
            for run in yielding:
                self._end(run, Finish.CANCELLED)
            return
        if self._sequences.drop_idle():
            return
        youngest = self._runs[-1]
        if len(self._runs) > 1:
            self._withdraw(youngest)
            self._sequences.drop_idle()
            self._queue.requeue(youngest, first=True)
        elif not self._shift(max(youngest.branches, key=lambda each: len(each.ids))):  # it fills the cache alone
            self._end(youngest, Finish.LENGTH)
