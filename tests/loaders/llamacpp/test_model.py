"""The llama.cpp loader on the real model: the contract of loaders.base, and what it refuses."""

from __future__ import annotations

import gc
import struct
import threading
import time
from pathlib import Path

import psutil
import pytest

from errors import (
    EmptyPrompt,
    InvalidGrammar,
    InvalidInput,
    InvalidToken,
    LoadCancelled,
    ModelClosed,
    ModelFileError,
    NotEnoughMemory,
    PromptTooLong,
)
from loaders import loader_named
from loaders.base import Finish, Model, Report, Request
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.zoo import ggufs

FRANCE = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
GREEDY = SamplingParams(do_sample=False)


def ask(
    model: Model, prompt: str, params: SamplingParams = GREEDY, max_tokens: int = 32, **more: object
) -> tuple[str, Report]:
    request = Request(model.tokenizer.encode(prompt), params, max_tokens, **more)  # type: ignore[arg-type]
    stream = model.generate(request)
    return b"".join(token.data for token in stream).decode("utf-8", "replace"), stream.report


def test_it_knows_the_capital_of_france(demo_model: Model) -> None:
    text, report = ask(demo_model, FRANCE)
    assert "Paris" in text
    assert report.finish is Finish.STOP
    assert report.prompt_tokens == 16


def test_encode_and_piece_are_inverse(demo_model: Model) -> None:
    text = "  Zwei  Leerzeichen,\n\ttab, ünïcode 日本語 🦙 <|im_end|>"
    ids = demo_model.tokenizer.encode(text)
    assert b"".join(demo_model.tokenizer.piece(i, special=True) for i in ids).decode() == text
    assert any(demo_model.tokenizer.is_special(i) for i in ids)
    plain = demo_model.tokenizer.encode("<|im_end|>", special=False)
    assert len(plain) > 1


def test_the_same_seed_gives_the_same_text_and_another_one_does_not(apart: Model) -> None:
    params = SamplingParams(temperature=1.5, seed=7)
    first, report = ask(apart, "Once upon a time", params)
    assert report.seed == 7
    first = ask(apart, "Once upon a time", params)[0]  # from here on the prompt is in the cache, each time the same
    assert ask(apart, "Once upon a time", params)[0] == first
    assert ask(apart, "Once upon a time", params.changed(seed=8))[0] != first


def test_a_drawn_seed_is_told_and_repeats_the_reply(apart: Model) -> None:
    ask(apart, "Once upon a time", SamplingParams(temperature=1.5), max_tokens=1)
    text, report = ask(apart, "Once upon a time", SamplingParams(temperature=1.5))
    assert report.seed > 0
    again, _ = ask(apart, "Once upon a time", SamplingParams(temperature=1.5, seed=report.seed))
    assert again == text


def test_the_prompt_is_not_processed_twice(demo_model: Model) -> None:
    prompt = FRANCE * 8
    ask(demo_model, prompt, max_tokens=1)
    _, report = ask(demo_model, prompt + "Paris", max_tokens=1)
    assert report.reused_tokens >= 8 * 16 - 1
    assert report.reuse_reason == "from the cache"


def test_max_tokens_ends_with_length(demo_model: Model) -> None:
    _, report = ask(demo_model, "One two three", GREEDY.changed(ban_eos_token=True), max_tokens=5)
    assert (report.finish, report.new_tokens) == (Finish.LENGTH, 5)


def test_a_cancelled_reply_stops_within_one_token(demo_model: Model) -> None:
    cancel = threading.Event()
    request = Request(
        demo_model.tokenizer.encode("One"), GREEDY.changed(ban_eos_token=True), max_tokens=1500, cancel=cancel
    )
    stream = demo_model.generate(request)
    for _ in range(3):
        next(stream)
    cancel.set()
    done = stream.report.new_tokens
    list(stream)
    assert stream.report.finish is Finish.CANCELLED
    assert stream.report.new_tokens <= done + 1


def test_four_replies_are_decoded_together_and_a_fifth_waits(demo_model: Model) -> None:
    params = SamplingParams(ban_eos_token=True)
    ids = demo_model.tokenizer.encode("Count:")
    streams = [demo_model.generate(Request(ids, params, max_tokens=40)) for _ in range(5)]
    reports = []
    for stream in streams:
        assert sum(1 for _ in stream) == 40
        reports.append(stream.report)
    assert all(report.finish is Finish.LENGTH for report in reports)
    assert max(report.queued_seconds for report in reports[:4]) < reports[4].queued_seconds


def test_log_probabilities_and_alternatives(demo_model: Model) -> None:
    stream = demo_model.generate(Request(demo_model.tokenizer.encode(FRANCE), GREEDY, 4, alternatives=5))
    for token in stream:
        assert token.logprob is not None
        assert len(token.alternatives) == 5
        assert token.alternatives[0].id == token.id  # greedy takes the likeliest
        assert token.alternatives[0].logprob == pytest.approx(token.logprob)
        assert [a.logprob for a in token.alternatives] == sorted((a.logprob for a in token.alternatives), reverse=True)


def test_grammar_bans_and_bias_are_honoured(demo_model: Model) -> None:
    yes_no = SamplingParams(grammar_string='root ::= "yes" | "no"', temperature=2)
    assert ask(demo_model, FRANCE, yes_no)[0] in ("yes", "no")
    with pytest.raises(InvalidGrammar, match="Line 1, column 10"):
        ask(demo_model, FRANCE, SamplingParams(grammar_string="root ::= ("))
    paris = demo_model.tokenizer.encode(" Paris")[0]
    banned = GREEDY.changed(custom_token_bans=str(paris))
    assert " Paris" not in ask(demo_model, FRANCE, banned)[0]
    assert ask(demo_model, FRANCE, max_tokens=1, logit_bias={paris: 1000.0})[0] == " Paris"


@pytest.mark.parametrize(
    "values",
    [
        {"mirostat_mode": 1},
        {"mirostat_mode": 2},
        {"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 2},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
        {"dry_multiplier": 0.8},
        {"top_n_sigma": 1.0},
        {"typical_p": 0.5, "top_p": 0.9, "min_p": 0.05, "top_k": 40, "temperature_last": True},
        {"adaptive_target": 0.3},
        {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty_range": 0},
        {"min_length": 20},
        {"temperature": 0},
    ],
)
def test_every_native_sampler_writes_text(demo_model: Model, values: dict[str, object]) -> None:
    text, report = ask(demo_model, FRANCE, SamplingParams(seed=3).changed(**values), max_tokens=24)
    assert text.strip()
    assert report.new_tokens >= (20 if "min_length" in values else 1)


def test_bad_requests_end_alone(demo_model: Model) -> None:
    with pytest.raises(EmptyPrompt):
        demo_model.generate(Request([]))
    with pytest.raises(InvalidToken, match="ids range from 0 to 49151"):
        demo_model.generate(Request([1, 49152]))
    with pytest.raises(PromptTooLong, match=r"2,100 tokens, but only 2,047 fit"):
        demo_model.generate(Request([1] * 2100))
    assert "Paris" in ask(demo_model, FRANCE)[0]


# --- loading ---


def load(path: Path, **options: object) -> Model:
    loader = loader_named("llama.cpp")
    return loader.load(path, loader.Options.parse(options), keep_going)


def test_unloading_gives_memory_back_and_ends_what_runs(demo_model_path: Path) -> None:
    process = psutil.Process()
    load(demo_model_path, n_ctx=512, no_mmap=True).close()  # what the library itself keeps is not the model's
    gc.collect()
    before = process.memory_info().rss
    model = load(demo_model_path, n_ctx=2048, no_mmap=True)
    stream = model.generate(Request(model.tokenizer.encode("One"), SamplingParams(ban_eos_token=True), 2000))
    next(stream)
    assert process.memory_info().rss - before > 90_000_000
    model.close()
    model.close()
    with pytest.raises(ModelClosed):
        list(stream)
    with pytest.raises(ModelClosed):
        model.generate(Request([1]))
    for look in (lambda: model.tokenizer.encode("a"), lambda: model.tokenizer.piece(5)):
        with pytest.raises(ModelClosed):  # not an access to freed memory
            look()
    deadline = time.monotonic() + 5
    while process.memory_info().rss - before > 20_000_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.memory_info().rss - before < 20_000_000


def test_loading_can_be_cancelled(demo_model_path: Path) -> None:
    loader = loader_named("llama.cpp")
    with pytest.raises(LoadCancelled):
        loader.load(demo_model_path, loader.Options(), lambda fraction, _: fraction < 0.3)


def test_too_big_for_the_memory_is_refused_before_loading(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotEnoughMemory, match="lower n_ctx"):
        load(demo_model_path, n_ctx=2_000_000_000)
    found = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found._replace(available=10**6))
    with pytest.raises(NotEnoughMemory, match="smaller model"):
        load(demo_model_path)


def test_a_file_whose_weights_are_garbage_is_refused(tmp_path: Path, demo_model_path: Path) -> None:
    data = bytearray(demo_model_path.read_bytes())
    at = data.index(b"blk.0.attn_k.weight")
    data[at : at + 5] = b"xxx.0"
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"damaged\.gguf cannot be loaded: llama\.cpp says"):
        load(path)


def test_options_reach_the_engine_with_their_reasons(demo_model_path: Path) -> None:
    with load(demo_model_path, n_ctx=1024, cache_type="q8_0", flash_attn="on", threads=1, parallel=1) as model:
        assert model.context_length == 1024
        assert "context: 1,024 tokens, as requested" in model.notes
        assert "1 thread, as requested" in model.notes
        assert "Paris" in ask(model, FRANCE)[0]


# --- what a fresh reader broke ---


def test_odd_requests_end_alone(demo_model: Model) -> None:
    with pytest.raises(InvalidInput, match="alternatives"):
        demo_model.generate(Request([5], alternatives=-1))
    with pytest.raises(InvalidGrammar, match="nested"):
        ask(demo_model, FRANCE, SamplingParams(grammar_string="root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000))
    text, report = ask(demo_model, FRANCE, max_tokens=0)
    assert (text, report.finish) == ("", Finish.LENGTH)


def test_guidance_with_one_context_of_its_own(demo_model_path: Path) -> None:
    """Formerly, the engine had one sequence, guidance needs two, and its reader waited forever."""
    with load(demo_model_path, n_ctx=256, threads=1, parallel=1, separate_contexts=True) as model:
        params = GREEDY.changed(guidance_scale=1.5, ban_eos_token=True)
        assert ask(model, "One, two,", params, max_tokens=4)[1].new_tokens == 4


def test_a_file_that_would_abort_llama_cpp_is_refused(tmp_path: Path, demo_model_path: Path) -> None:
    data = bytearray(demo_model_path.read_bytes())
    key = b"llama.attention.layer_norm_rms_epsilon"
    at = data.index(key) + len(key) + 4
    data[at : at + 4] = struct.pack("<f", -1.0)
    path = tmp_path / "lying.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="metadata"):
        load(path)


def test_how_memory_nodes_are_used_is_set_once_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp takes it for as long as the process runs."""
    from loaders.llamacpp import native

    told: list[int] = []
    monkeypatch.setattr(native, "_numa", native._Numa())
    monkeypatch.setattr(native.C, "llama_numa_init", told.append)
    loader, path = loader_named("llama.cpp"), ggufs.make("llama", tmp_path)
    said = []
    for numa in ("off", "isolate", "isolate", "on", "off"):
        with loader.load(path, loader.Options.parse({"numa": numa, "n_ctx": 256, "threads": 1}), keep_going) as model:
            said.append([note for note in model.notes if "numa" in note])
    assert told == [2]
    assert said == [[], [], [], *[["numa stays isolate until the program is restarted"]] * 2]
