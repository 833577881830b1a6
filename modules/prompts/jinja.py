"""The sandbox in which chat templates run. They come with downloaded models, so they are strangers' programs.

A template sees plain values and may neither change them, nor reach Python's inside, nor fill the memory. This module
knows nothing of conversations or of files.
"""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from errors import TemplateFailed

_LARGEST = 1_000_000  # what `"x" * n` and `2 ** n` may come to: characters, and the exponent's bits
_FILE = "<template>"  # what jinja2 calls the source of a template that comes from a string


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: marks what a trainer learns from; here it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses the two operators that make something huge of something small."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            bits = left.bit_length() if isinstance(left, int) else 64
            too_large = isinstance(right, int | float) and bits * abs(right) > _LARGEST
        else:
            lengths = [len(each) for each in (left, right) if isinstance(each, str | list | tuple | bytes)]
            counts = [each for each in (left, right) if isinstance(each, int)]
            too_large = bool(lengths and counts and lengths[0] * max(counts) > _LARGEST)
        if too_large:
            raise SecurityError("it multiplies beyond all bounds")
        return super().call_binop(context, operator, left, right)


class Sandbox:
    """Compiles templates and runs them. Compiled ones are kept, the last few, since a chat uses the same again."""

    _KEPT = 16

    def __init__(self) -> None:
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
        environment.filters["tojson"] = _tojson
        self._environment = environment
        self._lock = threading.Lock()
        self._compiled: dict[str, jinja2.Template] = {}

    def render(self, name: str, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template makes of the values. Raises: TemplateFailed, with the line."""
        try:
            return self._template(source).render(values)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFailed(name, _words(error), error.lineno) from None
        except RecursionError:
            raise TemplateFailed(name, "it is nested too deeply") from None
        except Exception as error:  # whatever a stranger's program may raise
            raise TemplateFailed(name, _words(error), _line(error.__traceback__)) from None

    def variables(self, source: str) -> frozenset[str]:
        """The values that a template asks for from outside; none for one that cannot be read."""
        try:
            return frozenset(meta.find_undeclared_variables(self._environment.parse(source)))
        except (jinja2.TemplateSyntaxError, RecursionError):
            return frozenset()

    def _template(self, source: str) -> jinja2.Template:
        with self._lock:
            template = self._compiled.pop(source, None) or self._environment.from_string(source)
            self._compiled[source] = template  # last used, last to go
            while len(self._compiled) > self._KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            return template


def _words(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return (words[0].rstrip(".") if words else type(error).__name__)[:300]


def _line(traceback: TracebackType | None) -> int | None:
    """The line of the template where it failed: jinja2 puts the template's own frames into the traceback."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILE:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _raise_exception(message: object = "") -> NoReturn:
    raise jinja2.TemplateError(str(message) or "the template refuses these messages")


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter escapes for HTML, which templates of models do not expect."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=str
    )
