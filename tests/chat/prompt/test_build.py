"""Prompts: each mode's format, stop strings, and what is left out if not everything fits."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import PromptTooLong, TemplateFailed
from modules.chat.conversation import Message
from modules.chat.prompt.build import ChatPrompt, Mode, PromptContext, build_prompt
from modules.config.paths import Paths
from modules.prompts.template_renderer import find_separators
from modules.prompts.templates import Templates
from tests.fake_engine import ByteTokenizer

TEMPLATES = Templates(Paths.under(Path(__file__).resolve().parents[3]))
CHATML = TEMPLATES.load("ChatML")
STRICT = (  # as several published templates do
    "{%- for m in messages -%}{%- if m.role == 'system' -%}{{ raise_exception('no system here') }}{%- endif -%}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('they must alternate') }}{%- endif -%}"
    "{{- '[' + m.role + ']' + m.content -}}{%- endfor -%}"
)


def history(*texts: str, first: str = "user") -> list[Message]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [Message(str(number), None, roles[number % 2], text, 0) for number, text in enumerate(texts)]  # type: ignore[arg-type]


def built(messages: list[Message], stage: PromptContext, room: int = 10_000, **values: object) -> ChatPrompt:
    tokenizer = ByteTokenizer()
    return build_prompt(
        messages,
        stage,
        render=TEMPLATES.render,
        count=lambda text: len(tokenizer.encode(text)),
        room=room,
        **values,  # type: ignore[arg-type]
    )


# --- the formats ---


def test_instruct() -> None:
    prompt = built(history("Hi", "Hello", "Bye"), PromptContext("instruct", CHATML, system="Be brief."))
    assert prompt.text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
        "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chat() -> None:
    stage = PromptContext("chat", CHATML, name1="Ann", name2="Bo", context="Bo is shy.", system="not here")
    prompt = built(history("Hello.", "Hi", "Well."), stage)
    assert prompt.text == "Bo is shy.\n\nAnn: Hello.\nBo: Hi\nAnn: Well.\nBo:"
    assert built(history("Hi."), stage, begun="Hm, ").text == "Bo is shy.\n\nAnn: Hi.\nBo: Hm, "
    assert built(history("Hi.", "Yo"), stage, role="user").text == "Bo is shy.\n\nAnn: Hi.\nBo: Yo\nAnn:"


@pytest.mark.parametrize(
    ("fields", "beginning"),
    [
        ({}, "Shy.\n\nAnn: Hi\n"),
        ({"user_bio": " Ann climbs. "}, "Shy.\n\nAnn climbs.\n\nAnn: Hi\n"),
        ({"user_bio": "Ann climbs.", "context": ""}, "Ann climbs.\n\nAnn: Hi\n"),
        ({"user_bio": "Ann climbs.", "chat_template": "own"}, "Shy.<Ann climbs.>\nAnn: Hi\n"),
        ({"user_bio": "Ann climbs.", "chat_template": "own", "context": ""}, "<Ann climbs.>\nAnn: Hi\n"),
        ({"chat_template": "own"}, "Shy.\nAnn: Hi\n"),
        ({"user_bio": "Ann climbs.", "chat_template": "own", "after": "Go."}, "Shy.\n\nAnn climbs.\nAnn: Hi\n"),
    ],
)
@pytest.mark.parametrize("mode", ["chat", "chat-instruct"])
def test_what_the_user_says_about_themselves_follows_the_context(
    fields: dict[str, str], beginning: str, mode: Mode
) -> None:
    """A template with a place of its own for it, as the original's default one has, writes it there; each writes it
    once.
    """
    own = (
        "{%- for m in messages -%}{%- if m.role == 'system' -%}{{- m.content -}}"
        "{%- if user_bio -%}{{- '<' + user_bio + '>' -}}{%- endif -%}{{- '\n' -}}{%- else -%}"
        "{{- (name1 if m.role == 'user' else name2) + ': ' + m.content + '\n' -}}{%- endif -%}{%- endfor -%}"
    )
    given = {"context": "Shy.", **fields} | ({"chat_template": own} if "chat_template" in fields else {})
    prompt = built(history("Hi", "Yo", "Well"), PromptContext(mode, CHATML, "Ann", "Bo", command="<|prompt|>", **given))
    assert beginning in prompt.text
    assert prompt.text.count("Ann climbs.") == ("user_bio" in fields)
    ours = [part for part in prompt.parts if part.kind == "system"]
    written = "".join(prompt.text[part.start : part.end] for part in ours)
    assert ("Ann climbs." in written) == ("user_bio" in fields)


def test_instruct_mode_says_nothing_about_the_user() -> None:
    stage = PromptContext("instruct", CHATML, user_bio="Ann climbs.")
    assert "climbs" not in built(history("Hi"), stage).text


def test_chat_instruct() -> None:
    stage = PromptContext(
        "chat-instruct", CHATML, name1="Ann", name2="Bo", context="Shy.", command="As <|character|>:\n<|prompt|>!"
    )
    prompt = built(history("Hi"), stage)
    assert prompt.text == ("<|im_start|>user\nAs Bo:\nShy.\n\nAnn: Hi!<|im_end|>\n<|im_start|>assistant\nBo:")
    assert built(history("Hi"), stage, begun="Oh").text.endswith("<|im_start|>assistant\nBo: Oh")
    usual = built(history("Hi"), PromptContext("chat-instruct", CHATML, name2="Bo")).text
    assert 'Write a single reply for the character "Bo"' in usual


@pytest.mark.parametrize("name", TEMPLATES.names())
@pytest.mark.parametrize("mode", ["instruct", "chat", "chat-instruct"])
def test_what_is_begun_stands_at_the_very_end(name: str, mode: str) -> None:
    stage = PromptContext(mode, TEMPLATES.load(name), bos_token="<s>", eos_token="</s>")  # type: ignore[arg-type]
    fresh = built(history("Hi", "Hello", "Bye"), stage).text
    going_on = built(history("Hi", "Hello", "Bye"), stage, begun="I was say").text
    assert going_on.endswith("I was say")
    assert going_on.startswith(fresh)
    assert not fresh.endswith(" ")


def test_empty_messages_are_left_out() -> None:
    assert built(history("Hi", "", "Bye"), PromptContext("chat", CHATML)).text == "You: Hi\nYou: Bye\nAI:"


def test_a_template_that_refuses_is_given_what_it_takes() -> None:
    stage = PromptContext("instruct", STRICT, system="S")
    assert built(history("a", "b", "c"), stage).text == "[user]S\n\na[assistant]b[user]c[assistant]"
    assert built(history("a", "", "c"), stage).text == "[user]S\n\na\n\nc[assistant]"
    assert built(history("b", "c", first="assistant"), stage).text == "[user]S[assistant]b[user]c[assistant]"


def test_a_template_that_is_wrong_is_a_sentence() -> None:
    with pytest.raises(TemplateFailed, match="line 2"):
        built(history("a"), PromptContext("instruct", "x\n{% nothing %}"))


# --- stop strings ---


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("ChatML", ("<|im_end|>", "<|im_start|>")),
        ("Alpaca", ("\n### Instruction:",)),
        ("Llama-v2", ("[INST]",)),
        ("Llama-v3", ("<|eot_id|>", "<|start_header_id|>")),
        ("Mistral", ("[INST]",)),
        ("Vicuna-v1.1", ("USER:",)),
    ],
)
def test_a_reply_stops_at_the_templates_separators(name: str, stops: tuple[str, ...]) -> None:
    stage = PromptContext("instruct", TEMPLATES.load(name), bos_token="<s>", eos_token="</s>")
    found = built(history("a"), stage).stop
    assert set(stops) <= set(found)
    assert not {"<s>", "</s>", ""} & set(found)


def test_a_reply_stops_at_the_speakers_names() -> None:
    stage = PromptContext("chat", CHATML, name1="Ann", name2="Bo")
    assert built(history("a"), stage).stop == ("\nAnn:", "\nBo:")
    both = built(history("a"), PromptContext("chat-instruct", CHATML, name1="Ann", name2="Bo")).stop
    assert set(both) == {"\nAnn:", "\nBo:", "<|im_end|>", "<|im_start|>"}
    assert built(history("a"), PromptContext("chat", CHATML, name1=" ", name2="Bo")).stop[0] == "\nBo:"


@pytest.mark.parametrize(
    ("between", "found"),
    [
        ("<|end|>\n<|assistant|>\n", ["<|end|>", "<|assistant|>"]),
        ("<end_of_turn>\n<start_of_turn>model\n", ["<end_of_turn>", "<start_of_turn>"]),
        ("\n\n### Human: ", ["\n### Human:"]),
        ("\n[|Human|]", ["[|Human|]"]),
        ("\n[Round 2]\n\u95ee\uff1a", ["\n[Round "]),
        ("\n\nTurn 2:\n", ["\nTurn "]),
        ("\n\u95ee\uff1a", ["\n\u95ee\uff1a"]),
        (" in 1999 ", []),
        (" a: ", []),
        ("\n\n", []),
        ("", []),
        (" < b > ", []),
    ],
)
def test_separators(between: str, found: list[str]) -> None:
    assert find_separators(between) == found


# --- what fits ---


def test_the_oldest_whole_messages_go_first_and_it_is_said() -> None:
    stage = PromptContext("chat", CHATML, context="Context.")
    messages = history(*(f"message {number}" for number in range(101)))
    whole = built(messages, stage)
    assert (whole.dropped, whole.notes) == (0, ())
    cut = built(messages, stage, room=200)
    assert cut.text.startswith("Context.\n\n")
    assert cut.text.endswith("message 99\nYou: message 100\nAI:")
    assert cut.tokens + len("AI: message 9\n") > 190
    assert cut.tokens <= 200
    assert cut.text.count("message") == 101 - cut.dropped
    assert f"{cut.dropped} older messages were left out" in cut.notes[0]


def test_context_and_the_last_message_are_never_cut() -> None:
    stage = PromptContext("chat", CHATML, context="c" * 100)
    with pytest.raises(PromptTooLong, match="fit"):
        built(history("a", "b", "c"), stage, room=100)
    with pytest.raises(PromptTooLong):
        built(history("a", "b", "c" * 200), PromptContext("instruct", CHATML), room=150)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab \n", max_size=12), max_size=15),
    st.integers(20, 250),
    st.sampled_from(["instruct", "chat", "chat-instruct"]),
    st.sampled_from(TEMPLATES.names()),
)
def test_what_comes_out_fits_and_is_the_most_that_does(texts: list[str], room: int, mode: str, name: str) -> None:
    stage = PromptContext(mode, TEMPLATES.load(name), eos_token="</s>")  # type: ignore[arg-type]
    messages = [message for message in history(*texts) if message.text.strip()]
    try:
        prompt = built(messages, stage, room=room)
    except PromptTooLong:
        assert built(messages[-1:], stage).tokens > room
        return
    assert prompt.tokens <= room
    assert prompt.text == built(messages[prompt.dropped :], stage).text
    if prompt.dropped:  # consecutive messages of one side make the estimate differ by at most a turn's end
        assert built(messages[prompt.dropped - 1 :], stage).tokens > room - 40


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=30, max_size=60),
    room=st.integers(400, 900),
    keep=st.sampled_from([0.25, 0.5, 0.75, 0.9]),
    letter=st.sampled_from(["x", "ж", "中"]),
)
def test_history_is_cut_in_steps(lengths: list[int], room: int, keep: float, letter: str) -> None:
    """Turn by turn: every prompt fits, not much less than the kept part is used, and the beginning changes rarely."""
    stage = PromptContext("chat", CHATML, context="Bo is shy.")
    texts = [letter * length for length in lengths]
    starts, used = [], []
    for turn in range(1, len(texts), 2):
        prompt = built(history(*texts[:turn]), stage, room, keep=keep)
        assert prompt.tokens <= room
        starts.append(prompt.dropped)
        if prompt.dropped:
            used.append(prompt.tokens)
            assert f"{round(100 * keep)} %" in prompt.notes[0]
    assert starts == sorted(starts)
    longest = max(map(len, (text.encode() for text in texts))) + 20
    assert all(tokens >= keep * room - 3 * longest for tokens in used)
    cuts = sum(a != b for a, b in itertools.pairwise(starts))
    assert cuts <= 2 + sum(len(text.encode()) + 20 for text in texts) / ((1 - keep) * room)


def test_one_by_one_if_all_of_the_room_is_to_be_used() -> None:
    messages = history(*("x" * 50 for _ in range(41)))
    stage = PromptContext("chat", CHATML)
    starts = [built(messages[:turn], stage, 600, keep=1.0).dropped for turn in range(21, 41, 2)]
    assert len(set(starts)) == len(starts)
    assert built(messages, stage, 600, keep=1.0).text == built(messages, stage, 600).text


def test_counting_is_linear_in_what_is_used() -> None:
    tokenizer = ByteTokenizer()
    messages = history(*("x" * 100 for _ in range(2001)))
    prompt = build_prompt(
        messages,
        PromptContext("instruct", CHATML),
        render=TEMPLATES.render,
        count=lambda text: len(tokenizer.encode(text)),
        room=20_000,
        keep=0.75,
    )
    assert prompt.dropped > 1000
    assert tokenizer.encoded < 4 * 20_000  # each message, and the prompt; a control token is one of many letters
