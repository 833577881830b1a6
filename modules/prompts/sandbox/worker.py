"""`python -m modules.prompts.sandbox.worker`: runs untrusted templates for the process that started it.

A request is one line of JSON on standard input, the response one line on standard output. A separate process, because
Python runs one thread of a process at a time: a template here takes no time from decoding.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from errors import TemplateFailed, TemplateTooSlow
from loaders.worker_process import limit_time, lower_priority
from modules.prompts.sandbox.budget import SECONDS
from modules.prompts.sandbox.sandbox import Sandbox

#: Bytes of memory: four times what a template may create, to allow for what is not counted.
MEMORY = 1 << 30
#: CPU seconds for a whole request: compiling is not in the template's own budget.
QUESTION = 4 * SECONDS


def answer(sandbox: Sandbox, question: dict[str, Any]) -> dict[str, Any]:
    """The response: a text, or what went wrong."""
    if question["ask"] == "variables":
        return {"variables": sorted(sandbox.variables(question["source"]))}
    try:
        return {"text": sandbox.render("", question["source"], question["values"])}
    except TemplateFailed as error:
        return {"why": error.why, "line": error.line, "slow": isinstance(error, TemplateTooSlow)}
    except (RecursionError, MemoryError):
        return {"why": "it is nested too deeply or produces too much output", "line": None, "slow": False}


def serve(source: Iterable[str], target: TextIO) -> None:
    """Answer requests until the input ends."""
    sandbox = Sandbox()
    for line in source:
        with limit_time(QUESTION):
            said = json.dumps(answer(sandbox, json.loads(line)))
        target.write(said + "\n")
        target.flush()


def main() -> None:
    lower_priority(MEMORY)
    serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
