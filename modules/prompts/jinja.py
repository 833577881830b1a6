"""The sandbox in which chat templates run. They come with downloaded models, so they are strangers' programs.

A template sees plain values and may neither change them, nor reach Python's inside, nor fill the memory, nor run
without an end. This module knows nothing of conversations or of files.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import meta
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from errors import TemplateFailed, TemplateTooSlow
from modules.prompts import bounds, counted
from modules.prompts.budget import SECONDS, STEPS, Budget
from modules.prompts.jinja_code import GenerationTag, GuardedCode, SourceBound

_LONGEST_SOURCE = 1_000_000  # characters: nearly all of them text that is written as it stands
_LONGEST_DATE = 1000  # characters of a form for dates: each of them may become many
_FILE = "<template>"  # what jinja2 calls the source of a template that comes from a string


_LONG = 512  # characters: what is shorter costs nothing to copy
_COPIED = (str, list, tuple, bytes)
#: Values that are compared and hashed in no time.
_SCALARS = (bool, float, int, type(None), jinja2.Undefined)
#: What jinja2 adds to a call by itself; it is not read.
_ADDED = ("caller", "_loop_vars", "_block_vars")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses whatever makes something huge of something small, or takes too long."""

    intercepted_binops = frozenset({"*", "**", "%", "+", "//"})
    code_generator_class = GuardedCode
    concat = staticmethod(bounds.joined)  # what joins the output, and each block's

    def __init__(self, budget: Budget) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag, SourceBound],
            finalize=self._finalized(),
            optimized=False,  # it would compute what is constant while it compiles, and keep it all in the program
        )
        self.budget = budget
        self.spend = budget.spend  # each pass of a loop
        self.filters: dict[str, Any] = counted.filters(
            {**bounds.filters(self.filters), "tojson": bounds.to_json}, budget
        )
        self.tests: dict[str, Any] = counted.tests(self.tests, budget)
        self.globals.pop("lipsum")
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)

    def call_binop(self, _: Context, operator: str, left: Any, right: Any) -> Any:
        bounds.operation(operator, left, right)
        made = bounds.whole(self.binop_table[operator](left, right))
        if isinstance(made, _COPIED) and len(made) > _LONG:
            self.budget.characters(len(made) // 2)  # copied, which is faster than reading
        return made

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as jinja2's
        budget = __self.budget
        budget.spend()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            args = tuple(bounds.method(__obj.__name__, owner, args, kwargs))
            if not isinstance(owner, int):
                budget.characters(len(owner) * (16 if __obj.__name__ == "translate" else 1))
        elif isinstance(owner, Sized) and not isinstance(owner, type):
            if __obj.__name__ in ("count", "index"):
                budget.read(owner)
            budget.spend(len(owner) // 16)
        if not (isinstance(__obj, Macro) or __obj is Namespace):  # what others do with what they are given is not seen
            for each in args:
                __self.operand(each)
            for name, value in kwargs.items():
                if name not in _ADDED:
                    __self.operand(value)
        return bounds.whole(super().call(__context, __obj, *args, **kwargs))

    def operand(self, value: Any) -> Any:
        """What is to be compared or hashed, as it is."""
        if not isinstance(value, _SCALARS):
            self.budget.read(value)
        return value

    def searched(self, value: Any) -> Any:
        """What something small is looked for in, as it is."""
        self.copied(value)
        return value

    def copied(self, value: Any) -> Any:
        """What a part of is to be taken from, as it is."""
        if isinstance(value, str | bytes):
            self.budget.characters(len(value))
        elif isinstance(value, list | tuple | range):
            self.budget.spend(len(value) // 16)
        return value

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text, is_map = str(value.__self__), value.__name__ == "format_map"

        def wrapper(*args: Any, **named: Any) -> str:
            given: Mapping[str, Any] = args[0] if is_map and args else named
            self.budget.characters(16 * len(text))
            return bounds.Formatter(self).vformat(text, () if is_map else args, given)

        return wrapper

    def joined(self, parts: tuple[Any, ...]) -> str:
        """`~`."""
        length = bounds.weight(*parts)
        if length > _LONG:
            self.budget.characters(length // 2)
        return "".join(map(str, parts))

    def _finalized(self) -> Callable[[Context, Any], Any]:
        @jinja2.pass_context  # so that it is not asked while a template is compiled
        def written(_: Context, value: Any) -> Any:
            """What stands in {{ }}, before it becomes text: a list may hold the same long text many times."""
            length = len(value) if type(value) is str else bounds.weight(value)
            if length > _LONG:
                self.budget.characters(length)
            return value

        return written


@dataclass(frozen=True)
class _Program:
    """A compiled source, or why it cannot be compiled and in which line; and the values that it asks for."""

    template: jinja2.Template | None
    why: str = ""
    line: int | None = None
    variables: frozenset[str] = frozenset()


class Sandbox:
    """Compiles templates and runs them. Compiled ones are kept, the last few, since a chat uses the same again."""

    _KEPT = 16

    def __init__(self, steps: int = STEPS, seconds: float = SECONDS) -> None:
        """`steps` and `seconds`: what one run of a template may take."""
        self._budget = Budget(steps, seconds)
        self._environment = _Sandbox(self._budget)
        self._lock = threading.Lock()
        self._programs: dict[str, _Program] = {}

    def render(self, name: str, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template makes of the values. Raises: TemplateFailed, with the line; TemplateTooSlow."""
        program = self._program(source)
        if program.template is None:
            raise TemplateFailed(name, program.why, program.line)
        self._budget.begin()
        try:
            return program.template.render(values)
        except (RecursionError, MemoryError):  # the latter is what Python's own parser says of it
            raise TemplateFailed(name, "it is nested too deeply, or makes too much") from None
        except Exception as error:  # whatever a stranger's program may raise
            kind = TemplateTooSlow if self._budget.left < 0 else TemplateFailed
            raise kind(name, _words(error), _line(error.__traceback__)) from None

    def variables(self, source: str) -> frozenset[str]:
        """The values that a template asks for from outside; none for one that cannot be read."""
        return self._program(source).variables

    def _program(self, source: str) -> _Program:
        with self._lock:
            program = self._programs.pop(source, None)
            if program:
                self._programs[source] = program  # last used, last to go
        return program or self._keep(source, self._compiled(source))  # others need not wait for a long one

    def _keep(self, source: str, program: _Program) -> _Program:
        with self._lock:
            self._programs[source] = program
            while len(self._programs) > self._KEPT:
                self._programs.pop(next(iter(self._programs)))
        return program

    def _compiled(self, source: str) -> _Program:
        if len(source) > _LONGEST_SOURCE:
            return _Program(None, f"it is longer than {_LONGEST_SOURCE:,} characters")
        try:
            tree = self._environment.parse(source)
            variables = frozenset(meta.find_undeclared_variables(tree))
            return _Program(self._environment.from_string(tree), variables=variables)
        except jinja2.TemplateSyntaxError as error:
            return _Program(None, _words(error), error.lineno)
        except (RecursionError, MemoryError):
            return _Program(None, "it is nested too deeply, or makes too much")
        except Exception as error:  # Python has limits of its own
            return _Program(None, _words(error))


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
    bounds.check(len(form), _LONGEST_DATE)
    return datetime.datetime.now().strftime(form)
