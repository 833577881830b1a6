"""What was installed, on trial: imports, the cards that llama.cpp sees, and tokens computed by the program itself.

It must not know how anything was installed.
"""

from __future__ import annotations

import re

from installer.layout import Layout
from installer.runner import Runner, last_line
from installer.variables import clean_environ

#: What the program needs at its start, gradio included, besides llama_cpp.
PROGRAM = "modules.ui.page, modules.ui.serve, modules.api, modules.app"
_CARDS = """from loaders.llamacpp import devices, native
native.start(False)
for name, *_ in devices.cards():
    print("card:", name)
"""
#: What libraries say before they end the process, and what that means.
_MEANINGS = (
    (r"no kernel image is available", "it has no code for this card"),
    (r"CUDA driver version is insufficient|driver.{0,20}too old", "the card's driver is too old for it"),
    (r"out ?of ?(?:device ?)?memory", "the card's memory is full"),
    (
        r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object|Could not find module '([^']+)'",
        "a library that it needs is missing",
    ),
)


def computes(runner: Runner) -> tuple[bool, str]:
    """Whether the llama.cpp that is installed computes here: (yes or no, what was tried or what went wrong).

    In a process of its own, by the program's own loader, with a tiny model that comes with it: a build that does not
    fit the processor is often imported without trouble, and ends the process at the first token. Where llama.cpp sees
    a card, all layers are tried on it as well.
    """
    done, said = _run(runner, "-m", "loaders.llamacpp.self_test")
    if done:
        tried = re.search(r"^\d+ tokens read.*", said, re.MULTILINE)
        return True, tried[0] if tried else last_line(said)
    return False, f"{last_line(said)}{_meaning(said)}"


def cards(runner: Runner) -> list[str]:
    """The graphics cards that the llama.cpp that is installed can use; it is asked in a process of its own."""
    done, said = _run(runner, "-c", _CARDS)
    return re.findall(r"^card: (.+)$", said, re.MULTILINE) if done else []


def imports(runner: Runner) -> tuple[bool, str]:
    """Whether the program can be imported, but for llama_cpp: (yes or no, what went wrong).

    It takes seconds, most of which are saved at the first start: what is compiled by it is kept.
    """
    done, said = _run(runner, "-c", f"import {PROGRAM}", GRADIO_ANALYTICS_ENABLED="False")
    return done, last_line(said)


def _run(runner: Runner, *arguments: str, **more: str) -> tuple[bool, str]:
    """Python with the project's own modules, and with CUDA's libraries that may have come since the runner was made."""
    layout: Layout = runner.layout
    environ = clean_environ(layout) | {"PYTHONPATH": str(layout.root)} | more
    return runner.output(layout.python, *arguments, **environ)


def _meaning(said: str) -> str:
    for pattern, meaning in _MEANINGS:
        if found := re.search(pattern, said, re.IGNORECASE):
            name = next((each for each in found.groups() if each), "")
            return f" ({meaning}{f': {name}' if name else ''})"
    return ""
