"""Published templates and shapes of conversations: nothing is lost, nothing fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.families.calls import read_json
from modules.prompts.message_forms import MessageForm
from modules.prompts.sandbox.budget import OWN
from modules.prompts.sandbox.sandbox import Sandbox
from modules.prompts.template_renderer import TemplateRenderer
from tests.published import templates

SANDBOX = Sandbox()
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: Any, *cities: Any, **more: Any) -> dict[str, Any]:
    line: dict[str, Any] = {"role": "assistant", "content": text, **more}
    if cities:
        line["tool_calls"] = [
            {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": given}}
            for city in cities
            for given in [{"city": city} if city != "Broken" else '{"city": "Broken']
        ]
    return line


def result(city: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{city}", "name": "get_weather", "content": text}


SHAPES: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "plain": ([user("Alpha"), said("Bravo"), user("Charlie")], None),
    "system": ([system("Sierra"), user("Alpha"), said("Bravo"), user("Charlie")], None),
    "later system": ([system("Sierra"), user("Alpha"), said("Bravo"), system("Tango"), user("Charlie")], None),
    "system at the end": ([user("Alpha"), said("Bravo"), user("Charlie"), system("Tango")], None),
    "one side in a row": ([user("Alpha"), user("Bravo"), said("Charlie"), said("Delta"), user("Echo")], None),
    "assistant first": ([said("Bravo"), user("Charlie")], None),
    "nothing said": ([user("Alpha"), said(""), user("Charlie")], None),
    "tools": ([system("Sierra"), user("Alpha")], TOOLS),
    "a call": ([user("Alpha"), said("", "Oslo"), result("Oslo", "Fivedegrees")], TOOLS),
    "two calls": ([user("Alpha"), said("", "Oslo", "Rome"), result("Oslo", "Fivedegrees"), result("Rome", "Twenty"),
                   said("Bravo"), user("Charlie")], TOOLS),
    "results without tools": ([user("Alpha"), said("", "Oslo"), result("Oslo", "Fivedegrees"), said("Bravo"),
                               user("Charlie")], None),
    "broken arguments, words beside a call": ([system("Sierra"), user("Alpha"), said("Bravo", "Broken"),
                                               result("Broken", "Fivedegrees")], TOOLS),
    "thought": ([user("Alpha"), said("", "Oslo", reasoning_content="Hmm"), result("Oslo", "Fivedegrees")],
                TOOLS),
}  # fmt: skip


def render(template: str, messages: Any, *, name: str, **values: Any) -> str:
    given = {"documents": None, **values, "messages": messages}
    return SANDBOX.render(name, template, given, OWN)


def words(lines: list[dict[str, Any]], tools: Any) -> list[str]:
    found = [line["content"] for line in lines if line["content"]]
    for line in lines:
        for call in line.get("tool_calls", ()):
            given = call["function"]["arguments"]
            found += [call["function"]["name"], given["city"] if isinstance(given, dict) else "Broken"]
    # what a tool is for, too: its name is in each call of it
    return [*found, *(tool["function"][key] for tool in tools or () for key in ("name", "description"))]


@pytest.mark.parametrize("name", sorted(templates()))
def test_nothing_is_lost_and_nothing_fails(name: str) -> None:
    for title, (lines, tools) in SHAPES.items():
        script = TemplateRenderer(
            render, templates()[name], name, {"bos_token": "<BOS>", "eos_token": "<EOS>"}, tools=tools
        )
        text = script.opened(lines, "")
        lost = [word for word in words(lines, tools) if word not in text]
        assert not lost, (title, lost, script.notes)
        assert "None" not in text.replace("None of", ""), title


def test_what_a_template_takes_is_given_as_it_is() -> None:
    """Changes are reported; if nothing needs a change, the text is the template's own."""
    source = templates()["Qwen-Qwen3-0.6B"]
    values = {"bos_token": "", "eos_token": ""}
    for title in ("plain", "system", "tools", "a call", "two calls"):
        lines, tools = SHAPES[title]
        script = TemplateRenderer(render, source, "x", values, tools=tools)
        same = render(source, lines, name="x", **values, tools=tools, add_generation_prompt=True)
        assert script.text(lines, open=True) == same
        assert script.notes == ()
    script = TemplateRenderer(render, templates()["google-gemma-2-2b-it"], "x", values)
    script.text(SHAPES["later system"][0], open=True)
    assert any("system" in note for note in script.notes)


@pytest.mark.parametrize("knows", ["", "{# tools tool_calls #}"])
@pytest.mark.parametrize("refuses", ["", "{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"])
def test_a_thought_stays_where_the_template_writes_it_whatever_else_is_changed(knows: str, refuses: str) -> None:
    """Calls and tools as text are one thing, reasoning another."""
    template = (
        f"{knows}{{% for m in messages %}}{refuses}<|{{{{m.role}}}}|>{{% if m.reasoning_content %}}<think>"
        "{{m.reasoning_content}}</think>{% endif %}{{m.content}}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    lines = [
        user("Weather?"),
        said("", "Oslo", reasoning_content="I need the tool."),
        {"role": "tool", "tool_call_id": "call_Oslo", "content": "5 degrees"},
    ]
    script = TemplateRenderer(render, template, "x", tools=TOOLS)
    text = script.text(lines, open=True)
    for words in ("<think>I need the tool.</think>", "5 degrees", "get_weather", "Weather?"):
        assert words in text
    assert not any("thought" in note for note in script.notes)


@pytest.mark.parametrize("name", ["get_weather", 'a "quoted" one', "Wetter_für", "back\\slash"])
def test_a_call_in_words_is_one_that_is_read(name: str) -> None:
    """For a template without tool support, it is written in the form that every family reads."""
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": {"city": "Ås"}}}
    lines, _ = MessageForm(calls="told").applied([{"role": "assistant", "content": "", "tool_calls": [call]}], None)
    inside = lines[0]["content"].removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    (found,) = read_json(inside, {name: {}})
    assert (found.name, json.loads(found.arguments)) == (name, {"city": "Ås"})
