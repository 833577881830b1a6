"""What was installed, on trial: imports, the device that llama.cpp sees, and tokens computed by the program itself.

It must not know how anything was installed.
"""

from __future__ import annotations

from installer.layout import Layout
from installer.runner import Runner, last_line
from installer.variables import clean_environ

_IMPORTS = """import gradio, llama_cpp
print("a graphics card" if llama_cpp.llama_supports_gpu_offload() else "the processor")
"""


def computes(runner: Runner) -> tuple[bool, str]:
    """Whether the llama.cpp that is installed computes here: (yes or no, what was tried or what went wrong).

    In a process of its own, by the program's own loader, with a tiny model that comes with it: a build that does not
    fit the processor is often imported without trouble, and ends the process at the first token.
    """
    layout: Layout = runner.layout
    environ = clean_environ(layout) | {"PYTHONPATH": str(layout.root)}
    done, said = runner.output(layout.python, "-m", "loaders.llamacpp.self_test", **environ)
    return done, last_line(said)


def imports(runner: Runner) -> tuple[bool, str]:
    """Whether the packages can be imported: (yes or no, the device llama.cpp was built for or what went wrong)."""
    environ = clean_environ(runner.layout) | {"GRADIO_ANALYTICS_ENABLED": "False"}
    done, said = runner.output(runner.layout.python, "-c", _IMPORTS, **environ)
    return done, last_line(said)
