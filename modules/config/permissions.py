"""The accounts of the page, and who may change how the program starts: flags, extensions, a restart.

If only this machine can open the page and there are no accounts, everyone who can open it may. If others can (also
through a proxy), or if there are several accounts, only the administrator (the first account) may. Options that let
code run can never be switched on from the page then. This module must not know how a user is shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from errors import InvalidInput, NotAllowed
from modules.config.server_flags import ServerFlags


def read_accounts(flags: ServerFlags) -> list[tuple[str, str]] | None:
    """The accounts that may open the page: names and passwords. Raises: InvalidInput, for an unreadable file or
    entry.
    """
    words = flags.gradio_auth
    if flags.gradio_auth_path:
        try:
            words += "," + Path(flags.gradio_auth_path).expanduser().read_text(encoding="utf-8").replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"--gradio-auth-path: {flags.gradio_auth_path} cannot be read ({error}).") from None
    pairs = [each.strip() for each in words.split(",") if each.strip()]
    for pair in pairs:
        user, colon, password = pair.partition(":")
        if not (user.strip() and colon and password.strip()):
            raise InvalidInput("--gradio-auth must be user:password; separate several with commas.")
    accounts = [(user.strip(), password.strip()) for user, _, password in (pair.partition(":") for pair in pairs)]
    names = [name for name, _ in accounts]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InvalidInput(f"--gradio-auth has {twice} more than once. Give each account its own name.")
    return accounts or None


@dataclass(frozen=True)
class Permissions:
    """`is_open`: others can use the page, from other machines or with other accounts.

    `names`: of the accounts, the administrator's first.
    """

    is_open: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, flags: ServerFlags) -> Self:
        """From the flags. Raises: InvalidInput."""
        if flags.nowebui:
            return cls()
        names = tuple(name for name, _ in read_accounts(flags) or ())
        # a server sees visitors of a proxy as local: several accounts mean that there are several people
        return cls(is_open=True, names=names) if flags.is_open or len(names) > 1 else cls()

    def refusal(self, user: str | None) -> str | None:
        """Why this user may not change how the program starts; None if they may."""
        if not self.is_open:
            return None
        if not self.names:
            return (
                "This page can be opened from other machines and has no accounts, so flags and extensions cannot "
                "be changed here. Start the program with --gradio-auth NAME:PASSWORD and log in, or edit "
                "CMD_FLAGS.txt on this machine."
            )
        if user != self.names[0]:
            return (
                "This page is shared, so only the administrator may change flags and extensions: log in as "
                f"{self.names[0]}, the first account of --gradio-auth."
            )
        return None

    def check(self, user: str | None) -> None:
        """As `refusal`. Raises: NotAllowed."""
        if why := self.refusal(user):
            raise NotAllowed(why)

    def check_code(self, before: Collection[str], after: Collection[str]) -> None:
        """Refuse options that would let more code run than before; both are flags. Raises: NotAllowed."""
        more = [each for each in after if each not in before]
        if self.is_open and more:
            raise NotAllowed(
                f"{', '.join(more)} allows code to run, and this page is shared. Enable it on the machine itself: "
                "add it to CMD_FLAGS.txt, then restart the program."
            )
