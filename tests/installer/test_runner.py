"""Hidden and visible commands: their exit is explained, their output is logged, and long ones show progress."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from installer import runner as module
from installer.layout import Layout
from installer.runner import Runner, describe_exit, network_cause


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ""),
        (1, ""),
        (-11, "ended by SIGSEGV"),
        (-4, "SIGILL, an instruction that this CPU does not support"),
        (-9, "SIGKILL, usually because the system ran out of memory"),
        (-99, "signal 99"),
        (0xC0000005, "by Windows with 0xc0000005"),
        (0xC000001D, "an instruction that this CPU does not support"),
        (0xC0000135, "a library (DLL) is missing"),
    ],
)
def test_an_end_is_named(code: int, words: str) -> None:
    assert words in describe_exit(code)
    assert bool(words) == bool(describe_exit(code))


def test_what_is_said_unseen_by_what_fails_is_in_the_log(layout: Layout) -> None:
    runner = Runner(layout)
    code = "import os, sys; print('a very long story'); sys.exit(int(sys.argv[1]))"
    assert runner.output(sys.executable, "-c", code, "0")[0]
    assert not layout.log.exists()
    assert runner.output(sys.executable, "-c", code, "3") == (False, "a very long story\n")
    assert "a very long story" in layout.log.read_text()


def test_a_long_command_says_all_to_the_log_and_its_last_line(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = Runner(layout)
    code = "import os; print('thousands of lines', flush=True); os.kill(os.getpid(), 9)"
    done, said = runner.logged(sys.executable, "-c", code, doing="compiling")
    assert not done
    assert said.startswith("it was ended by SIGKILL")
    assert "thousands of lines" in layout.log.read_text()
    assert "thousands" not in capfd.readouterr().out
    layout.log.unlink()
    layout.log.mkdir()  # no log can be written: the user sees it
    assert runner.logged(sys.executable, "-c", "print('seen')", doing="compiling")[0]
    assert "seen" in capfd.readouterr().out


def test_a_command_that_is_missing_has_failed(layout: Layout) -> None:
    runner = Runner(layout)
    done, said = runner.output("/nonexistent/python")
    assert not done
    assert "cannot be started (No such file or directory)" in said
    assert not runner.stream("/nonexistent/python", doing="installing")
    assert runner.quiet("/nonexistent/nvcc") == ""


def test_a_long_download_shows_bytes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal there is no progress bar: a line each half minute shows the growth of used disk space."""
    amounts: Iterator[int] = iter([5 * 2**30, 5 * 2**30 + 2**29, 4 * 2**30])
    monkeypatch.setattr(module, "used_bytes", lambda folders: next(amounts))
    real, late = subprocess.Popen.wait, iter([True, True])

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if next(late, False):
            raise subprocess.TimeoutExpired("pip", 30)
        return real(self)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert Runner(layout).stream(sys.executable, "-c", "", doing="installing torch")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("      still installing torch, ")
    assert first.endswith("s so far, 512 MiB more on disk ...")
    assert second.endswith("s so far ..."), "another program freed space"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<x>: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/uv/\n"
            "ERROR: No matching distribution found for uv==0.13.9\n",
            "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
        ),
        (
            "ERROR: No matching distribution found for uv==0.13.9\n",
            "ERROR: No matching distribution found for uv==0.13.9",
        ),
    ],
)
def test_the_network_s_own_answer_is_quoted(said: str, expected: str) -> None:
    assert network_cause(said) == expected
