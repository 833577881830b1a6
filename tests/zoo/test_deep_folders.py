"""Models that lie in folders of the models folder load by the name in the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from loaders import LOADERS
from loaders.base import Request
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from tests.zoo import ggufs

FOLDERS = {"X-GGUF": "beside it", "X-GGUF/UD-Q4_K_XL": "a quantization's folder", "sub/deep/deeper": "any depth"}


@pytest.mark.parametrize("folder", FOLDERS, ids=FOLDERS.values())
@pytest.mark.parametrize("written", ["{}", "models/{}"])
def test_a_model_in_a_folder_loads_by_its_name_and_writes(tmp_path: Path, folder: str, written: str) -> None:
    """`hf download user/X-GGUF --include 'UD-Q4_K_XL/*' --local-dir models/X-GGUF` puts it two folders down."""
    paths = Paths.under(tmp_path)
    paths.ensure()
    place = paths.models / folder
    place.mkdir(parents=True)
    ggufs.make("llama", place)
    catalog = ModelCatalog(paths)
    models = ModelManager(paths, catalog, ModelSettings(paths), LOADERS, {"n_ctx": 256})
    (name,) = catalog.names()
    assert name == (f"{folder}/zoo-llama.gguf" if "/" in folder else folder)
    try:
        model = models.load(written.format(name))
        assert (model.name, models.state.phase) == (name, "loaded")
        params = SamplingParams(temperature=0.1, ban_eos_token=True)
        assert len(list(model.generate(Request(model.tokenizer.encode("Hello"), params, 4)))) == 4
    finally:
        models.close()
