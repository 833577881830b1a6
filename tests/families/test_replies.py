"""Replies of each family, recorded or written by hand: the same parts result wherever the stream is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.families.family import Family
from modules.families.parser import ReplyParser
from modules.families.reply_format import ReplyFormat
from modules.families.table import FAMILIES, GENERAL, family_named
from modules.generation.text import TextAssembler

F = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = {"get_weather": F, "f": {}}
OSLO = ("get_weather", {"city": "Oslo"})
#: family, what the prompt ends with, the reply, and its text, thought and calls.
ROWS: list[tuple[str, str, str, tuple[str, str, list[Any]]]] = [
    ("general", "", " Hello <b> 日本 👩‍👧.", ("Hello <b> 日本 👩‍👧.", "", [])),
    (
        "general",
        "",
        "Use `<think>` tags:\n```\n<think>x</think>\n```\nDone.",
        ("Use `<think>` tags:\n```\n<think>x</think>\n```\nDone.", "", []),
    ),
    ("general", "", "I write <tool_call> as a word.", ("I write <tool_call> as a word.", "", [])),
    (
        "general",
        "",
        '```\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n```',
        ('```\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n```', "", []),
    ),
    (
        "general",
        "",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
        ("", "", [OSLO]),
    ),
    ("general", "", '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}', ("", "", [OSLO])),
    ("general", "", '{"type": "function", "name": "get_weather", "parameters": {"city": "Oslo"}}', ("", "", [OSLO])),
    ("general", "", '{"colour": "red"}', ('{"colour": "red"}', "", [])),
    ("general", "", '{"name": "f", "age": 3}', ('{"name": "f", "age": 3}', "", [])),
    ("general", "", "[1, 2]", ("[1, 2]", "", [])),
    ("general", "", "<think>never ends", ("", "never ends", [])),
    ("general", "", "<think>I close with `</think>`, see.</think>So.", ("So.", "I close with `</think>`, see.", [])),
    ("general", "<think>\n", "Hm.\n</think>\n\nParis.", ("Paris.", "Hm.", [])),
    (
        "general",
        "",
        '<tool_call>{"name": "f", "arguments": {"a": </tool_call> Sorry.',
        ('<tool_call>{"name": "f", "arguments": {"a": </tool_call> Sorry.', "", []),
    ),
    (
        "general",
        "",
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
        ("", "", [("f", {"a": "</tool_call>"})]),
    ),
    (
        "general",
        "",
        '<tool_call>{"name": "f", "arguments": {"a": "cut',
        ('<tool_call>{"name": "f", "arguments": {"a": "cut', "", []),
    ),
    ("general", "", '<tool_call>{"name": "f", "arguments": {}}', ("", "", [("f", {})])),
    (
        "general",
        "",
        'A <tool_call> is so: <tool_call>{"name": "f", "arguments": {}}</tool_call>',
        ("A <tool_call> is so:", "", [("f", {})]),
    ),
    (
        "qwen_coder",
        "",
        '<tool_call>\n<function=get_weather>\n<parameter=city>\n"a\n</function> x\n</tool_call> b\n</parameter>\n'
        "</function>\n</tool_call>Done.",
        ("Done.", "", [("get_weather", {"city": '"a\n</function> x\n</tool_call> b'})]),
    ),
    (
        "qwen_coder",
        "",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</function>\n</tool_call>Done.",
        ("Done.", "", [OSLO]),
    ),
    (
        "qwen_coder",
        "",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</tool_call>Done.",
        ("Done.", "", [OSLO]),
    ),
    (
        "qwen_coder",
        "",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\na </tool_call> b\n</parameter>\n</function>\n"
        "</tool_call>",
        ("", "", [("get_weather", {"city": "a </tool_call> b"})]),
    ),
    (
        "functionary",
        "",
        '<function=get_weather>{"city": "a </function> b"}</function>',
        ("", "", [("get_weather", {"city": "a </function> b"})]),
    ),
    (
        "glm",
        "",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>a </tool_call> b</arg_value>\n</tool_call>",
        ("", "", [("get_weather", {"city": "a </tool_call> b"})]),
    ),
    (
        "kimi",
        "",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "<|tool_call_end|> <|tool_calls_section_end|> <parameter=x>"}<|tool_call_end|>'
        "<|tool_calls_section_end|>",
        ("", "", [("get_weather", {"city": "<|tool_call_end|> <|tool_calls_section_end|> <parameter=x>"})]),
    ),
    (
        "deepseek",
        "",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "}```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ("", "", [("get_weather", {"city": "}```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"})]),
    ),
    (
        "deepseek",
        "",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" '
        'string="true">a </｜DSML｜invoke> b </｜DSML｜function_calls></｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        "</｜DSML｜function_calls>",
        ("", "", [("get_weather", {"city": "a </｜DSML｜invoke> b </｜DSML｜function_calls>"})]),
    ),
    (
        "lfm",
        "",
        "<|tool_call_start|>[get_weather(city='<|tool_call_end|>')]<|tool_call_end|>",
        ("", "", [("get_weather", {"city": "<|tool_call_end|>"})]),
    ),
    (
        "gemma4",
        "",
        '<|tool_call>call:get_weather{city:<|"|>a " <tool_call|><|"|>}<tool_call|>',
        ("", "", [("get_weather", {"city": 'a " <tool_call|>'})]),
    ),
    (
        "command_r",
        "",
        'Action: ```json\n[{"tool_name": "get_weather", "parameters": {"city": "```"}}]\n```',
        ("", "", [("get_weather", {"city": "```"})]),
    ),
    (
        "solar",
        "",
        "<|tool_calls|><|tool_call:begin|>abc<|tool_call:name|>get_weather<|tool_call:args|>"
        '{"city": "<|tool_call:end|><|calls|>"}<|tool_call:end|><|calls|>',
        ("", "", [("get_weather", {"city": "<|tool_call:end|><|calls|>"})]),
    ),
    (
        "qwen",
        "",
        '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "get_weather", "arguments": '
        '{"city": "Oslo"}}\n</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        ("Let me see.", "Hm.", [OSLO, ("f", {})]),
    ),
    (
        "qwen_coder",
        "<think>\n",
        "a < b\n</think>\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\n<Oslo> & so\n"
        "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        ("", "a < b", [("get_weather", {"city": "<Oslo> & so", "days": 3})]),
    ),
    (
        "qwen_coder",
        "",
        "<function=get_weather>\n<parameter=city>\n42\n</parameter>\n</function>\n</tool_call>",
        ("</tool_call>", "", [("get_weather", {"city": "42"})]),
    ),
    (
        "glm",
        "",
        "\n<think>Hm.</think>\nSee.<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
        "</tool_call>",
        ("See.", "Hm.", [OSLO]),
    ),
    ("glm", "", "</think>Hello.", ("Hello.", "", [])),
    (
        "deepseek",
        "<think>\n",
        "Hm</think>\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Oslo"}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ("", "Hm", [OSLO, ("f", {})]),
    ),
    (
        "deepseek",
        "",
        'Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ("Ok.", "", [OSLO]),
    ),
    (
        "deepseek",
        "",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" '
        'string="true">Oslo</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
        ("", "", [OSLO]),
    ),
    (
        "gpt_oss",
        "<|start|>assistant",
        "<|channel|>analysis<|message|>We greet.<|end|><|start|>assistant<|channel|>final"
        "<|message|>Hello there!<|return|>",
        ("Hello there!", "We greet.", []),
    ),
    (
        "gpt_oss",
        "<|start|>assistant",
        "<|channel|>analysis<|message|>Tool.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}<|call|>',
        ("", "Tool.", [OSLO]),
    ),
    (
        "gpt_oss",
        "<|start|>assistant",
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}',
        ("", "", [OSLO]),
    ),
    ("gpt_oss", "<|start|>assistant", "<|channel|>analysis<|message|>cut", ("", "cut", [])),
    ("gpt_oss", "<|start|>assistant", "Just words.", ("Just words.", "", [])),
    (
        "gemma4",
        "",
        '<|channel>thought\nhm<channel|>Hello<|tool_call>call:get_weather{city:<|"|>Oslo, {x: 1}<|"|>,days:3}'
        "<tool_call|>",
        ("Hello", "hm", [("get_weather", {"city": "Oslo, {x: 1}", "days": 3})]),
    ),
    ("gemma", "", '```tool_code\nget_weather(city="Oslo")\n```', ("", "", [OSLO])),
    ("mistral", "", "[THINK]hm[/THINK]Hello.", ("Hello.", "hm", [])),
    ("mistral", "", '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}]', ("", "", [OSLO])),
    (
        "mistral",
        "",
        'See.[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]f[ARGS]{}',
        ("See.", "", [OSLO, ("f", {})]),
    ),
    (
        "command_r",
        "",
        "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>",
        ("Hello.", "hm", []),
    ),
    (
        "command_r",
        "",
        '<|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        '{"city": "Oslo"}}\n]<|END_ACTION|>',
        ("", "", [OSLO]),
    ),
    (
        "command_r",
        "",
        'Action: ```json\n[{"tool_name": "get_weather", "parameters": {"city": "Oslo"}}]\n```',
        ("", "", [OSLO]),
    ),
    (
        "seed",
        "",
        "<seed:think>hm</seed:think>Hello.<seed:tool_call>\n<function=get_weather>\n<parameter=city>Oslo</parameter>\n"
        "</function>\n</seed:tool_call>",
        ("Hello.", "hm", [OSLO]),
    ),
    ("hunyuan", "<think:opensource>", "hm</think:opensource>Hello.", ("Hello.", "hm", [])),
    ("hunyuan", "", "<think>\nhm\n</think>\n<answer>\nHello.\n</answer>", ("Hello.", "hm", [])),
    (
        "kimi",
        "",
        "Ok<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Oslo"}<|tool_call_end|><|tool_calls_section_end|>',
        ("Ok", "", [OSLO]),
    ),
    (
        "minimax",
        "<think>\n",
        'hm\n</think>\n\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo'
        "</parameter>\n</invoke>\n</minimax:tool_call>",
        ("", "hm", [OSLO]),
    ),
    (
        "minimax_m1",
        "",
        '<tool_calls>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n'
        '{"name": "f", "arguments": {}}\n</tool_calls>',
        ("", "", [OSLO, ("f", {})]),
    ),
    ("llama", "", '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}', ("", "", [OSLO])),
    (
        "llama",
        "",
        '{"name": "get_weather", "parameters": {"city": "Oslo"}}; {"name": "f", "parameters": {}}',
        ("", "", [OSLO, ("f", {})]),
    ),
    ("llama", "", '<|python_tag|>get_weather.call(city="Oslo")', ("", "", [OSLO])),
    ("llama4", "", '[get_weather(city="Oslo"), f()]', ("", "", [OSLO, ("f", {})])),
    (
        "phi",
        "",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]<|/tool_call|>',
        ("", "", [OSLO]),
    ),
    ("granite", "", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]', ("", "", [OSLO])),
    ("granite", "", "<think>hm</think>\n<response>Hello.</response>", ("Hello.", "hm", [])),
    ("lfm", "", '<|tool_call_start|>[get_weather(city="Oslo")]<|tool_call_end|>Checking.', ("Checking.", "", [OSLO])),
    (
        "nemotron",
        "<think>\n",
        'hm</think>\n<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]</TOOLCALL>',
        ("", "hm", [OSLO]),
    ),
    ("smollm", "", '<code>get_weather(city="Oslo")</code>', ("", "", [OSLO])),
    ("functionary", "", '<function=get_weather>{"city": "Oslo"}</function>', ("", "", [OSLO])),
    ("functionary_v3_2", ">>>", 'all\nSee.\n>>>get_weather\n{"city": "Oslo"}', ("See.", "", [OSLO])),
    (
        "solar",
        "<|begin|>assistant",
        "<|think|>hm<|end|><|begin|>assistant<|content|>Hello.<|end|>",
        ("Hello.", "hm", []),
    ),
    (
        "apriel",
        "Here are my reasoning steps:\n",
        "hm\n[BEGIN FINAL RESPONSE]\nHello.\n[END FINAL RESPONSE]",
        ("Hello.", "hm", []),
    ),
    (
        "kimi_k3",
        "<|open|>think<|sep|>",
        "hm<|close|>think<|sep|><|open|>response<|sep|>Hello.<|close|>response<|sep|>",
        ("Hello.", "hm", []),
    ),
    (
        "apertus",
        "",
        '<|inner_prefix|>hm<|inner_suffix|>Hello.<|tools_prefix|>[{"get_weather": {"city": "Oslo"}}]<|tools_suffix|>',
        ("Hello.", "hm", [OSLO]),
    ),
]


def read(family: Family, prefix: str, pieces: list[str]) -> tuple[str, str, list[Any]]:
    parser = ReplyFormat(family, prefix, tools=TOOLS).parser()
    parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    return (
        "".join(part.text for part in parts if part.kind == "text"),
        "".join(part.text for part in parts if part.kind == "thought"),
        [(part.call.name, json.loads(part.call.arguments)) for part in parts if part.call],
    )


@pytest.mark.parametrize(("name", "prefix", "reply", "wanted"), ROWS)
def test_the_same_parts_wherever_it_is_cut(name: str, prefix: str, reply: str, wanted: Any) -> None:
    family = family_named(name)
    assert read(family, prefix, [reply]) == wanted
    assert read(family, prefix, list(reply)) == wanted
    data = reply.encode()
    for cut in range(len(data)):
        texts = TextAssembler()
        pieces = [texts.push(data[:cut]), texts.push(data[cut:]), texts.finish()]
        assert read(family, prefix, pieces) == wanted


@given(st.text())
def test_text_without_marks_is_left_as_it_is(text: str) -> None:
    parser = ReplyParser(GENERAL)
    parts = [part for piece in text for part in parser.push(piece)] + parser.finish()
    if "<" not in text and "[" not in text:
        assert "".join(part.text for part in parts) == text


def test_no_opening_begins_another() -> None:
    """Otherwise the cut would determine which one is found."""
    for family in (*FAMILIES, GENERAL):
        openings = [each.opening for each in (*family.all_thoughts, *family.all_calls)]
        openings += [opening for opening, _ in family.around]
        assert not [(a, b) for a in openings for b in openings if a != b and b.startswith(a)], family.name
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_a_long_thought_costs_what_it_is_long() -> None:
    parser = ReplyFormat(family_named("qwen"), tools=TOOLS).parser()
    parts = [part for piece in ["<think>", *["word "] * 50_000, "</think>", "So."] for part in parser.push(piece)]
    parts += parser.finish()
    assert len("".join(part.text for part in parts if part.kind == "thought")) == 249_999
    assert parts[-1].text == "So."
