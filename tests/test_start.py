"""Without torch and its dependencies, everything starts and says what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

_SCRIPT = """
import sys
from pathlib import Path

LEFT_OUT = set(sys.argv[2].split(","))


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LEFT_OUT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
import modules.api
from modules.app import App
from modules.ui import build_page

app = App.build(Path(sys.argv[1]), [])
build_page(app)
print("models to train:", app.training.models(), "texts:", app.training.texts())

from modules.training import __main__ as command

for words in (["lora", "--look", "--model", "x"], ["merge", "--model", "x", "--lora", "y", "--to", "z"],
              ["gguf", "--model", "x", "--lora", "y"]):
    (app.paths.models / "x").mkdir(exist_ok=True)
    (app.paths.models / "x" / "config.json").write_text("{}")
    (app.paths.models / "x" / "model.safetensors").write_bytes(b"")
    print(words[0], command.main([words[0], "--root", sys.argv[1], *words[1:]]))
app.close()
"""


def test_it_starts_without_what_torch_brings(tmp_path: Path) -> None:
    lines = (ROOT / "requirements-torch.in").read_text("utf-8").splitlines()
    names = {line.split("==")[0].strip() for line in lines if "==" in line and not line.startswith("#")}
    assert {"transformers", "tokenizers", "safetensors", "peft", "datasets", "gguf"} <= names
    left_out = ",".join(sorted(names | {"torch", "exllamav2"}))
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), left_out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "models to train: [] texts: []" in ran.stdout
    assert [line for line in ran.stdout.splitlines() if line[-2:] == " 2"] == ["lora 2", "merge 2", "gguf 2"]
    said = ran.stderr.splitlines()
    assert len([line for line in said if line.startswith("Training requires the package ")]) == 3, ran.stderr
    assert "Traceback" not in ran.stderr


_BROKEN = """import sys, server
def serve(*_):
    {failure}
server.serve = serve
sys.exit(server.main([]))
"""


@pytest.mark.parametrize("failure", ["import no_such_package", "compile('a b', 'x.py', 'exec')"])
def test_what_cannot_be_imported_ends_in_a_sentence(failure: str) -> None:
    script = _BROKEN.format(failure=failure)
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("A package or program file is damaged or missing (")
    assert "no_such_package" in last or "invalid syntax" in last
    assert "--repair" in last


@pytest.mark.skipif(os.name == "nt", reason="POSIX shell scripts")
@pytest.mark.parametrize("words", [["-S", "server.py", "--help"], ["-S", "download-model.py", "a b", "--branch", "x"]])
def test_a_python_without_the_packages_continues_with_the_programs_own(tmp_path: Path, words: list[str]) -> None:
    """`python3 server.py`, as for the original; before there is an installation, a sentence says how to get one."""
    for name in ("server.py", "download-model.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "installer", tmp_path / "installer")

    def run() -> subprocess.CompletedProcess[str]:  # -S: without site-packages
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    ran = run()
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "does not have the program's packages. Start the program with " in ran.stderr
    own = tmp_path / "installer_files" / "env" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    own.chmod(0o755)
    ran = run()
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "".join(f"{word}|" for word in words), "")


def _documented_modules() -> list[str]:
    """What the documents say to start with `python -m`, besides what needs no packages."""
    texts = [path.read_text("utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    names = {name for text in texts for name in re.findall(r"python3?\s+-m\s+([a-z_]+(?:\.[a-z_]+)*)", text)}
    names = {name for name in names if (ROOT / name.split(".")[0]).is_dir()}
    return sorted(name for name in names - {"tests.gpu.carry"} if not name.startswith("installer."))


@pytest.mark.skipif(os.name == "nt", reason="POSIX shell scripts")
@pytest.mark.parametrize("name", _documented_modules())
def test_a_documented_module_continues_with_the_programs_own_python(tmp_path: Path, name: str) -> None:
    """Before it imports anything that only this has; without an installation, a sentence says how to get one."""
    parts = name.split(".")
    package = (ROOT / "/".join(parts)).is_dir()
    file = Path(*parts, "__main__.py") if package else Path(*parts).with_suffix(".py")
    for each in (file, *(folder / "__init__.py" for folder in file.parents)):
        if (ROOT / each).is_file():
            (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / each, tmp_path / each)
    shutil.copytree(ROOT / "installer", tmp_path / "installer")
    own = tmp_path / "installer_files" / "env" / "bin" / "python"
    command = [sys.executable, "-S", "-m", name, "x"]  # -S: without site-packages
    settings: Any = {"cwd": tmp_path, "env": {"PATH": "/usr/bin:/bin"}, "capture_output": True, "text": True}
    ran = subprocess.run(command, check=False, **settings)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "does not have the program's packages. Start the program with " in ran.stderr
    assert "Traceback" not in ran.stderr
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    own.chmod(0o755)
    ran = subprocess.run(command, check=False, **settings)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"-S|-m|{name}|x|", "")
