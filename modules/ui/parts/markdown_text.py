"""Prepares text that a person or a model wrote for Markdown rendering, so that every other character is shown
literally.

The page's renderer (marked and KaTeX, inside gradio) also interprets HTML, entities, single tildes, and formulas
between any two double dollars, even in code. Those are escaped here. markdown-it, which splits text into blocks like
marked, finds the code. The page's script undoes the escapes when a text is copied (`Page.written`). Pure; it knows
nothing of chats.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from markdown_it import MarkdownIt

_BLOCKS = MarkdownIt("commonmark").enable("table").disable("html_block")
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])

_LINE_END = re.compile(r"\r\n?|\n")
_NO_GAP = r"(?!\n[ \t>]*\n)"
#: Parts of prose that are not words: an escaped character, code, a formula, a URL in angle brackets.
_SPAN = re.compile(
    r"(?P<escaped>\\[\\`*_~<&$])"
    r"|(?P<code>`+)"
    rf"|(?P<formula>\$\$(?=\S)(?:{_NO_GAP}(?!\$\$).)+?(?<=\S)\$\$(?!\d)"
    rf"|\$\$\s(?:{_NO_GAP}(?!\$\$).)+?\s\$\$(?!\d)"
    rf"|\\\[(?:{_NO_GAP}(?!\\\[|\$\$).)+?\\\]|\\\((?:{_NO_GAP}(?!\\\(|\$\$).)+?\\\))"
    # $x$: no space inside, no word before or after, and not two prices: see _is_formula
    r"|(?<![\\\w$])\$(?P<inline>(?=[^\s$])[^$`\n]{1,300}?(?<=[^\s\\]))\$(?![\w$])"
    r"|(?P<address><(?:https?://|mailto:)[^\s<>\"'`]+>)",
    re.DOTALL,
)
_TICKS = re.compile(r"`+")
#: What begins or ends a formula for the renderer, anywhere.
_FORMULA_SIGN = re.compile(r"\$\$|\\[\[\]()]")
#: A formula in code that the renderer restores unchanged.
_WHOLE = re.compile(r"\$\$[^$&]+\$\$|\\\[[^\\&]*\\\]|\\\([^\\&]*\\\)")
#: In words: what would be interpreted, and asterisks.
_SIGNS = re.compile(r"[&<]|(?<!~)~(?!~)|\$\$|\\[\[\]()]|%%%LATEX|\*+")
#: A text without any of these is shown unchanged.
_ANY = re.compile(r"[&<~\\*$]|%%%LATEX")
#: What makes several words between dollars a formula.
_MATHS = re.compile(r"[\\^_=<>+{}|]|\s[-*/]\s")
_KEPT = 8000  # characters of texts whose Markdown is cached
#: Letters and marks of Chinese, Japanese and Korean, which are written without spaces.
_WIDE = re.compile(r"[\u2E80-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\uFE30-\uFE4F\uFF00-\uFFEF]")
#: Invisible: two characters with it between them are no pair, and an asterisk beside it is at the end of a word.
_NOTHING = '<span class="nil"></span>'


def to_markdown(text: str) -> str:
    """Markdown for the page that shows every character of the text that is not Markdown syntax."""
    if not _ANY.search(text):
        return text
    return _short(text) if len(text) <= _KEPT else _written(text)


def _written(text: str) -> str:
    return "".join(_code_block(part) if code else _prose(part, starts) for part, code, starts in _stretches(text))


@lru_cache(maxsize=2048)
def _short(text: str) -> str:
    """Cached for short texts: a chat is shown again and again, completely."""
    return _written(text)


def _stretches(text: str) -> Iterator[tuple[str, bool, list[int]]]:
    """The text in sections: the lines of one code block, or lines without one, with the positions (in characters) at
    which a paragraph begins.
    """
    plain = _LINE_END.sub("\n", text)
    lines = [f"{line}\n" for line in plain.split("\n")]
    lines[-1] = lines[-1][:-1]
    begins, code = set[int](), set[int]()
    for token in _BLOCKS.parse(plain):
        if token.map and token.type in ("inline", "fence", "code_block"):
            first, end = token.map[0], min(token.map[1], len(lines))
            begins |= {first, end}
            if token.type != "inline":
                code |= set(range(first, end))
    at = 0
    while at < len(lines):
        end, starts, length = at, [], 0
        while end < len(lines) and (end in code) == (at in code) and (end == at or at not in code or end not in begins):
            if end == at or end in begins:
                starts.append(length)
            length += len(lines[end])
            end += 1
        yield "".join(lines[at:end]), at in code, starts
        at = end


def _prose(text: str, starts: list[int]) -> str:
    """Lines without a code block; `starts`: where paragraphs begin, which inline code cannot cross."""
    runs: dict[int, list[int]] = defaultdict(list)  # the positions of runs of backticks, by their length
    for run in _TICKS.finditer(text):
        runs[len(run[0])].append(run.start())
    parts, begun, at = [], 0, 0
    while match := _SPAN.search(text, at):
        end = match.end()
        if match["code"]:
            ticks = runs[len(match[0])]
            follows = bisect_right(ticks, match.start())
            limit = bisect_right(starts, match.start())
            last = starts[limit] if limit < len(starts) else len(text)
            if follows == len(ticks) or ticks[follows] >= last:
                at = end  # it is never closed
                continue
            end = ticks[follows] + len(match[0])
        if match["inline"] and not _is_formula(match["inline"]):
            at = match.start() + 1
            continue
        parts.append(_words(text, begun, match.start()))
        if match["inline"]:
            parts.append(f'<span data-was="{_entities(match[0])}">\\({match["inline"]}\\)</span>')
        else:
            parts.append(_escaped(match[0]) if match["escaped"] else _code_in_line(text[match.start() : end], match))
        begun = at = end
    parts.append(_words(text, begun, len(text)))
    return "".join(parts)


def _is_formula(inner: str) -> bool:
    """Whether text between two dollars is a formula, not the words between two prices."""
    if _FORMULA_SIGN.search(inner):
        return False
    return not re.search(r"\s", inner) or bool(_MATHS.search(inner))


def _escaped(pair: str) -> str:
    """A character with a backslash before it."""
    if pair[1] not in "<&~$[]()":
        return pair
    return f'<span data-was="{_entities(pair)}">{_entity(pair[1])}</span>'


def _words(text: str, start: int, end: int) -> str:
    """A part of a text that contains no code and no formula."""

    def written(match: re.Match[str]) -> str:
        sign = match[0]
        if sign[0] == "*":
            return _stars(text, match.start(), sign)
        if sign == "$$":
            return f"${_NOTHING}$"
        return _escaped(sign) if sign[0] == "\\" else _entity(sign[0]) + sign[1:]

    parts, at = [], start
    for match in _SIGNS.finditer(text, start, end):
        parts += [text[at : match.start()], written(match)]
        at = match.end()
    return "".join([*parts, text[at:end]])


def _stars(text: str, at: int, stars: str) -> str:
    """Asterisks between punctuation and a letter of a script without spaces: Markdown's rules for words would not
    recognize them.
    """
    before, after = text[at - 1 : at], text[at + len(stars) : at + len(stars) + 1]
    if not before or not after or not (_WIDE.match(before) or _WIDE.match(after)):
        return stars
    marks = [unicodedata.category(each)[0] in "PS" for each in (before, after)]
    if marks == [True, False] and not after.isspace():
        return stars + _NOTHING
    return _NOTHING + stars if marks == [False, True] and not before.isspace() else stars


def _code_in_line(code: str, match: re.Match[str]) -> str:
    """Code between backticks, or another part that is not words and stays unchanged."""
    if not match["code"] or not _FORMULA_SIGN.search(code):
        return code
    inner = code[len(match[0]) : -len(match[0])].replace("\n", " ")
    if inner.strip() and inner[0] == inner[-1] == " ":
        inner = inner[1:-1]
    return f'<code data-was="{_entities(code)}">{_entities(inner)}</code>'


def _code_block(lines: str) -> str:
    """A code block with its fences; as HTML if the renderer would find the end of a formula in it."""
    if not _FORMULA_SIGN.search(_WHOLE.sub("", lines)):
        return lines
    token = next((each for each in _BLOCKS.parse(lines) if each.type in ("fence", "code_block")), None)
    if token is None or token.level:  # inside a list or a quotation
        return lines
    return f'<pre data-was="{_entities(lines)}"><code>{_entities(token.content)}</code></pre>\n\n'


def _entities(text: str) -> str:
    """Text in which nothing is interpreted, including line breaks."""
    return re.sub(r"[!-/:-@\[-`{-~\n]", lambda match: _entity(match[0]), text)


def _entity(sign: str) -> str:
    """A character as an unusual entity, which can be distinguished from entities in the text itself."""
    return f"&#{ord(sign):07};"
