"""Every published template renders a reply of its own; parsed again, it gives the reasoning, the text and the call."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from errors import TemplateFailed
from modules.families.reply_format import ReplyFormat
from modules.families.table import GENERAL, family_of
from modules.prompts.sandbox.budget import OWN
from modules.prompts.sandbox.sandbox import Sandbox
from tests.published import templates

SANDBOX = Sandbox()
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "deep": {"type": "object"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": SCHEMA}}]
GIVEN = {"city": "Oslo", "days": 3, "deep": {"a": [1, True]}}
THOUGHT = ("reasoning_content", "thinking", "reasoning")
USER = [{"role": "user", "content": "UUU"}]
#: Templates that write no calls of the assistant: there is nothing to parse.
SILENT = {
    "GigaChat3-10B-A1.8B", "HuggingFaceTB-SmolLM3-3B", "LFM2-8B-A1B", "LFM2.5-Instruct", "google-gemma-2-2b-it",
    "ibm-granite-granite-3.3-2B-Instruct", "llama-cpp-rwkv-world", "microsoft-Phi-3.5-mini-instruct",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
}  # fmt: skip
#: It fails if a tool takes an object.
BROKEN = {"CohereForAI-c4ai-command-r-plus-tool_use"}
#: Models that belong to no family in the table.
UNKNOWN = {"Reka-Edge", "llama-cpp-rwkv-world"}


def written(source: str, said: dict[str, Any]) -> tuple[str, str]:
    """The prompt up to the reply, and the reply as the template writes it."""

    def render(messages: list[dict[str, Any]], begin: bool) -> str:
        values = {
            "messages": messages, "tools": TOOLS, "add_generation_prompt": begin, "bos_token": "<BOS>",
            "eos_token": "<EOS>", "documents": None, "functions": "[]", "datetime": "now",
        }  # fmt: skip
        return SANDBOX.render("", source, values, OWN)

    before, whole = render(USER, True), render([*USER, said], False)
    same = next((n for n, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), len(before))
    cut = re.search(r"[<\[][^<>\n]*$", before[:same])
    if same < len(before) and cut and cut.start() > before.rfind("UUU"):
        same = cut.start()  # the two differ within a mark
    reply = whole[same:]
    family = family_of(source)
    opened = ReplyFormat(family, before).opened
    if opened and opened.opening not in reply and any(each in reply for each in opened.closing):
        same = len(before)  # reasoning is written without the mark that the prompt contains
    ends = [*family.ends, *family.others, "<EOS>", "</assistant>", "<|role_end|>", "<sep>", "<｜end▁of▁sentence｜>"]
    return before[:same], reply[: min((reply.find(end) for end in ends if end in reply), default=len(reply))]


def read(reading: ReplyFormat, pieces: list[str]) -> tuple[str, str, list[tuple[str, Any]]]:
    parser = reading.parser()
    parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    return (
        "".join(part.text for part in parts if part.kind == "text"),
        "".join(part.text for part in parts if part.kind == "thought"),
        [(part.call.name, json.loads(part.call.arguments)) for part in parts if part.call],
    )


@pytest.mark.parametrize("name", sorted(templates().keys() - BROKEN))
def test_a_template_s_own_reply_is_read_back(name: str) -> None:
    source = templates()[name]
    family = family_of(source)
    assert (family is GENERAL) == (name in UNKNOWN)
    said = {"role": "assistant", "content": "CCC", **dict.fromkeys(THOUGHT, "RRR")}
    before, reply = written(source, said)
    reading = ReplyFormat(family, before)
    text, thought, _ = read(reading, [reply])
    assert text.strip() + thought.strip() == ("CCCRRR" if "RRR" in reply else "CCC")
    assert read(reading, list(reply)) == (text, thought, [])
    if name in SILENT:
        return
    try:
        before, reply = written(source, called(GIVEN))
    except TemplateFailed:  # it needs the arguments as text
        before, reply = written(source, called(json.dumps(GIVEN)))
    reading = ReplyFormat(family, before, tools={"get_weather": SCHEMA})
    assert read(reading, [reply]) == ("", "", [("get_weather", GIVEN)])
    assert read(reading, list(reply)) == ("", "", [("get_weather", GIVEN)])


def called(arguments: Any) -> dict[str, Any]:
    call = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}
