"""Splits texts with extremely long words or runs of spaces before llama.cpp tokenizes them.

llama.cpp first splits a text with regular expressions. For many vocabularies (gpt-oss, DeepSeek, Mistral Nemo, Bloom)
it uses the C++ library's engine, which recurses for each character of a match: some ten thousand letters or spaces in a
row exhaust the thread's stack and crash the program. Only such texts are split; all others stay whole. Pure: it must
not know of vocabularies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Characters in a row: twenty thousand are safe with the usual 8 MB of stack. Spaces may follow a word in one match.
LONGEST = 2000

_LOOKED_AT = 1 << 16  # characters at a time: the search holds Python's lock
#: Words; spaces; and words with spaces between them, which some vocabularies (EXAONE's) treat as one. A character that
#: only some engines treat as a space (such as the ideographic one) belongs to all of them.
_KINDS = (r"[^ \t\n\r\v\f]", r"\s", r"[^\d!-/:-@\[-`{-~\t\n\r\v\f]")
_RUNS = [
    (re.compile(rf"(?<!{kind}){kind}{{{LONGEST + 1},}}"), re.compile(rf"{kind}{{{LONGEST + 1},}}")) for kind in _KINDS
]
#: Where words end for nearly all vocabularies: Chinese has no spaces.
_WORD_END = re.compile(r"[^\W\d_](?=[.,!?…。，、।۔،\d]| [^\W\d_])")
_MARK = re.compile(r"[<\[][^<\[]{0,100}\Z")  # a control token may begin here, and must not be split


def split_long_words(text: str) -> Iterator[str]:
    """The text in pieces, none of which contains a word or a run of spaces that is too long."""
    if len(text) <= LONGEST:
        yield text
        return
    begin = 0
    for cut in sorted({cut for run, rest in _RUNS for cut in _cuts(text, run, rest)}):
        yield text[begin:cut]
        begin = cut
    yield text[begin:]


def _cuts(text: str, run: re.Pattern[str], rest: re.Pattern[str]) -> Iterator[int]:
    """The split positions in runs of one kind: `run` finds one from its beginning, `rest` continues after a split."""
    at = 0
    while at < len(text):
        until = min(len(text), at + _LOOKED_AT)
        found = run.search(text, at, until)
        if not found:
            at = until if until == len(text) else until - LONGEST  # one may have begun within the last ones
            continue
        at = found.start()
        while rest.match(text, at, at + LONGEST + 1):
            at = _good_place(text, at)
            yield at


def _good_place(text: str, begin: int) -> int:
    """The end of the next piece of a run: where a word ends, else before what may be a control token."""
    end = begin + LONGEST
    ends = [match.end() for match in _WORD_END.finditer(text, begin + LONGEST // 2, end + 2)]  # two are looked ahead
    if ends := [each for each in ends if each <= end]:
        return ends[-1]
    mark = _MARK.search(text, end - 100, end)
    return mark.start() if mark else end
