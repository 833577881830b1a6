"""`python -m modules.prompts.template_worker`: runs strangers' templates for the process that started it.

A question is one line of JSON on the standard input, its answer one line on the standard output. A process of its own,
since Python lets one thread of a process run at a time: a template here takes no time from whoever decodes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from errors import TemplateFailed, TemplateTooSlow
from loaders.worker_process import bounded, stand_back
from modules.prompts.budget import SECONDS
from modules.prompts.jinja import Sandbox

#: Bytes of memory: four times what a template may make, for what is not counted.
MEMORY = 1 << 30
#: Seconds of processor time for all of a question: compiling is not in the template's own budget.
QUESTION = 4 * SECONDS


def answer(sandbox: Sandbox, question: dict[str, Any]) -> dict[str, Any]:
    """What there is to say: a text, or what went wrong."""
    if question["ask"] == "variables":
        return {"variables": sorted(sandbox.variables(question["source"]))}
    try:
        return {"text": sandbox.render("", question["source"], question["values"])}
    except TemplateFailed as error:
        return {"why": error.why, "line": error.line, "slow": isinstance(error, TemplateTooSlow)}
    except (RecursionError, MemoryError):
        return {"why": "it is nested too deeply, or makes too much", "line": None, "slow": False}


def serve(source: Iterable[str], target: TextIO) -> None:
    """Answer until the source ends."""
    sandbox = Sandbox()
    for line in source:
        with bounded(QUESTION):
            said = json.dumps(answer(sandbox, json.loads(line)))
        target.write(said + "\n")
        target.flush()


def main() -> None:
    stand_back(MEMORY)
    serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
