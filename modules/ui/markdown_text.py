"""Text that a person or a model wrote, as Markdown that shows each character of it: only Markdown is Markdown.

The page's renderer (marked and KaTeX, inside gradio) also reads HTML, entities, single tildes, and a formula between
any two double dollars, in code too. Those are written here so that they are seen as they stand. Where code stands is
told by markdown-it, whose blocks are marked's. The page's script takes it back where a text is copied
(`Page.written`). Pure; it knows nothing of chats.
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
#: What may stand in prose and is not words: an escaped sign, code, a formula, an address in angle brackets.
_SPAN = re.compile(
    r"(?P<escaped>\\[\\`*_~<&$])"
    r"|(?P<code>`+)"
    rf"|(?P<formula>\$\$(?=\S)(?:{_NO_GAP}(?!\$\$).)+?(?<=\S)\$\$(?!\d)"
    rf"|\$\$\s(?:{_NO_GAP}(?!\$\$).)+?\s\$\$(?!\d)"
    rf"|\\\[(?:{_NO_GAP}(?!\\\[|\$\$).)+?\\\]|\\\((?:{_NO_GAP}(?!\\\(|\$\$).)+?\\\))"
    r"|(?P<address><(?:https?://|mailto:)[^\s<>\"'`]+>)",
    re.DOTALL,
)
_TICKS = re.compile(r"`+")
#: What begins or ends a formula for the renderer, wherever it stands.
_FORMULA_SIGN = re.compile(r"\$\$|\\[\[\]()]")
#: A formula within code that the renderer puts back as it was.
_WHOLE = re.compile(r"\$\$[^$&]+\$\$|\\\[[^\\&]*\\\]|\\\([^\\&]*\\\)")
#: In words, what would be read as something else, and stars.
_SIGNS = re.compile(r"[&<]|(?<!~)~(?!~)|\$\$|\\[\[\]()]|%%%LATEX|\*+")
#: Without any of these a text is shown as it is.
_ANY = re.compile(r"[&<~\\*]|\$\$|%%%LATEX")
_KEPT = 8000  # characters of a text whose Markdown is kept
#: Letters and marks of Chinese, Japanese and Korean, between which no spaces stand.
_WIDE = re.compile(r"[\u2E80-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\uFE30-\uFE4F\uFF00-\uFFEF]")
#: Nothing that is seen: two signs beside it are no pair, and a star beside it stands at the end of a word.
_NOTHING = '<span class="nil"></span>'


def shown(text: str) -> str:
    """Markdown for the page in which every character of the text is seen that is not Markdown's own."""
    if not _ANY.search(text):
        return text
    return _short(text) if len(text) <= _KEPT else _written(text)


def _written(text: str) -> str:
    return "".join(_code_block(part) if code else _prose(part, starts) for part, code, starts in _stretches(text))


@lru_cache(maxsize=2048)
def _short(text: str) -> str:
    """A chat is shown again and again, whole."""
    return _written(text)


def _stretches(text: str) -> Iterator[tuple[str, bool, list[int]]]:
    """The text from end to end: lines of one block of code, or lines without, with the places (in characters of
    them) at which a paragraph begins.
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
    """Lines without a block of code; `starts`: where its paragraphs begin, beyond which no code in a line goes on."""
    runs: dict[int, list[int]] = defaultdict(list)  # where so many backticks stand, by their number
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
                at = end  # nothing ends it
                continue
            end = ticks[follows] + len(match[0])
        parts.append(_words(text, begun, match.start()))
        parts.append(_escaped(match[0]) if match["escaped"] else _code_in_line(text[match.start() : end], match))
        begun = at = end
    parts.append(_words(text, begun, len(text)))
    return "".join(parts)


def _escaped(pair: str) -> str:
    """A sign with a backslash before it."""
    if pair[1] not in "<&~$[]()":
        return pair
    return f'<span data-was="{_entities(pair)}">{_entity(pair[1])}</span>'


def _words(text: str, start: int, end: int) -> str:
    """A part of a text in which there is no code and no formula."""

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
    """Stars between a mark and a letter of a script without spaces: Markdown's rule for words takes them for text."""
    before, after = text[at - 1 : at], text[at + len(stars) : at + len(stars) + 1]
    if not before or not after or not (_WIDE.match(before) or _WIDE.match(after)):
        return stars
    marks = [unicodedata.category(each)[0] in "PS" for each in (before, after)]
    if marks == [True, False] and not after.isspace():
        return stars + _NOTHING
    return _NOTHING + stars if marks == [False, True] and not before.isspace() else stars


def _code_in_line(code: str, match: re.Match[str]) -> str:
    """Code between backticks, or what is no words either and stays as it is."""
    if not match["code"] or not _FORMULA_SIGN.search(code):
        return code
    inner = code[len(match[0]) : -len(match[0])].replace("\n", " ")
    if inner.strip() and inner[0] == inner[-1] == " ":
        inner = inner[1:-1]
    return f'<code data-was="{_entities(code)}">{_entities(inner)}</code>'


def _code_block(lines: str) -> str:
    """A block of code with its fences; as HTML where the renderer would find the end of a formula in it."""
    if not _FORMULA_SIGN.search(_WHOLE.sub("", lines)):
        return lines
    token = next((each for each in _BLOCKS.parse(lines) if each.type in ("fence", "code_block")), None)
    if token is None or token.level:  # within a list or a quotation
        return lines
    return f'<pre data-was="{_entities(lines)}"><code>{_entities(token.content)}</code></pre>\n\n'


def _entities(text: str) -> str:
    """Text in which nothing is read as anything, line ends too."""
    return re.sub(r"[!-/:-@\[-`{-~\n]", lambda match: _entity(match[0]), text)


def _entity(sign: str) -> str:
    """A sign as nobody writes it, so that it can be told from what stands in a text."""
    return f"&#{ord(sign):07};"
