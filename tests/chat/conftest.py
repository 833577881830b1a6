"""A root folder with chats, and the services that edit them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.chat.edits import ConversationEdits
from tests.chat.test_service import House, house
from tests.fake_engine import FakeModel


@pytest.fixture
def home(tmp_path: Path) -> House:
    return house(tmp_path, FakeModel("Paris."))


@pytest.fixture
def edits(home: House) -> ConversationEdits:
    return ConversationEdits(home.chats, home.store)
