"""The documents' tables of flags match the program."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from loaders import LOADERS
from loaders.base import Loader
from loaders.llamacpp.context_params import context_params
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import planning
from modules.config.flag_catalog import Flag, FlagCatalog
from modules.config.flag_help import describe_flag
from modules.config.flag_table import render_ignored, render_table
from modules.config.ignored_flags import ignored_flags

Loaders = Mapping[str, type[Loader]]


def test_the_table_holds_every_kind_of_flag(loaders: Loaders) -> None:
    table = render_table(loaders)
    assert "| `--n-ctx N` | Context. Default: 0. Also: --ctx-size. |" in table
    assert "`--flash-attn [auto\\|on\\|off]`" in table


def test_the_originals_flags_are_in_a_table_of_their_own(loaders: Loaders) -> None:
    assert "`--wbits`" in render_ignored(loaders)
    assert "--listen-port" not in render_ignored(loaders)
    assert "--wbits" not in render_table(loaders)


@pytest.mark.parametrize(
    "flag", [each for each in FlagCatalog.of(LOADERS).acting if each.is_negated], ids=lambda each: each.name
)
def test_a_flag_that_switches_off_says_what_happens_then(flag: Flag) -> None:
    """The switch's own help says what happens while it is on, so the help of the negated flag needs its own text."""
    text = describe_flag(flag)
    assert re.match(r"[A-Z].*\.", text)
    assert not text.lower().startswith("off:")
    assert flag.knob.help not in text


def test_a_flag_without_a_meaning_names_only_flags_that_are_there() -> None:
    known = set(FlagCatalog.of(LOADERS).spellings()) - {"--" + name.replace("_", "-") for name in ignored_flags()}
    for flag in ignored_flags().values():
        assert set(re.findall(r"--[a-z][a-z-]*", flag.why)) <= known, flag


@pytest.mark.parametrize(
    "options",
    [{"cpu_moe": True}, {"n_cpu_moe": 3}, {"row_split": True}, {"split_mode": "none"}, {"fit_target": "1024"}]
    + [{"split_mode": "none", "main_gpu": 1}, {"device": "CUDA1"}, {"tensor_split": "1,2"}, {"swa_full": False}]
    + [{"ubatch_size": 64}, {"cache_type_k": "q8_0"}, {"cache_type_v": "q5_1"}, {"no_kv_offload": True}],
    ids=str,
)
def test_llama_cpps_flags_act(options: Mapping[str, object]) -> None:
    """Each causes another placement or another context than without its last option."""

    def made(given: Mapping[str, object]) -> object:
        parsed = GGUFOptions.parse(given)
        limits = EngineLimits(parallel=4, n_batch=512)
        return planning.placement_request(parsed), context_params(
            parsed, limits, 4096, parsed.choose_cache_types()[0], parsed.flash_attn, 9
        )

    assert made(options) != made(dict(list(options.items())[:-1]))
    spelled = set(FlagCatalog.of(LOADERS).spellings())
    for name in options:
        flag = "--no-swa-full" if name == "swa_full" else "--" + name.replace("_", "-")
        assert flag in spelled
        assert name not in ignored_flags()
