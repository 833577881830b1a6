"""The table of the zoo in docs/loaders.md: `python -m tests.zoo.table` measures it and writes it there.

Architecture x loader x what the user does: how many replies were those of a model that has read nothing before. With
llama.cpp each step is done once for each way of reusing things (test_gguf.OPTIONS).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[2])

from tests.zoo import ggufs, test_folders, test_gguf
from tests.zoo.folders import CONTEXT, FOLDERS, WORDS, folder_of
from tests.zoo.walk import NAMES, walk

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "loaders.md"
BEGIN, END = "<!-- zoo: made by `python -m tests.zoo.table` -->\n", "<!-- /zoo -->\n"

#: What the user does -> the steps of the walk that do it.
DEEDS: dict[str, tuple[str, ...]] = {
    "first reply": ("cold",),
    "regenerate": (
        "regenerate", "regenerate, longer", "regenerate, shorter again", "regenerate the next turn",
        "the other chat, regenerate", "regenerate after it",
    ),
    "next turn": (
        "next turn", "the other chat's next turn", "the first chat's next turn", "next turn after the cut",
        "next turn after it",
    ),
    "edit": ("edit the last message", "edit the middle of the first message", "delete the last turns"),
    "branch": ("back to the branch before",),
    "A-B-A-B": ("another chat", "back to the first chat", "another chat after it", "back to the long chat"),
    "past thought left out": ("cut a thought out of a past reply",),
    "long message": ("a long message",),
}  # fmt: skip

#: Step -> whether each of its replies was right.
Found = dict[str, list[bool]]


def rows() -> Iterator[tuple[str, str, Found]]:
    """Architecture, loader and what was found."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in test_gguf.ARCHITECTURES:
            with test_gguf.Models(folder) as models:
                yield name, "llama.cpp", _gguf(models.load, name)
                found = test_gguf.differences(
                    models.load(name, "llamacpp_HF"), test_gguf.cold_of(models.load, name, {})
                )
                yield name, "llamacpp_HF", {step: [far <= test_gguf.ROUNDING] for step, far in found.items()}
        for name, kind in FOLDERS.items():
            yield name, "Transformers", _folder(name, folder_of(kind, folder / name))


def _gguf(load: Callable[..., test_gguf.Model], name: str) -> Found:
    found: Found = {step: [] for step in NAMES}
    for how, options in test_gguf.OPTIONS.items():
        cold = test_gguf.cold_of(load, name, options)
        for step, far in test_gguf.differences(load(name, **options), cold).items():
            found[step].append(far <= test_gguf.bound_of(how))
    return found


def _folder(name: str, folder: Path) -> Found:
    slow = FOLDERS[name].follow == 0
    sizes = {"length": test_folders.LENGTH, "new": 4 if slow else 24, "long": test_folders.LONG}
    with test_folders.opened("Transformers", folder, max_seq_len=CONTEXT) as model:
        steps = walk(lambda ids, n: test_folders.answered(model, ids, n), vocab=WORDS, seed=5, **sizes)
        return {step.name: [test_folders.wrong_at(model, step.prompt, step.reply) is None] for step in steps}


def table(found: Iterator[tuple[str, str, Found]]) -> str:
    lines = [f"| architecture | loader | {' | '.join(DEEDS)} |", "| --- " * (len(DEEDS) + 2) + "|"]
    for name, loader, steps in found:
        cells = []
        for deed in DEEDS.values():
            right = [each for step in deed for each in steps[step]]
            cells.append(f"{sum(right)} of {len(right)}")
        lines.append(f"| {name} | {loader} | {' | '.join(cells)} |")
        sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The table as it stands in the document."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + table(rows()) + END + after, "utf-8")


if __name__ == "__main__":
    assert sorted(step for deed in DEEDS.values() for step in deed) == sorted(NAMES)
    assert ggufs.architectures()
    main()
