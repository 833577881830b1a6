"""The engine of llama.cpp on a small model of the zoo: parallel requests, reused prefixes, guidance, scores, a full
context, bad requests. A slower model where the test must be faster than it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from errors import Cancelled, PromptTooLong, UserError
from loaders import loader_named
from loaders.base import Finish, Model, Report, Request
from loaders.engine.engine_model import QueuedModel
from loaders.llamacpp.engine.prompt_cache import parse_capacity
from loaders.logits import log_softmax
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from tests.conftest import keep_going

GREEDY = SamplingParams(do_sample=False)
LONG = SamplingParams(do_sample=False, ban_eos_token=True)


def load(path: Path) -> Model:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 1024, "threads": 1, "threads_batch": 1, "parallel": 2, "n_batch": 128}
    return loader.load(path, loader.Options.parse(options), keep_going)


@pytest.fixture(scope="module")
def model(small_gguf: Path) -> Iterator[Model]:
    with load(small_gguf) as model:
        yield model


@pytest.fixture(scope="module")
def steady(demo_model_path: Path) -> Iterator[Model]:
    """One that is slow enough to be watched while it computes."""
    with load(demo_model_path) as model:
        yield model


def apart(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """The largest difference of a logit, in standard deviations of the logits."""
    return float(np.abs(one - other).max() / other.std())


def say(
    model: Model, ids: list[int], params: SamplingParams = LONG, n: int = 8, **more: object
) -> tuple[bytes, Report]:
    stream = model.generate(Request(ids, params, n, **more))  # type: ignore[arg-type]
    return b"".join(token.data for token in stream), stream.report


def words(model: Model, seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(40, 1000) for _ in range(count)]


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2], [1, 2]) == 2
    assert common_prefix([9], [1]) == 0


def test_capacity() -> None:
    assert parse_capacity("2GiB") == 2 * 2**30
    assert parse_capacity("800 MB") == 800_000_000
    assert parse_capacity("0") == parse_capacity("") == 0
    with pytest.raises(UserError, match="2GiB"):
        parse_capacity("much")


def test_returning_to_a_chat_reuses_all_of_it(model: Model) -> None:
    a, b = words(model, 1, 200), words(model, 2, 200)
    _, cold = say(model, a, n=1)
    say(model, b, n=1)
    _, again = say(model, [*a, 77], n=1)
    assert cold.reused_tokens < 10
    assert again.reused_tokens == 200
    assert again.reuse_reason in ("from the cache", "from the prompt cache in memory")


def test_a_branch_forks_and_leaves_the_other_branch_whole(model: Model) -> None:
    trunk = words(model, 3, 150)
    left, right = trunk + words(model, 4, 100), trunk + words(model, 5, 100)
    say(model, left, n=1)
    _, forked = say(model, right, n=1)
    assert forked.reused_tokens == 150
    assert "copied from another branch" in forked.reuse_reason
    _, back = say(model, [*left, 5], n=1)
    assert back.reused_tokens == 250


def test_what_the_cache_has_no_room_for_comes_back_from_memory(model: Model) -> None:
    chats = [words(model, 10 + i, 300) for i in range(6)]  # together far more than the context
    cold = [model.next_logits(Request(chat)) for chat in chats]
    _, back = say(model, [*chats[0], *model.tokenizer.encode("and")], n=4)
    assert back.reused_tokens == 300
    assert back.reuse_reason == "from the prompt cache in memory"
    _, again = say(model, chats[1], n=4)
    assert again.reused_tokens == 299
    # a row that is computed alone rounds differently; another chat's memory would differ far more
    warm = model.next_logits(Request(chats[1]))
    assert apart(warm, cold[1]) < 0.1 < apart(warm, cold[0]) / 5


def test_guidance_mixes_both_prompts_and_one_is_free(model: Model) -> None:
    prompt, negative = model.tokenizer.encode("The weather today is"), model.tokenizer.encode("It rains. Today is")
    cond = log_softmax(model.next_logits(Request(prompt)))
    uncond = log_softmax(model.next_logits(Request(negative)))
    mixed = model.next_logits(Request(prompt, SamplingParams(guidance_scale=1.5), negative_ids=negative))
    np.testing.assert_allclose(mixed, uncond + 1.5 * (cond - uncond), atol=0.05)
    assert say(model, prompt, LONG.changed(guidance_scale=1.0), negative_ids=negative)[0] == say(model, prompt)[0]
    text, _ = say(model, prompt, LONG.changed(guidance_scale=2.0), n=6, negative_ids=negative)
    assert text != say(model, prompt, n=6)[0]


def test_guidance_reuses_both_caches(model: Model) -> None:
    prompt, negative = words(model, 30, 200), words(model, 31, 180)
    params = LONG.changed(guidance_scale=1.5)
    say(model, prompt, params, n=4, negative_ids=negative)
    _, report = say(model, prompt, params, n=4, negative_ids=negative)
    assert report.reused_tokens == 199


def test_score_is_the_log_probability_of_each_next_token(model: Model) -> None:
    ids = model.tokenizer.encode("The capital of France is Paris, and that of Italy is Rome. " * 6)
    scores = model.score(ids)
    assert scores.shape == (len(ids) - 1,)
    for at in (1, 10, len(ids) - 1):
        expected = log_softmax(model.next_logits(Request(ids[:at])))[ids[at]]
        assert scores[at - 1] == pytest.approx(expected, abs=0.15)  # batches of other sizes
    assert model.score(ids[:1]).shape == (0,)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        model.score(ids, cancel)


def test_a_reply_that_fills_the_context_ends_with_length(model: Model) -> None:
    _, report = say(model, words(model, 40, 1000), n=500)
    assert report.finish is Finish.LENGTH
    assert 1000 + report.new_tokens == 1024


def test_two_that_outgrow_the_shared_context_both_finish(model: Model) -> None:
    streams = [model.generate(Request(words(model, 50 + i, 400), LONG, 300)) for i in range(2)]
    counts = [sum(1 for _ in stream) for stream in streams]
    assert counts == [300, 300]


def test_a_full_context_shifts_when_asked(small_gguf: Path) -> None:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 256, "threads": 1, "context_shift": True, "keep": 16, "parallel": 1}
    with loader.load(small_gguf, loader.Options.parse(options), keep_going) as small:
        text, report = say(small, small.tokenizer.encode("Once upon a time there was a king."), n=400)
        assert (report.finish, report.new_tokens) == (Finish.LENGTH, 400)
        assert len(text) > 200
        with pytest.raises(PromptTooLong):
            small.generate(Request([5] * 256))


def test_contexts_of_their_own(small_gguf: Path) -> None:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 256, "threads": 1, "separate_contexts": True, "parallel": 2}
    with loader.load(small_gguf, loader.Options.parse(options), keep_going) as own:
        assert own.context_length == 256
        streams = [own.generate(Request(words(own, 60 + i, 200), LONG, 50)) for i in range(3)]
        assert [sum(1 for _ in stream) for stream in streams] == [50, 50, 50]
        _, report = say(own, [*words(own, 62, 200), 9], n=1)
        assert report.reused_tokens == 200


def test_the_queue_is_visible_and_anyone_in_it_can_be_cancelled(steady: Model) -> None:
    model = steady
    streams = [model.generate(Request([5, 6, 7], LONG, 900, label=f"chat {i}")) for i in range(4)]
    looks = []
    for _ in range(1000):  # while some start, and yield their slots to others
        time.sleep(0.002)
        looks.append(queue := model.queue())
        assert sorted(entry.label for entry in queue) == ["chat 0", "chat 1", "chat 2", "chat 3"]
    places = [[entry.place for entry in queue] for queue in looks]
    assert [0, 0, 1, 2] in places
    for entry in queue:
        entry.cancel.set()
    for stream in streams:
        list(stream)
        assert stream.report.finish is Finish.CANCELLED
    assert not model.queue()


def test_a_job_on_its_way_from_the_line_to_its_place_is_shown_once(steady: Model) -> None:
    """What the engine's thread does between two of its own updates must not be visible from outside."""
    model = steady
    assert isinstance(model, QueuedModel)
    found = model._engine.jobs
    stream = model.generate(Request([5, 6, 7], LONG, 900, label="a chat"))
    next(stream)
    try:
        for told in ([], []), (found()[0], found()[0]):
            vars(model._engine)["jobs"] = lambda told=told: ([*told[0]], [*told[1]])
            assert [(entry.label, entry.place) for entry in model.queue()] == [("a chat", 0)]
    finally:
        del vars(model._engine)["jobs"]
        for entry in model.queue():
            entry.cancel.set()
        list(stream)


def test_a_step_that_nobody_wants_any_more_is_stopped(steady: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is read in whole batches, which may take long; the part that was reused is still cached afterwards."""
    model = steady
    context = model._context  # type: ignore[attr-defined]
    codes, decode, cancel = [], context.decode, threading.Event()
    prompt = words(model, 90, 700)
    say(model, prompt[:200], n=1)

    def noted(batch: object) -> int:
        if cancel not in given:
            given.append(cancel)
            threading.Timer(0.02, cancel.set).start()
        codes.append(decode(batch))
        return codes[-1]  # type: ignore[no-any-return]

    given: list[object] = []
    monkeypatch.setattr(context, "decode", noted)
    with pytest.raises(Cancelled):
        model.score(prompt, cancel)
    assert 2 in codes
    monkeypatch.undo()
    _, report = say(model, prompt[:240], n=1)
    assert report.reused_tokens >= 190


def test_good_and_bad_requests_mixed_at_random(model: Model) -> None:
    """Each request ends with tokens or an error, and a normal one works afterwards."""
    dice = random.Random(1)
    problems: list[BaseException] = []
    known = model.tokenizer.n_vocab

    def client(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(8):
            ids = [mine.randrange(0, known) for _ in range(mine.choice([0, 1, 5, 60, 200, 1100]))]
            if ids and mine.random() < 0.1:
                ids[0] = mine.choice([-1, known, 10**6])
            values: dict[str, object] = mine.choice(
                [
                    {},
                    {"temperature": 3.0},
                    {"grammar_string": mine.choice(['root ::= "a"+', "root ::= ((", "x"])},
                    {"custom_token_bans": mine.choice(["1,2", "99999999", "x"])},
                    {"guidance_scale": 1.5},
                    {"mirostat_mode": 2},
                ]
            )
            try:
                stream = model.generate(
                    Request(
                        ids,
                        SamplingParams.parse(values),
                        mine.choice([1, 5, 20]),
                        logit_bias={mine.randrange(10**5): -5},
                    )
                )
                for i, _ in enumerate(stream):
                    if mine.random() < 0.05:
                        stream.request.cancel.set()  # type: ignore[attr-defined]
                    if i == 3 and mine.random() < 0.1:
                        break  # a client that stops reading
            except UserError as error:
                assert str(error)
            except BaseException as error:
                problems.append(error)

    threads = [threading.Thread(target=client, args=(dice.random(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not problems
    text, _ = say(model, words(model, 99, 20), n=3)
    assert text
