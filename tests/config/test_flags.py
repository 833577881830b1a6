"""Flags from both sources, with errors that name the place and the problem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from errors import BadFlagValue, InvalidInput, UnknownFlag, did_you_mean
from loaders import LOADERS, cache_types
from loaders.base import Loader
from loaders.llamacpp.options import ALL_LAYERS
from loaders.nearest_value import nearest_value
from loaders.params import SamplingParams
from modules.config.flag_catalog import FlagCatalog
from modules.config.flags import LaunchOptions, read_flags
from modules.config.ignored_flags import ignored_flags
from modules.config.server_flags import NOT_YET, ServerFlags

Loaders = Mapping[str, type[Loader]]

_NAMED = """
--multi-user --character --model --lora --model-dir --lora-dir --model-menu --settings --extensions --verbose
--chat-buttons --loader --cpu --auto-devices --gpu-memory --cpu-memory --disk --disk-cache-dir --load-in-8bit --bf16
--no-cache --trust-remote-code --force-safetensors --no_use_fast --use_flash_attention_2 --load-in-4bit
--use_double_quant --compute_dtype --quant_type --tensorcores --n_ctx --threads --threads-batch --no_mul_mat_q
--n_batch --no-mmap --mlock --n-gpu-layers --tensor_split --numa --logits_all --no_offload_kqv --cache-capacity
--cache-type --flash-attn --parallel --rpc --model-draft --ctx-size --gpu-layers --gpu-split --max_seq_len --cfg-cache
--no_flash_attn --cache_8bit --cache_4bit --num_experts_per_token --triton --no_inject_fused_attention
--no_inject_fused_mlp --no_use_cuda_fp16 --desc_act --disable_exllama --disable_exllamav2 --wbits --model_type
--groupsize --pre_layer --checkpoint --monkey-patch --hqq-backend --deepspeed --nvme-offload-dir --local_rank
--alpha_value --rope_freq_base --compress_pos_emb --listen --listen-port --listen-host --share --auto-launch
--gradio-auth --gradio-auth-path --ssl-keyfile --ssl-certfile --api --public-api --public-api-id --api-port --api-key
--admin-key --nowebui --multimodal-pipeline --user-data-dir --idle-timeout --subpath --old-colors --portable
--api-enable-ipv6 --api-disable-ipv4 --chat-template-file --no-electron --row_split --batch-size --ubatch-size
--attention-sink-size --tokenizer-dir --cpp-runner --torch-compile --use_eager_attention --no_sdpa --no_xformers
--image-model-dir --preserve-thinking --no-preserve-thinking --enable-thinking --no-enable-thinking
--no-dynamic-temperature --no-temperature-last --no-do-sample --streaming-llm --no-kv-offload --enable-tp --tp-backend
--notebook --chat --cai-chat --no-stream --xformers --sdp-attention --gptq-bits --flexgen --percent --rwkv-strategy
"""
#: Every flag that REFERENCE.md and ORIGINAL.md 5.1 name.
NAMED = _NAMED.split()


def launch(loaders: Loaders, root: Path, *argv: str, file: str = "") -> LaunchOptions:
    (root / "CMD_FLAGS.txt").write_text(file, encoding="utf-8")
    return read_flags(argv, root, loaders)


def test_nothing_given_is_all_defaults(tmp_path: Path, loaders: Loaders) -> None:
    assert read_flags([], tmp_path, loaders) == LaunchOptions()
    assert ServerFlags().address == "http://127.0.0.1:7860"
    assert not ServerFlags().is_open


def test_flags_go_where_they_were_declared(tmp_path: Path, loaders: Loaders) -> None:
    got = launch(loaders, tmp_path, "--listen-port", "7999", "--n_ctx", "2048", "--temperature", "0.7", "--no-mmap")
    assert got.server.listen_port == 7999
    assert got.load_options == {"n_ctx": 2048, "no_mmap": True}
    assert got.sampling == {"temperature": 0.7}


def test_the_command_line_wins_over_the_file_also_with_another_spelling(tmp_path: Path, loaders: Loaders) -> None:
    got = launch(loaders, tmp_path, "--ctx-size=4096", "--listen-port", "2", file="--n_ctx 2048\n--listen_port 1")
    assert got.load_options == {"n_ctx": 4096}
    assert got.server.listen_port == 2


def test_a_value_may_suit_only_one_of_the_loaders_that_have_the_option(tmp_path: Path) -> None:
    """ExLlamaV2 drafts at most 7 tokens, llama.cpp 48."""
    asked = read_flags(["--loader", "llama.cpp", "--model-draft", "x", "--draft-max", "12"], tmp_path, LOADERS)
    options = LOADERS["llama.cpp"].Options.parse(asked.load_options).differing()
    assert options == {"draft_model": "x", "spec_draft_max": 12}


#: Flags that the original or llama.cpp accepts -> the value of the option here, and what the note says ("": no note).
OF_OTHERS = {
    **dict.fromkeys(
        (
            f"--spec-type {each}"
            for each in ("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache")
        ),
        ({"spec_type": "ngram"}, ""),
    ),
    **dict.fromkeys(
        (f"--spec-type {each}" for each in ["draft-mtp", "draft-eagle3", "draft-dflash", "ngram-mod,draft-mtp"]),
        ({"spec_type": "ngram"}, "not available here, using ngram"),
    ),
    "--spec-type none": ({"spec_type": "none"}, ""),
    "--spec-type draft-simple": ({"spec_type": "none"}, ""),
    "--spec-type ngram-simple,draft-simple": ({"spec_type": "ngram"}, ""),
    "--split-mode tensor": ({"split_mode": "layer"}, "not available here, using layer"),
    "--n-gpu-layers all": ({"n_gpu_layers": ALL_LAYERS}, ""),
    "--gpu-layers auto": ({"n_gpu_layers": -1}, ""),
    "--gpu-layers-draft all": ({"gpu_layers_draft": ALL_LAYERS}, ""),
    "--n-gpu-layers -2": ({"n_gpu_layers": -1}, "out of range, using -1"),
    "--draft-max 50": ({"draft_max": 48}, "out of range, using 48"),
    "--spec-ngram-size-m 64": ({"spec_ngram_size_m": 48}, "out of range, using 48"),
    "--parallel -1": ({"parallel": 4}, ""),
    "--numa": ({"numa": "on"}, ""),
    "--numa distribute": ({"numa": "on"}, ""),
    "--numa numactl": ({"numa": "numactl"}, ""),
    "--threads -1": ({"threads": 0}, "out of range, using 0"),
    "--batch-size 99999": ({"n_batch": 8192}, "out of range, using 8192"),
    "--n-batch 0": ({"n_batch": 1}, "out of range, using 1"),
    "--keep -1": ({"keep": 0}, "out of range, using 0"),
    "--n_ctx -5": ({"n_ctx": 0}, "out of range, using 0"),
    "--top-p 1.5": ({"top_p": 1.0}, "out of range, using 1."),
    "--temperature -1": ({"temperature": 0.0}, "out of range, using 0."),
    "--top-k -1": ({"top_k": 0}, ""),
    **{
        f"{flag} {word}": ({"flash_attn": value}, "")
        for flag in ("--flash_attn", "--flash-attn")
        for value, words in {"on": "on true 1 enabled", "off": "off false False 0 disabled", "auto": "auto"}.items()
        for word in words.split()
    },
}


@pytest.mark.parametrize("given", OF_OTHERS)
@pytest.mark.parametrize("in_file", [False, True], ids=["command line", "file"])
def test_values_that_others_accept_never_stop_the_start(tmp_path: Path, given: str, in_file: bool) -> None:
    expected, told = OF_OTHERS[given]
    got = launch(LOADERS, tmp_path, file=given) if in_file else launch(LOADERS, tmp_path, *given.split())
    assert {**got.load_options, **got.sampling} == expected
    assert len(got.notes) == bool(told)
    assert all(f"{given} o" in note and told in note for note in got.notes)


def test_a_note_about_a_value_goes_when_another_value_replaces_it(tmp_path: Path) -> None:
    assert not launch(LOADERS, tmp_path, "--threads", "4", file="--threads -1").notes


def each_option() -> list[tuple[str, str]]:
    return [
        (name, option)
        for name, loader in LOADERS.items()
        for option, knob in loader.Options.knobs().items()
        if knob.kind in ("int", "float")
    ]


@pytest.mark.parametrize(("loader", "option"), each_option())
def test_any_number_that_a_flag_says_is_one_that_each_loader_takes(tmp_path: Path, loader: str, option: str) -> None:
    for number in ("-1e9", "-7", "1e12"):
        given = (
            f"--{option}={number}"
            if LOADERS[loader].Options.knobs()[option].kind == "float"
            else (f"--{option}={int(float(number))}")
        )
        asked = read_flags([given], tmp_path, LOADERS).load_options
        kind = LOADERS[loader].Options
        (key,) = asked
        kind.parse({option: nearest_value(kind, key, asked[key])[0]})


def test_dashes_and_underscores_are_the_same(tmp_path: Path, loaders: Loaders) -> None:
    assert launch(loaders, tmp_path, "--auto_launch", "--model_dir", "m").server.auto_launch
    assert launch(loaders, tmp_path, "--no_mmap").load_options == {"no_mmap": True}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--listen"], True),
        (["--listen", "true"], True),
        (["--listen=false"], False),
        (["--listen", "--share", "--listen=false"], False),
    ],
)
def test_switches_stand_alone_or_say_it(tmp_path: Path, loaders: Loaders, argv: list[str], expected: bool) -> None:
    assert launch(loaders, tmp_path, *argv).server.listen is expected


def test_a_switch_that_is_on_by_default_has_a_no_form(tmp_path: Path, loaders: Loaders) -> None:
    assert launch(loaders, tmp_path, "--no-do-sample").sampling == {"do_sample": False}
    assert launch(loaders, tmp_path, "--do_sample", "false").sampling == {"do_sample": False}


def test_a_choice_with_on_may_stand_alone(tmp_path: Path, loaders: Loaders) -> None:
    assert launch(loaders, tmp_path, "--flash-attn", "--api").load_options == {"flash_attn": "on"}
    assert launch(loaders, tmp_path, "--flash-attn", "off").load_options == {"flash_attn": "off"}


def test_lists_and_negative_numbers(tmp_path: Path, loaders: Loaders) -> None:
    got = launch(loaders, tmp_path, "--lora", "a", "b", "--guidance-scale", "-0.5", "--seed=-1")
    assert got.server.lora == ("a", "b")
    assert got.sampling == {"guidance_scale": -0.5, "seed": -1}


def test_an_unknown_flag_names_its_place_and_the_nearest(tmp_path: Path, loaders: Loaders) -> None:
    with pytest.raises(UnknownFlag, match=r"--listn-port on line 2 of CMD_FLAGS.txt\. Did you mean --listen-port\?"):
        launch(loaders, tmp_path, file="--api\n--listn-port 7\n")
    with pytest.raises(UnknownFlag, match=r"--mlok on the command line\. Did you mean"):
        launch(LOADERS, tmp_path, "--mlok")


@pytest.mark.parametrize("flag", ["--list", "--mod", "-listen", "--", "--no-listen", "-v"])
def test_flags_are_not_abbreviated(tmp_path: Path, loaders: Loaders, flag: str) -> None:
    with pytest.raises(UnknownFlag):
        launch(loaders, tmp_path, flag)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--listen-port", "abc"], "--listen-port on the command line .*whole|valid integer"),
        (["--listen-port", "99999"], "less than or equal to 65535"),
        (["--n_ctx", "many"], "valid integer"),
        (["--n_ctx", "nan"], "valid integer"),
        (["--flash-attn", "maybe"], "'auto', 'on' or 'off'"),
        (["--model"], "it requires a value"),
        (["--model", "--api"], "it requires a value"),
        (["--listen=maybe"], "not take a value"),
    ],
)
def test_a_bad_value_is_one_sentence(tmp_path: Path, loaders: Loaders, argv: list[str], words: str) -> None:
    with pytest.raises(BadFlagValue, match=words):
        launch(loaders, tmp_path, *argv)


def test_a_stray_word_asks_for_quotes(tmp_path: Path, loaders: Loaders) -> None:
    with pytest.raises(InvalidInput, match=r"'model.gguf' on line 1 of CMD_FLAGS.txt .* in quotes"):
        launch(loaders, tmp_path, file="--model my model.gguf")


def test_flags_without_a_meaning_get_one_line_each(tmp_path: Path, loaders: Loaders) -> None:
    got = launch(loaders, tmp_path, "--pre-layer", "10", "7", "--triton", "--wbits", "4", "--triton", "--multi-user")
    assert len(got.notes) == 4
    assert got.notes[0].startswith("--pre-layer is accepted but has no effect: ")
    assert got.server.multi_user is True


@pytest.mark.parametrize("flag", NAMED)
def test_every_flag_of_the_original_is_accepted(tmp_path: Path, flag: str) -> None:
    catalogue = FlagCatalog.of(LOADERS)
    name = flag.removeprefix("--").replace("-", "_")
    if name.startswith("no_") and name not in {**catalogue.flags, **catalogue.foreign}:
        launch(LOADERS, tmp_path, flag)
    elif name in catalogue.foreign:
        argv = [flag] if catalogue.foreign[name].takes == "nothing" else [flag, "1"]
        assert len(launch(LOADERS, tmp_path, *argv).notes) == 1
    else:
        known = catalogue.flags[name]
        value = known.knob.choices[0] if known.knob.choices else "1" if known.name != "loader" else "llama.cpp"
        launch(LOADERS, tmp_path, flag, *([] if known.words == "nothing" else [value]))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--gpu-memory 10 5", "gpu_memory", "10,5"),
        ("--gpu-memory 3500MiB 10GiB 7.5", "gpu_memory", "3500MiB,10GiB,7.5"),
        ("--gpu-memory 10, 5", "gpu_memory", "10,5"),
        ("--gpu-memory 10,5", "gpu_memory", "10,5"),
        ("--gpu-memory=10,5", "gpu_memory", "10,5"),
        ("--gpu-memory 10", "gpu_memory", "10"),
        ("--gpu-split 20 7,7", "gpu_split", "20,7,7"),
        ("--tensor_split 60 40", "tensor_split", "60,40"),
        ("--cpu-memory 24", "cpu_memory", "24"),
        ("--disk-cache-dir 'my cache'", "disk_cache_dir", "my cache"),
    ],
)
def test_sizes_for_several_cards_have_spaces_or_commas_between(
    tmp_path: Path, words: str, name: str, value: str
) -> None:
    assert launch(LOADERS, tmp_path, file=f"{words} --api").load_options == {name: value}


def test_a_word_that_is_no_size_still_asks_for_quotes(tmp_path: Path) -> None:
    for words in ("--gpu-memory 10 card", "--gpu-memory card 10", "--disk-cache-dir my cache", "--threads 4 5"):
        with pytest.raises(InvalidInput, match="in quotes"):
            launch(LOADERS, tmp_path, file=words)


def test_a_quoted_value_may_look_like_flags(tmp_path: Path) -> None:
    assert len(launch(LOADERS, tmp_path, file='--extra-flags "--jinja --rpc 1.2.3.4:5" --api').notes) == 1


_CACHES = "fp16 f16 bf16 fp8 q8 q8_0 Q8_0 8bit q6 q5_0 q5_1 q5 q4 q4_0 q4_1 iq4_nl q3 q2 q8_q4 q4_q8 q6_q5 f32 8"


@pytest.mark.parametrize("given", _CACHES.split())
def test_cache_types_of_the_original_become_the_nearest(tmp_path: Path, given: str) -> None:
    got = launch(LOADERS, tmp_path, "--cache-type", given)
    for loader in LOADERS.values():
        knob = loader.Options.knobs().get("cache_type")
        if knob is None:
            continue
        taken = str(getattr(loader.Options.parse({"cache_type": got.load_options["cache_type"]}), knob.name))
        wanted = min(cache_types.cache_type_bits(given.lower()), max(map(cache_types.cache_type_bits, knob.choices)))
        assert cache_types.cache_type_bits(taken) >= wanted > 0
        between = [
            each
            for each in knob.choices
            if wanted <= cache_types.cache_type_bits(each) < cache_types.cache_type_bits(taken)
        ]
        assert not between, f"{between} is nearer to {given} than {taken}"
        told = any("closest" in note for note in got.notes)
        assert told or cache_types.cache_type_bits(taken) == cache_types.cache_type_bits(given.lower())


@pytest.mark.parametrize("given", ["q9", "fast", "f64", "", "q8_0_x", "-1", "q"])
def test_what_is_no_cache_type_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(BadFlagValue, match="cache_type"):
        launch(LOADERS, tmp_path, f"--cache-type={given}")


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--no-dynamic-temperature", {"dynamic_temperature": False}),
        ("--dynamic-temperature", {"dynamic_temperature": True}),
        ("--no_temperature_last", {"temperature_last": False}),
        ("--no-ban-eos-token", {"ban_eos_token": False}),
        ("--no-enable-thinking", {}),
        ("--no-preserve-thinking", {}),
    ],
)
def test_switches_have_both_forms(tmp_path: Path, flag: str, values: Mapping[str, bool]) -> None:
    got = launch(LOADERS, tmp_path, flag)
    assert got.sampling == values
    assert len(got.notes) == (not values)


SPELLINGS = {
    "Transformers": "hf HF huggingface hugging_face hugging-face transformers",
    "llama.cpp": "llamacpp llama-cpp llama_cpp LLAMA.CPP",
    "llamacpp_HF": "llamacpp-hf llama.cpp_hf llama-cpp-hf llamacpphf",
    "ExLlamav2": "exllamav2 exllama-v2 ex_llama-v2 exlamav2 exlama-v2 exllama2 exllama-2",
    "ExLlamav2_HF": "exllama2_hf exllamav2-hf ex_llama-v2_hf exlamav2_hf exllama-v2-hf",
    "": "awq auto-awq autogptq gptq-for-llama gptqllama gptq_for_llama quip# quip-sharp quipsharp hqq exllama "
    "ex-llama exlama exllama-hf ctransformers exllamav3 exllama3_hf exllama-v3-hf tensorrt tensorrt_llm tensort",
}


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, each) for name, all_ in SPELLINGS.items() for each in all_.split()]
)
def test_loaders_in_every_spelling_of_the_original(tmp_path: Path, name: str, spelling: str) -> None:
    got = launch(LOADERS, tmp_path, "--loader", spelling)
    assert got.server.loader == name
    assert len(got.notes) == (not name)


def test_a_hint_names_what_is_near_and_nothing_else() -> None:
    near = {
        "temprature": "temperature",
        "top-pp": "top_p",
        "listn_port": "listen_port",
        "MIROSTAT-MOD": "mirostat_mode",
    }
    known = [*SamplingParams.knobs(), *ServerFlags.knobs()]
    for given, meant in near.items():
        assert did_you_mean(given, known) == f" Did you mean {meant}?"
    for given in ("enable_thinking", "truncation_length_min_max_of_all", "paste_to_attachment", "spellcheck"):
        assert did_you_mean(given, known) == ""


def test_the_tables_name_each_flag_once() -> None:
    catalogue = FlagCatalog.of(LOADERS)
    declared = [flag.name for flag in catalogue.acting]
    assert len(declared) == len(set(declared))
    assert set(NOT_YET) <= set(ServerFlags.knobs())
    assert set(ignored_flags()) <= set(catalogue.foreign), "a declared flag left in the table"


def test_loaders_are_named_loosely(tmp_path: Path, loaders: Loaders) -> None:
    assert launch(loaders, tmp_path, "--loader", "Tiny-CPP").server.loader == "tiny.cpp"
    got = launch(loaders, tmp_path, "--loader", "exllamav3_hf")
    assert got.server.loader == ""
    assert "ExLlamav3_HF is accepted" in got.notes[0]
    with pytest.raises(
        BadFlagValue, match=r"--loader on line 1 of CMD_FLAGS.txt: there is no loader 'tony.cpp'. Did you mean"
    ):
        launch(loaders, tmp_path, file="--loader tony.cpp")


def test_openness_is_warned_about(tmp_path: Path, loaders: Loaders) -> None:
    assert "Anyone who can reach" in launch(loaders, tmp_path, "--listen").notes[-1]
    assert not launch(loaders, tmp_path, "--listen", "--gradio-auth", "a:b").notes
    assert launch(loaders, tmp_path, "--listen").server.host == "0.0.0.0"
    assert launch(loaders, tmp_path, "--listen-host", "::").server.is_open


def test_help_shows_every_flag_and_ends(tmp_path: Path, loaders: Loaders, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read_flags(["--help"], tmp_path, loaders)
    assert end.value.code == 0
    text = capsys.readouterr().out
    for shown in ("--n-ctx N", "--listen-port N", "--no-do-sample", "--temperature X", "tiny.cpp:", "--wbits"):
        assert shown in text
    assert max(len(line) for line in text.splitlines()) <= 110


@pytest.mark.parametrize("name", ["cpu-moe", "row-split", "cpu", "mlock", "context-shift"])
def test_a_switch_of_loading_may_be_taken_back(tmp_path: Path, name: str) -> None:
    """CMD_FLAGS.txt may have switched it on."""
    option = name.replace("-", "_")
    (tmp_path / "CMD_FLAGS.txt").write_text(f"--{name}\n")
    assert read_flags([], tmp_path, LOADERS).load_options == {option: True}
    assert read_flags([f"--no-{name}"], tmp_path, LOADERS).load_options == {option: False}
    assert read_flags([f"--no_{option}"], tmp_path, LOADERS).load_options == {option: False}
