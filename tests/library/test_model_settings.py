"""Settings saved for each model, in the original's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import BadFile
from loaders import LOADERS
from loaders.llamacpp.draft_loading import find_draft
from loaders.llamacpp.options import LlamaCppOptions
from loaders.nearest_value import nearest_value
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping, write_mapping
from modules.library.load_specs import LoadSpecs
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings


def test_nothing_is_kept_at_first(model_settings: ModelSettings) -> None:
    assert model_settings.options_for("a.gguf", "fake") == ({}, "")
    assert model_settings.loader_for("a.gguf") is None


def test_what_is_saved_comes_back_with_its_reason(paths: Paths, model_settings: ModelSettings) -> None:
    model_settings.save("a (1+1).gguf", "fake", {"n_ctx": 2048, "cpu": True})
    assert model_settings.options_for("A (1+1).gguf", "fake") == ({"n_ctx": 2048, "cpu": True}, "from config-user.yaml")
    assert model_settings.loader_for("a (1+1).gguf") == "fake"
    assert model_settings.options_for("a (1+1).gguf2", "fake")[0] == {}
    assert list(read_mapping(paths.models / "config-user.yaml")) == [r"^a\ \(1\+1\)\.gguf$"]


def test_saving_keeps_what_else_is_there(paths: Paths, model_settings: ModelSettings) -> None:
    path = paths.models / "config-user.yaml"
    path.write_text("^a\\.gguf$:\n  loader: old\n  instruction_template: Alpaca\n.*b.*:\n  n_ctx: 7\n")
    model_settings.save("a.gguf", "fake", {"n_ctx": 1})
    assert read_mapping(path) == {
        "^a\\.gguf$": {"loader": "fake", "instruction_template": "Alpaca", "n_ctx": 1},
        ".*b.*": {"n_ctx": 7},
    }


def test_later_matches_and_the_users_file_win(paths: Paths, model_settings: ModelSettings) -> None:
    (paths.models / "config.yaml").write_text(
        ".*:\n  n_ctx: 1\n.*MISTRAL.*:\n  n_ctx: 2\n  cpu: true\nother:\n  n_ctx: 3\n"
    )
    assert model_settings.options_for("mistral.gguf", "fake") == ({"n_ctx": 2, "cpu": True}, "from config.yaml")
    (paths.models / "config-user.yaml").write_text("mistral.gguf$:\n  ctx-size: 9\n  wbits: None\n")
    options, reason = model_settings.options_for("mistral.gguf", "fake")
    assert options == {"n_ctx": 9, "cpu": True}
    assert reason == "from config.yaml; from config-user.yaml"
    assert model_settings.user_options_for("mistral.gguf", "fake") == {"n_ctx": 9}
    assert model_settings.entry("mistral.gguf")["wbits"] == "None"


def test_names_that_the_original_did_not_escape(paths: Paths, model_settings: ModelSettings) -> None:
    (paths.models / "config-user.yaml").write_text("c++ (7B$:\n  n_ctx: 5\n")
    assert model_settings.options_for("C++ (7B", "fake")[0] == {"n_ctx": 5}


def test_a_bad_value_is_left_out_and_told(paths: Paths, model_settings: ModelSettings) -> None:
    (paths.models / "config-user.yaml").write_text(".*:\n  n_ctx: much\n  cpu: true\n")
    options, reason = model_settings.options_for("a", "fake")
    assert options == {"cpu": True}
    assert "config-user.yaml: n_ctx" in reason


@pytest.mark.parametrize(
    ("entry", "expected", "told"),
    [
        ({"threads": -1}, {"threads": 0}, "threads -1 is out of range, using 0"),
        ({"gpu_layers": -3}, {"n_gpu_layers": -1}, "gpu_layers -3 is out of range, using -1"),
        ({"n_batch": 99999}, {"n_batch": 8192}, "n_batch 99999 is out of range, using 8192"),
        ({"min_p": 1.5}, {}, "min_p 1.5 is out of range, using 1"),
        ({"spec_type": "draft-mtp"}, {"spec_type": "ngram"}, "spec_type draft-mtp is not available here, using ngram"),
        ({"n_gpu_layers": "all"}, {"n_gpu_layers": 999}, ""),
        ({"flash_attn": 0}, {"flash_attn": "off"}, ""),
        ({"flash_attn": "true"}, {"flash_attn": "on"}, ""),
        ({"flash_attn": True}, {"flash_attn": "on"}, ""),
    ],
)
def test_values_that_others_accept_become_the_nearest(
    paths: Paths, entry: dict[str, object], expected: dict[str, object], told: str
) -> None:
    write_mapping(paths.models / "config-user.yaml", {"a$": entry})
    settings = ModelSettings(paths)
    options, reason = settings.options_for("a", "llama.cpp")
    assert options == expected
    assert f"config-user.yaml: {told}" in reason if told else "using" not in reason
    assert settings.sampling_for("a") == ({"min_p": 1.0} if "min_p" in entry else {})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"gpu_memory_0": 3000, "cpu_memory": 0}, {"gpu_memory": "3000MiB", "cpu_memory": ""}),
        (
            {"gpu_memory_0": 3000, "gpu_memory_1": 2000, "cpu_memory": 8192},
            {"gpu_memory": "3000MiB,2000MiB", "cpu_memory": "8192MiB"},
        ),
        ({"gpu_memory_1": 500, "gpu_memory_0": 0}, {"gpu_memory": "0MiB,500MiB"}),
        ({"gpu_memory_0": 0, "gpu_memory_1": 0}, {}),
        ({"gpu_memory_0": None, "gpu_memory_10": "7", "gpu_memory_2": 5}, {"gpu_memory": "0MiB,5MiB,7MiB"}),
        ({"cpu_memory": 24}, {"cpu_memory": "24GiB"}),
        ({"cpu_memory": 24.5}, {"cpu_memory": "24.5GiB"}),
        ({"cpu_memory": 16384}, {"cpu_memory": "16384MiB"}),
        ({"cpu_memory": "3500MiB"}, {"cpu_memory": "3500MiB"}),
        ({"gpu_memory": [10, 5]}, {"gpu_memory": "10,5"}),
        ({"gpu_memory": 10}, {"gpu_memory": "10GiB"}),
        ({"cache_type": "q8"}, {}),
    ],
)
def test_memory_as_the_originals_sliders_write_it(
    paths: Paths, entry: dict[str, object], expected: dict[str, str]
) -> None:
    write_mapping(paths.models / "config-user.yaml", {"a$": entry})
    options, reason = ModelSettings(paths).options_for("a", "Transformers")
    assert options == expected
    assert "should be" not in reason
    kind = LOADERS["Transformers"].Options
    assert isinstance(kind, type)
    kind.parse(options)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"skip_special_tokens": False}, {"skip_special_tokens": False}),
        ({"custom_stopping_strings": '"### End"', "n_ctx": 5}, {"custom_stopping_strings": '"### End"'}),
        ({"truncation_length": 4096, "temperature": 0.5}, {"truncation_length": 4096, "temperature": 0.5}),
        ({"truncation_length": "many", "mode": "instruct", "wbits": 4, "seed": None}, {}),
        ({"custom_stopping_strings": "", "skip_special_tokens": True, "truncation_length": 0}, {}),  # sets nothing
    ],
)
def test_start_values_of_replies_in_a_models_entry(
    paths: Paths, entry: dict[str, object], expected: dict[str, object]
) -> None:
    write_mapping(paths.models / "config-user.yaml", {"a$": entry})
    settings = ModelSettings(paths)
    assert settings.sampling_for("a") == expected
    assert settings.sampling_for("b") == {}
    _, reason = settings.options_for("a", "llama.cpp")
    assert all(name in reason for name in expected)
    assert ("sets for every reply" in reason) == bool(expected)
    assert ("truncation_length should be" in reason) == (entry.get("truncation_length") == "many")
    write_mapping(paths.models / "config-user.yaml", {"a$": {"seed": 77}})
    assert settings.sampling_for("a") == {"seed": 77}


def test_an_empty_start_value_of_the_user_takes_back_a_shipped_one(paths: Paths) -> None:
    write_mapping(paths.models / "config.yaml", {"a$": {"custom_stopping_strings": '"</s>"', "seed": 5}})
    write_mapping(paths.models / "config-user.yaml", {"a$": {"custom_stopping_strings": "", "seed": 5}})
    settings = ModelSettings(paths)
    assert settings.sampling_for("a") == {"seed": 5}
    _, reason = settings.options_for("a", "llama.cpp")
    assert "config-user.yaml sets for every reply: custom_stopping_strings" in reason
    assert "config-user.yaml sets for every reply: custom_stopping_strings, seed" not in reason


_DRAFT = {"gpu_layers_draft": 256, "device_draft": "", "ctx_size_draft": 0, "draft_max": 4}


@pytest.mark.parametrize(
    ("entry", "flags", "expected"),
    [
        ({"flash_attn": True}, {}, {"flash_attn": "on"}),
        ({"flash_attn": False}, {}, {"flash_attn": "off"}),
        ({"cache_8bit": True, "cache_4bit": False}, {}, {"cache_type": "q8_0"}),
        ({"cache_8bit": True, "cache_4bit": True}, {}, {"cache_type": "q4_0"}),
        ({"cache_4bit": False}, {}, {"cache_type": "f16"}),
        ({"cache_type": "q8_0", "cache_4bit": True}, {}, {"cache_type": "q8_0"}),
        ({}, {"cache_4bit": True}, {"cache_type": "q4_0"}),
        ({**_DRAFT, "model_draft": None}, {}, {"draft_model": "", "gpu_layers_draft": -1}),
        ({**_DRAFT, "model_draft": "None"}, {}, {"draft_model": "", "gpu_layers_draft": -1}),
        ({**_DRAFT, "model_draft": "small"}, {}, {"draft_model": "small", "gpu_layers_draft": 256}),
        (_DRAFT, {"draft_model": "small"}, {"draft_model": "small", "gpu_layers_draft": 256}),
        ({"tensor_split": "None", "mmproj": "None"}, {}, {"tensor_split": ""}),
    ],
)
def test_an_entry_that_a_version_of_the_original_has_saved_loads(
    paths: Paths, entry: dict[str, object], flags: dict[str, object], expected: dict[str, object]
) -> None:
    """Switches that have become choices, "None" for nothing, and options of a draft model that is not there."""
    (paths.models / "a.gguf").touch()
    write_mapping(paths.models / "config-user.yaml", {"a.gguf$": entry})
    options, origin = LoadSpecs(ModelCatalog(paths), ModelSettings(paths), LOADERS, flags).default_options(
        "a.gguf", "llama.cpp"
    )
    assert {name: getattr(options, name) for name in expected} == expected
    assert "should be" not in origin
    assert isinstance(options, LlamaCppOptions)
    if not options.draft_model:
        assert find_draft(paths.models / "a.gguf", options) is None


_SIZES = {"draft_max": 4, "spec_ngram_size_m": 48}


@pytest.mark.parametrize("sizes", [_SIZES, dict(reversed(_SIZES.items()))], ids=["in order", "reversed"])
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"draft_model": "small"}, (4, 48)),
        ({"model_draft": "small", "spec_type": "draft-simple"}, (4, 48)),
        ({"draft_model": "small", "spec_type": "ngram-mod", "draft_max": 8}, (8, 48)),
        ({"spec_type": "ngram-simple"}, (4, 48)),
        ({"spec_type": "ngram", "spec_ngram_size_m": 0}, (4, 4)),
        ({"spec_type": "ngram", "spec_ngram_size_m": 64}, (4, 48)),
        ({"spec_type": "ngram", "spec_ngram_size_m": 12}, (4, 12)),
        ({"spec_type": "none"}, (4, 48)),
    ],
)
def test_each_way_of_drafting_has_its_own_most_tokens(
    paths: Paths, sizes: dict[str, object], more: dict[str, object], expected: tuple[int, int]
) -> None:
    """The original saves both, whichever is in use."""
    (paths.models / "a.gguf").touch()
    flags = {LlamaCppOptions.spellings()[key]: value for key, value in {**sizes, **more}.items()}
    flags = {key: nearest_value(LlamaCppOptions, key, value)[0] for key, value in flags.items()}
    for entry, defaults in (({**sizes, **more}, {}), ({}, flags)):
        write_mapping(paths.models / "config-user.yaml", {"a.gguf$": entry})
        specs = LoadSpecs(ModelCatalog(paths), ModelSettings(paths), LOADERS, defaults)
        options, _ = specs.default_options("a.gguf", "llama.cpp")
        assert isinstance(options, LlamaCppOptions)
        assert (options.spec_draft_max, options.most_repeated) == expected


def test_the_old_switches_stay_where_a_loader_has_them(paths: Paths) -> None:
    write_mapping(paths.models / "config-user.yaml", {"a$": {"cache_4bit": True}})
    assert ModelSettings(paths).options_for("a", "ExLlamav2")[0] == {"cache_4bit": True}
    assert ModelSettings(paths).options_for("a", "llamacpp_HF")[0] == {"cache_type": "q4_0"}
    assert ModelSettings(paths).options_for("a", "Transformers")[0] == {}


def test_a_broken_file_is_not_overwritten(paths: Paths, model_settings: ModelSettings) -> None:
    path = paths.models / "config-user.yaml"
    path.write_text("a: [")
    with pytest.raises(BadFile, match=r"config-user\.yaml"):
        model_settings.save("a", "fake", {})
    assert path.read_text() == "a: ["


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30), st.text(max_size=10))
def test_any_name_finds_itself_and_nothing_else(model_settings: ModelSettings, name: str, other: str) -> None:
    model_settings.save(name, "fake", {"n_ctx": 77})
    assert model_settings.options_for(name, "fake")[0] == {"n_ctx": 77}
    model_settings.save(name, "fake", {"n_ctx": 0})
    assert model_settings.options_for(name + "x" + other, "fake")[0].get("n_ctx") != 77


@pytest.mark.parametrize("broken", [b"\xff\xfe\x00\x81", b"a: [", b"- a list", b"a: " + b"[" * 100_000])
def test_a_broken_file_is_said_and_passed_over(
    paths: Paths, models: ModelManager, gguf: Callable[..., Path], broken: bytes
) -> None:
    gguf("a.gguf")
    (paths.models / "config.yaml").write_text(".*:\n  n_ctx: 7\n")
    (paths.models / "config-user.yaml").write_bytes(broken)
    options, reason = models.default_options("a.gguf", "fake")
    assert options.model_dump()["n_ctx"] == 7
    assert "config-user.yaml cannot be read" in reason
    models.load("a.gguf")
    assert models.state.phase == "loaded"
    assert "config-user.yaml cannot be read" in " ".join(models.state.notes)
    with pytest.raises(BadFile, match=r"config-user\.yaml"):
        models.save_options("a.gguf", "fake", {})
    assert (paths.models / "config-user.yaml").read_bytes() == broken
