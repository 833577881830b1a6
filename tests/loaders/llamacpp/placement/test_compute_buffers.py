"""The private struct from which buffers are read: if public functions disagree, or with another binding, there is no
result.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]

#: In a separate process, which a wrong access would crash. Values are written into the declared struct.
_SHIFTED = """
import ctypes, sys
from loaders.llamacpp import native
from loaders.llamacpp.placement import compute_buffers
from loaders.llamacpp.placement.placement import Placement
native.initialize()
weights = native.LlamaWeights(
    [sys.argv[1]], placement=Placement(), mmap=False, mlock=False, progress=lambda _: True, pretend=True
)
context = native.LlamaContext(weights, n_ctx=512, n_batch=512)
right = compute_buffers.compute_buffers(context.pointer)
known = list(compute_buffers._Scheduler._fields_)
layouts = []
for at in range(5):  # up to the arrays that public functions tell, too: behind them, the binding's version is the guard
    for piece in (ctypes.c_void_p, ctypes.c_void_p * 16, ctypes.c_int, ctypes.c_bool):
        layouts.append([*known[:at], ("piece", piece), *known[at:]])
answers = []
for layout in layouts:
    compute_buffers._Scheduler = type("Other", (ctypes.Structure,), {"_fields_": layout})
    answers.append(compute_buffers.compute_buffers(context.pointer))
assert right is None or all(answer in (None, right) for answer in answers), answers
assert right is None or None in answers
compute_buffers._Scheduler = type("Known", (ctypes.Structure,), {"_fields_": known})
assert compute_buffers.compute_buffers(context.pointer) == right
compute_buffers.BINDING = "0.0.1"
assert compute_buffers.compute_buffers(context.pointer) is None
print("done")
"""


def test_another_layout_is_no_answer_and_no_crash(demo_model_path: Path) -> None:
    command = [sys.executable, "-c", _SHIFTED, str(demo_model_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.stdout.endswith("done\n"), found.stderr[-2000:]
