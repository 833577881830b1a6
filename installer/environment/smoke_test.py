"""Tests an installation: imports, the GPUs that llama.cpp sees, and tokens computed by the program itself.

It must not know how anything was installed.
"""

from __future__ import annotations

import re

from installer.environment.variables import clean_environ
from installer.layout import Layout
from installer.runner import Runner, last_line

#: What the program needs at startup besides llama_cpp, gradio included.
PROGRAM = "modules.ui.page, modules.ui.serve, modules.api, modules.app"
_CARDS = """from loaders.llamacpp.placement import devices
from loaders.llamacpp import native
native.initialize(False)
for name, *_ in devices.list_gpus():
    print("card:", name)
"""
#: Messages that libraries print before they abort, and what they mean.
_MEANINGS = (
    (r"no kernel image is available", "it has no code for this GPU"),
    (r"CUDA driver version is insufficient|driver.{0,20}too old", "the GPU's driver is too old for it"),
    (r"out ?of ?(?:device ?)?memory", "the GPU ran out of memory"),
    (
        r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object|Could not find module '([^']+)'",
        "a required library is missing",
    ),
)


def can_compute(runner: Runner) -> tuple[bool, str]:
    """Whether the installed llama.cpp can compute here: (result, what was tested or what went wrong).

    Runs the program's own loader in a separate process with a tiny model that is included: a build that does not fit
    the processor often imports without error and crashes at the first token. If llama.cpp sees a GPU, all layers are
    tested on it as well.
    """
    done, said = _run(runner, "-m", "loaders.llamacpp.self_test")
    if done:
        tried = re.search(r"^\d+ tokens read.*", said, re.MULTILINE)
        return True, tried[0] if tried else last_line(said)
    return False, f"{last_line(said)}{_meaning(said)}"


def list_usable_gpus(runner: Runner) -> list[str]:
    """The GPUs that the installed llama.cpp can use, queried in a separate process."""
    done, said = _run(runner, "-c", _CARDS)
    return re.findall(r"^card: (.+)$", said, re.MULTILINE) if done else []


def can_import_program(runner: Runner) -> tuple[bool, str]:
    """Whether the program can be imported, without llama_cpp: (result, what went wrong).

    This takes seconds, most of which the first start saves: the byte code that it compiles is kept.
    """
    done, said = _run(runner, "-c", f"import {PROGRAM}", GRADIO_ANALYTICS_ENABLED="False")
    return done, last_line(said)


def _run(runner: Runner, *arguments: str, **more: str) -> tuple[bool, str]:
    """Run Python with the project's modules, and with CUDA libraries that may have been installed since the runner was
    created.
    """
    layout: Layout = runner.layout
    environ = clean_environ(layout) | {"PYTHONPATH": str(layout.root)} | more
    return runner.output(layout.python, *arguments, **environ)


def _meaning(said: str) -> str:
    for pattern, meaning in _MEANINGS:
        if found := re.search(pattern, said, re.IGNORECASE):
            name = next((each for each in found.groups() if each), "")
            return f" ({meaning}{f': {name}' if name else ''})"
    return ""
