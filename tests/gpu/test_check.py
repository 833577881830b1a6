"""The GPU check without a GPU: its runner, its table, splitting and joining. What needs a GPU is not tested here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu import carry, check, figures
from tests.gpu.figures import Figure, at_least, at_most, same
from tests.gpu.steps import STEPS


def test_the_table() -> None:
    text = figures.table([at_least("a", "x|y", 0.98, 0.97), at_most("a", "z", 2, 1), Figure("b", "w", "1\n2")])
    assert "| a | x\\|y | 0.980 | at least 0.97 | ok |" in text
    assert "| a | z | 2 | at most 1 | **missed** |" in text
    assert "| b | w | 1 2 |  |  |" in text
    assert same("a", "b", False).ok is False


def test_figures_survive_a_file(tmp_path: Path) -> None:
    found = [at_least("a", "x", 1, 2), Figure("b", "y", "z")]
    figures.save(tmp_path / "f.json", found)
    assert figures.load(tmp_path / "f.json") == found


def test_a_step_that_fails_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Without a GPU both steps fail, each in its own process: two reports, and the table is written."""
    out = tmp_path / "out"
    names = ["sdpa", "plain"]
    assert not check.run_all(names, tmp_path / "work", tmp_path / "absent.gguf", out, 120)
    found = figures.load(out / "figures.json")
    assert [each.step for each in found if each.what == "failed"] == names
    assert all("exit status 1: " in each.value for each in found if each.what == "failed")
    assert (out / "figures.md").read_text() == figures.table(found)


def test_without_time_nothing_is_claimed(tmp_path: Path) -> None:
    check.run_all(["plain"], tmp_path / "work", tmp_path / "absent.gguf", tmp_path, 0)
    assert figures.load(tmp_path / "figures.json") == [Figure("plain", "not run", "no time was left")]


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in STEPS)
    with pytest.raises(SystemExit):
        check.main(["--only", "nonsense", "--gguf", "x"])
    assert "no such step: nonsense" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.main([])


@pytest.mark.parametrize("size", [0, 1, 1001])
def test_halves_join_to_the_whole(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "m.gguf").write_bytes(data)
    a, b = carry.halves(tmp_path / "m.gguf", tmp_path / "into")
    assert a.read_bytes() + b.read_bytes() == data


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "LIMIT", 100)
    (tmp_path / "m.gguf").write_bytes(bytes(300))
    with pytest.raises(ValueError, match="half of it is more"):
        carry.halves(tmp_path / "m.gguf", tmp_path / "into")


def test_the_commands_fit_the_tool() -> None:
    pairs = carry.commands("SmolLM2-135M-Instruct.Q4_1.gguf", ".gpu", 570)
    assert [folder for folder, _ in pairs] == [".gpu/a", ".gpu/b", ".gpu/c"]
    assert all(len(command) <= 2000 for _, command in pairs)
