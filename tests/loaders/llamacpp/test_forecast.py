"""The forecast compared with llama.cpp's own breakdown, and the split over a GPU by arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput, NotEnoughMemory
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.loader import LlamaCpp, engine_limits
from loaders.llamacpp.options import GGUFOptions, LlamaCppOptions
from loaders.llamacpp.placement import dry_run, memory, planning
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, Placement, gpu_titles
from loaders.llamacpp.placement.planning import PlannedPlacement
from tests.zoo import ggufs


@pytest.mark.parametrize(
    "values", [{"n_ctx": 512}, {"n_ctx": 4096, "cache_type": "q8_0"}, {"n_ctx": 1024, "parallel": 2}]
)
def test_it_is_what_llama_cpp_takes(demo_model_path: Path, values: dict[str, Any]) -> None:
    options = LlamaCpp.Options.parse(values)
    forecast = LlamaCpp.forecast(demo_model_path, options)
    assert forecast
    with LlamaCpp.load(demo_model_path, options, lambda *_: True) as model:
        assert abs(forecast.total - model.memory) < 0.03 * model.memory
        assert any(note.startswith("memory used") for note in model.notes)
    assert forecast.fits
    assert forecast.sentence.startswith("It fits: ")


def test_by_the_header_alone_the_output_layer_goes_first(demo_model_path: Path) -> None:
    """llama.cpp's own figures for 10 of 31 layers: 47.7 MiB of weights and 6.8 of cache on the GPU."""
    header = read_header(demo_model_path)
    found = memory.estimate_memory(header, 1024, "f16", "f16")
    embeddings = next(tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")

    def split(layers: int) -> tuple[DeviceMemory, DeviceMemory]:
        sizes = memory.estimate_placement(header, found, Placement(layers, cards=("CUDA0",)))
        return sizes[MEMORY], sizes["CUDA0"]

    kept, moved = split(10)
    assert round(moved.weights / 2**20, 1) == 47.7
    assert moved.cache == found.cache * 9 // 30
    assert kept.cache + moved.cache == found.cache
    assert kept.weights + moved.weights == found.weights + embeddings  # it is the output layer, too, and copied
    assert split(1)[1].weights >= embeddings
    assert split(31)[0].weights == embeddings
    assert split(0)[1].total == 0


def test_what_goes_to_the_card_is_not_asked_of_main_memory(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    found = memory.estimate_memory(header, 2048, "f16", "f16")
    everything = Placement(31, cards=("CUDA0",))
    kept = memory.estimate_placement(header, found, everything)[MEMORY]
    memory.refuse_if_too_big(header, found, kept.total, 2048, None, everything)
    with pytest.raises(NotEnoughMemory):
        memory.refuse_if_too_big(header, found, kept.total, 2048, None, Placement())
    memory.refuse_if_too_big(header, found, 10, 2048, {MEMORY: DeviceMemory(weights=10)}, everything)
    with pytest.raises(NotEnoughMemory):
        memory.refuse_if_too_big(header, found, 9, 2048, {MEMORY: DeviceMemory(weights=10)}, everything)


def place(*cards: Gpu, total: int = 100) -> PlannedPlacement:
    names = tuple(card.name for card in cards)
    sizes = {MEMORY: DeviceMemory(50), **{name: DeviceMemory(total) for name in names}}
    return PlannedPlacement(Placement(1, cards=names), "", cards, dict.fromkeys(names, 10), sizes)


def shown(header: GGUFHeader, where: PlannedPlacement, available: int = 1000) -> Forecast:
    found = memory.estimate_memory(header, 1024, "f16", "f16")
    return memory.forecast_devices(header, found, where, "so", available, GGUFOptions())


def test_each_card_must_hold_its_own(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    one, two = Gpu("A0", 1000, 1000, "A card"), Gpu("A1", 105, 1000, "Another")
    assert shown(header, place(one)).fits
    tight = shown(header, place(one, two))
    assert not tight.fits  # 100 and a margin of 10 in 105, though both together have plenty
    assert "Too big for Another" in tight.sentence
    assert tight.total == 250


def test_an_integrated_cards_memory_is_the_machines(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    card = Gpu("I0", 900, 1000, "Integrated", integrated=True)
    memory_of, on_card = shown(header, place(card), 1000).devices
    assert (memory_of.free, on_card.free) == (900, 900)  # 1000 minus what goes to the GPU; what the driver allows
    assert shown(header, place(card, total=890)).fits
    assert not shown(header, place(card, total=890), 930).fits  # 890 and 50 are more than 930


def test_pages_of_the_file_that_are_not_read_again_need_no_room(demo_model_path: Path) -> None:
    """What is rearranged for the CPU is a copy: the system can free the pages it was created from."""
    header = read_header(demo_model_path)
    where = PlannedPlacement(Placement(), "", sizes={MEMORY: DeviceMemory(100, rearranged=60)})
    found = memory.estimate_memory(header, 1024, "f16", "f16")

    def made(**values: Any) -> Forecast:
        return memory.forecast_devices(header, found, where, "so", 120, GGUFOptions.parse(values))

    assert made().total == 160
    assert made().fits
    assert not made(mlock=True).fits
    assert made(no_mmap=True).total == 100


@pytest.mark.parametrize(
    ("values", "cards", "says"),
    [
        ({"cpu_moe": True}, 1, "cpu_moe has no effect because the model has no experts"),
        ({"n_cpu_moe": 400}, 1, "n_cpu_moe has no effect because the model has no experts"),
        ({"main_gpu": 5}, 1, "main_gpu has no effect without split_mode none"),
        ({"tensor_split": "1,2", "split_mode": "none"}, 2, "tensor_split has no effect with split_mode none"),
        ({"split_mode": "row"}, 1, "split_mode row has no effect with one GPU"),
        ({"n_gpu_layers": 3, "n_cpu_moe": 0, "fit_target": "99"}, 1, "fit_target has no effect"),
        ({"cpu": True, "devices": "CUDA9"}, 0, "the option cpu is on, so devices has no effect"),
        ({"n_gpu_layers": 0, "main_gpu": 3, "fit_target": "1"}, 1, "so main_gpu and fit_target have no effect"),
        ({"tensor_split": "1,2,3"}, 0, "llama.cpp finds no GPU, so tensor_split has no effect"),
        ({"n_ubatch": 4096}, 1, "n_ubatch is limited to n_batch (512)"),
        ({"n_batch": 32}, 1, ""),
        ({"devices": "none"}, 1, ""),
    ],
    ids=str,
)
def test_an_option_that_changes_nothing_is_named(
    demo_model_path: Path, values: dict[str, Any], cards: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "run_dry", lambda *_: None)  # by the header, which takes no time
    options = LlamaCppOptions.parse({"n_ctx": 512, **values})
    limits = engine_limits(options)
    plan = planning.plan_load(read_header(demo_model_path), options, limits, 1)
    there = [Gpu(f"X{number}", 10**10, 10**10, rows=True) for number in range(cards)]
    told = "; ".join([*plan.notes, planning.place_model(plan, there).reason])
    assert says in told
    assert ("effect" in told or "limited to" in told) == bool(says)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cache_type": "q8_0"}, "cannot be q8_0.*heads have 16. Set cache_type_k to f16\\."),
        ({"cache_type_k": "iq4_nl"}, "Set cache_type_k to f16, or flash_attn to off"),
        ({"cache_type_v": "q4_0"}, "Set cache_type_v to f16\\."),
    ],
    ids=str,
)
def test_a_type_of_which_heads_are_no_whole_blocks_is_refused_before_the_load(
    tmp_path: Path, values: dict[str, Any], says: str
) -> None:
    options = LlamaCppOptions.parse({"n_ctx": 512, "flash_attn": "on", **values})
    with pytest.raises(InvalidInput, match=says):
        planning.plan_load(read_header(ggufs.make("qwen3moe", tmp_path)), options, engine_limits(options), 1)


@pytest.mark.parametrize(
    ("descriptions", "called"),
    [
        (("", ""), ("X0", "X1")),
        (("RTX 3060", "RTX 3090"), ("RTX 3060", "RTX 3090")),
        (("RTX 3060", "RTX 3060"), ("RTX 3060 (X0)", "RTX 3060 (X1)")),
    ],
)
def test_cards_have_the_names_that_people_know(descriptions: tuple[str, ...], called: tuple[str, ...]) -> None:
    cards = [Gpu(f"X{i}", 1, 1, text) for i, text in enumerate(descriptions)]
    assert tuple(gpu_titles(cards).values()) == called


def test_a_file_that_llama_cpp_cannot_plan_is_no_answer(tmp_path: Path) -> None:
    assert dry_run.run_dry(dry_run.DryRunRequest((str(tmp_path / "none.gguf"),), ())) is None


@pytest.mark.parametrize(
    "values",
    [
        {"n_ctx": 2**31}, {"n_ctx": 2**62}, {"n_ctx": 10**30}, {"n_ctx": 10**400}, {"n_ctx": 2**31 - 1},
        {"n_ctx": 2**26, "parallel": 64, "separate_contexts": True},
    ],
)  # fmt: skip
def test_a_context_beyond_what_llama_cpp_counts_is_refused(demo_model_path: Path, values: dict[str, Any]) -> None:
    """For 2**62 tokens, it would silently use the model's own number."""
    with pytest.raises(InvalidInput, match="n_ctx"):
        LlamaCpp.forecast(demo_model_path, LlamaCpp.Options.parse(values))


def test_a_context_too_large_is_told_as_the_context(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    found = memory.estimate_memory(header, 50_000_000, "f16", "f16")
    for placement in (Placement(), Placement(10, cards=("CUDA0",))):
        with pytest.raises(NotEnoughMemory, match="context of 50,000,000 tokens takes"):
            memory.refuse_if_too_big(header, found, 10**10, 50_000_000, None, placement)


def test_numbers_in_place_of_texts_are_taken(demo_model_path: Path) -> None:
    """YAML parses fit_target: 1024 as a number."""
    assert LlamaCpp.Options.parse({"fit_target": 1024}).parse_fit_target() == (2**30,)
    assert LlamaCpp.Options.parse({"tensor_split": 2.5}).parse_tensor_split() == (1.0,)
