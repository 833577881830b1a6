"""What yielding requests have read, so that a later request can say how much of that it uses.

Used by the engine's thread only; it must not know caches.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from loaders.job import Job
from loaders.labels import is_of
from loaders.prefix import common_prefix

#: The texts that are remembered: a few chats in which somebody types.
_TEXTS = 8


@dataclass(frozen=True, slots=True)
class _Text:
    """A text whose tokens from `start` on were read by yielding requests."""

    ids: list[int]
    start: int
    label: str


class ReadAhead:
    """The last texts that were read ahead."""

    def __init__(self) -> None:
        self._texts: deque[_Text] = deque(maxlen=_TEXTS)

    def settle(self, job: Job, held: int) -> None:
        """A request ends, of whose tokens `held` were computed or reused: complete its report."""
        report, ids = job.report, list(job.request.ids)
        report.read_tokens = max(0, min(held, len(ids)) - report.reused_tokens)
        if job.request.yields:
            if job.started and not job.first_token:
                report.prompt_seconds = time.monotonic() - job.started
            self._add(ids[:held], report.reused_tokens, job.request.label)
            return
        for text in list(self._texts):
            same = common_prefix(text.ids, ids)
            report.ahead_tokens = max(report.ahead_tokens, min(same, report.reused_tokens) - text.start)
            if same > text.start:  # from now on, it is part of that request's own text
                self._texts.remove(text)
        if report.ahead_tokens:
            report.reuse_reason += f", {report.ahead_tokens:,} of them read ahead"

    def forget(self, label: str) -> None:
        """Drop the texts of this label."""
        for text in [each for each in self._texts if is_of(each.label, label)]:
            self._texts.remove(text)

    def _add(self, ids: list[int], start: int, label: str) -> None:
        for text in list(self._texts):
            if common_prefix(text.ids, ids) > text.start:  # it continues what was read ahead before
                start = min(start, text.start)
                self._texts.remove(text)
        if len(ids) > start:
            self._texts.append(_Text(ids, start, label))
