"""models/config.yaml and real models' names: the family's template, and no other family's by accident."""

from __future__ import annotations

import re

import pytest

from loaders.list_parsing import parse_quoted_strings
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping
from modules.library.model_settings import ModelSettings
from tests.conftest import ROOT

_NAMES = {
    "Llama-v2": "codellama-34b-instruct.Q4_K_M.gguf TheBloke_CodeLlama-13B-Instruct-GGUF Llama-2-7b-chat-hf "
    "llama2-13b-chat llama-2-70b-chat.Q4_0.gguf h2ogpt-4096-llama2-70b-chat airoboros-l2-13b-2.2.1 "
    "airoboros-l2-70b-3.1.2 airoboros-m-7b-3.1.2 airoboros-3_1-yi-34b-200k CodeLlama-7b-Instruct-hf",
    "Llama-v3": "Meta-Llama-3-8B-Instruct Llama-3.2-1B-Instruct-Q4_0.gguf llama3-70b-instruct Llama-3.3-70B-Instruct "
    "meta_llama_3.1_8b_instruct llama-v3-8b-instruct",
    "": "llama-30b-instruct-2048 llama-33b-instruct llama-3b-instruct open_llama-3b-instruct llama-34b "
    "llama-20b-chat codellama-34b llama-65b-instruct delphi-30b hermes-20b llama-3.5b-instruct "
    "command-reader gemma-7b-italian",
    "ChatML": "Orca-2-13B orca-2-7b.Q4_K_M.gguf microsoft_Orca-2-7b mpt-7b-chat mpt-30b-chat mosaicml_mpt-7b-chat "
    "OpenHermes-2.5-Mistral-7B dolphin-2.2-yi-34b Yi-34B-Chat Qwen1.5-32B-Chat Qwen2.5-7B-Instruct qwen-32b "
    "Nous-Hermes-2-Mixtral-8x7B-DPO Hermes-3-Llama-3.1-8B mistral-7b-openorca CausalLM-RP-34B 34b-beta "
    "Hercules-2.5-Mistral-7B",
    "ChatML-Thinking": "Qwen3-8B Qwen3-30B-A3B.gguf qwen-3-4b QwQ-32B",
    "Phi-3": "Phi-3-mini-4k-instruct phi3-medium Phi-3.5-mini-instruct phi-4",
    "Metharme": "pygmalion-6b pygmalion-7b pygmalion-2-13b mythalion-13b metharme-7b",
    "Vicuna-v1.1": "LongChat-7b-16k llava-v1.5-13b liuhaotian_llava-v1.5-13b llava-1.6-7b vicuna-13b-v1.5 "
    "vicuna-7b-1.1 airoboros-l2-70b-gpt4-m2.0 airoboros-33b-gpt4-1.4 airoboros-l2-13b-gpt4-1.4.1 airoboros-l2-7b-2.1 "
    "WizardLM-13B Xwin-LM-70B-V0.1 platypus-yi-34b",
    "Airoboros-v1.2": "airoboros-13b-gpt4-1.2 airoboros-7b-gpt4-1.2.gguf",
    "Vicuna-v0": "guanaco-33b guanaco-65b.Q4_0.gguf TheBloke_guanaco-7B-GPTQ vicuna-13b-v0 xgen-7b-8k-inst",
    "Guanaco non-chat": "Guanaco JosephusCheung_Guanaco guanaco-non-chat",
    "Guanaco-QLoRA": "llama-2-70b-Guanaco-QLoRA",
    "Manticore Chat": "minotaur-13b manticore-13b-chat minotaur-15b",
    "LLaVA": "llava-13b llava-7b-v0",
    "Galactica v2": "galactica-1.3b-v2",
    "Galactica": "galactica-6.7b",
    "Galactica Finetuned": "galactica-30b-evol-instruct-70k",
    "INCITE-Chat": "h2ogpt-oasst1-512-12b h2ogpt-oig-oasst1-512-6.9b h2ogpt-research-oasst1-512-30b "
    "RedPajama-INCITE-7B-Chat",
    "H2O-prompt_answer": "h2ogpt-gm-oasst1-en-2048-falcon-7b",
    "Alpaca": "alpaca-13b chinese-vicuna-7b Nous-Hermes-13b galpaca-30b mpt-7b-instruct Platypus2-70B",
    "Chinese-Vicuna-Chat": "chinese-vicuna-7b-chat",
    "OpenOrca-Platypus2": "OpenOrca-Platypus2-13B",
    "Open Assistant": "oasst-sft-4-pythia-12b stablelm-7b-sft-v7-epoch-3",
    "Gemma": "gemma-2-9b-it gemma-7b-it.Q4_K_M.gguf",
    "Command-R": "c4ai-command-r-v01 command-r-plus command-r7b",
    "OpenChat": "openchat-3.5 Starling-LM-7B-alpha",
    "Vigogne-Instruct": "vigogne-7b vigogne-33b-instruct",
    "Vigogne-Chat": "vigogne-2-7b-chat",
    "Zephyr": "zephyr-7b-beta TinyLlama-1.1B-Chat-v1.0",
}


@pytest.fixture
def shipped(paths: Paths) -> ModelSettings:
    (paths.models / "config.yaml").write_bytes((ROOT / "models" / "config.yaml").read_bytes())
    return ModelSettings(paths)


@pytest.mark.parametrize("template", _NAMES)
def test_a_name_finds_its_family(shipped: ModelSettings, template: str) -> None:
    for name in _NAMES[template].split():
        assert (name, shipped.entry(name).get("instruction_template", "")) == (name, template)


#: What models of a family write after a reply and neither their template nor their end token says; as in the original.
_STOPS = {
    "wizard-mega-13B": ["</s>"], "starchat-beta": ["<|end|>"], "dolly-v2-12b": ["### End"], "llava-13b": ["\n###"],
    "OpenOrca-Platypus2-13B": ["### Instruction:", "### Response:"],
    "openorca-platypus2-13b.Q4_K_M.gguf": ["### Instruction:", "### Response:"],
    "llava-v1.5-13b": [], "Platypus2-70B": [], "alpaca-13b": [],
}  # fmt: skip


@pytest.mark.parametrize("name", _STOPS)
def test_families_that_need_stop_strings_have_them(shipped: ModelSettings, name: str) -> None:
    assert parse_quoted_strings(shipped.sampling_for(name).get("custom_stopping_strings", "")) == _STOPS[name]


def test_a_version_is_never_a_size(shipped: ModelSettings) -> None:
    """A name with more digits (llama-34b) or a size (llama-3b) is not of that family."""
    families = {
        "llama-{}-instruct": "3", "llama-{}-chat": "2", "llama{}-instruct": "3", "qwen-{}": "3", "phi-{}": "34",
        "hermes-{}": "234", "orca-{}": "24", "x-galactica-6b-v{}": "2",
    }  # fmt: skip
    for form, versions in families.items():
        for version in versions:
            right = shipped.entry(form.format(version))["instruction_template"]
            for more in ("0", "4b", "4", "00", "2k"):
                other = shipped.entry(form.format(version + more)).get("instruction_template")
                assert other != right, form.format(version + more)


def test_every_pattern_with_a_number_at_its_end_says_what_may_not_follow() -> None:
    for pattern in read_mapping(ROOT / "models" / "config.yaml"):
        for part in re.split(r"[|:]", re.sub(r"\(\?[!<=].*?\)", "#", str(pattern))):
            assert not re.search(r"[0-9]\)*$", part), f"{pattern}: {part} also matches longer numbers"
