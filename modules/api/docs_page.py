"""GET /docs: the API's routes and fields on one page, generated from its OpenAPI description. It loads nothing.

FastAPI's own page loads scripts and styles from other hosts, so it is empty without internet access and reveals its
readers. This one is plain HTML without scripts, and its policy forbids requests to other hosts. Pure: a description in,
text out.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_METHODS = ("get", "post", "put", "patch", "delete")
_DEEPEST = 3  # levels of nested objects that are shown

_STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf8; --raised: #fff; --text: #26231f; --soft: #6d675f; --line: #e2ded7;
  --mark: #17695c; }
@media (prefers-color-scheme: dark) { :root { --ground: #191817; --raised: #22211f; --text: #e9e6e1; --soft: #a29c93;
  --line: #37342f; --mark: #6cc4b4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: .8rem; margin: 1.1rem 0 .35rem; color: var(--soft); font-weight: 600; }
p { margin: .4rem 0; } a { color: var(--mark); }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; }
pre { overflow-x: auto; }
details { background: var(--raised); border: 1px solid var(--line); border-radius: 10px; margin: .5rem 0; }
summary { cursor: pointer; padding: .7rem 1rem; display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
summary::-webkit-details-marker { display: none; } summary:focus-visible { outline: 2px solid var(--mark); }
summary b { font: 600 .75rem ui-monospace, monospace; color: var(--mark); min-width: 3rem; }
summary span { color: var(--soft); font-size: .9rem; }
details > div { padding: 0 1rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td, th { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-top: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; border-top: 0; } td:first-child { white-space: nowrap; }
.inner td:first-child { padding-left: 1rem; } .soft { color: var(--soft); }
"""


def render_docs_page(description: Mapping[str, Any], address: str) -> str:
    """The page for an OpenAPI description; `address` is the API's URL, for the example."""
    info = description.get("info", {})
    title = _text(info.get("title", "API"))
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{title}: API</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{title}: API</h1><p>{_text(info.get('description', ''))} OpenAPI document: ",
        "<a href=openapi.json>openapi.json</a>.</p>",
        f"<pre>{_text(_example(address))}</pre>",
    ]
    for tag, routes in _by_tag(description).items():
        parts.append(f"<h2>{_text(tag)}</h2>")
        parts += [_route(description, path, method, route) for path, method, route in routes]
    return "".join([*parts, "</main></body></html>"])


def _example(address: str) -> str:
    body = '{"messages": [{"role": "user", "content": "Hello!"}]}'
    return f"curl {address}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"


def _by_tag(description: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in description.get("paths", {}).items():
        for method in _METHODS:
            if method in methods:
                route = methods[method]
                found.setdefault((route.get("tags") or ["other"])[0], []).append((path, method, route))
    return found


def _route(description: Mapping[str, Any], path: str, method: str, route: Mapping[str, Any]) -> str:
    said = str(route.get("description") or route.get("summary") or "")
    first, _, rest = said.partition("\n\n")
    parts = [
        f"<details><summary><b>{method.upper()}</b><code>{_text(path)}</code><span>{_text(first)}</span></summary><div>"
    ]
    if rest:
        parts.append(f"<p>{_text(rest)}</p>")
    given = [
        (each["name"], each.get("schema", {}), bool(each.get("required")), each.get("description", ""))
        for each in route.get("parameters", ())
    ]
    if given:
        parts.append("<h3>Parameters</h3>" + _table(description, given))
    schema = _json_schema(route.get("requestBody", {}))
    if schema is not None:
        parts.append("<h3>Body (JSON)</h3>" + _fields(description, schema))
    answer = next((_json_schema(each) for code, each in route.get("responses", {}).items() if code == "200"), None)
    if answer and _resolved(description, answer).get("properties"):
        parts.append("<h3>Answer</h3>" + _fields(description, answer))
    elif schema is None and not given:
        parts.append("<p class=soft>No parameters.</p>")
    return "".join([*parts, "</div></details>"])


def _json_schema(holder: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = holder.get("content", {}).get("application/json", {}).get("schema")
    return found


def _fields(description: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    whole = _resolved(description, schema)
    needed = whole.get("required", ())
    fields = [(name, each, name in needed, "") for name, each in whole.get("properties", {}).items()]
    return _table(description, fields) if fields else f"<p><code>{_text(_type(description, schema))}</code></p>"


def _table(description: Mapping[str, Any], fields: list[tuple[str, Mapping[str, Any], bool, str]]) -> str:
    rows = "".join(_rows(description, fields, 0))
    return f"<table><tr><th>Name</th><th>Type</th><th>Meaning</th></tr>{rows}</table>"


def _rows(
    description: Mapping[str, Any], fields: list[tuple[str, Mapping[str, Any], bool, str]], depth: int, above: str = ""
) -> Iterator[str]:
    for name, schema, needed, about in fields:
        whole = _resolved(description, schema)
        said = [str(schema.get("description") or about or whole.get("description") or "")]
        if needed:
            said.append("Required.")
        elif schema.get("default") not in (None, "", [], {}) and "properties" not in whole:
            said.append(f"Default: {json.dumps(schema['default'])}.")
        meaning = " ".join(each for each in [*said, _bounds(schema)] if each)
        yield (
            f"<tr><td><code>{_text(above + name)}</code></td><td><code>{_text(_type(description, schema))}</code></td>"
            f"<td>{_text(meaning)}</td></tr>"
        )
        inner = whole.get("properties", {})
        if inner and depth + 1 < _DEEPEST:
            required = whole.get("required", ())
            nested = [(each, value, each in required, "") for each, value in inner.items()]
            yield from _rows(description, nested, depth + 1, f"{above}{name}.")


def _type(description: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> str:
    whole = _resolved(description, schema)
    if depth > _DEEPEST:
        return "any"
    if "enum" in whole:
        return " | ".join(map(json.dumps, whole["enum"]))
    if "const" in whole:
        return json.dumps(whole["const"])
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in whole:
            return " | ".join(dict.fromkeys(_type(description, each, depth + 1) for each in whole[choice]))
    kind = whole.get("type", "any")
    if kind == "array":
        return f"list of {_type(description, whole.get('items', {}), depth + 1)}"
    return str(kind)


def _bounds(schema: Mapping[str, Any]) -> str:
    choices = [schema, *schema.get("anyOf", ())]
    low = next((f"{each['minimum']:g}" for each in choices if "minimum" in each), "")
    high = next((f"{each['maximum']:g}" for each in choices if "maximum" in each), "")
    if low and high:
        return f"{low} to {high}."
    return f"Minimum: {low}." if low else f"Maximum: {high}." if high else ""


def _resolved(description: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with the reference at its top resolved; for an optional one, the schema of the value if present."""
    for _ in range(8):  # a reference to a reference; limited, in case of a cycle
        choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if len(choices) == 1 and "$ref" in choices[0]:
            schema = choices[0]
        name = schema.get("$ref", "").rpartition("/")[2]
        if not name:
            break
        schema = description.get("components", {}).get("schemas", {}).get(name, {})
    return schema


def _text(value: object) -> str:
    return html.escape(str(value))
