"""The table of families: which one a template belongs to. Used by page, API, training and store.

The first family whose signs all occur in the template counts, so families whose signs others have borrowed come last.
An unknown template gets the general family.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from modules.families.family import Family
from modules.families.known import (
    apertus,
    apriel,
    command_r,
    deepseek,
    functionary,
    gemma,
    general,
    gigachat,
    glm,
    gpt_oss,
    granite,
    hunyuan,
    kimi,
    lfm,
    llama,
    minicpm,
    minimax,
    mistral,
    muse,
    nemotron,
    phi,
    qwen,
    qwen_coder,
    seed,
    smollm,
    solar,
)

GENERAL = general.FAMILY
FAMILIES: Sequence[Family] = (
    gpt_oss.FAMILY, muse.FAMILY, kimi.K3, kimi.FAMILY, deepseek.FAMILY, seed.FAMILY, minimax.M3, minimax.FAMILY,
    minimax.M1, hunyuan.FAMILY, gemma.GEMMA4, gemma.FAMILY, command_r.FAMILY, granite.FAMILY, solar.FAMILY,
    apertus.FAMILY, apriel.FAMILY, gigachat.FAMILY, functionary.V32, functionary.FAMILY, nemotron.FAMILY,
    smollm.FAMILY, minicpm.FAMILY, glm.FAMILY, qwen_coder.FAMILY, lfm.FAMILY, phi.PHI4, llama.LLAMA4, llama.FAMILY,
    mistral.FAMILY, qwen.FAMILY, phi.FAMILY,
)  # fmt: skip


@lru_cache(maxsize=64)
def family_of(template: str) -> Family:
    """The family of a template."""
    return next((each for each in FAMILIES if all(sign in template for sign in each.signs)), GENERAL)


def family_named(name: str) -> Family:
    """A family by its name; the general one if there is none of that name."""
    return next((each for each in FAMILIES if each.name == name), GENERAL)
