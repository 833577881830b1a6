"""Sends parts of a response's body from the thread that has them, without waking the event loop, whose turn costs
several times what sending does.

asyncio lets only the loop's thread write to a transport. So this sends on a duplicate of its socket, as long as the
transport itself has nothing to send. It must not know what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from typing_extensions import Self

#: The extension of the ASGI scope that opens the BodyWriter of a response. It is absent where there can be none.
BODY_WRITER = "webui.body_writer"


class BodyWriter:
    """For a response whose head has been sent by the server, with an unknown length. To be closed with the response."""

    def __init__(self, transport: asyncio.Transport, http_version: str) -> None:
        """To be created in the loop's thread. Raises: OSError, if the system has no descriptor left."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._chunked = http_version != "1.0"  # HTTP/1.0: the body ends with the connection
        self._socket: socket.socket = transport.get_extra_info("socket").dup()
        self._socket.setblocking(False)
        self._open = False  # whether everything before has been sent
        self._unsent = False  # whether the transport is still to be given the rest of a part

    def write(self, data: bytes) -> bool:
        """Send this at once. False: that is not possible now, and the server has to send it. From any thread, one at a
        time, and never while the server is sending.
        """
        if not data:  # an empty chunk would end the body
            return True
        if not self._open:
            return False
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        try:
            sent = self._socket.send(chunk)
        except OSError:  # the client does not read, or is gone: the server finds out
            return False
        if sent < len(chunk):
            self._open, self._unsent = False, True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
                # before anything that the server is asked to send from now on
                self._loop.call_soon_threadsafe(self._send_rest, chunk[sent:])
        return True

    def resume(self) -> None:
        """The server has nothing more to send. In the loop's thread."""
        self._open = not self._unsent and not self._transport.get_write_buffer_size()

    def _send_rest(self, data: bytes) -> None:
        self._transport.write(data)
        self._unsent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
