"""A new environment on trial: imports, the device that llama.cpp sees, and a few tokens from the demo model.

This module's second half runs in the environment itself, as a script. It must not know how anything was installed.
"""

from __future__ import annotations

from installer.layout import Layout
from installer.runner import Runner, last_line
from installer.variables import clean_environ

DEMO = "SmolLM2-135M-Instruct.Q4_1.gguf"

#: Prints one line. The model is read with one thread, from its place in models/ or the folder in which it was fetched.
_SCRIPT = """
import sys
import gradio, llama_cpp
device = "a graphics card" if llama_cpp.llama_supports_gpu_offload() else "the processor"
said = ""
if len(sys.argv) > 1:
    model = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, verbose=False)
    count = model("The capital of France is", max_tokens=4, temperature=0)["usage"]["completion_tokens"]
    assert count > 0, "the demo model gave no token"
    said = f", and {count} tokens from the demo model"
print(f"imports, llama.cpp on {device}{said}")
"""


def passes(runner: Runner) -> tuple[bool, str]:
    """Whether the environment works: (yes or no, what was tried or what went wrong)."""
    layout: Layout = runner.layout
    model = layout.root / "models" / DEMO
    arguments = [str(model)] if model.is_file() else []
    environ = clean_environ(layout) | {"GRADIO_ANALYTICS_ENABLED": "False"}
    done, said = runner.output(layout.python, "-c", _SCRIPT, *arguments, **environ)
    return done, last_line(said)
