"""Reads and writes the user's YAML files: plain values only, errors as sentences, atomic writes.

Only plain data is read: no file can run code. The file's structure is checked before anything is built, because libyaml
recurses in C: a deeply nested file would crash the process without an error that can be caught. This module must not
know what the files mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from errors import BadFile
from loaders import safe_json
from modules.config.atomic import write_text

#: Levels of nesting; real files have a few. A character that came as JSON must be readable when it is saved here.
DEEPEST = safe_json.DEEPEST + 10

#: Values in a file; those that an alias (`*name`) stands for count each time.
_MOST_VALUES = 1_000_000

#: Digits of a number; longer ones cannot be written again.
_LONGEST_NUMBER = 1000
_NUMBER = re.compile(r"[-+.0-9][-+.,:_0-9a-zA-Z]*")

#: libyaml's parser if it is installed: ten times as fast as the one in Python.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file; empty if the file is empty or missing. Raises: BadFile."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadFile(path, error.strerror or "access was denied") from None
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    return parse_mapping(text, path)


def parse_mapping(text: str, path: Path) -> dict[str, Any]:
    """The mapping in a YAML text; errors call it `path`. Raises: BadFile."""
    try:
        _check_shape(text)
        value = yaml.load(text, Loader=_Loader)
    except Exception as error:  # for a wrong tag (`!!bool maybe`, `!!int`), PyYAML raises whatever its code runs into
        raise BadFile(path, _why(error)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadFile(path, "it does not contain `key: value` lines")
    return {str(key): each for key, each in value.items()}


def write_mapping(path: Path, values: dict[str, Any]) -> None:
    """Replace the file by this mapping, keeping its order. Raises: OSError."""
    write_text(path, dump_mapping(values))


def dump_mapping(values: dict[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100) if values else ""


def _check_shape(text: str) -> None:
    """Refuse a text that is nested too deeply or expands to too much. Raises: yaml.YAMLError.

    The events come one by one, without recursion.
    """
    sizes: dict[str, int] = {}  # the values of each finished anchor
    open_: list[tuple[str | None, int]] = []  # open anchors, and how many values came before each
    count = 0
    for event in yaml.parse(text, Loader=_Loader):
        match event:
            case yaml.CollectionStartEvent():
                open_.append((event.anchor, count))
                if event.anchor is not None:
                    sizes.pop(event.anchor, None)
                count += 1
                if len(open_) > DEEPEST:
                    raise _refused(event, f"it is nested deeper than {DEEPEST} levels")
            case yaml.CollectionEndEvent():
                anchor, before = open_.pop()
                if anchor is not None:
                    sizes[anchor] = count - before
            case yaml.ScalarEvent():
                count += 1
                if event.anchor is not None:
                    sizes[event.anchor] = 1
                # also if a tag says that a text is a number
                long = len(event.value) > _LONGEST_NUMBER and (not event.style or event.tag)
                if long and _NUMBER.fullmatch(event.value):
                    raise _refused(event, f"it contains a number with {len(event.value)} characters")
            case yaml.AliasEvent():
                if event.anchor not in sizes:
                    raise _refused(event, f"the alias *{str(event.anchor)[:60]} is undefined or refers to itself")
                count += sizes[event.anchor]
        if count > _MOST_VALUES:
            raise _refused(event, f"it expands to more than {_MOST_VALUES:,} values")


def _refused(event: Any, why: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)


def _why(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{place}{getattr(error, 'problem', None) or 'it is not valid YAML'}"
