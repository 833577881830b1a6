"""The engine over exllamav2's own generator: replies, together or in turn, and the effect of one request on others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from errors import Cancelled, NonFiniteLogits, OutOfGpuMemory, PromptTooLong, UserError
from loaders.base import Finish, Model, Report, Request
from loaders.params import SamplingParams

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")

GREEDY = SamplingParams(do_sample=False, ban_eos_token=True)
GUIDED = SamplingParams(do_sample=False, ban_eos_token=True, guidance_scale=1.5)
WAYS = pytest.mark.parametrize("paged", [True, False], ids=["paged", "unpaged"])


def words(seed: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(0, 256, count)]


def say(
    model: Model, ids: Sequence[int], count: int = 8, params: SamplingParams = GREEDY, **more: Any
) -> tuple[list[int], Report]:
    stream = model.generate(Request(ids, params, count, **more))
    return [token.id for token in stream], stream.report


def guided(prompt: Sequence[int], negative: Sequence[int], count: int, scale: float = 1.5) -> list[int]:
    """The expected result of guidance, computed from the network itself."""
    said: list[int] = []
    for _ in range(count):
        c, u = card.logits_after([*prompt, *said]), card.logits_after([*negative, *said])
        c, u = (x - np.logaddexp.reduce(x) for x in (c.astype(np.float64), u.astype(np.float64)))
        logits = u + scale * (c - u)
        logits[card.IM_END] = -np.inf
        said.append(int(logits.argmax()))
    return said


@WAYS
@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 600])
def test_a_reply_is_what_the_network_says(opens: Any, paged: bool, length: int) -> None:
    model = opens(paged=paged)
    prompt = words(length, length)
    said, report = say(model, prompt, 12)
    assert said == card.greedy(prompt, 12)
    assert (report.finish, report.new_tokens, report.prompt_tokens) == (Finish.LENGTH, 12, length)
    assert report.reused_tokens == 0
    assert report.reuse_reason == "the cache contains no matching prefix"


@WAYS
def test_a_return_reuses_what_is_there(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    prompt = words(1, 300)
    said, _ = say(model, prompt, 8)
    longer = [*prompt, *said, *words(2, 20)]
    again, report = say(model, longer, 8)
    assert again == card.greedy(longer, 8)
    # the last generated token has not been read yet
    assert report.reused_tokens == 307
    assert report.reuse_reason == "from the cache"


def test_requests_run_together_with_pages(opens: Any) -> None:
    model = opens(parallel=3, cache_size=4096)
    prompts = [words(seed, 40 + seed) for seed in range(5)]
    streams = [model.generate(Request(prompt, GREEDY, 30)) for prompt in prompts]
    for prompt, stream in zip(prompts, streams, strict=True):
        assert [token.id for token in stream] == card.greedy(prompt, 30)
    rows = [rows for rows, tokens in model._weights.model.chunks if tokens == 1]
    assert max(rows) == 3


def test_requests_run_in_turn_without_pages(opens: Any) -> None:
    model = opens(paged=False)
    assert "one after another: flash-attn 2.5.7 or newer is not installed" in "\n".join(model.notes)
    prompts = [words(seed, 30) for seed in range(3)]
    ended: list[int] = []

    def read(place: int, stream: Any) -> None:
        assert [token.id for token in stream] == card.greedy(prompts[place], 20)
        ended.append(place)

    threads = [
        threading.Thread(target=read, args=(place, model.generate(Request(prompt, GREEDY, 20))))
        for place, prompt in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(ended) == [0, 1, 2]
    assert {rows for rows, _ in model._weights.model.chunks} == {1}


def test_nobody_overtakes_for_being_small(opens: Any) -> None:
    """A long request waits for pages; a short one behind it that would fit waits, too."""
    model = opens(parallel=3)
    hold = threading.Event()
    first = model.generate(Request(words(1, 500), GREEDY, 200, cancel=hold))
    next(first)
    long = model.generate(Request(words(2, 500), GREEDY, 100))
    short = model.generate(Request(words(3, 5), GREEDY, 2))
    places = {entry.id: entry.place for entry in model.queue()}
    assert list(places.values()) == [0, 1, 2]
    hold.set()
    assert len(list(long)) == 100
    assert len(list(short)) == 2
    assert long.report.finish is short.report.finish is Finish.LENGTH


@WAYS
@pytest.mark.parametrize(("a", "b"), [(30, 7), (7, 30), (20, 20), (300, 1), (1, 270)])
def test_guidance(opens: Any, paged: bool, a: int, b: int) -> None:
    model = opens(paged=paged)
    prompt, negative = words(1, a), words(2, b)
    said, report = say(model, prompt, 10, GUIDED, negative_ids=negative)
    assert said == guided(prompt, negative, 10)
    assert report.new_tokens == 10
    assert 0 < report.prompt_seconds < 3600  # a span, and no time of a clock
    assert say(model, prompt, 10)[0] == card.greedy(prompt, 10), "the next one without guidance is untouched"


@WAYS
def test_guidance_reuses_both_prompts(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    prompt, negative = words(1, 300), words(2, 20)
    said, _ = say(model, prompt, 6, GUIDED, negative_ids=negative)
    longer = [*prompt, *said, 65, 66]
    chunks = model._weights.model.chunks
    chunks.clear()
    again, report = say(model, longer, 6, GUIDED, negative_ids=negative)
    assert again == guided(longer, negative, 6)
    assert report.reused_tokens >= 256
    assert sum(tokens for rows, tokens in chunks if tokens > 1) < 60, "next to nothing was read again"


def test_guidance_with_a_draft_runs_in_turn(opens: Any) -> None:
    model = opens(ngram_draft=True)
    prompt, negative = words(1, 40), words(2, 9)
    assert say(model, prompt, 10, GUIDED, negative_ids=negative)[0] == guided(prompt, negative, 10)


@WAYS
def test_guidance_without_a_negative_prompt_takes_the_last_token(opens: Any, paged: bool) -> None:
    prompt = words(1, 30)
    assert say(opens(paged=paged), prompt, 5, GUIDED)[0] == guided(prompt, prompt[-1:], 5)


@WAYS
@pytest.mark.parametrize("drafting", [{"ngram_draft": True}, {"draft_model": "small"}], ids=["ngram", "model"])
def test_drafts_change_nothing_but_speed(opens: Any, tmp_path: Any, paged: bool, drafting: dict[str, Any]) -> None:
    card.write_folder(tmp_path / "models" / "small")
    model = opens(paged=paged, draft_max=3, **drafting)
    prompt = words(5, 60)
    said, report = say(model, prompt, 25)
    assert said == card.greedy(prompt, 25)
    assert report.new_tokens == 25
    # the draft is the same network, so nearly all of its tokens are accepted
    steps = sum(rows for rows, _ in model._weights.model.chunks)
    assert steps < 15 if "draft_model" in drafting else steps > 0


@WAYS
def test_a_full_card_is_a_sentence_and_the_next_one_goes_on(opens: Any, gpu: Any, paged: bool) -> None:
    import torch

    model = opens(paged=paged)
    gpu.failing = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(OutOfGpuMemory, match=r"GPU ran out of memory\. Close other programs"):
        say(model, words(1, 20), 5)
    assert say(model, words(1, 20), 5)[0] == card.greedy(words(1, 20), 5)


@WAYS
def test_nan_is_told(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    model._weights.model.nan = True
    with pytest.raises(NonFiniteLogits):
        say(model, words(1, 20), 5)
    with pytest.raises(NonFiniteLogits):
        model.score(words(1, 20))


@WAYS
def test_the_end_token_ends(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    said, report = say(model, words(1, 10), 20, SamplingParams(do_sample=False), logit_bias={card.IM_END: 100.0})
    assert said == []
    assert report.finish is Finish.STOP


@WAYS
def test_the_whole_table_of_samplers_acts(opens: Any, paged: bool) -> None:
    """The sampler chain is the shared one: the same seed gives what our own chain draws from the same logits."""
    from loaders.sampling import SamplerChain

    params = SamplingParams(
        temperature=1.3, top_k=40, min_p=0.02, xtc_probability=0.5, repetition_penalty=1.2, dry_multiplier=0.8, seed=7
    )
    model = opens(paged=paged)
    prompt = words(3, 50)
    chain = SamplerChain(
        params, n_vocab=card.N_VOCAB, seed=7, prompt_ids=prompt, context_length=1024, end_ids=[card.IM_END],
        newline_ids=model.tokenizer.encode("\n")[-1:],
    )  # fmt: skip
    expected: list[int] = []
    while len(expected) < 20:
        token = chain.choose(card.logits_after([*prompt, *expected]))
        chain.accept(token)
        if token == card.IM_END:
            break
        expected.append(token)
    said, report = say(model, prompt, 20, params)
    assert said == expected
    assert report.seed == 7


@WAYS
def test_alternatives(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    prompt = words(1, 12)
    (token,) = model.generate(Request(prompt, GREEDY, 1, alternatives=3))
    logits = card.logits_after(prompt).astype(np.float64)
    logprobs = logits - np.logaddexp.reduce(logits)
    assert token.logprob == pytest.approx(logprobs[token.id], abs=1e-4)
    assert [each.id for each in token.alternatives] == list(np.argsort(-logprobs)[:3])


@WAYS
def test_next_logits_and_guided_ones(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    prompt = words(4, 40)
    np.testing.assert_allclose(model.next_logits(Request(prompt)), card.logits_after(prompt), atol=1e-3)
    mixed = model.next_logits(Request(prompt, GUIDED, negative_ids=words(5, 6)))
    mixed[card.IM_END] = -np.inf
    assert int(mixed.argmax()) == guided(prompt, words(5, 6), 1)[0]


@WAYS
def test_scores(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    ids = words(6, 600)
    say(model, words(7, 30), 3)
    found = model.score(ids)
    assert found.shape == (599,)
    for at in (0, 1, 255, 256, 598):
        logits = card.logits_after(ids[: at + 1]).astype(np.float64)
        assert found[at] == pytest.approx(logits[ids[at + 1]] - np.logaddexp.reduce(logits), abs=1e-3)
    assert say(model, words(7, 30), 3)[0] == card.greedy(words(7, 30), 3), "the pages were made anew"
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        model.score(ids, stop)


@WAYS
def test_the_context_is_the_limit(opens: Any, paged: bool) -> None:
    model = opens(paged=paged, max_seq_len=256)
    said, report = say(model, words(1, 250), 100)
    assert len(said) == 6
    assert report.finish is Finish.LENGTH
    with pytest.raises(PromptTooLong, match="256 tokens, but only 255 fit"):
        say(model, words(1, 256), 1)
    with pytest.raises(UserError):
        say(model, words(1, 250), 1, GUIDED, negative_ids=words(2, 300))


@WAYS
def test_close_gives_back(opens: Any, paged: bool) -> None:
    model = opens(paged=paged)
    say(model, words(1, 30), 2)
    weights = model._weights
    net = weights.model
    model.close()
    assert net.unloaded
    assert weights.cache is weights.generator is weights.model is None


def test_closing_leaves_no_tensor_behind(opens: Any) -> None:
    import gc
    import weakref

    model = opens()
    say(model, words(1, 30), 5)
    cache = weakref.ref(model._weights.cache)
    model.close()
    gc.collect()
    assert cache() is None
