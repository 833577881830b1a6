"""llama.cpp's Vulkan backend on any Vulkan device; Mesa's software driver is enough.

Runs where TEXTGEN_TEST_VULKAN names a folder with llama.cpp's libraries built with Vulkan, of the binding's commit.
What Vulkan itself needs (LD_LIBRARY_PATH, VK_DRIVER_FILES) is taken from the environment; docs/gpu.md tells more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "TEXTGEN_TEST_VULKAN"
ROOT = Path(__file__).parents[3]
FOLDER = os.environ.get(VARIABLE, "")

pytestmark = [
    pytest.mark.vulkan,
    pytest.mark.skipif(not FOLDER, reason=f"{VARIABLE} names no llama.cpp that was built with Vulkan"),
]

#: Bytes on the card by forecast and by llama.cpp's account; in a process of its own.
_LOOK = """
import json, sys
from pathlib import Path
from loaders.llamacpp.loader import LlamaCpp
file, values = Path(sys.argv[1]), json.loads(sys.argv[2])
options = LlamaCpp.Options.parse({"n_ctx": 512, "threads": 1, **values})
told = LlamaCpp.forecast(file, options)
from loaders.llamacpp.placement import devices
from loaders.llamacpp import native
native.initialize()
card = devices.list_gpus()[0].name
with LlamaCpp.load(file, options, lambda *_: True) as model:
    account = devices.memory_breakdown(model._context.pointer)
    held = account[card].total if card in account else 0
forecast = sum(each.total for each in told.devices[1:])
print(json.dumps({"forecast": forecast, "held": held}))
"""


def looked(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "LLAMA_CPP_LIB_PATH": FOLDER, "OMP_WAIT_POLICY": "PASSIVE"}
    environment.setdefault("GGML_VK_VISIBLE_DEVICES", "0")  # else devices that are processors are left out
    found = subprocess.run(
        [sys.executable, "-c", _LOOK, str(file), json.dumps(values)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    answer: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("values", [{"n_gpu_layers": 10}, {"n_gpu_layers": 31, "cache_type": "q8_0"}])
def test_the_forecast_is_what_is_taken(demo_model_path: Path, values: dict[str, Any]) -> None:
    found = looked(demo_model_path, values)
    assert found["held"] > 2**20
    assert abs(found["forecast"] - found["held"]) <= max(0.03 * found["held"], 4 * 2**20)


@pytest.mark.parametrize("values", [{"n_gpu_layers": 0}, {"cpu": True}])
def test_without_layers_nothing_is_taken(demo_model_path: Path, values: dict[str, Any]) -> None:
    found = looked(demo_model_path, values)
    assert (found["held"], found["forecast"]) == (0, 0)
