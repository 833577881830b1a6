"""No reply of any engine contains a banned string, and what follows is what a cold start says."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from errors import InvalidInput
from loaders.base import Finish, Request
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from tests.loaders.engine.engines import EngineUnderTest, read
from tests.zoo import banned
from tests.zoo.test_gguf import ROUNDING


@pytest.fixture
def sampling(under_test: EngineUnderTest) -> EngineUnderTest:
    if not under_test.samples:
        pytest.skip("it draws no tokens")
    return under_test


@pytest.fixture
def letters(sampling: EngineUnderTest) -> str:
    """The knob that leaves only tokens of printable text."""
    return ",".join(map(str, banned.not_printable(sampling.model)))


def greedy_reply(under_test: EngineUnderTest, number: int, letters: str, count: int = 30) -> list[int]:
    params = banned.GREEDY.changed(custom_token_bans=letters)
    return [token.id for token in read(under_test.model.generate(Request(under_test.prompt(number), params, count)))]


def test_a_reply_goes_back_and_goes_on_as_if_nothing_had_been(sampling: EngineUnderTest, letters: str) -> None:
    model, prompt = sampling.model, sampling.prompt(3)
    strings = banned.strings_of(model, greedy_reply(sampling, 3, letters), length=4)
    assert strings
    tokens, report = banned.avoid(model, prompt, 30, strings, custom_token_bans=letters)
    assert len(tokens) == report.new_tokens == 30
    assert report.replaced > 0
    assert report.taken_back > 0
    assert report.finish is Finish.LENGTH
    rows = np.stack([model.next_logits(Request([*prompt, *tokens[:at]])) for at in range(len(tokens))])
    never = sorted({*model.tokenizer.end_ids, *banned.not_printable(model)})
    assert banned.unexplained(rows, tokens, never, 0.05) <= report.replaced
    assert greedy_reply(sampling, 3, letters) != tokens, "without the list, the reply is what it was"


def test_replies_beside_each_other_go_back_alone(sampling: EngineUnderTest, letters: str) -> None:
    model = sampling.model
    plain = {number: greedy_reply(sampling, number, letters) for number in range(3)}
    strings = {number: banned.strings_of(model, plain[number], length=3, count=9) for number in (0, 1)}
    found: dict[int, list[int]] = {}

    def answer(number: int) -> None:
        wanted = strings.get(number, ["no such thing"])
        found[number] = banned.avoid(model, sampling.prompt(number), 30, wanted, custom_token_bans=letters)[0]

    threads = [threading.Thread(target=answer, args=(number,)) for number in plain]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2]
    at = common_prefix(found[2], plain[2])
    if at < len(plain[2]):  # a step of other rows rounds differently, which decides between equals only
        logits = model.next_logits(Request([*sampling.prompt(2), *plain[2][:at]]))
        assert abs(logits[found[2][at]] - logits[plain[2][at]]) < ROUNDING
    assert found[0] != plain[0]


def test_guidance_goes_back_on_both_sides(sampling: EngineUnderTest, letters: str) -> None:
    if not sampling.model.supports("guidance_scale"):
        pytest.skip("no guidance")
    prompt, negative = sampling.prompt(4), sampling.prompt(5)
    params = banned.GREEDY.changed(guidance_scale=1.5)

    def said(params: SamplingParams) -> list[int]:
        return [token.id for token in read(sampling.model.generate(Request(prompt, params, 20, negative)))]  # type: ignore[arg-type]

    params = params.changed(custom_token_bans=letters)
    plain = said(params)
    strings = banned.strings_of(sampling.model, plain, length=3, count=2)
    tokens = said(params.changed(banned_strings="\n".join(strings)))
    text = b"".join(sampling.model.tokenizer.piece(each) for each in tokens).decode("utf-8", "replace").lower()
    assert not any(each.lower() in text for each in strings)
    assert strings
    assert tokens != plain


def test_what_cannot_be_avoided_is_said_and_the_reply_ends(sampling: EngineUnderTest) -> None:
    params = banned.GREEDY.changed(banned_strings=r"/[\s\S]/")
    stream = sampling.model.generate(Request(sampling.prompt(6), params, 12))
    assert len(read(stream)) <= 12
    assert "could not be avoided" in " ".join(stream.report.warnings)


def test_an_expression_that_takes_too_long_ends_only_its_own_request(sampling: EngineUnderTest, letters: str) -> None:
    plain, beside = greedy_reply(sampling, 8, letters), banned.GREEDY.changed(custom_token_bans=letters)
    hostile = beside.changed(banned_strings=r"/(.?){1900}\u1234/", ban_eos_token=True)
    sampling.hold()
    streams = [
        sampling.model.generate(Request(sampling.prompt(8), params, count))
        for params, count in ((hostile, 200), (beside, 30))
    ]
    sampling.go_on()
    with pytest.raises(InvalidInput, match="takes too long"):
        read(streams[0])
    assert [token.id for token in read(streams[1])][:1] == plain[:1]
    assert streams[1].report.finish in (Finish.LENGTH, Finish.STOP)
    assert greedy_reply(sampling, 8, letters) == plain


def test_seeds_are_kept(sampling: EngineUnderTest) -> None:
    prompt = sampling.prompt(7)

    def said(strings: Sequence[str], seed: int) -> list[int]:
        params = SamplingParams(
            seed=seed, temperature=1.2, ban_eos_token=True, banned_strings="\n".join(strings), mirostat_mode=2
        )
        return [token.id for token in read(sampling.model.generate(Request(prompt, params, 16)))]

    plain = said([], 11)
    strings = banned.strings_of(sampling.model, plain, length=2, count=3)
    again = said(strings, 11)
    assert again == said(strings, 11)
    assert said([], 11) == plain
    text, pieces = "", [sampling.model.tokenizer.piece(token).decode("utf-8", "replace") for token in plain]
    for at, piece in enumerate(pieces):  # up to the first banned string it is the same reply
        text += piece
        if any(each.lower() in text.lower() for each in strings):
            assert again[: max(at - 8, 0)] == plain[: max(at - 8, 0)]
            break
