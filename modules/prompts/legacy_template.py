"""Converts instruction templates of the format before Jinja to Jinja templates.

Such a file has the keys `user`, `bot`, `turn_template`, `context` and `system_message`. In `turn_template`, the
placeholders `<|user|> <|user-message|> <|bot|> <|bot-message|>` stand for the two names and the two messages; in
`context`, `<|system-message|>` stands for the system message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def convert_legacy_template(values: Mapping[str, Any]) -> str | None:
    """The same template in Jinja, or None if these are not the keys of such a file."""
    turn = values.get("turn_template")
    if not isinstance(turn, str) or "<|user-message|>" not in turn:
        return None
    turn = turn.replace("<|user|>", _text(values, "user"))
    before_user, _, rest = turn.partition("<|user-message|>")
    if "<|bot|>" in rest:
        after_user, _, reply = rest.partition("<|bot|>")
        reply = _text(values, "bot") + reply
    else:
        after_user, reply = "", rest
    before_bot, _, after_bot = reply.partition("<|bot-message|>")
    before_system, mark, after_system = _text(values, "context").partition("<|system-message|>")
    default = before_system + (_text(values, "system_message") + after_system if mark else "")
    return "\n".join(
        (
            "{%- if not messages or messages[0]['role'] != 'system' -%}",
            f"    {{{{- {_quoted(default)} -}}}}",
            "{%- endif -%}",
            "{%- for message in messages -%}",
            "    {%- if message['role'] == 'system' -%}",
            f"        {{{{- {_around(before_system, after_system)} -}}}}",
            "    {%- elif message['role'] == 'user' -%}",
            f"        {{{{- {_around(before_user, after_user)} -}}}}",
            "    {%- else -%}",
            f"        {{{{- {_around(before_bot, after_bot)} -}}}}",
            "    {%- endif -%}",
            "{%- endfor -%}",
            "{%- if add_generation_prompt -%}",
            f"    {{{{- {_quoted(before_bot.rstrip(' '))} -}}}}",
            "{%- endif -%}",
        )
    )


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _around(before: str, after: str) -> str:
    return f"{_quoted(before)} + message['content'] + {_quoted(after)}"


def _quoted(text: str) -> str:
    """The text as a Jinja string literal on one line."""
    return json.dumps(text, ensure_ascii=False)
