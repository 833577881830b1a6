"""Reasons why a request or connection is ended early; each a sentence for people."""

from __future__ import annotations

from errors import InvalidInput, UserError


class WrongKey(UserError):
    """A request to the API without the right key."""

    def __init__(self, admin: bool = False) -> None:
        which = "admin key (--admin-key)" if admin else "key (--api-key)"
        super().__init__(f"This request requires the API's {which}. Send it in the header Authorization: Bearer KEY.")


class TooLarge(UserError):
    """The body of a request is larger than allowed: `limit` MiB, which a flag sets."""

    def __init__(self, limit: int, flag: str = "--api-max-body") -> None:
        super().__init__(f"The request is larger than {limit} MiB. Send a smaller one, or raise {flag}.")


class BodyTooSlow(UserError):
    """The body of a request did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        waited = f"its body did not arrive within {seconds:.0f} seconds"
        super().__init__(f"The request timed out: {waited}. Send it again.")


class ReaderTooSlow(UserError):
    """A client that does not read its response: `limit` MiB are waiting."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The response was ended: the client has stopped reading, and more than {limit} MiB are waiting for it."
        )


class HeaderTooSlow(UserError):
    """A connection without a request."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The connection was closed: no complete request arrived within {seconds:.0f} seconds.")


class TooManyConnections(UserError):
    """More open connections than a server may have."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The connection was closed: the limit of {most} open connections is reached. Try again in a moment."
        )


class TooBusy(UserError):
    """More replies at the same time than allowed."""

    def __init__(self, limit: int) -> None:
        most = f"at most {limit} replies may run or wait at the same time"
        super().__init__(f"The server is busy: {most}. Try again in a moment.")


class BodiesTooLarge(UserError):
    """The bodies being received take more memory than allowed, and this one takes the most."""

    def __init__(self) -> None:
        super().__init__("The server is busy with other large requests. Try again in a moment.")


class TooManyReplies(InvalidInput):
    """A request for more replies than may ever run at the same time."""

    def __init__(self, asked: int, limit: int) -> None:
        super().__init__(
            f"The request asks for {asked} replies, but at most {limit} may run at the same time. Ask for fewer, "
            "or raise --api-max-requests."
        )


class TooManyGuesses(UserError):
    """Too many wrong passwords in a row."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many failed logins. Try again in {max(1, round(seconds))} seconds.")
