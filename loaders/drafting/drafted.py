"""What every drafter gives: guessed tokens, and how much they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DraftedTokens:
    """Guessed tokens. `kind` says how much they can be trusted: drafts of one kind turn out alike. `kinds`: that of
    each token, for drafts of a model.
    """

    tokens: list[int]
    kind: int = 0
    kinds: tuple[int, ...] = ()
