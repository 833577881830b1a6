"""One thread that owns a llama.cpp context and decodes all running requests in one batch.

Each step: take what has arrived, give free sequences to those who wait, fill a batch (one token for each reply that
runs, then pieces of the prompts), decode, choose a token for each run whose logits are there. A run whose grammar is
still being asked is left out of the batch, and parked where others wait for its place. While others wait, replies take
turns, so that a long one does not keep short ones waiting. It sees token ids and Jobs; it must not know of text, of
chats or of files.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from errors import EngineFailed, ModelClosed, UserError
from loaders.base import Finish
from loaders.grammar.follow import Grammars
from loaders.job import Errand, Job, Probe, Scoring
from loaders.line import Line
from loaders.llamacpp import filling, turns
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.native import Batch, Context
from loaders.llamacpp.pace import PromptPace
from loaders.llamacpp.parked import Parked
from loaders.llamacpp.run import Lane, Run
from loaders.llamacpp.sequences import Sequences
from loaders.llamacpp.states import SavedStates
from loaders.llamacpp.tokenizer import LlamaTokenizer
from loaders.logits import Floats, checked, describe, logprob_of
from loaders.sampler import sampler_of
from loaders.sampling import Scratch

log = logging.getLogger(__name__)

#: How long a step waits for the answers of all grammars together, in seconds (not for those whose last answer took
#: longer), and how long where nothing else is to do.
_GRACE, _NAP = 0.01, 0.05


class Engine:
    """Continuous batching over one context. `submit` may be called from any thread."""

    def __init__(self, context: Context, tokenizer: LlamaTokenizer, limits: Limits, grammars: Grammars) -> None:
        self._context = context
        self._grammars = grammars
        self._tokenizer = tokenizer
        self._limits = limits
        self._batch = Batch(limits.tokens)
        # a shift renumbers cells, so none may belong to two sequences then
        can_fork = limits.shared and limits.keep is None
        states = SavedStates(limits.cache_bytes)
        self._sequences = Sequences(context, limits.sequences, shared=can_fork, states=states)
        self._runs: list[Run] = []  # with sequences, oldest first
        self._line: Line[Job | Run] = Line()
        self._parked = Parked(self._line)
        self._scratch = Scratch(tokenizer.n_vocab)
        self._pace = PromptPace(limits.n_batch)
        self._beside = 0  # rows of replies in the batch of this step
        self._thread = threading.Thread(target=self._loop, name="llama.cpp", daemon=True)
        self._thread.start()

    # --- any thread ---

    def submit(self, job: Job) -> None:
        """Queue a request. Raises: ModelClosed, EngineFailed."""
        self._line.join(job)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Who is running and who is waiting, first come first."""
        parked = tuple(self._parked.runs)
        running = [run.job for run in (*self._runs, *parked) if run.job.started]
        return running, [*(run.job for run in parked if not run.job.started), *self._line.jobs()]

    def seconds_a_token(self) -> float:
        """What a token of a reply took, alone in its step; 0 where too few have been measured."""
        return self._pace.cost.of_one()

    def close(self) -> None:
        """End everything with ModelClosed and wait until the thread has let go of the context."""
        self._line.close(ModelClosed())
        self._thread.join()

    # --- the engine's thread ---

    def _loop(self) -> None:
        try:
            while self._await_work():
                self._drop_cancelled()
                self._read_grammars()
                self._settle()
                self._take_turns()
                self._admit()
                self._fill()
                if self._batch.size:
                    self._step()
                else:
                    self._settle(_NAP)
        except BaseException as error:  # a bug here must not leave readers waiting for ever
            log.exception("the engine's thread ended")
            self._line.close(EngineFailed(f"an internal error ({error!r}). Unload the model and load it again."))
        why = self._line.closed or ModelClosed()
        left: list[Job | Run] = [*self._runs, *self._parked.runs]
        while self._line.first:
            left.append(self._line.take())
        for item in left:
            with contextlib.suppress(Exception):
                self._end(item, why)

    def _await_work(self) -> bool:
        """Sleep while there is nothing to do. False when the engine is to close."""
        if not self._runs and not self._parked.runs:
            self._line.wait()
        return self._line.closed is None

    def _drop_cancelled(self) -> None:
        under_way = [run for run in (*self._runs, *self._parked.runs) if run.job.cancelled]
        for item in [*under_way, *self._line.take_cancelled()]:
            self._end(item, Finish.CANCELLED)

    def _read_grammars(self) -> None:
        """Requests with grammars leave the line until those have been read."""
        for job in self._parked.take_from_line():
            try:
                self._parked.add(self._run_of(job))
            except Exception as error:
                self._end(job, error if isinstance(error, UserError) else _internal(error))

    def _take_turns(self) -> None:
        """While others wait and no place is free, replies that have had their turn go to the end of the line.

        Only where that costs next to nothing: what they hold must have room in main memory. Those that wait for their
        grammars leave in any case.
        """
        if len(self._runs) < self._limits.parallel or not len(self._line):
            return
        if any(isinstance(job, Errand) for job in self._line.jobs()):
            return  # who began before it ends before it: behind it another adapter would act
        for run in self._parked.too_slow(self._runs):
            self._withdraw(run)
            self._parked.add(run)
        tired = [run for run in turns.tired(self._runs, self._line, self._limits.parallel) if self._keeps(run)]
        for run in tired[: len(self._line)]:
            self._withdraw(run)
            self._line.send_back(run, first=False)

    def _keeps(self, run: Run) -> bool:
        return all(lane.sequence and self._sequences.keeps(lane.sequence) for lane in run.lanes)

    def _admit(self) -> None:
        """Let in those who wait while there is room for the next: of the requests with the fewest places, the first."""
        while len(self._runs) < self._limits.parallel and (first := turns.call_next(self._runs, self._line)):
            if not self._fits(first):
                return
            item = self._line.take()
            try:
                if isinstance(item, Errand):
                    self._run_errand(item)
                    continue
                if isinstance(item, Job):
                    item = self._run_of(item)
                self._place(item)
            except Exception as error:
                self._end(item, error if isinstance(error, UserError) else _internal(error))

    def _fits(self, item: Job | Run) -> bool:
        """Whether this one can be decoded beside those that run (what is idle makes room)."""
        if not self._runs:
            return not isinstance(item, Errand) or not self._parked.runs
        prompts = [lane.ids for lane in item.lanes] if isinstance(item, Run) else item.prompts
        if isinstance(item, Errand) or self._sequences.free < len(prompts):
            return False
        held = sum(run.size for run in self._runs) + 2 * len(self._runs)
        return not self._limits.shared or held + sum(len(ids) for ids in prompts) < self._context.n_ctx

    def _run_errand(self, errand: Errand) -> None:
        errand.start()
        errand.do()
        # what was computed before it does not hold any more
        self._sequences.clear()
        errand.end(Finish.STOP)

    def _run_of(self, job: Job) -> Run:
        """A request with its sampler, without a place. Raises: UserError."""
        sampler = sampler_of(
            job,
            self._tokenizer,
            self._tokenizer.end_ids,
            n_ctx=self._context.n_ctx,
            grammar=self._grammars.of(job.request.params),
            scratch=self._scratch,
        )
        run = Run(job, sampler, [Lane(list(ids)) for ids in job.prompts])
        if isinstance(job, Scoring):
            run.lanes[0].ids.pop()  # nothing follows the last token: its logits serve nobody
        return run

    def _place(self, run: Run) -> None:
        """Give each lane of a run a sequence; the report says how much of the prompt that holds already, and why."""
        reasons, job = [], run.job
        for lane in run.lanes:
            # to score, every token's logits are wanted: what is in the cache has none
            beginning = [] if isinstance(job, Scoring) else lane.ids
            try:
                lane.sequence, reason = self._sequences.take(beginning)
            except BaseException:
                self._withdraw(run)
                raise
            reasons.append(reason)
        run.turn = 0
        self._runs.append(run)
        if not job.started:
            job.start()
            job.report.reuse_reason = reasons[0]
            job.report.reused_tokens = len(run.lanes[0].sequence.ids) if run.lanes[0].sequence else 0

    def _end(self, item: Job | Run, why: Finish | BaseException) -> None:
        """A request is over: its sequences become free (what they hold may serve another), its reader is told."""
        try:
            if isinstance(item, Run):
                item.sampler.close()
                self._parked.remove(item)
                self._withdraw(item)
        finally:
            item.job.end(why)  # whatever happens, nobody waits for ever

    def _withdraw(self, run: Run) -> None:
        """Take a run's sequences from it."""
        for lane in run.lanes:
            if lane.sequence:
                self._sequences.release(lane.sequence)
                lane.sequence = None
        if run in self._runs:
            self._runs.remove(run)

    # --- one step ---

    def _fill(self) -> None:
        self._beside = filling.start(self._batch, self._runs)
        if not filling.prompts_wait(self._runs):
            return  # what a piece may cost is fitted anew each time: not while replies alone run
        if all(isinstance(run.job, Scoring) for run in self._runs):
            # where nobody waits for a token, pieces of one size: the figures do not depend on the machine's speed
            room = self._limits.n_batch
        else:
            room = self._pace.piece(self._beside, self._sequences.held)
        filling.add_prompts(self._batch, self._runs, min(room, self._limits.tokens - self._batch.size))

    def _step(self) -> None:
        started = time.monotonic()
        # the steps of replies are short
        with contextlib.nullcontext() if self._beside else self._context.stop.unless(self._wanted):
            code = self._context.decode(self._batch)
        if code == 0:
            self._pace.cost.note(self._batch.size, self._sequences.held, time.monotonic() - started)
            for lane in [lane for run in self._runs for lane in run.lanes if lane.added]:
                if lane.sequence:
                    lane.sequence.unsettled = False
            for run in [run for run in self._runs if run.chooses]:
                self._guarded(run, self._choose)
            self._settle(_GRACE)
        elif code == 1:
            self._take_back()
            self._make_room()
        elif code == 2:
            self._take_back(begun=True)
        else:
            log.error("llama_decode failed with code %d", code)
            for run in list(self._runs):
                self._end(run, EngineFailed(f"llama.cpp could not compute a step (code {code}). Try again."))
            self._sequences.clear()

    def _wanted(self) -> bool:
        """Whether the step that is being computed serves anybody: asked by another thread meanwhile."""
        gone = sum(lane.added for run in self._runs if run.job.cancelled for lane in run.lanes)
        return self._line.closed is None and 2 * gone < self._batch.size

    def _choose(self, run: Run) -> None:
        """The next token of a run, or the question for it to its grammar."""
        if isinstance(run.job, Scoring):
            self._score(run, run.job)
            return
        logits = run.logits(self._context.logits)
        if isinstance(run.job, Probe):
            run.job.logits = checked(logits).copy()
            self._end(run, Finish.STOP)
            return
        if run.sampler.waits:  # it lost its place meanwhile, and has been read again
            return
        token = run.sampler.begin(logits)
        if token is None:
            run.held, run.held_since = logits.copy(), time.monotonic()
        else:
            self._chosen(run, token, logits)

    def _settle(self, seconds: float = 0) -> None:
        """Go on with the runs whose grammars have answered, after waiting so long for all of them together."""
        until = time.monotonic() + seconds
        for run in [*self._runs, *self._parked.runs]:
            self._guarded(run, lambda run: self._answered(run, until))
        self._parked.send_back(until)

    def _answered(self, run: Run, until: float) -> None:
        if run.sampler.problem:
            raise run.sampler.problem
        worth = run.answers_within(_GRACE) or not self._batch.size
        wait = max(0.0, until - time.monotonic()) if worth else 0.0
        if run.held is not None and (token := run.sampler.outcome(wait)) is not None:
            logits, run.held = run.held, None
            self._chosen(run, token, logits)

    def _guarded(self, run: Run, do: Callable[[Run], None]) -> None:
        """Where this fails, this run ends and the others go on."""
        try:
            do(run)
        except Exception as error:
            self._end(run, error if isinstance(error, UserError) else _internal(error))

    def _chosen(self, run: Run, token: int, logits: Floats) -> None:
        """A run goes on with a token: to its reader, and into its lanes."""
        request = run.job.request
        if token in self._tokenizer.end_ids:
            self._end(run, Finish.STOP)
            return
        run.push(token)
        run.turn += 1
        run.job.put(describe(token, logits, self._tokenizer, request.alternatives))
        if run.job.report.new_tokens >= request.max_tokens:
            self._end(run, Finish.LENGTH)
            return
        for lane in run.lanes:
            if len(lane.ids) >= self._context.n_ctx and not self._shift(lane):
                self._end(run, Finish.LENGTH)
                return

    def _score(self, run: Run, job: Scoring) -> None:
        """The log-probabilities of the tokens that follow those of this step."""
        lane = run.lanes[0]
        end = len(lane.ids) - lane.pending
        for row, at in zip(range(lane.row - lane.added + 1, lane.row + 1), range(end - lane.added, end), strict=True):
            job.logprobs[at] = logprob_of(self._context.logits(row), job.request.ids[at + 1])
        if not lane.pending:
            self._end(run, Finish.STOP)

    # --- want of room ---

    def _shift(self, lane: Lane) -> bool:
        """Drop the older half of a full lane after the tokens to keep. False where that is off or impossible."""
        if self._limits.keep is None or not self._context.can_shift or not lane.sequence:
            return False
        held = len(lane.sequence.ids)
        keep = min(self._limits.keep, held // 2)  # all of it would leave nothing to drop
        drop = (held - keep) // 2
        if not drop:
            return False
        self._sequences.shift(lane.sequence, keep, drop)
        del lane.ids[keep : keep + drop]
        return True

    def _take_back(self, *, begun: bool = False) -> None:
        """What the failed batch was to add is not in the cache; `begun`: a part of it has been computed."""
        for run in self._runs:
            for lane in run.lanes:
                if lane.added and lane.sequence:
                    self._sequences.take_back(lane.sequence, lane.added, begun=begun)

    def _make_room(self) -> None:
        """The shared cache is full: empty an idle sequence, else send the youngest run back to wait."""
        if self._sequences.drop_idle():
            return
        youngest = self._runs[-1]
        if len(self._runs) > 1:
            self._withdraw(youngest)
            self._sequences.drop_idle()
            self._line.send_back(youngest, first=True)
        elif not self._shift(max(youngest.lanes, key=lambda lane: len(lane.ids))):  # it fills the cache all alone
            self._end(youngest, Finish.LENGTH)


def _internal(error: Exception) -> EngineFailed:
    log.error("a request failed inside the engine", exc_info=error)
    return EngineFailed(f"an internal error ({error!r}). The log has more.")
