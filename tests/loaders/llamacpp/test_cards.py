"""Loading on GPUs, with llama.cpp's RPC servers on loopback as stand-ins (rpc_cards.py)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice
from tests.loaders.llamacpp import card_table, rpc_cards
from tests.loaders.llamacpp.rpc_cards import Cards, Told
from tests.zoo import ggufs

pytestmark = pytest.mark.skipif(
    not rpc_cards.has_rpc(), reason="this llama.cpp was built without RPC: the installer's own build has it"
)

MIB = 2**20
PROMPT = [100, 200, 300, 400, 500]
#: One attention kernel everywhere: the CPU's own choice rounds differently.
PLAIN = {"n_ctx": 1024, "threads": 1, "no_mmap": True, "flash_attn": "on"}


@pytest.fixture(scope="module")
def one() -> Iterator[Cards]:
    cards = Cards(1)
    yield cards
    cards.close()


@pytest.fixture(scope="module")
def two() -> Iterator[Cards]:
    cards = Cards(2)
    yield cards
    cards.close()


@pytest.fixture(scope="module")
def greedy(one: Cards, demo_model_path: Path) -> tuple[int, ...]:
    """The CPU's reply."""
    return one.call(rpc_cards.load, demo_model_path, {**PLAIN, "cpu": True}, PROMPT).reply


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ggufs.make("qwen3moe", tmp_path_factory.mktemp("experts"))


def agrees(told: Told) -> None:
    """The forecast is within 3 % or 4 MiB of what llama.cpp took, on each device."""
    taken: MemoryByDevice = {name: size for name, size in told.taken.items() if size.total}
    assert len(told.forecast.devices) == len(taken)
    on_cards = sorted(name for name in taken if name != MEMORY)
    for forecast, name in zip(told.forecast.devices, (MEMORY, *on_cards), strict=True):
        size = taken.get(name, DeviceMemory())
        for part in ("weights", "cache", "buffers"):
            wrong = abs(getattr(forecast, part) - getattr(size, part))
            assert wrong <= max(0.03 * size.total, 4 * MIB), (part, forecast, size)
        assert abs(forecast.weights - size.weights) < MIB
        assert abs(forecast.cache - size.cache) < MIB
    for number, reported in enumerate(told.reported):  # the GPU's own report
        assert reported < 0 or abs(reported - told.taken.get(f"RPC{number}", DeviceMemory()).total) < MIB


@pytest.mark.parametrize(
    ("options", "layers"),
    [({"n_gpu_layers": 10}, 10), ({"n_gpu_layers": 99, "no_offload_kqv": True}, 31), ({"cache_type_v": "q8_0"}, 31)]
    + [({"flash_attn": "auto"}, 31)],
    ids=str,
)
def test_layers_on_a_card(
    one: Cards, demo_model_path: Path, greedy: tuple[int, ...], options: Mapping[str, Any], layers: int
) -> None:
    told = one.call(rpc_cards.load, demo_model_path, {**PLAIN, **options}, PROMPT)
    agrees(told)
    assert told.taken["RPC0"].weights > 20 * MIB  # the output layer goes first
    assert bool(told.taken["RPC0"].cache) == ("no_offload_kqv" not in options and layers > 1)
    assert any(note.startswith(f"{layers} of 31 layers on 127.0.0.1:") for note in told.notes)
    assert any("including 0." in note and "GB on 127.0.0.1:" in note for note in told.notes)
    if not {"cache_type_v", "flash_attn"} & set(options):
        assert told.reply == greedy


def test_without_layers_no_card_is_touched(one: Cards, demo_model_path: Path, greedy: tuple[int, ...]) -> None:
    told = one.call(rpc_cards.load, demo_model_path, {**PLAIN, "n_gpu_layers": 0}, PROMPT)
    assert {name for name, size in told.taken.items() if size.total} == {MEMORY}
    agrees(told)
    assert told.reply == greedy


@pytest.mark.parametrize(
    ("options", "shares"),
    [({}, (1, 1)), ({"tensor_split": "1,3"}, (1, 3)), ({"split_mode": "none", "main_gpu": 1}, (0, 1))],
    ids=str,
)
def test_two_cards(
    two: Cards, demo_model_path: Path, greedy: tuple[int, ...], options: Mapping[str, Any], shares: tuple[int, int]
) -> None:
    told = two.call(rpc_cards.load, demo_model_path, {**PLAIN, **options}, PROMPT)
    agrees(told)
    held = [told.taken.get(f"RPC{number}", DeviceMemory()).cache for number in (0, 1)]
    assert held[0] + held[1] == sum(size.cache for name, size in told.taken.items() if name != MEMORY)
    expected = shares[0] / sum(shares)
    assert abs(held[0] / sum(held) - expected) < 0.06
    assert told.reply == greedy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tensor_split": "1,2,3"}, "tensor_split has 3 shares for 2 GPUs"),
        ({"tensor_split": "0,0"}, "tensor_split is 0 for all GPUs"),
        ({"tensor_split": "1,-1"}, "must be a list of shares"),
        ({"main_gpu": 2, "split_mode": "none"}, "main_gpu is 2 (counted from 0)"),
        ({"split_mode": "row"}, "split_mode row is not supported on RPC0"),
        ({"devices": "CUDA0"}, "devices lists CUDA0"),
        ({"devices": "RPC1, RPC1"}, "devices lists RPC1 more than once"),
        ({"tensor_split": "0,inf"}, "must be a list of shares"),
        ({"n_ubatch": 0}, "n_ubatch should be greater than or equal to 1"),
        ({"n_cpu_moe": 5000}, "n_cpu_moe should be less than or equal to 512"),
        ({"fit_target": "lots"}, "fit_target must be a list of numbers"),
        ({"cache_type": "q8_0", "flash_attn": "off"}, "requires flash attention"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_before_the_load(
    two: Cards, demo_model_path: Path, options: Mapping[str, Any], says: str
) -> None:
    kind, sentence = two.call(rpc_cards.refusal, demo_model_path, {**PLAIN, **options})
    assert kind == "InvalidInput"
    assert says in sentence


def test_experts_stay_in_memory(one: Cards, experts: Path) -> None:
    def load(**options: Any) -> Told:
        told = one.call(rpc_cards.load, experts, {**PLAIN, "n_ctx": 256, **options}, PROMPT)
        agrees(told)
        return told

    whole, some, none = load(), load(n_cpu_moe=1), load(cpu_moe=True)
    on_card = [told.taken["RPC0"].weights for told in (whole, some, none)]
    assert on_card[0] > on_card[1] > on_card[2]
    assert [any("the experts of the first" in note for note in told.notes) for told in (whole, some, none)] == [0, 1, 1]
    assert whole.reply == some.reply == none.reply


def test_loads_leave_nothing_on_the_card(one: Cards, demo_model_path: Path) -> None:
    """Twenty loads: `python -m bench cards`."""

    def load() -> tuple[int, int]:
        own = one.call(rpc_cards.load_and_count, demo_model_path, {**PLAIN, "n_ctx": 256, "cache_capacity": "0"})
        return one.taken()[0], own

    load()
    before, after = load(), load()
    if before[0] < 0:
        pytest.skip("this C library does not count what is taken")
    assert abs(after[0] - before[0]) < MIB // 4  # a load takes 110 MiB
    assert abs(after[1] - before[1]) < MIB // 4


ON_A_ROW = [("dense", 2), ("windowed experts", 2), ("hybrid", 1)]


@pytest.mark.parametrize(("model", "cards"), ON_A_ROW)
def test_the_forecast_is_what_the_cards_report(
    one: Cards, two: Cards, model: str, cards: int, tmp_path: Path, demo_model_path: Path
) -> None:
    row = next(row for row in reversed(card_table.ROWS) if (row.model, row.cards) == (model, cards))
    path = card_table.made(model, tmp_path, demo_model_path)
    told = card_table.loaded(row, two if cards == 2 else one, path)
    for forecast, taken in card_table.compared(told):
        assert card_table.within(forecast, taken), row


def test_a_card_that_is_fuller_than_it_told_gets_less(one: Cards, demo_model_path: Path) -> None:
    sentence, tried, notes = one.call(rpc_cards.load_on_full_cards, demo_model_path, PLAIN, 12)
    assert not sentence
    assert tried[0] == 31
    assert tried == sorted(tried, reverse=True)
    assert 0 < tried[-1] <= 12
    assert any(note.startswith(f"{tried[-1]} of 31 layers on 127.0.0.1:") for note in notes)
    sentence, tried, notes = one.call(rpc_cards.load_on_full_cards, demo_model_path, PLAIN, 0)
    assert tried[-1] == 0
    assert any("the GPUs ran out of memory" in note for note in notes)
    sentence, tried, _ = one.call(rpc_cards.load_on_full_cards, demo_model_path, {**PLAIN, "n_gpu_layers": 20}, 12)
    assert tried == [20]
    assert sentence.startswith("NotEnoughMemory: ")
    assert "Lower n_gpu_layers or n_ctx" in sentence


def test_a_cards_speed_is_that_of_memory(one: Cards) -> None:
    assert 10**8 < one.call(rpc_cards.bandwidth) < 10**12


def test_the_list_is_the_same_in_every_process(two: Cards) -> None:
    assert [card.name for card in two.call(rpc_cards.cards)] == ["RPC0", "RPC1"]
    assert [card.name for card in two.call(rpc_cards.cards_of_a_child)] == ["RPC0", "RPC1"]


def test_what_a_load_took_and_how_fast_replies_were_is_learned(
    one: Cards, demo_model_path: Path, tmp_path: Path
) -> None:
    first, later = one.call(rpc_cards.learn, demo_model_path, {**PLAIN, "n_gpu_layers": 99}, tmp_path / "measured.json")
    assert "at most about" in first.sentence
    assert "no reply has been measured yet" in first.sentence
    assert "corrected by the speed of earlier replies" in later.sentence
    assert "about" in later.sentence
    assert first.devices[1].margin == 600_000_000
    assert abs(later.devices[1].margin - (50 + 128) * MIB) < MIB


def test_a_card_that_is_gone_before_the_load_is_a_sentence(demo_model_path: Path) -> None:
    """While a model is on it, llama.cpp would abort: docs/gpu.md."""
    cards = Cards(1)
    try:
        assert cards.call(rpc_cards.cards)
        cards.kill(0)
        kind, sentence = cards.call(rpc_cards.refusal, demo_model_path, {**PLAIN, "n_ctx": 256})
        assert kind == "Unavailable"
        assert re.match(r"The machine at 127\.0\.0\.1:\d+ \(rpc\) is not reachable: .*rpc_node", sentence)
        assert cards.call(rpc_cards.refusal, demo_model_path, {**PLAIN, "n_ctx": 256, "cpu": True}) == ("", "")
    finally:
        cards.close()


def _any_options(chance: random.Random) -> dict[str, Any]:
    """Random options that affect the placement and its memory."""
    ways: dict[str, tuple[Any, ...]] = {
        "n_gpu_layers": (-1, 0, 2, 99), "n_cpu_moe": (-1, 0, 1, 9), "cpu_moe": (False, True),
        "tensor_split": ("", "1,3", "0,1"), "devices": ("", "RPC1", "RPC1,RPC0", "none"),
        "split_mode": ("layer", "none"), "cache_type_k": ("f16", "q8_0", "q4_0"), "cache_type_v": ("f16", "q5_1"),
        "swa_full": (True, False), "no_offload_kqv": (False, True), "n_ubatch": (16, 512),
    }  # fmt: skip
    found = {name: chance.choice(values) for name, values in ways.items() if chance.random() < 0.5}
    if "," not in found.get("devices", ",") or found.get("split_mode") == "none":
        found.pop("tensor_split", None)
    return found


@pytest.mark.parametrize("architecture", ["qwen3moe", "gptoss", "jamba"])
def test_plan_note_and_load_agree_whatever_is_asked_for(two: Cards, tmp_path: Path, architecture: str) -> None:
    chance = random.Random(architecture)
    path = ggufs.make(architecture, tmp_path)
    for _ in range(3):
        options = _any_options(chance)
        wanted = {**PLAIN, "n_ctx": 512, **options}
        kind, sentence = two.call(rpc_cards.refusal, path, wanted)
        if kind:
            assert kind == "InvalidInput", (options, sentence)
            continue
        told = two.call(rpc_cards.load, path, wanted)
        agrees(told)
        on_cards = " and ".join(device.name for device in told.forecast.devices if device.name != MEMORY)
        assert bool(on_cards) == any(size.total for name, size in told.taken.items() if name != MEMORY), options
        (place,) = (note for note in told.notes if "layers on" in note or "finds no GPU" in note)
        assert place[1:] in told.forecast.sentence, options
        if on_cards:
            assert f"layers on {on_cards}" in place, options
