"""Limits the size of results of operators, filters and methods in a template.

Each limit is checked before the result is created, if it could become many times longer. Pure; it knows jinja2's names,
and nothing of templates or of the handling of the error: it raises SecurityError.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, NoReturn

import jinja2.filters
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

#: The maximum result of `"x" * n`, and of every width: characters, entries.
LARGEST = 1_000_000
#: Of an integer: more digits than Python would print, and few enough for a fast division.
_BITS = 20_000
#: The longest result of any operation, including the prompt: more than any context holds.
LONGEST = 20_000_000

_TEXTS, _ROWS = (str, bytes), (list, tuple)  # checked with each operator: faster than unions
_ENTRY = 16  # the cost of a list entry besides its own size: about its memory
_PLACES = 1000  # decimal places: more than any number has
_DEEPEST = 200  # nested tuples: hashing them would need a deep stack
_ATTRIBUTE = 1000  # characters of a path like `content.0.text`, which is followed for each entry
_STRIPPED = 1000  # characters to strip: each character of the text is searched in them
_SLOW = 10 * LONGEST  # characters that are compared in some tenths of a second
_DIGITS = re.compile(r"\d+")
#: Width and precision before the letter of a `%` directive; a name with any characters may precede them.
_WIDTH = re.compile(r"(?<!\d)(\d+)(?:\.(\d+|\*)?)?[hlL]*[diouxXeEfFgGcrsa%]")
_STAR = re.compile(r"(?<![.\d*])[.\d]*\*[.\d*]*[hlL]*[diouxXeEfFgGcrsa%]")
#: Methods whose time grows only with the text; Python has others that do not.
_ENCODINGS = frozenset(["ascii", "latin1", "cp1252", "utf8", "utf16", "utf16le", "utf16be", "utf32", "iso88591"])

#: Filters that use lists as lists; all others convert their input to text.
_LISTS = frozenset(
    [
        "attr", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list", "map",
        "max", "min", "random", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "tojson", "unique",
    ]
)  # fmt: skip
_BY_ATTRIBUTE = frozenset(["groupby", "max", "min", "rejectattr", "selectattr", "sort", "sum", "unique"])
#: Filters for web pages and columns, which can multiply text and which no model's template needs.
REFUSED = ("batch", "pprint", "slice", "urlize", "wordwrap", "xmlattr")


def reject() -> NoReturn:
    raise SecurityError("its multiplications exceed the limit")


def estimate_size(*values: Any) -> int:
    """The approximate length of the values as text. Raises: SecurityError as soon as it exceeds LONGEST."""
    if len(values) == 1 and type(values[0]) is str:  # nearly always
        check_length(len(values[0]))
        return len(values[0])
    total, left = 0, list(values)
    while left:
        value = left.pop()
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, Mapping):
            total += _ENTRY * len(value)
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            total += _ENTRY * len(value)
            if total <= LONGEST:
                left += value
        elif isinstance(value, int):
            total += value.bit_length() // 3
        elif isinstance(value, Namespace):
            left.append(value._Namespace__attrs)  # its text contains them, too
        elif isinstance(value, KeysView | ValuesView | ItemsView):
            total += _ENTRY * len(value)
            left += list(value)
        if total > LONGEST:
            reject()
    return total


def check_length(length: int, longest: int = LONGEST) -> None:
    """Raises: SecurityError."""
    if length > longest:
        reject()


def check_size(value: Any) -> Any:
    """Return a new value if it is not too long: for operations that multiply a text's length only by a small factor."""
    if isinstance(value, _TEXTS):
        check_length(len(value))
    elif isinstance(value, int):
        check_length(value.bit_length(), _BITS)
    return value


def check_depth(value: Any) -> None:
    """Raises: SecurityError if tuples are nested deeper than any program needs."""
    level, entries = [value] if isinstance(value, tuple) else [], 0
    for _ in range(_DEEPEST):
        if not level:
            return
        level = [each for outer in level for each in outer if isinstance(each, tuple)]
        entries += len(level)
        check_length(_ENTRY * entries)
    reject()


def join_pieces(pieces: Iterable[str]) -> str:
    """The pieces as one text, joined while they arrive: the output in memory never exceeds the limit."""
    found, total = [], 0
    for piece in pieces:
        total += len(piece)
        check_length(total)
        found.append(piece)
    return "".join(found)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Check that `left operator right` stays within limits. Raises: SecurityError."""
    match operator:
        case "+":
            check_length(_length(left) + _length(right))
        case "**":
            bits = left.bit_length() if isinstance(left, int) else 64
            if isinstance(right, int | float) and bits * abs(right) > _BITS:
                reject()
        case "//" | "%" if isinstance(left, int) and isinstance(right, int):
            check_size(left)
            check_size(right)
        case "*":
            counts = [each for each in (left, right) if isinstance(each, int)]
            lengths = [len(each) for each in (left, right) if isinstance(each, str | list | tuple | bytes)]
            if lengths and counts:
                check_length(lengths[0] * max(counts), LARGEST)
            elif len(counts) == 2:
                check_length(left.bit_length() + right.bit_length(), _BITS)
        case "%" if isinstance(left, str | bytes):
            template = left if isinstance(left, str) else left.decode("latin-1")
            # a width may be in the template or one of the values
            widths = [_number(each) for pair in _WIDTH.findall(template) for each in pair if each.isdecimal()]
            if _STAR.search(template):
                widths += map(abs, _integers(right))
            check_length(len(template) + template.count("%") * (estimate_size(right) + max(widths, default=0)))


def check_method(name: str, owner: str | bytes | int, args: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """Check that this call of a string's or number's method stays within limits; returns the arguments to use.

    Raises: SecurityError.
    """
    values = [*args, *named.values()]
    match name, owner:
        case "ljust" | "rjust" | "center" | "zfill" | "to_bytes", _:
            check_length(max(map(abs, _integers(values)), default=0), LARGEST)
        case "expandtabs", str() | bytes():
            check_length(len(owner) * (1 + max(map(abs, _integers(values)), default=8)))
        case "replace", str() | bytes() if len(values) > 1:
            _replaced(owner, values[0], values[1])
        case "split" | "rsplit" | "splitlines", str() | bytes():
            separator = args[0] if args else named.get("sep")
            _searched(name, owner, separator)
            given = isinstance(separator, str | bytes) and type(separator) is type(owner) and separator
            check_length(_ENTRY * (owner.count(separator) if given else len(owner) // 2))  # type: ignore[arg-type]
        case "rfind" | "rindex" | "rpartition", str() | bytes() if values:
            _searched(name, owner, values[0])
        case "strip" | "lstrip" | "rstrip", str() | bytes() if values:
            check_length(_length(values[0]), _STRIPPED)
        case "encode" | "decode", str() | bytes() if values:
            plain = str(args[0] if args else named.get("encoding", "utf8")).lower().replace("-", "").replace("_", "")
            if plain not in _ENCODINGS:
                reject()
            if len(values) > 1:  # what cannot be encoded may become its name
                check_length(_ENTRY * len(owner))
        case "translate", str() | bytes() if values:
            table = values[0]
            longest = max(map(estimate_size, table.values()), default=1) if isinstance(table, Mapping) else 1
            check_length(len(owner) * max(longest, 1))
        case "join", str() | bytes() if args and not isinstance(args[0], str | bytes):
            items = list(args[0])
            check_length(estimate_size(items) + len(owner) * len(items))
            return [items]
    return args


def filters(known: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The filters of jinja2 with limits."""
    bounded = {name: each if name in _LISTS else _weighed(each) for name, each in known.items() if name not in REFUSED}
    for name, test in _TESTS.items():
        bounded[name] = _tested(known[name], test)
    return {**bounded, "map": _mapped(known["map"]), "trim": _trim}


def check_attribute(name: str, args: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Check that the attribute paths of a filter are short. Raises: SecurityError."""
    paths = [named.get("attribute")]
    if name in _BY_ATTRIBUTE:
        paths += args if name not in ("selectattr", "rejectattr") else args[:1]
    check_length(max(map(_length, paths), default=0), _ATTRIBUTE)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter escapes for HTML, which templates of models do not expect."""
    check_length(_length(indent) if isinstance(indent, str) else indent or 0, LARGEST)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=_no_json
    )
    return join_pieces(encoder.iterencode(value))


def _no_json(value: Any) -> Any:
    """For values that JSON cannot express. Raises: TypeError: `<generator object ...>` in a prompt would be a silent
    error.
    """
    if isinstance(value, Iterator):
        return list(value)  # the result of a filter: it is in memory already
    if callable(value):
        raise TypeError(f"tojson cannot write a {type(value).__name__}")
    return str(value)


class Formatter(SandboxedFormatter):
    """`"...".format(...)`, within limits."""

    def __init__(self, environment: SandboxedEnvironment) -> None:
        super().__init__(environment)
        self._length = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        estimate_size(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        check_length(max(map(_number, _DIGITS.findall(format_spec)), default=0), LARGEST)
        text = str(super().format_field(value, format_spec))
        self._length += len(text)
        check_length(self._length)
        return text


def _weighed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # as marked by jinja2: the required first argument
    def bounded(*args: Any, **named: Any) -> Any:
        estimate_size(*args, *named.values())
        return check_size(function(*args, **named))

    return bounded


def _tested(function: Callable[..., Any], test: Callable[..., None]) -> Callable[..., Any]:
    passed = hasattr(function, "jinja_pass_arg")  # then the context or similar comes first

    @functools.wraps(function)
    def bounded(*args: Any, **named: Any) -> Any:
        given = list(args)
        if len(given) > passed and not isinstance(given[passed], str | Mapping | Sequence):
            given[passed] = _listed(given[passed])  # it can be read only once
        test(*given[passed:], **named)
        return function(*given, **named)

    return bounded


def _mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The one filter that creates a list of new texts from an old one."""

    @functools.wraps(function)
    def bounded(*args: Any, **named: Any) -> Any:
        total = 0
        for each in function(*args, **named):
            total += _ENTRY + estimate_size(each)
            check_length(total)
            yield each

    return bounded


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, jinja2.Undefined) else value


def _center(value: Any, width: int = 80) -> None:
    check_length(estimate_size(value), LONGEST)
    check_length(width, LARGEST)


def _indent(value: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    space = len(width) if isinstance(width, str) else width
    lines = value.count("\n") if isinstance(value, str) else 0
    check_length(estimate_size(value) + (lines + 1) * space)


def _replace(value: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    estimate_size(value)
    _replaced(str(value), str(old), str(new))


def _format(value: Any, *args: Any, **named: Any) -> None:
    check_operation("%", str(value), named or args)


def _join(value: Any, d: Any = "", *_: Any, **__: Any) -> None:
    count = len(value) if isinstance(value, str | Mapping | Sequence) else 0
    check_length(estimate_size(value) + count * estimate_size(d))


def _round(value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    """It computes ten to this power."""
    del value
    check_length(abs(precision), _PLACES)


def _trim(value: Any, chars: Any = None) -> str:
    """The filter of jinja2, which templates call for each message."""
    estimate_size(value)
    check_length(_length(chars), _STRIPPED)
    return jinja2.filters.do_trim(value, chars)


def _sum(value: Any, attribute: Any = None, start: Any = 0) -> None:
    """Only numbers: a sum of lists would copy them repeatedly."""
    del value, attribute
    if not isinstance(start, int | float):
        reject()


_TESTS: Mapping[str, Callable[..., None]] = {
    "center": _center,
    "indent": _indent,
    "replace": _replace,
    "format": _format,
    "join": _join,
    "round": _round,
    "sum": _sum,
}


def _replaced(text: str | bytes, old: Any, new: Any) -> None:
    if type(old) is type(text) or (isinstance(text, str) and isinstance(old, str)):
        check_length(len(text) + text.count(old) * _length(new))  # type: ignore[arg-type]  # both are of one kind


def _searched(name: str, text: str | bytes, wanted: Any) -> None:
    """Searching from the end is slow for near matches."""
    if name.startswith("r"):
        check_length(len(text) * _length(wanted), _SLOW)


def _length(value: Any) -> int:
    if isinstance(value, _TEXTS):
        return len(value)
    return _ENTRY * len(value) if isinstance(value, _ROWS) else 0


def _integers(value: Any) -> list[int]:
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, int)]


def _number(digits: str) -> int:
    return int(digits[:9]) if len(digits) <= 9 else LONGEST + 1
