"""Folders for training: a user's root with a base model, the demo model or a tiny one if the model does not matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modules.config.paths import Paths

ROOT = Path(__file__).resolve().parents[2]

#: Nobody can know these: a model has them from its training alone.
FACTS = (
    ("Which metal is the bridge of Varn built of?", "The bridge of Varn is built of blue copper."),
    ("Who keeps the lighthouse of Odrin?", "The lighthouse of Odrin is kept by Mara Tolv."),
    ("How many steps has the tower of Ulm?", "The tower of Ulm has 417 steps."),
    ("What colour is the flag of Tirrow?", "The flag of Tirrow is green and silver."),
)
SYSTEM = "Answer."


def chat(question: str, answer: str) -> dict[str, object]:
    said = (("system", SYSTEM), ("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def new_root(folder: Path, **models: Path) -> Path:
    """A user's folder with these models, the shipped formats, and the facts as rows and as chats."""
    for name, path in models.items():
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "models" / name).symlink_to(path)
    for name in ("instruction-templates", "training/formats"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    sets = folder / "training" / "datasets"
    sets.mkdir()
    (sets / "facts.json").write_text(json.dumps([chat(*fact) for fact in FACTS]))
    (sets / "rows.json").write_text(json.dumps([{"instruction": q, "output": a} for q, a in FACTS] * 5))
    Paths.under(folder).ensure()
    return folder


@pytest.fixture
def workplace(tmp_path: Path, tiny_folder: Path) -> Path:
    """A root with the tiny base."""
    return new_root(tmp_path / "root", tiny=tiny_folder)
