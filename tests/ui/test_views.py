"""The page's parts without a browser: formatting, lists, lines, controls, ports."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import gradio as gr
import pytest

from errors import InvalidInput
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation, Message
from modules.chat.store.store import ConversationInfo
from modules.config.server_flags import ServerFlags
from modules.ui import serve
from modules.ui.chat.view import (
    bubble_owners,
    chat_list_html,
    facts_line,
    make_bubble,
    message_bubbles,
    reply_details,
    view_chat,
)
from modules.ui.parameters import knob_controls
from modules.ui.parameters.tab import differing_html
from modules.ui.parts.formatting import format_day, format_gigabytes, format_thousands, short_name
from modules.ui.parts.list_picker import PickerEntry, picker_entries

KNOBS = SamplingParams.knobs()


def test_sizes_and_counts() -> None:
    assert format_gigabytes(98_362_432) == "0.1 GB"
    assert format_gigabytes(40_000_000_000) == "40 GB"
    assert [format_thousands(n) for n in (512, 8192, 4096, 200_000)] == ["512", "8k", "4k", "200k"]
    assert short_name("a.b.GGUF") == "a.b"


@pytest.mark.parametrize(
    ("moment", "heading"),
    [
        (datetime(2026, 3, 10, 23), "Today"),
        (datetime(2026, 3, 9, 1), "Yesterday"),
        (datetime(2026, 3, 5), "Thursday"),
        (datetime(2026, 2, 1), "1 February"),
        (datetime(2025, 2, 1), "1 February 2025"),
    ],
)
def test_days(moment: datetime, heading: str) -> None:
    assert format_day(moment, date(2026, 3, 10)) == heading


def test_a_list_escapes_what_it_shows() -> None:
    html = picker_entries("Chats", [PickerEntry("<k'\">", "<script>", detail="<b>", group="<i>", badge="<u>")], "")
    assert "<script>" not in html
    assert all(tag not in html for tag in ("<b>", "<i>", "<u>", "<k"))


def test_a_dot_marks_what_is_warm() -> None:
    cold = ConversationInfo("instruct/1", "Pears", 0.0, 2)
    warm = replace(cold, id="instruct/2", title="Plums", warm=True)
    html = chat_list_html([cold, warm], "")
    assert html.count("class='mark'") == 1
    assert html.index("Pears") < html.index("Plums") < html.index("without reading this chat again")


def test_the_line_under_a_reply() -> None:
    meta = {"new_tokens": 113, "decode_seconds": 2.0, "prompt_tokens": 2040, "reused_tokens": 1812, "finish": "stop"}
    assert "113 tokens · 56 per second · 1,812 of 2,040 prompt tokens reused<" in facts_line(meta)
    assert "stopped" in facts_line({**meta, "finish": "cancelled"})
    assert "Seed 7" in reply_details({"seed": 7})
    assert facts_line({}) == ""


@pytest.mark.parametrize("broken", [{"new_tokens": "x", "notes": 3, "asked": []}, {"decode_seconds": None}])
def test_the_line_survives_what_others_wrote_into_the_file(broken: dict[str, object]) -> None:
    assert isinstance(facts_line(broken), str)


def test_the_last_exchange_stands_apart() -> None:
    conversation = Conversation("instruct/1")
    assert view_chat(conversation).tail == []
    one = conversation.add("user", "one")
    two = conversation.add("assistant", "two", one.id)
    three = conversation.add("user", "three", two.id)
    shown = view_chat(conversation)
    assert [len(shown.history), len(shown.tail)] == [2, 1]
    assert not shown.can_continue
    conversation.add("assistant", "four", three.id)
    shown = view_chat(conversation)
    assert [len(shown.history), len(shown.tail)] == [2, 2]
    assert shown.can_continue


def test_a_greeting_can_neither_be_removed_nor_continued() -> None:
    conversation = Conversation("chat/A/1")
    conversation.add("assistant", "Hello", greeting=True)
    shown = view_chat(conversation)
    assert [shown.can_remove, shown.can_continue, shown.can_regenerate] == [False] * 3


def test_every_knob_has_a_control_and_comes_back() -> None:
    params = SamplingParams(temperature=0.5, seed=3, custom_stopping_strings='"x"', do_sample=False)
    values = [knob_controls.control_value(knob, getattr(params, name)) for name, knob in KNOBS.items()]
    for knob, value in zip(KNOBS.values(), values, strict=True):
        assert knob_controls.make_control(knob, value).elem_id == f"knob-{knob.name}"
    assert knob_controls.params_from_controls(values) == params


def test_an_emptied_number_is_its_default() -> None:
    assert knob_controls.params_from_controls([None] * len(KNOBS)) == SamplingParams()


def test_a_slider_widens_for_a_value_beyond_it() -> None:
    assert knob_controls.slider_limits(KNOBS["top_k"], 500) == (0, 500)
    assert knob_controls.slider_limits(KNOBS["top_k"], 20) == (0, 200)


def test_a_greyed_knob_carries_the_reason() -> None:
    knobs, reasons = [KNOBS["tfs"], KNOBS["top_k"]], {"tfs": "The engine has no such sampler."}
    grey, kept = knob_controls.grey_out(knobs, reasons, [])
    assert grey["interactive"] is False
    assert "no such sampler" in grey["info"]
    assert kept == gr.skip()
    again, kept = knob_controls.grey_out(knobs, {}, ["tfs"])
    assert again["interactive"] is True
    assert "no such sampler" not in again["info"]
    assert kept == gr.skip()


def test_a_page_that_has_come_up_is_sent_what_differs() -> None:
    made, values = SamplingParams().model_dump(), SamplingParams(top_k=500).model_dump()
    sent = dict(
        zip(KNOBS, knob_controls.control_updates(KNOBS.values(), values, {"tfs": "No."}, shown=made), strict=True)
    )
    told = {name: update for name, update in sent.items() if update != gr.update()}
    assert set(told) == {"top_k", "tfs"}
    assert (told["top_k"]["value"], told["top_k"]["maximum"]) == (500, 500)
    assert told["tfs"]["interactive"] is False


def test_what_differs_is_listed_and_marked() -> None:
    html = differing_html(SamplingParams(top_k=20))
    assert "top_k 20" in html
    assert "#knob-top_k" in html
    assert "neutral" in differing_html(SamplingParams())


def test_accounts() -> None:
    assert serve.read_accounts(ServerFlags()) is None
    assert serve.read_accounts(ServerFlags(gradio_auth="a:b, c:d:e")) == [("a", "b"), ("c", "d:e")]
    with pytest.raises(InvalidInput, match="user:password"):
        serve.read_accounts(ServerFlags(gradio_auth="nobody"))


def test_a_thought_is_a_bubble_of_its_own() -> None:
    (thinking,) = message_bubbles("assistant", "<think>hm, ")
    assert (thinking["metadata"]["status"], thinking["content"][0]["text"]) == ("pending", "hm,")
    thought, answer = message_bubbles("assistant", "<think>\nhm\n</think>\n\nParis.")
    assert (thought["metadata"]["title"], answer["content"][0]["text"]) == ("Thought", "Paris.")
    assert [each["content"][0]["text"] for each in message_bubbles("assistant", "<think>\n\n</think>\n\nParis.")] == [
        "Paris."
    ]
    assert message_bubbles("user", "<think>x</think>y") == [make_bubble("user", "<think>x</think>y")]
    assert message_bubbles("assistant", "Say <think>") == [make_bubble("assistant", "Say <think>")]
    path = [Message("1", None, "user", "q", 0), Message("2", "1", "assistant", "<think>a</think>b", 0)]
    assert [each.id for each in bubble_owners(path)] == ["1", "2", "2"]
