"""A loader on torch in a process of its own: the same tokens, the same words of refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errors import UserError
from loaders import loader_named
from loaders.base import Lora, Request
from loaders.params import SamplingParams
from loaders.process import load_model
from tests.conftest import keep_going


def test_transformers_in_a_process(tiny_folder: Path) -> None:
    loader = loader_named("Transformers")
    options = loader.Options.parse({"max_seq_len": 256, "cpu": True})
    with (
        loader.load(tiny_folder, options, keep_going) as here,
        load_model(loader, tiny_folder, options, keep_going) as there,
    ):
        ids = here.tokenizer.encode("Once upon a time")
        assert there.tokenizer.encode("Once upon a time") == ids
        for params in (
            SamplingParams(do_sample=False),
            SamplingParams(seed=5),
            SamplingParams(do_sample=False, num_beams=2),
        ):
            written = [
                [(each.id, each.data) for each in model.generate(Request(ids, params, 12))] for model in (here, there)
            ]
            assert written[0] == written[1]
        assert np.allclose(there.score(ids), here.score(ids), atol=1e-4)
        words = []
        for model in (here, there):
            with pytest.raises(UserError) as caught:
                model.set_loras([Lora(Path("missing"))])
            words.append(str(caught.value))
        assert words[0] == words[1]
