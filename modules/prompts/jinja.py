"""The sandbox in which chat templates run. They come with downloaded models, so they are strangers' programs.

A template sees plain values and may neither change them, nor reach Python's inside, nor fill the memory. This module
knows nothing of conversations or of files.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from errors import TemplateFailed
from modules.prompts import bounds

_LONGEST_DATE = 1000  # characters of a form for dates: each of them may become many
_FILE = "<template>"  # what jinja2 calls the source of a template that comes from a string


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: marks what a trainer learns from; here it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Code(CodeGenerator):
    """As jinja2's, but for `~`, which it would let pass by the sandbox."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  jinja2's name
        self.write("environment.joined((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses whatever makes something huge of something small."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})
    code_generator_class = _Code
    concat = staticmethod(bounds.joined)  # what joins the output, and each block's

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=_written,
            optimized=False,  # it would compute what is constant while it compiles, and keep it all in the program
        )
        self.filters = {**bounds.filters(self.filters), "tojson": bounds.to_json}
        self.globals.pop("lipsum")
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        bounds.operation(operator, left, right)
        return bounds.whole(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as jinja2's
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            args = tuple(bounds.method(__obj.__name__, owner, args, kwargs))
        return bounds.whole(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text, is_map = str(value.__self__), value.__name__ == "format_map"

        def wrapper(*args: Any, **named: Any) -> str:
            given: Mapping[str, Any] = args[0] if is_map and args else named
            return bounds.Formatter(self).vformat(text, () if is_map else args, given)

        return wrapper

    @staticmethod
    def joined(parts: tuple[Any, ...]) -> str:
        """`~`."""
        bounds.weight(*parts)
        return "".join(map(str, parts))


class Sandbox:
    """Compiles templates and runs them. Compiled ones are kept, the last few, since a chat uses the same again."""

    _KEPT = 16

    def __init__(self) -> None:
        self._environment = _Sandbox()
        self._lock = threading.Lock()
        self._compiled: dict[str, jinja2.Template] = {}

    def render(self, name: str, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template makes of the values. Raises: TemplateFailed, with the line."""
        try:
            return self._template(source).render(values)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFailed(name, _words(error), error.lineno) from None
        except (RecursionError, MemoryError):  # the latter is what Python's own parser says of it
            raise TemplateFailed(name, "it is nested too deeply, or makes too much") from None
        except Exception as error:  # whatever a stranger's program may raise
            raise TemplateFailed(name, _words(error), _line(error.__traceback__)) from None

    def variables(self, source: str) -> frozenset[str]:
        """The values that a template asks for from outside; none for one that cannot be read."""
        try:
            return frozenset(meta.find_undeclared_variables(self._environment.parse(source)))
        except (jinja2.TemplateSyntaxError, RecursionError, MemoryError):
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


@jinja2.pass_context  # so that it is not asked while a template is compiled
def _written(_: Context, value: Any) -> Any:
    """What stands in {{ }}, before it becomes text: a list may hold the same long text many times."""
    bounds.weight(value)
    return value


def _strftime_now(form: str) -> str:
    bounds.check(len(form), _LONGEST_DATE)
    return datetime.datetime.now().strftime(form)
