"""The self-test of llama.cpp passes here, and notices wrong results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loaders.llamacpp import load_trial, self_test
from loaders.llamacpp.engine import attention
from loaders.llamacpp.placement import devices


def test_it_passes_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    self_test.main()
    assert capsys.readouterr().out.startswith("100 tokens read and 20 written, with 1 and with ")


def test_with_a_card_all_layers_go_there_besides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checked: list[tuple[int, int, str]] = []
    monkeypatch.setattr(
        self_test, "check_scores", lambda threads, layers=0, kernel="auto": checked.append((threads, layers, kernel))
    )
    monkeypatch.setattr(devices, "list_gpus", lambda: [("CUDA0", 1, 2)])
    self_test.main()
    assert [(layers, kernel) for _, layers, kernel in checked] == [(0, "on"), (0, "off"), (256, "auto")]
    assert checked[0][0] == 1
    assert capsys.readouterr().out.endswith(" threads, with all layers on CUDA0\n")


@pytest.mark.parametrize("wrong", [[0.0] * 99, [float("nan")] * 99])
def test_it_notices_wrong_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[float]) -> None:
    right = json.loads(self_test.EXPECTED.read_text())
    file = tmp_path / "expected.json"
    file.write_text(json.dumps([a + b for a, b in zip(right[::-1], wrong, strict=True)]))
    monkeypatch.setattr(self_test, "EXPECTED", file)
    with pytest.raises(ArithmeticError, match="results are wrong"):
        self_test.check_scores(1, 0)


def test_nothing_is_measured_and_no_other_process_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs during the installation: what a user's load measures would take longer than the test itself."""
    monkeypatch.setattr(attention, "time_kernels", lambda *_: pytest.fail("attention was measured"))
    monkeypatch.setattr(
        load_trial, "try_model", lambda *_, **more: pytest.fail("the file was tried in a process of its own")
    )
    self_test.main()
