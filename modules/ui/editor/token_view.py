"""Shows tokens as HTML, with signs for invisible characters, in alternating colours."""

from __future__ import annotations

from modules.generation.token_view import TokenView, VisibleToken
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr

#: How many tokens of a text are drawn; all are counted and copied.
DRAWN = 4000


def token_html(token: VisibleToken) -> str:
    """The token's text, each part according to its kind."""
    made = []
    for part in token.parts:
        if part.kind == "text":
            made.append(escape(part.text))
        else:
            made.append(f"<i class='{part.kind}' title='{tr(f'editor.part.{part.kind}')}'>{escape(part.text)}</i>")
    return "".join(made)


def tokens_html(view: TokenView) -> str:
    """A text as coloured tokens; those that share a character have one colour, and a tooltip."""
    if not view.tokens:
        return f"<p class='hint'>{tr('editor.no_text')}</p>"
    made = [_token(token) for token in view.tokens[:DRAWN]]
    return f"<div class='tokens'>{''.join(made)}</div>"


def tokens_line(view: TokenView) -> str:
    """The counts: "31 tokens · 118 characters · 120 bytes · 2 control tokens"."""
    special = sum(token.special for token in view.tokens)
    pieces = [
        f"<b>{tr('unit.tokens', n=len(view.tokens))}</b>",
        tr("unit.characters", n=view.characters),
        tr("unit.bytes", n=view.size),
    ]
    if special:
        pieces.append(tr("unit.control_tokens", n=special))
    if len(view.tokens) > DRAWN:
        pieces.append(tr("editor.tokens_drawn", n=DRAWN))
    return f"<p>{' · '.join(pieces)}</p>"


def _token(token: VisibleToken) -> str:
    kind = "special" if token.special else f"t{token.group % 4}"
    data = token.data.hex(" ").upper()
    about = tr("editor.token_bytes" if data else "editor.token_no_bytes", id=token.id, data=data)
    if token.part_of:
        about += ", " + tr("editor.token_part", text=token.part_of)
    end = "<br>" if token.newline else ""
    return (
        f"<span class='token {kind}' "
        f"title='{escape(about)}'><b>{token_html(token)}</b><small>{token.id}</small></span>{end}"
    )
