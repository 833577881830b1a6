"""What lies beside a model is told from models by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import ModelFileError
from loaders.llamacpp.companions import is_companion, models_in
from loaders.llamacpp.loading import gguf_file

COMPANIONS = """
imatrix.dat imatrix.gguf Imatrix.GGUF imatrix_unsloth.dat imatrix_unsloth.gguf imatrix_unsloth.gguf_file x.imatrix
google_gemma-3-27b-it-imatrix.gguf X.imatrix.gguf X.imatrix.dat x-f16.imatrix x-BF16-imatrix.gguf x-Q8_0.imatrix.gguf
imatrix-x-f16.dat imatrix.dat.at_100 folder/x-imatrix.gguf
mmproj.gguf mmproj-F16.gguf mmproj-model-f16.gguf MMPROJ-x.gguf x.mmproj-Q8_0.gguf x-mmproj-f16.gguf x_mmproj.gguf
x.mmproj.gguf mmproj-a.Q8_0.gguf folder/mmproj-BF16.gguf
"""
MODELS = """
x.gguf x-Q4_K_M.gguf x-imatrix-Q4_K_M.gguf x.imatrix.Q4_K_M.gguf x-Q4_K_M-imatrix.gguf x-IQ2_XS-imatrix.gguf
imatrix-x-Q4_K_M.gguf x-Q4_K_M-imat.gguf x.i1-Q4_K_M.gguf imatrixed-x.gguf lammproject.gguf x-imatrix/y.gguf
mmproj/y.gguf x-00001-of-00002.gguf README.md mmproj.md imatrix.txt imatrix model.safetensors
"""


@pytest.mark.parametrize("name", COMPANIONS.split())
def test_what_belongs_to_a_model_is_none(name: str) -> None:
    assert is_companion(name)


@pytest.mark.parametrize("name", MODELS.split())
def test_a_model_or_another_file_is_no_companion(name: str) -> None:
    assert not is_companion(name)


def test_of_a_folder_the_model_is_taken(tmp_path: Path) -> None:
    for name in ("a-imatrix.gguf", "a-mmproj.gguf", "imatrix.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelFileError, match="no GGUF"):
        gguf_file(tmp_path)
    for name in ("m-Q4_0.gguf", "m-Q8_0.gguf"):
        (tmp_path / name).touch()
    assert [each.name for each in models_in(tmp_path)] == ["m-Q4_0.gguf", "m-Q8_0.gguf"]
    assert gguf_file(tmp_path).name == "m-Q4_0.gguf"
