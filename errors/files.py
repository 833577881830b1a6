"""Errors about flags, settings, conversations, downloads and extensions. Imports nothing but the kinds of errors."""

from __future__ import annotations

from collections.abc import Iterable

from errors.kinds import Conflict, InvalidInput, Unavailable, did_you_mean


class UnknownFlag(InvalidInput):
    """A command-line flag that neither this program nor the original knows."""

    def __init__(self, flag: str, source: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Unknown flag {flag} {source}.{did_you_mean(flag, known)} For all flags, run: python server.py --help"
        )


class BadFlagValue(InvalidInput):
    """A known flag with an invalid value."""

    def __init__(self, flag: str, source: str, why: str) -> None:
        super().__init__(f"Invalid flag {flag} {source}: {why}")


class BadFile(InvalidInput):
    """A file of the user's that cannot be parsed."""

    def __init__(self, path: object, why: str, todo: str = "Fix or remove the file, then try again.") -> None:
        self._say("bad_file", {"path": path, "why": why, "todo": todo}, f"{path} cannot be read: {why}. {todo}")


class NotWritable(Unavailable):
    """A file of the user's that cannot be written: no permission, disk full."""

    def __init__(self, path: object, error: OSError) -> None:
        why = error.strerror or str(error)
        self._say(
            "not_writable",
            {"path": path, "why": why},
            f"{path} cannot be written: {why}. Make it writable, then try again.",
        )


class ConversationChanged(Conflict):
    """An outdated page tried to overwrite a conversation that has changed since."""

    def __init__(self) -> None:
        self._say(
            "conversation_changed", {},
            "This conversation was changed in another window. The current version is now shown; nothing was lost."
        )  # fmt: skip


class NothingToDo(InvalidInput):
    """The action has nothing to work on."""


class FetchFailed(Unavailable):
    """A download failed."""

    def __init__(self, what: str, why: str, todo: str) -> None:
        self._say(
            "fetch_failed",
            {"what": what, "why": why.rstrip(". "), "todo": todo},
            f"{what} could not be downloaded: {why.rstrip('. ')}. {todo}",
        )


class ExtensionFailed(Unavailable):
    """An extension raised an error in a function that nothing can replace. `said` names the extension and the error."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said} Fix the extension, or disable it in the Session tab.")
