"""What a badge says of a size, by what is free where."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loaders import cards
from loaders.cards import CardMemory
from loaders.llamacpp.placement import Card
from modules.library import machine

GB = 10**9


@pytest.mark.parametrize(
    ("card", "size", "says"),
    [
        (None, 10 * GB, "fits in memory"),
        (None, 20 * GB, "too big"),
        (CardMemory(8 * GB), 5 * GB, "fits on the GPU"),
        (CardMemory(8 * GB), 20 * GB, "fits split"),
        (CardMemory(8 * GB), 30 * GB, "too big"),
        (CardMemory(12 * GB, shared=True), 10 * GB, "fits on the GPU"),
        (CardMemory(8 * GB, shared=True), 10 * GB, "fits split"),
        (CardMemory(12 * GB, shared=True), 20 * GB, "too big"),  # what the card takes, the machine has no more
        (CardMemory(100 * GB, shared=True), 20 * GB, "too big"),
    ],
)
def test_a_badge(monkeypatch: pytest.MonkeyPatch, card: CardMemory | None, size: int, says: str) -> None:
    monkeypatch.setattr(machine, "card_memory", lambda: card)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GB, total=32 * GB))
    assert machine.Machine().fits(size) == says


def test_it_is_asked_of_llama_cpp_which_plans_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "free_card_memory", lambda: 5)
    monkeypatch.setattr(cards, "_may_find_cards", lambda: True)
    for found, expected in (
        ((Card("Vulkan0", 10, 20), Card("Vulkan1", 20, 20)), CardMemory(30)),
        ((Card("Vulkan0", 10, 20, integrated=True),), CardMemory(10, shared=True)),
        ((), CardMemory(5)),
    ):
        monkeypatch.setattr(cards, "llama_cards", lambda found=found: found)
        assert cards.card_memory() == expected


def test_a_llama_cpp_for_the_processor_alone_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> tuple[Card, ...]:
        raise AssertionError

    monkeypatch.setattr(cards, "_may_find_cards", lambda: False)
    monkeypatch.setattr(cards, "llama_cards", ask)
    monkeypatch.setattr(cards, "free_card_memory", lambda: None)
    assert cards.card_memory() is None
