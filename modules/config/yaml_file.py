"""YAML files of the user's: read as plain values, errors as sentences, written atomically.

This module must not know what the files mean. Only plain data is read (`safe_load`): no file can run code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from errors import BadFile
from modules.config.atomic import write_text

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
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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


def _why(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{place}{getattr(error, 'problem', None) or 'it is not valid YAML'}"
