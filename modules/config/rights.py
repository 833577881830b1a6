"""Which accounts the page has, and who may change how the program starts: flags, extensions, a restart.

Where only this machine can open the page and nobody is told apart, everyone who does may. Where others can, through a
proxy too, or where there are several accounts, only the administrator may: the first account. And what lets code run is
never switched on from there at all. This module must not know how a visitor is shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from errors import InvalidInput, NotAllowed
from modules.config.server_flags import ServerFlags


def accounts(flags: ServerFlags) -> list[tuple[str, str]] | None:
    """Who may open the page: names and passwords. Raises: InvalidInput, for a file or a pair that cannot be read."""
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
            raise InvalidInput("--gradio-auth wants user:password, with commas between several.")
    return [(user.strip(), password.strip()) for user, _, password in (p.partition(":") for p in pairs)] or None


@dataclass(frozen=True)
class Rights:
    """`is_open`: others can use the page, from other machines or as other accounts.

    `names`: of the accounts, the administrator's first.
    """

    is_open: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, flags: ServerFlags) -> Self:
        """Raises: InvalidInput."""
        if flags.nowebui:
            return cls()
        names = tuple(name for name, _ in accounts(flags) or ())
        # a server sees a proxy's visitors come from this machine: several accounts say that there are several people
        return cls(is_open=True, names=names) if flags.is_open or len(names) > 1 else cls()

    def refusal(self, user: str | None) -> str | None:
        """Why this visitor may not change how the program starts; None when they may."""
        if not self.is_open:
            return None
        if not self.names:
            return (
                "Other machines can open this page, and it has no accounts, so flags and extensions cannot be changed "
                "here. Start the program with --gradio-auth NAME:PASSWORD and log in, or edit CMD_FLAGS.txt on the "
                "machine itself."
            )
        if user != self.names[0]:
            return (
                "Others can use this page, too, so only the administrator may change flags and extensions here: "
                f"log in as {self.names[0]}, the first account of --gradio-auth."
            )
        return None

    def check(self, user: str | None) -> None:
        """Raises: NotAllowed."""
        if why := self.refusal(user):
            raise NotAllowed(why)

    def check_code(self, before: Collection[str], after: Collection[str]) -> None:
        """Refuse what would let more code run than before; both are flags. Raises: NotAllowed."""
        more = [each for each in after if each not in before]
        if self.is_open and more:
            raise NotAllowed(
                f"{', '.join(more)} lets code run, and others can use this page, too. Switch it on at the machine "
                "itself: write it into CMD_FLAGS.txt, then start the program again."
            )
