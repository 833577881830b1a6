"""The self-test of llama.cpp passes here, and notices wrong numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loaders.llamacpp import devices, self_test


def test_it_passes_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    self_test.main()
    assert capsys.readouterr().out.startswith("100 tokens read and 20 written, with 1 and with ")


def test_with_a_card_all_layers_go_there_besides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checked: list[tuple[int, int]] = []
    monkeypatch.setattr(self_test, "check", lambda threads, layers: checked.append((threads, layers)))
    monkeypatch.setattr(devices, "cards", lambda: [("CUDA0", 1, 2)])
    self_test.main()
    assert [layers for _, layers in checked] == [0, 0, 256]
    assert checked[0][0] == 1
    assert capsys.readouterr().out.endswith(" threads, with all layers on CUDA0\n")


@pytest.mark.parametrize("wrong", [[0.0] * 99, [float("nan")] * 99])
def test_it_notices_wrong_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[float]) -> None:
    right = json.loads(self_test.EXPECTED.read_text())
    file = tmp_path / "expected.json"
    file.write_text(json.dumps([a + b for a, b in zip(right[::-1], wrong, strict=True)]))
    monkeypatch.setattr(self_test, "EXPECTED", file)
    with pytest.raises(ArithmeticError, match="wrong numbers"):
        self_test.check(1, 0)
