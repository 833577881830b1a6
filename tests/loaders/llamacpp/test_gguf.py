"""The header reader: correct for a real file, an error for any invalid one."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import ModelFileError
from loaders.llamacpp.gguf import read_header, split_parts
from loaders.llamacpp.placement.memory import estimate_memory


def test_the_demo_models_header(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    assert (header.architecture, header.n_layers, header.context_length) == ("llama", 30, 8192)
    assert header.quantization == "Q4_1"
    assert header.n_params == 134_515_008
    assert header.size == demo_model_path.stat().st_size
    assert header.chat_template
    assert "<|im_start|>" in header.chat_template


def broken(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a GGUF"),
        (b"PK\x03\x04 a zip", "not a GGUF"),
        (b"GGUF", "incomplete"),
        (b"GGUF" + struct.pack("<IQQ", 99, 1, 1), "version 99"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "implausible"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62) + bytes(64), "broken"),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        read_header(broken(tmp_path, data))


@pytest.mark.parametrize("share", [0.00001, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, demo_model_path: Path, share: float) -> None:
    size = int(demo_model_path.stat().st_size * share)
    with demo_model_path.open("rb") as file:
        path = broken(tmp_path, file.read(size))
    with pytest.raises(ModelFileError, match=r"incomplete|implausible"):
        read_header(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(4, 4000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_header_gives_a_header_or_a_sentence(
    tmp_path: Path, demo_model_path: Path, flips: list[tuple[int, int]]
) -> None:
    with demo_model_path.open("rb") as file:
        data = bytearray(file.read(3_000_000))
    for at, value in flips:
        data[at] = value
    path = broken(tmp_path, bytes(data))
    with pytest.raises(ModelFileError):
        read_header(path)  # it is also cut short, so it can never pass


def test_a_split_model_needs_all_its_parts(tmp_path: Path, demo_model_path: Path) -> None:
    first = tmp_path / "m-00001-of-00002.gguf"
    shutil.copy(demo_model_path, first)
    assert [part.name for part in split_parts(first)] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    with pytest.raises(ModelFileError, match=r"m-00002-of-00002\.gguf is missing"):
        read_header(first)


def test_the_estimate_grows_with_context_and_shrinks_with_the_cache_types(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    full = estimate_memory(header, 8192, "f16", "f16")
    # 30 layers * 3 heads * 64 * (keys + values) * 2 bytes * 8192 tokens
    assert full.cache == 30 * 3 * 64 * 2 * 2 * 8192
    assert estimate_memory(header, 4096, "f16", "f16").cache == full.cache // 2
    assert estimate_memory(header, 8192, "q4_0", "q4_0").cache < full.cache // 3
    assert estimate_memory(header, 8192, "f16", "q8_0").cache == full.cache // 2 + full.cache // 2 * 17 // 32


@pytest.mark.parametrize("name", ["m-00000-of-00000.gguf", "m-00002-of-00001.gguf", "m-00000-of-00002.gguf"])
def test_a_name_that_only_looks_like_a_part_is_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    assert split_parts(tmp_path / name) == (tmp_path / name,)
