"""The original's rows and metadata: nothing of them is lost or moved by the first save."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.chat.conversation import Conversation
from modules.chat.formats.conversation_file import dump_conversation, parse_conversation
from modules.chat.formats.import_export import export_jsonl

MTIME = 1_700_000_000.0


def opened(text: str, **notes: Any) -> Conversation:
    rows = [["q", text]]
    return parse_conversation("instruct/x", json.dumps({"internal": rows, "visible": rows, "metadata": notes}), MTIME)


def saved(conversation: Conversation) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads(dump_conversation(conversation))["metadata"]
    return notes


def versions(*texts: str) -> list[dict[str, str]]:
    return [
        {"content": text, "visible_content": text, "timestamp": f"Jan 15, 2024 13:4{place}"}
        for place, text in enumerate(texts)
    ]


def test_times_and_models_of_the_original_stay() -> None:
    user, reply = {"timestamp": "Jan 15, 2024 13:40"}, {"timestamp": "Jan 15, 2024 13:41", "model_name": "llama"}
    conversation = opened("a", user_0=user, assistant_0=reply)
    assert conversation.path()[1].model == "llama"
    assert conversation.path()[0].created != MTIME
    assert saved(conversation) == {"user_0": user, "assistant_0": reply}


def test_a_time_in_other_words_stays() -> None:
    note = {"timestamp": "yesterday at noon"}
    conversation = opened("a", assistant_0=note)
    assert conversation.path()[1].created == MTIME
    assert saved(conversation)["assistant_0"] == note


@pytest.mark.parametrize("at", [0, 1, 2])
def test_versions_stay_in_their_order(at: int) -> None:
    note = {
        "timestamp": f"Jan 15, 2024 13:4{at}", "versions": versions("A", "B", "C"), "current_version_index": at,
    }  # fmt: skip
    conversation = opened("ABC"[at], assistant_0=note)
    reply = conversation.path()[1]
    assert (reply.text, conversation.versions(reply.id).index(reply.id)) == ("ABC"[at], at)
    assert saved(conversation)["assistant_0"] == note


def test_of_two_equal_versions_the_one_that_was_shown_is_shown() -> None:
    note = {"versions": versions("A", "B", "A"), "current_version_index": 2}
    conversation = opened("A", assistant_0=note)
    assert conversation.versions(conversation.path()[1].id).index(conversation.path()[1].id) == 2


@pytest.mark.parametrize("created", ["1e20", "-5", "NaN", "1e999", "1" + "0" * 400, "1700000000000"])
def test_a_time_that_no_calendar_has_is_the_files(created: str) -> None:
    node = f'{{"id": "1", "parent": null, "role": "user", "text": "q", "created": {created}}}'
    text = f'{{"internal": [["q", ""]], "tree": {{"chosen": {{"": "1"}}, "messages": [{node}]}}}}'
    conversation = parse_conversation("instruct/x", text, MTIME)
    assert conversation.path()[0].created == MTIME
    assert dump_conversation(conversation)
    assert export_jsonl(conversation, "Ann", "Bob")


@pytest.mark.parametrize(
    "visible", [None, 3, "text", {}, [], [None], [["q"]], [[None, 7]], [["q", "a"], ["extra"]], ["qa"], [[[], {}, 1]]]
)
def test_a_chat_whose_shown_texts_are_damaged_opens(visible: Any) -> None:
    """They can be made from its messages again."""
    text = json.dumps({"internal": [["q", "a < b"]], "visible": visible})
    conversation = parse_conversation("instruct/x", text, MTIME)
    assert [message.text for message in conversation.path()] == ["q", "a < b"]
