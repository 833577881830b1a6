"""The words that count as an answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.console import is_no

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("text", ["no", "N", "false", "0", "f", "OFF", " no "])
def test_the_words_that_mean_no(text: str) -> None:
    assert is_no(text)
    assert not is_no("yes")
    assert not is_no("")


_CLOSED = """import os, sys
sys.path.insert(0, sys.argv[1])
from installer import console
console.tolerate_encodings()
print("said", file=sys.stdout)
print("said", file=sys.stderr)
held = open(sys.argv[2], "w")
import subprocess
held.write(str(subprocess.call([sys.executable, "-c", "import os; [os.fstat(each) for each in (0, 1, 2)]"])))
"""


@pytest.mark.skipif(os.name == "nt", reason="there a program has no places, or all")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ""])
def test_one_without_a_place_to_write_to_and_what_it_starts_get_one(tmp_path: Path, closed: str) -> None:
    held = tmp_path / "held"
    command = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", _CLOSED, str(ROOT), str(held)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert held.read_text() == "0"


_UNREAD = """import subprocess, sys
sys.path.insert(0, sys.argv[1])
from installer import console
console.tolerate_encodings()
sys.stdin.read()
for _ in range(3):
    print("said", flush=True)
    print("said", file=sys.stderr)
sys.exit(subprocess.call([sys.executable, "-c", "print('said')"]))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_nobody_reads_any_more_goes_nowhere(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [sys.executable, "-c", _UNREAD, str(ROOT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for pipe in (process.stdout, process.stderr, process.stdin):  # the last tells it to speak
            assert pipe
            pipe.close()
        assert process.wait(60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk")
def test_a_full_disk_is_no_failure_of_what_is_said() -> None:
    command = [sys.executable, "-c", _UNREAD.replace("sys.exit(", "(").replace("'said'", "''"), str(ROOT)]
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(command, input=b"", stdout=full, stderr=full, check=False).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_the_program_bears_it_as_well() -> None:
    """Its help is printed by the server's first lines that print anything."""
    shell = f'{{ "{sys.executable}" "{ROOT / "server.py"}" --help; echo $? >&2; }} | :'
    ran = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "0"
