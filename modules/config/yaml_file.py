"""YAML files of the user's: read as plain values, errors as sentences, written atomically.

Only plain data is read: no file can run code. And before anything is built, the file's shape is looked at, since
libyaml builds by recursion in C: a file that is nested deeply enough would end the process, without an error that could
be caught. This module must not know what the files mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from errors import BadFile
from loaders import plain_json
from modules.config.atomic import write_text

#: Levels of lists and mappings; real files have a few. A card that came as JSON must be readable when it is kept here.
DEEPEST = plain_json.DEEPEST + 10

#: Values of a file, those that an alias (`*name`) stands for counted each time.
_MOST_VALUES = 1_000_000

#: Letters of a number; longer ones cannot be written again.
_LONGEST_NUMBER = 1000
_NUMBER = re.compile(r"[-+.0-9][-+.,:_0-9a-zA-Z]*")

#: libyaml's parser where it is there: ten times as fast as the one in Python.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file; empty when the file is empty or missing. Raises: BadFile."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadFile(path, error.strerror or "the system refuses") from None
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    return parse_mapping(text, path)


def parse_mapping(text: str, path: Path) -> dict[str, Any]:
    """The mapping in a YAML text; `path` is what an error calls it. Raises: BadFile."""
    try:
        _check_shape(text)
        value = yaml.load(text, Loader=_Loader)
    except Exception as error:  # of a wrong tag (`!!bool maybe`, `!!int`), PyYAML raises what its code happens to meet
        raise BadFile(path, _why(error)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadFile(path, "it does not hold `key: value` lines")
    return {str(key): each for key, each in value.items()}


def write_mapping(path: Path, values: dict[str, Any]) -> None:
    """Replace the file by this mapping, in its order. Raises: OSError."""
    write_text(path, mapping_text(values))


def mapping_text(values: dict[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100) if values else ""


def _check_shape(text: str) -> None:
    """Refuse a text that is nested too deeply or unfolds to too much. Raises: yaml.YAMLError.

    The events come one by one, without recursion.
    """
    sizes: dict[str, int] = {}  # of what each anchor names, as far as it is complete
    open_: list[tuple[str | None, int]] = []  # what is under way: its anchor, and how many values came before it
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
                # also where a tag says that a text is a number
                long = len(event.value) > _LONGEST_NUMBER and (not event.style or event.tag)
                if long and _NUMBER.fullmatch(event.value):
                    raise _refused(event, f"it holds a number of {len(event.value)} characters")
            case yaml.AliasEvent():
                if event.anchor not in sizes:
                    raise _refused(
                        event, f"*{str(event.anchor)[:60]} stands for nothing, or for what it stands in itself"
                    )
                count += sizes[event.anchor]
        if count > _MOST_VALUES:
            raise _refused(event, f"it unfolds to more than {_MOST_VALUES:,} values")


def _refused(event: Any, why: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)


def _why(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{place}{getattr(error, 'problem', None) or 'it is not valid YAML'}"
