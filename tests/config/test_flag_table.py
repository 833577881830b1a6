"""The README's table says what the program says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from errors import BadFile
from loaders.base import Loader
from modules.config.flag_table import BEGIN, END, embed, main, render_table

Loaders = Mapping[str, type[Loader]]


def test_the_table_holds_every_kind_of_flag(loaders: Loaders) -> None:
    table = render_table(loaders)
    assert "| `--n-ctx N` | Context. Default: 0. Also: --ctx-size. |" in table
    assert "`--flash-attn [auto\\|on\\|off]`" in table
    assert "`--wbits`" in table


def test_the_readme_is_rewritten_and_checked(
    tmp_path: Path, loaders: Loaders, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{BEGIN}\nold\n{END}\nThe rest.\n")
    assert main(["--check"], readme, loaders) == 1
    assert "python -m modules.config.flag_table" in capsys.readouterr().err
    assert main([], readme, loaders) == 0
    assert main(["--check"], readme, loaders) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n{BEGIN}\n")
    assert text.endswith(f"{END}\nThe rest.\n")
    assert "--listen-port" in text


def test_missing_markers_are_told() -> None:
    with pytest.raises(BadFile, match="flags:begin"):
        embed("# Title\n", "table")
