"""The forecast against llama.cpp's own account, and the split over a card by arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from errors import NotEnoughMemory
from loaders.forecast import Forecast
from loaders.llamacpp import dry_run, memory
from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.loader import LlamaCpp
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import MEMORY, Card, Placement, Sizes, titles
from loaders.llamacpp.planning import Placed


@pytest.mark.parametrize(
    "values", [{"n_ctx": 512}, {"n_ctx": 4096, "cache_type": "q8_0"}, {"n_ctx": 1024, "parallel": 2}]
)
def test_it_is_what_llama_cpp_takes(demo_model_path: Path, values: dict[str, Any]) -> None:
    options = LlamaCpp.Options.parse(values)
    forecast = LlamaCpp.forecast(demo_model_path, options)
    assert forecast
    with LlamaCpp.load(demo_model_path, options, lambda *_: True) as model:
        assert abs(forecast.total - model.memory) < 0.03 * model.memory
        assert any(note.startswith("memory taken") for note in model.notes)
    assert forecast.fits
    assert forecast.sentence.startswith("It fits: ")


def test_by_the_header_alone_the_output_layer_goes_first(demo_model_path: Path) -> None:
    """llama.cpp's own figures for 10 of 31 layers, of a run: 47.7 MiB of weights and 6.8 of cache on the card."""
    header = read_header(demo_model_path)
    found = memory.estimate(header, 1024, "f16", "f16")
    embeddings = next(tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")

    def split(layers: int) -> tuple[Sizes, Sizes]:
        return memory.by_header(header, found, Placement(layers, cards=("CUDA0",)))

    kept, moved = split(10)
    assert round(moved.weights / 2**20, 1) == 47.7
    assert moved.cache == found.cache * 9 // 30
    assert kept.cache + moved.cache == found.cache
    assert kept.weights + moved.weights == found.weights + embeddings  # it is the output layer, too, and copied
    assert split(1)[1].weights >= embeddings
    assert split(31)[0].weights == embeddings
    assert split(0)[1].total == 0
    rooms = [memory.layers_that_fit(header, found, split(layers)[1].total) for layers in range(1, 32)]
    assert rooms == list(range(1, 32))


def test_what_goes_to_the_card_is_not_asked_of_main_memory(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    found = memory.estimate(header, 2048, "f16", "f16")
    everything = Placement(31, cards=("CUDA0",))
    kept, _ = memory.by_header(header, found, everything)
    memory.refuse_if_too_big(header, found, kept.total, 2048, None, everything)
    with pytest.raises(NotEnoughMemory):
        memory.refuse_if_too_big(header, found, kept.total, 2048, None, Placement())
    memory.refuse_if_too_big(header, found, 10, 2048, {MEMORY: Sizes(weights=10)}, everything)
    with pytest.raises(NotEnoughMemory):
        memory.refuse_if_too_big(header, found, 9, 2048, {MEMORY: Sizes(weights=10)}, everything)


def place(*cards: Card, total: int = 100) -> Placed:
    names = tuple(card.name for card in cards)
    sizes = {MEMORY: Sizes(50), **{name: Sizes(total) for name in names}}
    return Placed(Placement(1, cards=names), "", cards, dict.fromkeys(names, 10), sizes)


def shown(header: GGUFHeader, where: Placed, available: int = 1000) -> Forecast:
    found = memory.estimate(header, 1024, "f16", "f16")
    return memory.by_device(header, found, where, "so", available, GGUFOptions())


def test_each_card_must_hold_its_own(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    one, two = Card("A0", 1000, 1000, "A card"), Card("A1", 105, 1000, "Another")
    assert shown(header, place(one)).fits
    tight = shown(header, place(one, two))
    assert not tight.fits  # 100 and a margin of 10 in 105, though both together have plenty
    assert "Too big for Another" in tight.sentence
    assert tight.total == 250


def test_an_integrated_cards_memory_is_the_machines(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    card = Card("I0", 900, 1000, "Integrated", integrated=True)
    memory_of, on_card = shown(header, place(card), 1000).devices
    assert (memory_of.free, on_card.free) == (900, 900)  # 1000 less what goes to the card; what the driver allows
    assert shown(header, place(card, total=890)).fits
    assert not shown(header, place(card, total=890), 930).fits  # 890 and 50 are more than 930


def test_pages_of_the_file_that_are_not_read_again_need_no_room(demo_model_path: Path) -> None:
    """What is rearranged for the processor is a copy: the pages that it was made from are the system's to take back."""
    header = read_header(demo_model_path)
    where = Placed(Placement(), "", sizes={MEMORY: Sizes(100, rearranged=60)})
    found = memory.estimate(header, 1024, "f16", "f16")

    def made(**values: Any) -> Forecast:
        return memory.by_device(header, found, where, "so", 120, GGUFOptions.parse(values))

    assert made().total == 160
    assert made().fits
    assert not made(mlock=True).fits
    assert made(no_mmap=True).total == 100


@pytest.mark.parametrize(
    ("descriptions", "called"),
    [
        (("", ""), ("X0", "X1")),
        (("RTX 3060", "RTX 3090"), ("RTX 3060", "RTX 3090")),
        (("RTX 3060", "RTX 3060"), ("RTX 3060 (X0)", "RTX 3060 (X1)")),
    ],
)
def test_cards_have_the_names_that_people_know(descriptions: tuple[str, ...], called: tuple[str, ...]) -> None:
    cards = [Card(f"X{i}", 1, 1, text) for i, text in enumerate(descriptions)]
    assert tuple(titles(cards).values()) == called


def test_a_file_that_llama_cpp_cannot_plan_is_no_answer(tmp_path: Path) -> None:
    assert dry_run.asked(dry_run.Question((str(tmp_path / "none.gguf"),), ())) is None
