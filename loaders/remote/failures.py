"""What goes wrong with a server, as sentences: what happened, at which address, and what to do.

`refusal` turns a server's answer into one of them. It must not know how requests are sent.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from errors import EngineFailed, InvalidGrammar, InvalidInput, Overloaded, PromptTooLong, Unavailable, UserError
from loaders import safe_json
from loaders.remote.entry import without_keys
from loaders.remote.lengths import find_lengths, is_too_long

_MOST_SHOWN = 3  # addresses in one sentence
_LONGEST = 300  # characters of a server's own words
_EXCERPT = 80  # characters of what cannot be read
_LONGEST_WAIT = 86_400  # seconds


class ServerUnreachable(Unavailable):
    """No connection, or one that ended before anything was answered. `why` is a clause."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(
            f"The server at {address} is not reachable: {why}. Start it, or correct its address in the Model tab."
        )


class ServerKeyRefused(Unavailable):
    """The server wants a key, or another one."""

    def __init__(self, address: str, sent: bool) -> None:
        what = "refused the key" if sent else "requires a key"
        super().__init__(f"The server at {address} {what}. Enter its key in the Model tab, then load the model again.")


class ServerForbids(ServerKeyRefused):
    """Status 403: the key may be right, and only this route is not for us."""


class ServerModelChanged(Unavailable):
    """The server answers with another model than the one that was loaded."""

    def __init__(self, address: str, wanted: str, served: str) -> None:
        super().__init__(
            f"The server at {address} no longer has the model {_short(wanted)}; now it has {_short(served) or 'none'}. "
            "Load the model again in the Model tab to use that one."
        )


class ServerOverloaded(Overloaded):
    """All addresses refuse more requests at the moment. `seconds`: what the server asked to wait, 0 if nothing."""

    def __init__(self, address: str, why: str, seconds: int = 0) -> None:
        again = f"in {seconds} seconds" if seconds else "in a moment"
        super().__init__(f"The server at {address} takes no more requests now ({why}). Try again {again}.")
        self.seconds = seconds


class NoServerUsable(Unavailable):
    """Every address of a model failed, each for its own reason."""

    def __init__(self, failures: Sequence[UserError]) -> None:
        shown = " ".join(map(str, failures[:_MOST_SHOWN]))
        more = len(failures) - _MOST_SHOWN
        super().__init__(
            f"None of the {len(failures)} addresses of this model can be used. {shown}"
            + (f" {more} more failed, too." if more > 0 else "")
        )
        self.failures = tuple(failures)


class ServerMoved(Unavailable):
    """The server sends on to another address. Nothing is sent there, as the key is for this address only."""

    def __init__(self, address: str, to: str) -> None:
        said = f" to {_short(without_keys(to))}" if to else ""
        super().__init__(f"The server at {address} sends on{said}. If that is right, enter that address instead.")


class ServerModelUnknown(Unavailable):
    """Which models the server has cannot be read any more."""

    def __init__(self, why: UserError) -> None:
        super().__init__(str(why))


class RouteMissing(EngineFailed):
    """The server, or a proxy in front of it, has no such route."""


class StreamCut(EngineFailed):
    """The connection ended in the middle of a reply."""

    def __init__(self, address: str, tokens: int, why: str) -> None:
        count = "1 token" if tokens == 1 else f"{tokens:,} tokens"
        super().__init__(
            f"the connection to the server at {address} was lost after {count} ({why}). What had arrived is kept: "
            "continue the reply when the server is back."
        )


def _short(name: str) -> str:
    """A model's name or an address as a server says it."""
    return " ".join(name.split())[:_LONGEST]


def failure_of_all(failures: Sequence[UserError]) -> UserError:
    """One error for those of all addresses that were tried: if one is only overloaded, that with the shortest wait."""
    overloaded = [each for each in failures if isinstance(each, ServerOverloaded)]
    if overloaded:
        return min(overloaded, key=lambda each: each.seconds or 1)
    return failures[0] if len(failures) == 1 else NoServerUsable(failures)


def is_blocked(error: UserError, *, wrong_key: bool) -> bool:
    """Whether an address has no such route, or lets nobody use it, as a proxy does: where its list of models could be
    read, the key is no reason. `wrong_key`: whether status 401 counts as that, too, or is about the key.
    """
    failures = error.failures if isinstance(error, NoServerUsable) else (error,)
    about_key = any(isinstance(each, ServerKeyRefused) and not isinstance(each, ServerForbids) for each in failures)
    if about_key:
        return wrong_key
    return any(isinstance(each, (RouteMissing, ServerForbids, ServerMoved)) for each in failures)


def refusal(address: str, status: int, data: bytes, headers: Mapping[str, str], keyed: bool) -> UserError:
    """The error for a server's answer that is not a success; `keyed`: a key was sent."""
    said = _said(data)
    if status == 401:
        return ServerKeyRefused(address, keyed)
    if status == 403:
        return ServerForbids(address, keyed)
    if status in (429, 503):
        return ServerOverloaded(address, said or f"status {status}", _seconds(headers.get("retry-after", "")))
    if status in (502, 504):
        return ServerUnreachable(address, said or f"its gateway answers with status {status}")
    if status in (400, 413, 422):
        if "grammar" in said.lower() or "schema" in said.lower():
            return InvalidGrammar(f"the server at {address} cannot use it: {said}")
        if longer := too_long(address, said, _parsed(data)):
            return longer
        return InvalidInput(f"The server at {address} refused the request: {said or f'status {status}'}.")
    if 300 <= status < 400:
        return ServerMoved(address, headers.get("location", ""))
    failed = RouteMissing if status in (404, 405) else EngineFailed
    return failed(f"the server at {address} answered with status {status}{f': {said}' if said else ''}.")


def is_no_stream(headers: Mapping[str, str]) -> bool:
    """Whether an answer cannot be a stream of events, by its headers; many servers name a wrong type."""
    return _is_packed(headers) or "html" in headers.get("content-type", "").lower()


def not_a_reply(address: str, data: bytes) -> UserError:
    """The error for an answer with status 200 in which no event is."""
    if data.lstrip()[:1] == b"<":
        return not_json(address, "", {"content-type": "html"})
    if said := _said(data):
        return EngineFailed(f"the server at {address} ended the reply: {said}.")
    return EngineFailed(f"the server at {address} does not stream its reply, although it was asked to.")


def not_json(address: str, route: str, headers: Mapping[str, str]) -> UserError:
    """The error for an answer with status 200 that cannot be read."""
    at = f" at {route}" if route else ""
    if _is_packed(headers):
        how = " ".join(headers["content-encoding"].split())[:40]
        return EngineFailed(
            f"the server at {address} answers in the form {how}{at}, although asked not to. Switch that off in the "
            "proxy in front of it."
        )
    if "html" in headers.get("content-type", "").lower():
        return RouteMissing(
            f"the server at {address} answers with a web page{at}: a proxy or another program is there."
        )
    return EngineFailed(f"the server at {address} does not answer in JSON{at}.")


def _is_packed(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "").strip().lower() not in ("", "identity")


def too_long(address: str, said: str, answer: Any) -> UserError | None:
    """The error for a prompt that does not fit there, with the server's own numbers if they are certain; None if the
    answer says something else.
    """
    if not is_too_long(said, answer):
        return None
    larger = f"start the server at {address} with a larger context, then load the model again"
    if (found := find_lengths(said, answer)) is None:
        words = f": {said}" if said else ""
        return InvalidInput(
            f"The prompt is too long for the server at {address}{words}. Shorten it, or request a shorter reply "
            "(max_new_tokens, max_tokens)."
        )
    if found.reply:
        return PromptTooLong(found.prompt, found.room, more=larger)
    return PromptTooLong(found.prompt, found.room, f"Shorten it, or {larger}.")


def served_error(value: Any) -> str:
    """The message in a server's error object; "" if there is none."""
    error = value.get("error", value.get("detail", value.get("message"))) if isinstance(value, dict) else value
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("type")
    return " ".join(error.split())[:_LONGEST].rstrip(". ") if isinstance(error, str) else ""


def excerpt(data: bytes) -> str:
    """The beginning of what a server sent, for a sentence; markup is not shown."""
    text = " ".join(data[:_LONGEST].decode("utf-8", "replace").partition("<")[0].split())
    if not text:
        return "markup, or nothing"
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return shown if len(shown) <= _EXCERPT else shown[:_EXCERPT] + "..."


def _said(data: bytes) -> str:
    if (value := _parsed(data)) is not None:
        return served_error(value)
    text = " ".join(data[: 4 * _LONGEST].decode("utf-8", "replace").split())
    is_text = text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text[:-1]  # the last one may be cut
    return text[:_LONGEST].rstrip(". ") if is_text and not text.startswith("<") else ""


def _parsed(data: bytes) -> Any:
    """None if it is no JSON."""
    try:
        return safe_json.loads(data)
    except ValueError:
        return None


def _seconds(text: str) -> int:
    """Those of a Retry-After: a number, or a date."""
    text = text.strip()[:64]
    if text.isdecimal():
        return min(int(text), _LONGEST_WAIT)
    try:
        until = email.utils.parsedate_to_datetime(text)
        left = (until - datetime.now(until.tzinfo and UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0
    return min(max(math.ceil(left), 0), _LONGEST_WAIT)
