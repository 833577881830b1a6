"""Finds a free port for a server. Knows nothing of what is served."""

from __future__ import annotations

import errno
import logging
import os
import socket

from errors import InvalidInput, Unavailable

log = logging.getLogger(__name__)

#: How many further ports are tried if the default one is in use and no other was requested.
TRIES = 20


def free_port(host: str, asked: int, *, what: str, flag: str, fixed: bool) -> int:
    """The requested port; if it is the default one and not `fixed`, the next free one after it.

    `what` is served ("page"), `flag` sets its port. Raises: Unavailable; InvalidInput if no port of the host can be
    used.
    """
    if is_free(host, asked):
        return asked
    if fixed:
        raise Unavailable(
            f"Port {asked} is already in use. Stop the other program, or choose another port with {flag}."
        )
    for port in range(asked + 1, asked + 1 + TRIES):
        if is_free(host, port):
            log.warning("Port %d is already in use, so the %s uses port %d.", asked, what, port)
            return port
    raise Unavailable(f"The ports {asked} to {asked + TRIES} are all in use. Choose another port with {flag}.")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises: InvalidInput for an address that this machine does not have."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # on Windows it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise InvalidInput(
                    f"This machine has no address {host}. Correct --listen-host, or remove it to use the usual one."
                ) from None
            return False
    return True
