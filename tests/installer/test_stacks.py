"""Every stack of packages can be had together: the package client resolves each, exact versions and all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from installer.gpu import wants_cuda128
from installer.torch_builds import CUDA_121, CUDA_128, METAL, PROCESSOR, STACKS, TorchBuild, exllamav2_wheel

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "stack", {each.requirement: each for each in STACKS}.values(), ids=lambda each: each.requirement
)
def test_a_stack_resolves(stack: TorchBuild, tmp_path: Path) -> None:
    wanted = tmp_path / "stack.in"
    files = ["requirements.txt", "requirements-torch.txt", *(["requirements-exllamav2.txt"] if stack.exllamav2 else [])]
    wanted.write_text("".join(f"-r {ROOT / name}\n" for name in files) + stack.requirement + "\n")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", str(wanted)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr
    assert stack.requirement in made.stdout


def test_exllamav2_goes_with_its_torch() -> None:
    address = exllamav2_wheel(CUDA_121, "3.11", windows=True)
    assert address.endswith("/v0.3.2/exllamav2-0.3.2+cu121.torch2.5.0-cp311-cp311-win_amd64.whl")
    assert exllamav2_wheel(CUDA_128, "3.12", windows=False).endswith("cu128.torch2.9.0-cp312-cp312-linux_x86_64.whl")
    assert exllamav2_wheel(CUDA_121, "3.14", windows=False) == ""
    assert not any(exllamav2_wheel(each, "3.12", windows=False) for each in (METAL, PROCESSOR))


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        ("NVIDIA GeForce RTX 5090", True),
        ("NVIDIA GeForce RTX 5060 Ti", True),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", True),
        ("NVIDIA B200", True),
        ("NVIDIA GeForce RTX 4090", False),
        ("NVIDIA RTX 6000 Ada Generation", False),
        ("Quadro RTX 5000", False),
        ("NVIDIA H200", False),
        ("", False),
    ],
)
def test_cards_that_need_cuda_12_8(card: str, wanted: bool) -> None:
    assert wants_cuda128(card) is wanted
