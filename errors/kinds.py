"""The kinds of errors, and errors about names and text. Imports nothing of this project.

A kind says what the caller can do about it; the API turns kinds into status codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


def without_frames(error: ErrorT) -> ErrorT:
    """A copy to be kept and raised later. The error itself leads to the frames it came through, and so to all that a
    request holds: kept by a part of the request, it would hold that until the garbage collector comes.
    """
    return _made_again(type(error), error.args, error.__dict__)


def _made_again(kind: type[ErrorT], args: tuple[Any, ...], attributes: dict[str, Any]) -> ErrorT:
    """An error with these contents, whatever its constructor takes."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class UserError(Exception):
    """An error that the user can act on: `str(error)` is shown unchanged, without a traceback.

    `told` is the sentence's key and the values in it, for pages in other languages (modules/ui/parts/error_text.py).
    """

    told: tuple[str, dict[str, Any]] | None = None

    def _say(self, key: str, fields: dict[str, Any], sentence: str) -> None:
        self.told = key, fields
        super().__init__(sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its contents instead of its constructor's arguments: the error may come from another process."""
        return _made_again, (type(self), self.args, self.__dict__)

    def add(self, sentence: str) -> None:
        """Append what else the user should know, such as what was done about it."""
        said, self.told = str(self).rstrip(), None  # no catalog has the two together
        self.args = (f"{said}{'' if said.endswith(('.', '!', '?')) else '.'} {sentence}",)


class InvalidInput(UserError):
    """The request itself is wrong: a value out of bounds, malformed text."""


class NotFound(UserError):
    """The named thing does not exist: a model, a preset, a conversation."""


class Conflict(UserError):
    """The thing has changed meanwhile or is in use: reload it and try again."""


class Unavailable(UserError):
    """Not possible right now: no model loaded, a package missing, no network."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause with the closest known name (" Did you mean X?"); empty if nothing differs by one or two typing errors
    only.
    """
    plain = {each.lower().lstrip("-"): each for each in known}
    close = get_close_matches(name.lower().lstrip("-"), plain, 1, 0.7)
    return f" Did you mean {plain[close[0]]}?" if close else ""


class UnknownName(NotFound):
    """A name that is not in a list of known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no {kind} named {name!r}.{did_you_mean(name, known)}")


class InvalidName(InvalidInput):
    """A name that cannot be used as a file name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} cannot be used as a name: {why}. Choose another one.")


class LoneSurrogate(InvalidInput):
    """Text that cannot be encoded as UTF-8. `place` is the character's position, counted from 1."""

    def __init__(self, what: str, place: int) -> None:
        super().__init__(
            f"{what} contains an invalid character (lone surrogate) at position {place}. Remove it; such "
            "characters appear when text is cut in the middle of an emoji."
        )


def encode_utf8(text: str, what: str = "The text") -> bytes:
    """Encode text as UTF-8. Raises: LoneSurrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LoneSurrogate(what, error.start + 1) from None


class NotAllowed(UserError):
    """An action that this user of the page is not allowed to take; the sentence says who is."""
