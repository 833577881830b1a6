"""Server-sent events: the data of each event from pieces of bytes that are cut anywhere.

Pure. It must not know what the data is.
"""

from __future__ import annotations

_LARGEST = 64 << 20  # bytes of an event
_OTHER = 1 << 16  # bytes that are kept of what is no event
_MARK = b"\xef\xbb\xbf"  # the byte order mark, which may stand before the first line
_FIELDS = (b":", b"event", b"id", b"retry")


class EventTooLarge(ValueError):
    """An event that does not end."""


class EventReader:
    """Feed it with `push`. Lines end with LF or CRLF; comments and other fields than `data` are skipped.

    `seen`: how many events there were.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._other = b""
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._data: list[bytes] = []  # the lines of an event that has not ended
        self._line_size = self._data_size = 0

    def push(self, piece: bytes) -> list[bytes]:
        """The data of the events that are complete now. Raises: EventTooLarge."""
        self._line.append(piece)
        self._line_size += len(piece)
        found: list[bytes] = []
        if b"\n" in piece:
            *lines, rest = b"".join(self._line).split(b"\n")
            self._line, self._line_size = [rest], len(rest)
            for whole in lines:
                line = whole[:-1] if whole.endswith(b"\r") else whole
                if not self.seen and line.startswith(_MARK):
                    line = line[len(_MARK) :]
                if line.startswith(b"data:"):
                    self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                    self._data_size += len(whole) + 1
                elif not line and self._data:
                    if data := b"\n".join(self._data).strip():  # without data, it only keeps the connection open
                        found.append(data)
                    self._data, self._data_size = [], 0
                elif line and not self.seen and not line.startswith(_FIELDS) and len(self._other) < _OTHER:
                    self._other += line[:_OTHER] + b"\n"
        self.seen += len(found)
        if self._line_size + self._data_size > _LARGEST:
            raise EventTooLarge(f"an event has more than {_LARGEST >> 20} MiB")
        return found

    @property
    def is_between(self) -> bool:
        """Whether no event has begun that has not ended."""
        return not self._data and not b"".join(self._line).strip()

    def other(self) -> bytes:
        """What is no event at the beginning of an answer without any."""
        if self.seen or self._data:
            return b""
        rest = b"".join(self._line)[:_OTHER]
        return self._other + (b"" if rest.startswith((*_FIELDS, b"data")) else rest)
