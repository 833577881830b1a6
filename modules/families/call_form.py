"""How a family writes a tool call: the marks around it and around each argument, and how values are spelled.

Facts only. The parsers are in the families; grammars are built from these facts elsewhere. Pure.
"""

from __future__ import annotations

import json
import keyword
from dataclasses import dataclass

#: Names that may be written in a tag or before a `=`, and those that Python accepts for an argument.
PLAIN = r"[^<>\"'\s/=&]{1,200}"
IDENTIFIER = rf"(?!(?:{'|'.join(keyword.kwlist)})\Z)[A-Za-z_]\w{{0,199}}"

#: Spellings of true, false and null: in JSON, in Python, and where templates have shown models both.
Words = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
ANY_WORDS: Words = (("true", "True"), ("false", "False"), ("null", "None"))

#: In a form's marks: an id of nine letters and digits, and a number of up to three digits, which the model chooses.
ID, NUMBER = "\ue000", "\ue001"


@dataclass(frozen=True)
class NestedForm:
    """How objects and lists are written inside arguments, if not as JSON. The fields of an object are written like the
    arguments.
    """

    object: tuple[str, str]
    list: tuple[str, str]
    item: tuple[str, str]
    joined: str = ""  # between two entries of a list


@dataclass(frozen=True)
class CallForm:
    """A call between `before` and `after`, in which NAME is the tool's name.

    `sign`: a text in the templates that use this form. `field`: what is written around an argument's value, if the
    arguments are not one JSON object: KEY is its name, TYPE the value's type, TEXT whether it is a string. `joined`:
    between two arguments. `quotes`: around a string; empty if it is written as it is; `"` means JSON. `true`, `false`
    and `none` are spelled as `words`. `loose`: line breaks between marks may be omitted. `keys`: names that can be
    written.
    """

    before: str
    after: str
    sign: str = ""
    field: tuple[str, str] = ("", "")
    joined: str = ""
    quotes: tuple[str, str] = ("", "")
    words: Words = (("true",), ("false",), ("null",))
    nested: NestedForm | None = None
    loose: bool = False
    keys: str = PLAIN

    @property
    def is_json(self) -> bool:
        """Whether the arguments are one JSON object."""
        return self.field == ("", "")

    def write(self, name: str, arguments: str) -> str:
        """A call of a tool in this form; `arguments` is one JSON object."""
        return self.before.replace("NAME", json.dumps(name, ensure_ascii=False)[1:-1]) + arguments + self.after


#: The form used for models whose template does not support tools. Every parser reads it.
TOLD = CallForm('<tool_call>\n{"name": "NAME", "arguments": ', "}\n</tool_call>")


def python_form(before: str, after: str, sign: str = "") -> CallForm:
    """Calls as in Python: `NAME(KEY="text", KEY=3)` between these marks."""
    return CallForm(
        f"{before}NAME(",
        f"){after}",
        sign,
        field=("KEY=", ""),
        joined=", ",
        quotes=('"', '"'),
        words=(("True",), ("False",), ("None",)),
        keys=IDENTIFIER,
    )
