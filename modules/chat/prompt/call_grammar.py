"""The grammar of one tool call in a family's form (`families.call_form`): exact marks, and each argument as its schema
requires.

If a form cannot express the arguments (names with spaces, schemas with more than a list of arguments), the common JSON
form is used, which every parser reads. It must not know of conversations or engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from modules.families.call_form import ID, NUMBER, TOLD, CallForm
from modules.families.calls import argument_types, convert_argument, resolve_schema
from modules.prompts.json_schema.grammar import gbnf_literal, json_grammar
from modules.prompts.json_schema.keywords import FORMS

_NAME = re.compile(r"[\w.\-]{1,200}")
_MARK = re.compile(r"\S*[<\[|]\S*")
_TEXT_KEYS = frozenset(["type", "pattern", "minLength", "maxLength"])
_MOST_COUNTED = 2000  # characters of a text without quotes
_DEEPEST = 12
_ALL: tuple[dict[str, Any], ...] = tuple(
    {"type": kind} for kind in ("string", "number", "boolean", "null", "array", "object")
)


class _NotPossible(Exception):
    """The form cannot express these arguments."""


def call_grammar(name: str, schema: Mapping[str, Any], form: CallForm, rules: dict[str, str], notes: list[str]) -> str:
    """The rule for a call in GBNF; the rules that it needs are added to `rules`, by name. Raises: InvalidSchema."""
    text, unsaid = json_grammar(schema)
    notes += [note for note in unsaid if note not in notes]
    whole = json.loads(text.removeprefix("root ::= %json "))
    plain = _NAME.fullmatch(name) is not None
    if plain and not form.is_json:
        writer = _Writer(form, whole, schema, dict(rules), list(notes))
        try:
            written = writer.call(name)
        except _NotPossible:
            pass
        else:
            rules.update(writer.rules)
            notes[:] = writer.notes
            return written
    told = form if form.is_json and plain else TOLD
    before = told.before.replace("NAME", name if plain else json.dumps(name)[1:-1])
    return f"{_marks(before, told)} %json {json.dumps(whole)} {_marks(told.after, told)}"


def _marks(text: str, form: CallForm) -> str:
    """Marks as GBNF."""
    open_ = {ID: "[a-zA-Z0-9]{9}", NUMBER: "[0-9]{1,3}", **({"\n": '"\\n"?'} if form.loose else {})}
    parts = re.split(f"([{''.join(open_)}])", text)
    return " ".join(open_.get(part) or gbnf_literal(part) for part in parts if part)


class _Writer:
    """`whole`: the schema with references resolved; `given`: the tool's own, which the parser uses."""

    def __init__(
        self,
        form: CallForm,
        whole: Mapping[str, Any],
        given: Mapping[str, Any],
        rules: dict[str, str],
        notes: list[str],
    ) -> None:
        self.rules, self.notes = rules, notes
        self._form = form
        self._defs = whole.get("$defs", {})
        self._whole, self._given = whole, given
        marks = _MARK.findall(" ".join([form.before, form.after, *form.field]))
        parts = [part for mark in marks for part in re.split("(?<=>)(?=<)|NAME|KEY|TYPE|TEXT", mark)]
        self._never = list(dict.fromkeys(part for part in parts if len(part) > 2))
        self._quoted = form.quotes != ("", "")

    def call(self, name: str) -> str:
        form = self._form
        given = resolve_schema(self._given, self._given)
        fields = self._fields(self._flat(self._whole), given, 0)
        return " ".join(
            [self._marks(form.before.replace("NAME", name)), fields, self._marks(form.after.replace("NAME", name))]
        )

    def _marks(self, text: str) -> str:
        return _marks(text, self._form)

    def _rule(self, body: str) -> str:
        name = f"p{len(self.rules)}"
        self.rules[name] = body
        return name

    def _flat(self, schema: Any) -> dict[str, Any]:
        """A schema that is not only a reference."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping):
                return {}
            if "$ref" not in schema:
                return dict(schema)
            if set(schema) - {"$ref", "$defs"}:
                break
            schema = self._defs.get(str(schema["$ref"]).rpartition("/")[2], {})
        raise _NotPossible

    # --- arguments, and the fields of objects ---

    def _fields(self, schema: Mapping[str, Any], given: Any, depth: int) -> str:
        """The fields in the order of the schema, with their separators."""
        properties = dict(schema.get("properties") or {})
        required = set(schema.get("required") or ())
        properties.update({name: {} for name in sorted(required - set(properties))})
        known = {"type", "properties", "required", "additionalProperties", "$defs"}
        if set(schema) - known or schema.get("type", "object") != "object":
            raise _NotPossible
        if not properties and isinstance(schema.get("additionalProperties"), Mapping):
            raise _NotPossible
        if not all(re.fullmatch(self._form.keys, name) for name in properties):
            raise _NotPossible
        of = given.get("properties") if isinstance(given, Mapping) else None
        named = of if isinstance(of, Mapping) else {}
        written = [
            (self._field(name, each, resolve_schema(named.get(name), self._given), depth), name in required)
            for name, each in properties.items()
            if each is not False
        ]
        if not self._form.joined:
            return " ".join(text if needed else f"({text})?" for text, needed in written) or '""'
        return self._joined(written)

    def _joined(self, written: list[tuple[str, bool]]) -> str:
        """Fields with separators: the rest depends on whether one has been written."""
        first, later = '""', '""'
        for text, needed in reversed(written):
            name = self._rule(text)
            after = self._rule(later)
            rest = self._rule(f"{gbnf_literal(self._form.joined)} {name} {after}" + ("" if needed else f" | {after}"))
            before = self._rule(first)
            first, later = f"{name} {after}" + ("" if needed else f" | {before}"), rest
        return f"({first})"

    def _field(self, name: str, schema: Any, given: Any, depth: int) -> str:
        before, after = (part.replace("KEY", name) for part in self._form.field)
        if "TYPE" not in before and "TEXT" not in before:
            return f"{self._marks(before)} {self._value(schema, given, after, depth)}"
        ways = []
        for each in self._kinds(schema):
            kind = str(each.get("type", ""))
            kind = "number" if kind == "integer" else kind
            mark = before.replace("TYPE", kind).replace("TEXT", "true" if kind == "string" else "false")
            ways.append(f"{self._marks(mark)} {self._value(each, each, after, depth)}")
        return f"({' | '.join(ways)})"

    def _kinds(self, schema: Any) -> list[dict[str, Any]]:
        """A schema split by the types that it allows. Raises: _NotPossible."""
        flat = self._flat({} if schema is True else schema)
        if not flat:
            return list(_ALL)
        if isinstance(flat.get("type"), list):
            return [_of_type(flat, kind) for kind in flat["type"]]
        if set(flat) == {"anyOf"}:
            return [kind for each in flat["anyOf"] for kind in self._kinds(each)]
        values = [flat["const"]] if "const" in flat else flat.get("enum")
        if isinstance(values, list) and not isinstance(flat.get("type"), str):
            texts = [each for each in values if isinstance(each, str)]
            found = [{"type": "string", "enum": texts}] if texts else []
            return found + [
                {"type": next(iter(argument_types({"const": v}))), "enum": [v]} for v in values if v not in texts
            ]
        if not isinstance(flat.get("type"), str):
            raise _NotPossible
        return [flat]

    # --- values ---

    def _value(self, schema: Any, given: Any, after: str, depth: int) -> str:
        """A value and what comes `after` it."""
        if depth > _DEEPEST:
            raise _NotPossible
        flat = self._flat({} if schema is True else schema)
        kinds = argument_types(given)
        if "enum" in flat or "const" in flat:
            return self._listed(flat, given, after)
        if kinds == {"string"} or (not flat and not self._quoted):
            return self._text(_of_type(flat, "string") if flat else flat, after)
        if not self._quoted and "string" in kinds:
            return self._mixed(schema, flat, kinds, after)
        if kinds == {"boolean"} and flat.get("type") == "boolean":
            return (
                f"({' | '.join(map(gbnf_literal, (*self._form.words[0], *self._form.words[1])))}) {self._marks(after)}"
            )
        if kinds == {"null"}:
            return f"({' | '.join(map(gbnf_literal, self._form.words[2]))}) {self._marks(after)}"
        if self._form.nested and kinds in ({"object"}, {"array"}) and flat.get("type") in kinds:
            return f"{self._nested(flat, given, depth)} {self._marks(after)}"
        if set(flat) == {"anyOf"} and self._quoted:
            options = [each for key in ("anyOf", "oneOf") for each in (given or {}).get(key, ())]
            if len(options) == len(flat["anyOf"]):
                pairs = zip(flat["anyOf"], options, strict=True)
                return f"({' | '.join(self._value(one, of, after, depth + 1) for one, of in pairs)})"
        return f"{self._json(schema)} {self._marks(after)}"

    def _json(self, schema: Any) -> str:
        form = {} if schema is True else dict(schema)
        return f"%json {json.dumps({**form, '$defs': self._defs} if self._defs else form)}"

    def _listed(self, flat: Mapping[str, Any], given: Any, after: str) -> str:
        """One of several values, each as the parser reads it."""
        if set(flat) - {"enum", "const", "type"}:
            return f"{self._json(flat)} {self._marks(after)}"
        allowed = argument_types({"type": flat["type"]}) if "type" in flat else set()
        ways = []
        for value in [flat["const"]] if "const" in flat else flat["enum"]:
            kinds = argument_types({"const": value})
            if allowed and not kinds & allowed:
                continue
            if (
                isinstance(value, str)
                and not self._quoted
                and self._plain(value)
                and convert_argument(value, given) == value
            ):
                ways.append(gbnf_literal(value))
            elif isinstance(value, str) and self._quoted and self._form.quotes[0] != '"':
                ways.append(gbnf_literal(value.join(self._form.quotes)))
            elif isinstance(value, str) and not self._quoted and argument_types(given) == {"string"}:
                raise _NotPossible  # it would be read as another value
            elif isinstance(value, bool) or value is None:
                ways += [gbnf_literal(word) for word in self._form.words[2 if value is None else int(not value)]]
            else:
                ways.append(gbnf_literal(json.dumps(value, ensure_ascii=False)))
                if self._quoted and isinstance(value, str) and not re.search(r"['\\\n]", value):
                    ways.append(gbnf_literal(f"'{value}'"))
        if not ways:
            raise _NotPossible
        return f"({' | '.join(ways)}) {self._marks(after)}"

    def _plain(self, value: str) -> bool:
        """Whether a text can be written without quotes."""
        lines = self._form.field[0].endswith("\n") or not (value.startswith("\n") or value.endswith("\n"))
        return lines and not any(mark in value for mark in self._never)

    def _text(self, flat: Mapping[str, Any], after: str) -> str:
        if self._form.quotes[0] == '"':
            if flat and set(flat) != {"type"}:
                return f"{self._json(flat)} {self._marks(after)}"
            return f'({self._json(flat or {"type": "string"})} | "\'" [^\'\\\\\\n]* "\'") {self._marks(after)}'
        facts = self._facts(flat)
        if self._quoted:
            opening, closing = self._form.quotes
            return f"{gbnf_literal(opening)} %text {json.dumps({'end': closing, **facts})} {self._marks(after)}"
        found = min((after.index(mark) + len(mark) for mark in self._never if mark in after), default=0)
        if not found:
            raise _NotPossible
        value = {"end": after[:found], "never": self._never, **facts}
        return f"%text {json.dumps(value)} {self._marks(after[found:])}"

    def _facts(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """A schema's constraints for a text, as `%text` has them; what cannot be enforced is noted."""
        facts: dict[str, Any] = {}
        patterns: list[str] = []
        for part in (flat, *flat.get("allOf", ())):
            for key in set(part) - {"type", "allOf"}:
                whole = _whole(part[key]) if key == "pattern" else None
                if whole is not None and len(patterns) < 4 and len(whole) <= 6000:
                    patterns.append(whole)
                elif key in ("minLength", "maxLength") and part[key] <= _MOST_COUNTED and key not in facts:
                    facts[key] = part[key]
                else:
                    note = (
                        f"The schema's {key} is not enforced for strings that this model family writes without quotes."
                    )
                    self.notes += [note] if note not in self.notes else []
        return {**facts, **({"patterns": patterns} if patterns else {})}

    def _mixed(self, schema: Any, flat: Mapping[str, Any], kinds: set[str], after: str) -> str:
        """A text without quotes, or a value of another type, which begins differently."""
        try:
            parts = self._kinds(flat)
        except _NotPossible:
            return f"{self._json(schema)} {self._marks(after)}"
        others = [each for each in parts if each.get("type") != "string"]
        if any(set(each) - {"type"} for each in parts if each.get("type") in ("string", "boolean", "null")):
            return f"{self._json(schema)} {self._marks(after)}"
        first = r"\s" + (r"\[\{\(" if kinds & {"object", "array"} else "")
        first += r"0-9+\-.IN" if kinds & {"number", "integer"} else ""
        text = {"type": "string", "pattern": f"^(?:[^{first}](?s:.)*)?$"}
        written = [self._json(each) for each in others if each["type"] not in ("boolean", "null")]
        ways = [self._text(text, after), *(f"{each} {self._marks(after)}" for each in written)]
        return f"({' | '.join(ways)})"

    def _nested(self, flat: Mapping[str, Any], given: Any, depth: int) -> str:
        nested = self._form.nested
        assert nested
        of = given if isinstance(given, Mapping) else {}
        if flat["type"] == "object":
            if not flat.get("properties"):
                return self._json(flat)
            fields = self._fields(flat, given, depth + 1)
            return f"{gbnf_literal(nested.object[0])} {fields} {gbnf_literal(nested.object[1])}"
        if set(flat) - {"type", "items", "minItems"} or flat.get("minItems", 0) > 1 or not flat.get("items"):
            return self._json(flat)
        inner = resolve_schema(of.get("items"), self._given)
        item = self._rule(
            f"{gbnf_literal(nested.item[0])} {self._value(flat['items'], inner, nested.item[1], depth + 1)}"
        )
        more = f"{gbnf_literal(nested.joined)} {item}" if nested.joined else item
        items = f"{item} ({more})*"
        items = items if flat.get("minItems") else f"({items})?"
        return f"{gbnf_literal(nested.list[0])} {items} {gbnf_literal(nested.list[1])}"


def _of_type(schema: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """One type of a schema, with the keywords that apply to it: those of other types restrict nothing here."""
    own = "number" if kind == "integer" else kind
    other = {key for form, keys in FORMS.items() if form != own for key in keys}
    return {key: value for key, value in schema.items() if key not in other} | {"type": kind}


def _whole(pattern: str) -> str | None:
    """Convert a regular expression that is searched for to one that must match the whole text; None if that is not
    possible.

    As `schema_pattern` writes it: ^ and $ are anchors everywhere except at the beginning of a set.
    """
    inner = pattern.removeprefix("^").removesuffix("$")
    anchored = (pattern.startswith("^"), pattern.endswith("$"))
    if re.search(r"(?<!\[)\^|\$", inner) or (any(anchored) and _forks(inner)):
        return None
    start, end = ("" if each else "(?s:.*)" for each in anchored)
    return f"{start}(?:{inner}){end}"


def _forks(pattern: str) -> bool:
    """Whether it has alternatives outside of its groups."""
    depth = 0
    for letter in re.sub(r"\[[^\]]*\]", "", pattern):
        depth += (letter == "(") - (letter == ")")
        if letter == "|" and not depth:
            return True
    return False
