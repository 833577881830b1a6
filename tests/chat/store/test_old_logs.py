"""Chats of the original's versions of 2023, which are directly in logs/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modules.chat.store.old_logs import move_old_chats
from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths

_CHAT = '{"data": [["Hi", "Hello"]], "data_visible": [["Hi", "Hello"]]}'


@pytest.mark.parametrize(
    ("name", "character"),
    [
        ("Chiharu Yamada_persistent.json", "Chiharu Yamada"),
        ("persistent_Example.json", "Example"),
        ("persistent_a_persistent.json", "a_persistent"),
        ("Ёжик_persistent.json", "Ёжик"),
    ],
)
def test_old_chats_are_in_the_list_of_their_character(tmp_path: Path, name: str, character: str) -> None:
    paths = Paths.under(tmp_path)
    paths.ensure()
    for _ in range(2):  # the second one gets a name of its own
        path = paths.logs / name
        path.write_text(_CHAT, encoding="utf-8")
        os.utime(path, (1_690_000_000, 1_690_000_000))
        assert [name in line for line in move_old_chats(paths.logs)] == [True]
        assert not path.exists()
    assert move_old_chats(paths.logs) == []
    store = ConversationStore(paths)
    found = store.list(f"chat/{character}")
    assert [(info.messages, info.problem) for info in found] == [(2, None)] * 2
    assert [each.text for each in store.open(found[0].id).path()] == ["Hi", "Hello"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("persistent.json", _CHAT), ("_persistent.json", _CHAT), ("x_persistent.json", "[1, 2]"),
        ("x_persistent.json", "{"), ("persistent_..json", _CHAT), ("persistent_.hidden.json", _CHAT),
        ("train_dataset_sample.json", "[]"),
        ("x_persistent.txt", _CHAT),
    ],
)  # fmt: skip
def test_what_is_no_chat_of_a_character_stays(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert move_old_chats(tmp_path) == []
    assert [each.name for each in tmp_path.iterdir()] == [name]
