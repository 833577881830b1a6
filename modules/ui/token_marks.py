"""A token as the page shows it: its text with what cannot be seen as signs, in colours of its own. HTML out."""

from __future__ import annotations

from modules.generation.token_view import Shown, TokenView
from modules.ui.words import escape, plural

#: How many tokens of a text are drawn; all are counted and copied.
DRAWN = 4000

_NAMES = {"space": "space", "mark": "invisible character", "bytes": "part of a character", "special": "control token"}


def mark(token: Shown) -> str:
    """The token's text, each part by its kind."""
    made = []
    for part in token.parts:
        if part.kind == "text":
            made.append(escape(part.text))
        else:
            made.append(f"<i class='{part.kind}' title='{_NAMES[part.kind]}'>{escape(part.text)}</i>")
    return "".join(made)


def tokens_html(view: TokenView) -> str:
    """A text as coloured tokens; those that share a character share a colour, and say which."""
    if not view.tokens:
        return "<p class='hint'>There is no text yet. Write some, and its tokens stand here.</p>"
    made = [_token(token) for token in view.tokens[:DRAWN]]
    return f"<div class='tokens'>{''.join(made)}</div>"


def tokens_line(view: TokenView) -> str:
    """The counts: "31 tokens · 118 characters · 120 bytes · 2 control tokens"."""
    special = sum(token.special for token in view.tokens)
    pieces = [
        f"<b>{plural(len(view.tokens), 'token')}</b>",
        plural(view.characters, "character"),
        plural(view.size, "byte"),
    ]
    if special:
        pieces.append(plural(special, "control token"))
    if len(view.tokens) > DRAWN:
        pieces.append(f"the first {DRAWN:,} are drawn")
    return f"<p>{' · '.join(pieces)}</p>"


def _token(token: Shown) -> str:
    kind = "special" if token.special else f"t{token.group % 4}"
    data = token.data.hex(" ").upper()
    about = f"{token.id}: bytes {data}" if data else f"{token.id}: no bytes"
    if token.part_of:
        about += f", part of “{token.part_of}”"
    end = "<br>" if token.newline else ""
    return (
        f"<span class='token {kind}' title='{escape(about)}'><b>{mark(token)}</b><small>{token.id}</small></span>{end}"
    )
