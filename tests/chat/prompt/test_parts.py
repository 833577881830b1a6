"""Whose text is where in a prompt: found exactly, for any texts and templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.chat.conversation import Message
from modules.chat.prompt.build import ChatPrompt, PromptContext, build_prompt
from modules.config.paths import Paths
from modules.prompts.templates import Templates

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = Templates(Paths.under(ROOT))
NAMES = ("ChatML", "Alpaca", "Llama-v2", "Mistral", "Vicuna-v1.1", "Llama-v3")


def made(texts: list[str], stage: PromptContext, begun: str = "") -> ChatPrompt:
    history = [
        Message(str(at), None, "user" if at % 2 == 0 else "assistant", text, 0.0) for at, text in enumerate(texts)
    ]
    return build_prompt(history, stage, render=TEMPLATES.render, count=len, room=10**6, begun=begun)


def said(prompt: ChatPrompt) -> list[tuple[str, str]]:
    return [(part.kind, prompt.text[part.start : part.end]) for part in prompt.parts]


@pytest.mark.parametrize("name", NAMES)
def test_each_text_is_found_in_its_place(name: str) -> None:
    stage = PromptContext("instruct", TEMPLATES.load(name), system="Be brief.")
    prompt = made(["a", "a", "user"], stage, begun="Sure")
    found = said(prompt)
    assert [each for each in found if each[0] != "system"] == [
        ("user", "a"), ("assistant", "a"), ("user", "user"), ("begun", "Sure")
    ]  # fmt: skip
    assert ("system", "Be brief.") in found


def test_a_dialogue_inside_a_command_is_found() -> None:
    stage = PromptContext(
        "chat-instruct", TEMPLATES.load("ChatML"), name2="Fox", context="Fox is red.", after="Stay red."
    )
    found = said(made(["Who?", "I.", "Who?"], stage))
    assert found == [
        ("system", "Fox is red."), ("user", "Who?"), ("assistant", "I."), ("user", "Who?"), ("system", "Stay red.")
    ]  # fmt: skip


def test_a_text_that_holds_marks_is_looked_for_instead() -> None:
    prompt = made(["one \uf8f3 two", "three", "four"], PromptContext("instruct", TEMPLATES.load("ChatML")))
    assert said(prompt) == [("user", "one \uf8f3 two"), ("assistant", "three"), ("user", "four")]


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip() == text and text), min_size=1, max_size=5))
def test_parts_are_in_order_and_hold_what_was_said(texts: list[str]) -> None:
    prompt = made(texts, PromptContext("instruct", TEMPLATES.load("ChatML"), system="S"))
    ends = [0, *(part.end for part in prompt.parts)]
    assert all(part.start >= end for part, end in zip(prompt.parts, ends, strict=False))
    spoken = [text for kind, text in said(prompt) if kind in ("user", "assistant")]
    assert spoken == texts
