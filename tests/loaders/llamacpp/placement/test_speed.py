"""The bytes that a token reads, and the resulting tokens per second, for real model shapes."""

from __future__ import annotations

import pytest

from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.placement import speed
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, Placement
from loaders.llamacpp.placement.speed import BytesPerToken
from tests.zoo import families

GB = 10**9


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GGUFHeader]:
    folder = tmp_path_factory.mktemp("families")
    return {
        name: read_header(families.write(family, folder / f"{name}.gguf")) for name, family in families.FAMILIES.items()
    }


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("Llama 3.1 8B", 4.5, 4.7),  # all but 0.3 GB of embeddings
        ("Gemma 3 12B", 7.2, 7.3),  # its embeddings are the output layer, too
        ("Qwen 3 30B-A3B", 1.5, 2.2),  # 3 of 30 billion weights work
        ("gpt-oss 20B", 1.9, 2.6),
        ("Mixtral 8x7B", 7.0, 8.5),  # 13 of 47 billion
    ],
)
def test_a_token_reads_the_weights_that_work(
    headers: dict[str, GGUFHeader], name: str, least: float, most: float
) -> None:
    found = speed.bytes_per_token(headers[name], Placement(), {}, 8192)
    assert least * GB < found.by_device[MEMORY] < most * GB


def test_what_lies_on_a_card_is_read_there(headers: dict[str, GGUFHeader]) -> None:
    header = headers["Qwen 3 30B-A3B"]
    whole = speed.bytes_per_token(header, Placement(), {}, 8192).by_device[MEMORY]

    def read(placement: Placement) -> tuple[int, int]:
        found = speed.bytes_per_token(
            header, placement, {MEMORY: DeviceMemory(1), "C0": DeviceMemory(1)}, 8192
        ).by_device
        return found[MEMORY], found["C0"]

    assert read(Placement(49, 0, ("C0",))) == (0, whole)
    experts_out, attention = read(Placement(49, 48, ("C0",)))
    assert experts_out + attention == pytest.approx(whole)
    assert 0.9 * GB < experts_out < 1.4 * GB  # 8 of 128 experts of 48 blocks
    half = read(Placement(25, 0, ("C0",)))
    assert 0.4 * whole < half[1] < 0.7 * whole


def test_the_cache_is_read_as_far_as_it_is_filled(headers: dict[str, GGUFHeader]) -> None:
    header = headers["Llama 3.1 8B"]
    sizes = {MEMORY: DeviceMemory(cache=0), "C0": DeviceMemory(1, cache=8000), "C1": DeviceMemory(1, cache=4000)}
    found = speed.bytes_per_token(header, Placement(33, 0, ("C0", "C1")), sizes, 8 * speed.DEPTH).by_device
    assert found["C0"] - found["C1"] == 500
    assert found[MEMORY] == 0


def test_seconds_and_words() -> None:
    read = BytesPerToken({MEMORY: 2 * GB, "C0": 4 * GB})
    called = {MEMORY: "main memory", "C0": "RTX 3060"}
    fast = {MEMORY: 20e9, "C0": 400e9}
    assert read.seconds(fast) == pytest.approx(0.11)
    assert read.seconds({MEMORY: 20e9}) == 0
    assert BytesPerToken({MEMORY: 0, "C0": 4 * GB}).seconds({"C0": 400e9}) == pytest.approx(0.01)
    first = speed.describe_speed(read, fast, None, called)
    assert first.startswith("at most about 9.1 tokens/s: each token reads 2.00 GB from main memory at 20 GB/s")
    assert "and 4.00 GB from RTX 3060 at 400 GB/s" in first
    later = speed.describe_speed(read, fast, 2.0, called)
    assert later.startswith("about 4.5 tokens/s: ")
    assert "corrected by the speed of earlier replies" in later
    assert speed.describe_speed(read, {}, 2.0, called) == ""


def test_the_machines_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_READ", 2**22)
    monkeypatch.setattr(speed, "_LEAST", 2**20)
    assert speed.measure_memory_bandwidth(2) > 0
