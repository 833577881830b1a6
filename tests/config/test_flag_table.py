"""The README's table says what the program says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from errors import BadFile
from loaders import LOADERS
from loaders.base import Loader
from loaders.llamacpp.context_params import context_params
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.options import GGUFOptions
from modules.config.catalogue import Catalogue, Flag
from modules.config.flag_help import explanation
from modules.config.flag_table import BEGIN, END, embed, main, render_table
from modules.config.foreign_flags import foreign_flags

ROOT = Path(__file__).resolve().parents[2]
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


def test_the_readme_is_that_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT / "README.md", LOADERS) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", [each for each in Catalogue.of(LOADERS).acting if each.is_negated], ids=lambda each: each.name
)
def test_a_flag_that_switches_off_says_what_happens_then(flag: Flag) -> None:
    """The switch's own help says what happens while it is on, so it cannot be made of that."""
    text = explanation(flag)
    assert re.match(r"[A-Z].*\.", text)
    assert not text.lower().startswith("off:")
    assert flag.knob.help not in text


def test_a_flag_without_a_meaning_names_only_flags_that_are_there() -> None:
    known = set(Catalogue.of(LOADERS).spellings()) - {"--" + name.replace("_", "-") for name in foreign_flags()}
    for flag in foreign_flags().values():
        assert set(re.findall(r"--[a-z][a-z-]*", flag.why)) <= known, flag


#: What is said not to be possible yet, and what the code would hold if it were: whoever builds it mends the sentence.
IMPOSSIBLE = {
    "cpu_moe": "tensor_buft_overrides",
    "row_split": "split_mode",
    "split_mode": "split_mode",
    "fit_target": "fit_params",
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_llama_cpp_is_said_not_to_do_here_is_not_done(name: str) -> None:
    why = foreign_flags()[name].why
    assert "yet" in why
    assert "by itself now" not in why
    code = "\n".join(file.read_text("utf-8") for file in (ROOT / "loaders" / "llamacpp").glob("*.py"))
    assert not re.search(rf"(?m)^[^#\"]*\b{IMPOSSIBLE[name]}", code), f"{name} acts: it is no foreign flag any more"


def test_the_physical_batch_is_what_is_said() -> None:
    said = foreign_flags()["ubatch_size"].why
    for n_batch in (64, 512, 2048):
        limits = Limits(parallel=4, n_batch=n_batch)
        assert context_params(GGUFOptions(n_batch=n_batch), limits, 4096, "f16", "on", 9)["n_ubatch"] == min(
            n_batch, 512
        )
    assert "--n-batch, at most 512" in said
