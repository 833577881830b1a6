"""Other machines that lend their memory to llama.cpp (its RPC servers): their addresses, and whether they are free.

They are asked before llama.cpp is, which ends the whole program if one does not answer as expected. Pure Python; it
must not know llama.cpp's library, or what a machine is used for.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Sequence

from errors import InvalidInput, Unavailable

#: How llama.cpp's names of their devices begin: RPC0, RPC1.
NETWORK = "RPC"
#: The port of a machine that names none, as llama.cpp's own program uses it.
PORT = 50052
_MOST = 16  # GGML_RPC_MAX_SERVERS
_ADDRESS = re.compile(r"(?P<host>[a-z0-9_][a-z0-9_.-]*)(?::(?P<port>\d{1,5}))?", re.IGNORECASE)

#: The first question of every connection, and the answer to it: ggml-rpc.cpp.
_HELLO, _CAPABILITIES = 14, 24
_VERSION = 7
_CONNECT, _ANSWER = 5.0, 3.0  # seconds


def parse_addresses(text: str) -> tuple[str, ...]:
    """The addresses in a list, as llama.cpp takes them: host:port. Raises: InvalidInput."""
    found: list[str] = []
    for part in (each.strip() for each in text.split(",")):
        if not part:
            continue
        match = _ADDRESS.fullmatch(part)
        port = int((match and match["port"]) or PORT)
        if not match or not 0 < port < 65_536:
            raise InvalidInput(
                f"rpc lists {part[:80]!r}, which is not the address of a machine. Use a name or an IPv4 address and a "
                "port, such as 192.168.0.6:50052; commas separate several."
            )
        found.append(f"{match['host']}:{port}")
    if twice := [each for each in found if found.count(each) > 1]:
        raise InvalidInput(f"rpc lists {twice[0]} more than once. List each machine once.")
    if len(found) > _MOST:
        raise InvalidInput(f"rpc lists {len(found)} machines; llama.cpp supports at most {_MOST}.")
    return tuple(found)


def check_machines(addresses: Sequence[str]) -> None:
    """Ask each for its version. Raises: Unavailable, with the first address that cannot be used, and why."""
    for address in addresses:
        host, _, port = address.partition(":")
        try:
            with contextlib.closing(socket.create_connection((host, int(port)), timeout=_CONNECT)) as connection:
                connection.settimeout(_ANSWER)
                version = _ask_version(connection)
        except TimeoutError:
            raise Unavailable(
                f"The machine at {address} (rpc) does not answer. It lends its memory to one program at a time: unload "
                "the model that uses it, wait, or check that nothing else listens there."
            ) from None
        except OSError as error:
            why = error.strerror or str(error)
            raise Unavailable(
                f"The machine at {address} (rpc) is not reachable: {why}. Start it there with: python -m "
                f"loaders.llamacpp.rpc_node --host {host} --port {port}"
            ) from None
        if version is None:
            raise Unavailable(f"What listens at {address} (rpc) is not llama.cpp's RPC server. Correct the address.")
        if version[0] != _VERSION:
            raise Unavailable(
                f"The machine at {address} (rpc) speaks version {version[0]} of llama.cpp's RPC, but {_VERSION} is "
                "required. Install the same version of this program there."
            )


def _ask_version(connection: socket.socket) -> tuple[int, int] | None:
    """Major and minor version; None if it answers in another way. Raises: OSError."""
    connection.sendall(struct.pack("<BQ", _HELLO, _CAPABILITIES) + bytes(_CAPABILITIES))
    size = 8 + 4 + _CAPABILITIES
    answer = b""
    while len(answer) < size:
        piece = connection.recv(size - len(answer))
        if not piece:
            return None
        answer += piece
    if struct.unpack_from("<Q", answer)[0] != 4 + _CAPABILITIES:
        return None
    return answer[8], answer[9]
