"""Tracks whether the end of a growing Markdown text is inside code. Pure."""

from __future__ import annotations


class CodeTracker:
    """`push` adds text; `in_code` says whether what comes after it is code."""

    __slots__ = ("_fence", "_line", "_ticks")

    def __init__(self) -> None:
        self._fence = ""  # the characters of the open fence
        self._line = ""  # the beginning of this line
        self._ticks = 0  # backticks in it so far

    def push(self, text: str) -> None:
        if "\n" not in text and "`" not in text and "~" not in text:  # nearly always
            if len(self._line) < 8:
                self._line += text[:8]
            return
        first, *others = text.split("\n")
        self._add(first)
        for line in others:
            self._end()
            self._add(line)

    def in_code(self, more: str = "") -> bool:
        """Whether what follows `more` is in a code block or in inline code."""
        if not more:
            return bool(self._fence) or self._ticks % 2 == 1 or bool(self._opens())
        ahead = CodeTracker()
        ahead._fence, ahead._line, ahead._ticks = self._fence, self._line, self._ticks
        ahead.push(more)
        return ahead.in_code()

    def _add(self, text: str) -> None:
        if len(self._line) < 8:
            self._line += text[:8]
        self._ticks += text.count("`")

    def _opens(self) -> str:
        start = self._line.lstrip()[:3]
        return start if start in ("```", "~~~") and len(self._line) - len(self._line.lstrip()) < 4 else ""

    def _end(self) -> None:
        """End of the line."""
        mark = self._opens()
        if mark:
            self._fence = "" if self._fence == mark else self._fence or mark
        self._line, self._ticks = "", 0
