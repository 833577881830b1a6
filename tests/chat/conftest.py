"""A house with chats in it, and what edits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.chat.edits import Edits
from tests.chat.test_service import House, house
from tests.fake_engine import FakeModel


@pytest.fixture
def home(tmp_path: Path) -> House:
    return house(tmp_path, FakeModel("Paris."))


@pytest.fixture
def edits(home: House) -> Edits:
    return Edits(home.chats, home.store)
