"""Text as Markdown that shows each character: converted back, it equals the original, whatever that was."""

from __future__ import annotations

import random
import re

import pytest

from modules.ui.parts.markdown_text import to_markdown

_PIECES = (
    "a", " ", "\n", "\n\n", "<b>", "</b>", "<", "&", "&amp;", "&#60;", "`", "``", "```\n", "~~~\n", "~", "~~", "$$",
    "$", "$x$",
    "\\(", "\\)", "\\[", "\\]", "\\", "**", "*", "「強調」", "は", "- ", "> ",
    "    ", "|", "-|-\n", "# ", "<https://example.invalid/x>",
    "<!--", "-->", "%%%LATEX_BLOCK_0%%%", "5", "1. ", "[x](y)", "\t",
)  # fmt: skip


def written(text: str) -> str:
    """The same as `Page.written` of the page's script."""
    text = re.sub(r'<pre data-was="([^"]*)">.*?</pre>\n\n', r"\1", text, flags=re.DOTALL)
    text = re.sub(r'<(code|span) data-was="([^"]*)">.*?</\1>', r"\2", text, flags=re.DOTALL)
    text = text.replace('<span class="nil"></span>', "")
    return re.sub(r"&#(\d{7});", lambda found: chr(int(found[1])), text)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_or_added(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(25):
        text = "".join(dice.choices(_PIECES, k=dice.randrange(1, 30)))
        assert written(to_markdown(text)) == text, to_markdown(text)


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("a<b", "a&#0000060;b"),
        ("`a<b`", "`a<b`"),
        ("a ` b\n\n<c> ` d", "a ` b\n\n&#0000060;c> ` d"),
        ("```\n<a>", "```\n<a>"),
        ("```\n<a>\n```\n<b>", "```\n<a>\n```\n&#0000060;b>"),
        ("text\n    <no code>", "text\n    &#0000060;no code>"),
        ("\n    <code>", "\n    <code>"),
        ("~~a~~ ~b~", "~~a~~ &#0000126;b&#0000126;"),
        ("$$a<b$$", "$$a<b$$"),
        ("$x$", '<span data-was="&#0000036;x&#0000036;">\\(x\\)</span>'),
        ("if $a < b$:", 'if <span data-was="&#0000036;a &#0000060; b&#0000036;">\\(a < b\\)</span>:'),
        ("from $5 to $6, or $7/$8", "from $5 to $6, or $7/$8"),
        ("$5 (or 5$)", "$5 (or 5$)"),
        ("$HOME:$PATH and `$x$`", "$HOME:$PATH and `$x$`"),
        ("$$5 and $$6", '$<span class="nil"></span>$5 and $<span class="nil"></span>$6'),
        ("**「a」**は", '**「a」**<span class="nil"></span>は'),
        ("`$$`", '<code data-was="&#0000096;&#0000036;&#0000036;&#0000096;">&#0000036;&#0000036;</code>'),
        ("- ```\n  <a>\n  ```", "- ```\n  <a>\n  ```"),
        ("<div>\n```\n<a>\n```", "&#0000060;div>\n```\n<a>\n```"),
    ],
)
def test_only_markdown_is_markdown(text: str, is_shown: str) -> None:
    assert to_markdown(text) == is_shown


@pytest.mark.parametrize(
    "unit", ["`", "` `` ``` ", "$$ ", "$a ", "($", "\\[ ", ">", "- ", "**a", "a\n", "```\n$$\n", "[a](", "<"]
)
def test_what_never_closes_costs_no_more_than_its_length(unit: str) -> None:
    text = unit * (30_000 // len(unit))
    assert written(to_markdown(text)) == text
