"""The sandbox that runs chat templates, which come with downloaded models and cannot be trusted.

A template sees plain values and can neither change them, nor access Python's internals, nor fill the memory, nor run
forever. This module knows nothing of conversations or files.
"""

from __future__ import annotations

import datetime
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from traceback import clear_frames
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from errors import TemplateFailed, TemplateTooSlow
from modules.prompts.sandbox import counted, limits
from modules.prompts.sandbox.budget import SECONDS, STEPS, Budget
from modules.prompts.sandbox.code import GenerationTag, GuardedCode, SourceBound

_LONGEST_SOURCE = 1_000_000  # characters: nearly all of them literal text
_LONGEST_DATE = 1000  # characters of a date format: each may become many


_LONG = 512  # characters: copying shorter texts is free
_COPYING = 8  # characters that are copied in the time of reading one
#: Templates build a prompt by appending to a text: each intermediate text is copied and the previous one freed. So it
#: counts an eighth of its length, or its full length if something keeps it.
_GROWING = 8
_OBJECT = 256  # bytes of a namespace, or of an empty list or dict
_ENTRY = 128  # bytes of an entry: small literals in the source are free
#: Values that are fast to compare and hash.
_SCALARS = (bool, float, int, type(None), jinja2.Undefined)
#: Methods that change a list, and are allowed.
_GROWN = ("append",)
#: What jinja2 adds to a call by itself; it is not read.
_ADDED = ("caller", "_loop_vars", "_block_vars")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses operations with huge results or long run times."""

    intercepted_binops = frozenset({"*", "**", "%", "+", "//"})
    code_generator_class = GuardedCode

    def __init__(self, budget: Budget) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationTag, SourceBound],
            finalize=self._finalized(),
            optimized=False,  # it would compute constants while compiling, and keep the results in the program
        )
        self.budget = budget
        self.spend = budget.spend  # each pass of a loop
        self.filters: dict[str, Any] = counted.filters(
            {**limits.filters(self.filters), "tojson": limits.to_json}, budget
        )
        self.tests: dict[str, Any] = counted.tests(self.tests, budget)
        self.globals.pop("lipsum")
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)

    def call_binop(self, _: Context, operator: str, left: Any, right: Any) -> Any:
        limits.check_operation(operator, left, right)
        made = limits.check_size(self.binop_table[operator](left, right))
        if isinstance(made, str | bytes):
            if len(made) > _LONG:
                self.budget.characters(len(made) // _COPYING)
                self.budget.made(len(made) // _GROWING)
        elif isinstance(made, list | tuple):
            self.budget.spend(len(made) // 16)
            self.budget.keep(made)
        return made

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as jinja2's
        budget = __self.budget
        budget.spend()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            args = tuple(limits.check_method(__obj.__name__, owner, args, kwargs))
            if not isinstance(owner, int):
                budget.characters(len(owner) * (16 if __obj.__name__ == "translate" else 1))
        elif isinstance(owner, Sized) and not isinstance(owner, type):
            if __obj.__name__ in ("count", "index"):
                budget.read(owner)
            budget.spend(len(owner) // 16)
            if type(owner) is list and __obj.__name__ in _GROWN:
                return __self.grown(owner, *args)
        if not (isinstance(__obj, Macro) or __obj is Namespace):  # other functions may do anything with them
            for each in args:
                __self.operand(each)
            for name, value in kwargs.items():
                if name not in _ADDED:
                    __self.operand(value)
        if not isinstance(__obj, Macro) and owner is None:  # namespaces and similar keep their arguments
            budget.made(_OBJECT)
            __self.kept((args, kwargs.values()))
        made = limits.check_size(super().call(__context, __obj, *args, **kwargs))
        if isinstance(owner, str | bytes | int):
            budget.keep(made, deep=True)
        elif __obj is not Namespace and not isinstance(__obj, Macro) and getattr(__obj, "__name__", "") != "get":
            budget.keep(made)
        return made

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # lists from outside have a special type: a list that grows is the template's own
        return (type(obj) is list and attr in _GROWN) or super().is_safe_attribute(obj, attr, value)

    def grown(self, owner: list[Any], value: Any) -> None:
        """`append`, which templates of Kimi K2 call on their own lists."""
        if not isinstance(value, _SCALARS + (str,)):
            raise SecurityError("append only accepts text and numbers")  # a list that contains itself would never end
        self.kept(((value,),))
        owner.append(value)

    def concat(self, pieces: Iterable[str]) -> str:
        """The output as one text, and each block's and macro's."""
        return str(self.budget.keep(limits.join_pieces(pieces)))

    def listed(self, made: Any) -> Any:
        """A literal list, tuple or dict, with the values that it keeps alive."""
        entries = (made.keys(), made.values()) if isinstance(made, dict) else (made,)
        self.kept(entries)
        self.budget.made(_OBJECT)
        return made

    def kept(self, rows: Iterable[Iterable[Any]]) -> None:
        """Entries of a container: a text was only partly charged while it grew."""
        self.budget.made(
            sum(sys.getsizeof(each) if isinstance(each, str) else _ENTRY for entries in rows for each in entries)
        )

    def sliced(self, made: Any) -> Any:
        """A slice of something."""
        return self.budget.keep(made)

    def operand(self, value: Any) -> Any:
        """A value that is compared or hashed, returned unchanged."""
        if not isinstance(value, _SCALARS):
            self.budget.read(value)
        return value

    def searched(self, value: Any) -> Any:
        """A value in which something small is searched, returned unchanged."""
        self.copied(value)
        return value

    def copied(self, value: Any) -> Any:
        """A value that is about to be sliced, returned unchanged."""
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
            return limits.Formatter(self).vformat(text, () if is_map else args, given)

        return wrapper

    def joined(self, parts: tuple[Any, ...]) -> str:
        """`~`."""
        length = limits.estimate_size(*parts)
        if length > _LONG:
            self.budget.characters(length // _COPYING)
            self.budget.made(length // _GROWING)
        return "".join(map(str, parts))

    def _finalized(self) -> Callable[[Context, Any], Any]:
        @jinja2.pass_context  # so that it is not called while a template is compiled
        def written(_: Context, value: Any) -> Any:
            """The value in {{ }} before it becomes text: a list may contain the same long text many times."""
            length = len(value) if type(value) is str else limits.estimate_size(value)
            if length > _LONG:
                self.budget.characters(length)
                self.budget.made(length)  # a macro keeps it until its end
            return value

        return written


@dataclass(frozen=True)
class _Program:
    """A compiled source, or why and in which line it cannot be compiled; and its external variables."""

    template: jinja2.Template | None
    why: str = ""
    line: int | None = None
    variables: frozenset[str] = frozenset()


class Sandbox:
    """Compiles and runs templates. The last few compiled ones are cached, because a chat uses the same one again."""

    _KEPT = 16

    def __init__(self, steps: int = STEPS, seconds: float = SECONDS) -> None:
        """`steps` and `seconds`: the limits for one run of a template."""
        self._budget = Budget(steps, seconds)
        self._environment = _Sandbox(self._budget)
        self._lock = threading.Lock()
        self._programs: dict[str, _Program] = {}

    def render(self, name: str, source: str, values: Mapping[str, Any], times: int = 1) -> str:
        """The text that a template creates from the values; its limits are multiplied by this factor.

        Raises: TemplateFailed, with the line; TemplateTooSlow.
        """
        program = self._program(source)
        if program.template is None:
            raise TemplateFailed(name, program.why, program.line)
        self._budget.begin(times)
        made = self._run(name, program.template, values)
        if isinstance(made, str):
            return made
        try:
            raise made  # raised here, so that it does not reference the template's error and its frames
        finally:
            del made  # it references this frame

    def _run(self, name: str, template: jinja2.Template, values: Mapping[str, Any]) -> str | TemplateFailed:
        """The text, or what went wrong. Everything that the template created is freed at once instead of waiting for
        the garbage collector: frames form cycles after an exception, and macros and their context always do.
        """
        try:
            context = template.new_context({key: _copied(value) for key, value in values.items()})
        except RecursionError:
            return TemplateFailed(name, "its variables are nested too deeply")
        try:
            return self._environment.concat(template.root_render_func(context))
        except (RecursionError, MemoryError) as error:  # the latter comes from Python's own parser
            _clear(error)
            return TemplateFailed(name, "it is nested too deeply or produces too much output")
        except Exception as error:  # anything that an untrusted program may raise
            kind = TemplateTooSlow if self._budget.left < 0 else TemplateFailed
            line = _line(error.__traceback__)
            _clear(error)
            return kind(name, _words(error), line)
        finally:
            for each in (context.vars, context.parent, context.blocks):
                each.clear()

    def variables(self, source: str) -> frozenset[str]:
        """The external variables of a template; none for one that cannot be parsed."""
        return self._program(source).variables

    def _program(self, source: str) -> _Program:
        with self._lock:
            program = self._programs.pop(source, None)
            if program:
                self._programs[source] = program  # least recently used first
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
            return _Program(None, "it is nested too deeply or produces too much output")
        except Exception as error:  # Python has its own limits
            return _Program(None, _words(error))


class _Given(list):  # type: ignore[type-arg]
    """A list from outside, which nothing may change."""


def _copied(value: Any) -> Any:
    """A value from outside with its lists marked as such."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return _Given(map(_copied, value)) if type(value) is list else value


def _words(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return (words[0].rstrip(".") if words else type(error).__name__)[:300]


def _clear(error: BaseException | None) -> None:
    """Clear what an error's frames reference."""
    while error is not None:
        clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__context__


def _line(traceback: TracebackType | None) -> int | None:
    """The line of the template where it failed, from the frames of the generated program."""
    line = None
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, jinja2.Template):
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line


def _raise_exception(message: object = "") -> NoReturn:
    raise jinja2.TemplateError(str(message) or "the template rejected these messages")


def _strftime_now(form: str) -> str:
    limits.check_length(len(form), _LONGEST_DATE)
    return datetime.datetime.now().strftime(form)
