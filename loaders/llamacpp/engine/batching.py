"""Fills the batch of one step: a token for each running reply, then chunks of prompts, oldest first.

It must not know how large a chunk should be.
"""

from __future__ import annotations

from collections.abc import Sequence

from loaders.job import ScoreRequest
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine.batch_request import BatchRequest, Branch
from loaders.llamacpp.engine.limits import ROWS_SCORED


def begin_batch(batch: LlamaBatch, runs: Sequence[BatchRequest]) -> int:
    """Begin a step with the next token of each reply; returns the number of rows."""
    batch.clear()
    for run in runs:
        for branch in run.branches:
            branch.added, branch.row = 0, -1
    for run in runs:
        if run.replying and not isinstance(run.job, ScoreRequest):
            for branch in run.branches:
                _add(batch, branch, 1, last=True)
                if run.draft:
                    _add_draft(batch, branch, run.draft.tokens)
    return batch.size


def has_unread_prompts(runs: Sequence[BatchRequest]) -> bool:
    """Whether any prompt tokens are left, after `begin_batch`."""
    return any(branch.pending > 0 for run in runs for branch in run.branches)


def add_prompt_tokens(batch: LlamaBatch, runs: Sequence[BatchRequest], room: int) -> None:
    """Add at most `room` prompt tokens."""
    rows = ROWS_SCORED
    for run in runs:
        if isinstance(run.job, ScoreRequest):
            branch = run.branches[0]
            before = run.job.skipped - (len(branch.ids) - branch.pending)  # tokens whose scores were not requested
            count = min(before, room) if before > 0 else min(branch.pending, room, rows)
            if count > 0:
                room, rows = room - count, rows - (count if before <= 0 else 0)
                _add(batch, branch, count, last=before <= 0, all_rows=before <= 0)
            continue
        # with guidance, both branches' last tokens go together, so that their logits come in one step
        hold = len(run.branches) - 1
        for branch in run.branches:
            count = branch.next_stop(min(branch.pending - hold, room))
            if count > 0 and not branch.added:
                room -= count
                _add(batch, branch, count, last=count == branch.pending)


def _add_draft(batch: LlamaBatch, branch: Branch, tokens: Sequence[int]) -> None:
    """Add guessed tokens after a branch's last one."""
    assert branch.sequence
    branch.row = batch.add(tokens, len(branch.sequence.ids), branch.sequence.id, last=True, all_rows=True)
    branch.sequence.ids.extend(tokens)
    branch.added += len(tokens)


def _add(batch: LlamaBatch, branch: Branch, count: int, *, last: bool, all_rows: bool = False) -> None:
    assert branch.sequence
    done = len(branch.sequence.ids)
    piece = branch.ids[done : done + count]
    row = batch.add(piece, done, branch.sequence.id, last=last, all_rows=all_rows)
    branch.sequence.ids.extend(piece)
    branch.added, branch.row = count, row if last else -1
