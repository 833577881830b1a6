"""A reply that is written to its end whoever reads it: a thread of its own takes its updates.

So a reply belongs to its chat, not to the page that requested it: that may be reloaded, closed or asleep. What ends the
reply is the model, its length limit, or Stop. It must not know what shows the updates.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from errors import UserError, without_frames
from modules.chat.reply import Reply, ReplyUpdate

log = logging.getLogger(__name__)


class BackgroundReply:
    """The updates of a reply, which is being written from now on. Iterating follows it; leaving it ends nothing."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._news = threading.Condition()
        self._latest: ReplyUpdate | None = None
        self._count = 0  # updates so far
        self._ended = False
        self._error: Exception | None = None
        threading.Thread(target=self._write, name="reply", daemon=True).start()

    def __iter__(self) -> Iterator[ReplyUpdate]:
        """The newest update whenever there is one; a slow reader misses some, but not the last.

        Raises: UserError if the engine or the disk fails.
        """
        seen = 0
        while True:
            with self._news:
                self._news.wait_for(lambda: self._count > seen or self._ended)  # noqa: B023  # called at once
                update = self._latest if self._count > seen else None
                seen = self._count
            if update is None:
                break
            yield update
        if self._error is not None:
            raise without_frames(self._error)

    def _write(self) -> None:
        error: Exception | None = None
        try:
            with self._reply:
                for update in self._reply:
                    with self._news:
                        self._latest = update
                        self._count += 1
                        self._news.notify_all()
        except UserError as failure:  # it is stored with the reply, too
            error = without_frames(failure)
        except Exception as failure:
            log.exception("A reply ended with an unexpected error")
            error = without_frames(failure)
        with self._news:
            self._error, self._ended = error, True
            self._news.notify_all()
