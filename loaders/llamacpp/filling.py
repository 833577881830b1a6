"""What goes into one step: a token for each reply that runs, then pieces of prompts, oldest first.

It must not know how large a piece should be.
"""

from __future__ import annotations

from collections.abc import Sequence

from loaders.job import Scoring
from loaders.llamacpp.limits import ROWS_SCORED
from loaders.llamacpp.native import Batch
from loaders.llamacpp.run import Lane, Run


def start(batch: Batch, runs: Sequence[Run]) -> int:
    """Begin a step with the next token of each reply; returns how many rows that is."""
    batch.clear()
    for run in runs:
        for lane in run.lanes:
            lane.added, lane.row = 0, -1
    for run in runs:
        if run.replying and not isinstance(run.job, Scoring):
            for lane in run.lanes:
                _add(batch, lane, 1, last=True)
    return batch.size


def prompts_wait(runs: Sequence[Run]) -> bool:
    """Whether anything is left to be read, after `start`."""
    return any(lane.pending for run in runs for lane in run.lanes)


def add_prompts(batch: Batch, runs: Sequence[Run], room: int) -> None:
    """Add at most `room` tokens of prompts."""
    rows = ROWS_SCORED
    for run in runs:
        if isinstance(run.job, Scoring):
            lane = run.lanes[0]
            before = run.job.skipped - (len(lane.ids) - lane.pending)  # tokens whose scores nobody asked for
            count = min(before, room) if before > 0 else min(lane.pending, room, rows)
            if count > 0:
                room, rows = room - count, rows - (count if before <= 0 else 0)
                _add(batch, lane, count, last=before <= 0, all_rows=before <= 0)
            continue
        # with guidance, both lanes' last tokens go together, so that their logits come in one step
        hold = len(run.lanes) - 1
        for lane in run.lanes:
            count = min(lane.pending - hold, room)
            if count > 0 and not lane.added:
                room -= count
                _add(batch, lane, count, last=count == lane.pending)


def _add(batch: Batch, lane: Lane, count: int, *, last: bool, all_rows: bool = False) -> None:
    assert lane.sequence
    done = len(lane.sequence.ids)
    piece = lane.ids[done : done + count]
    row = batch.add(piece, done, lane.sequence.id, last=last, all_rows=all_rows)
    lane.sequence.ids.extend(piece)
    lane.added, lane.row = count, row if last else -1
