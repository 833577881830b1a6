"""Every architecture of the zoo with the Transformers loader: replies equal those of a model that has read nothing.

The judge is one plain forward over prompt and reply, without a cache: each token of a greedy reply must be the
likeliest there. That is what a cold start says, and it is checked without its mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from loaders.base import Model, Request
from loaders.params import SamplingParams
from tests.loaders.conftest import opened
from tests.zoo import banned
from tests.zoo.folders import CONTEXT, FOLDERS, WINDOW, WORDS, folder_of
from tests.zoo.walk import most, walk

#: What two greedy tokens may be apart in logits, in standard deviations, so that rounding may choose either.
TIE = 1e-3

#: A first message past the window; a long one so that prompts pass the decoder's piece of 512 tokens.
LENGTH, LONG = 2 * WINDOW + 9, 420

GREEDY = SamplingParams(do_sample=False, ban_eos_token=True)


@pytest.fixture(scope="module", params=FOLDERS)
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Model]]:
    """Each architecture in turn, loaded as a user loads it. The small models gain nothing from several threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = folder_of(FOLDERS[request.param], tmp_path_factory.mktemp("zoo") / request.param)
    with opened("Transformers", folder, max_seq_len=CONTEXT) as model:
        yield request.param, model
    torch.set_num_threads(before)


def truth(model: Model, ids: list[int]) -> Any:
    """The logits after each of these tokens, by one plain forward."""
    import torch

    with torch.inference_mode():
        out = model.pretrained(input_ids=torch.tensor([ids]), use_cache=False)  # type: ignore[attr-defined]
    return out.logits[0, :, : model.tokenizer.n_vocab].float().numpy()


def answered(model: Model, ids: list[int], count: int) -> list[int]:
    return [token.id for token in model.generate(Request(ids, GREEDY, count))]


def wrong_at(model: Model, prompt: list[int], reply: list[int]) -> int | None:
    """The first token of a reply that is not the likeliest one."""
    rows = truth(model, prompt + reply)[len(prompt) - 1 : -1].copy()
    rows[:, sorted(model.tokenizer.end_ids)] = -np.inf
    spread = float(rows[np.isfinite(rows)].std())
    short = [float(row.max() - row[token]) / spread for row, token in zip(rows, reply, strict=True)]
    return next((at for at, by in enumerate(short) if by > TIE), None)


def test_every_step_of_a_user_is_answered_as_after_a_cold_start(zoo: tuple[str, Model]) -> None:
    name, model = zoo
    slow = FOLDERS[name].follow == 0  # it reads everything again for each token
    sizes = {"length": LENGTH, "new": 4 if slow else 24, "long": LONG}
    assert most(**sizes) <= CONTEXT
    found = {}
    for step in walk(lambda ids, count: answered(model, ids, count), vocab=WORDS, seed=5, **sizes):
        found[step.name] = wrong_at(model, step.prompt, step.reply)
    assert {what: at for what, at in found.items() if at is not None} == {}


def test_the_logits_of_a_long_prompt_are_those_of_one_forward(zoo: tuple[str, Model]) -> None:
    _, model = zoo
    ids = [WORDS[(7 * at + at // 3) % len(WORDS)] for at in range(700)]
    rows = truth(model, ids)
    spread = float(rows.std())
    for length in (len(ids), 650, 560, 90):  # the first cold, then each a beginning of what was read
        got = model.next_logits(Request(ids[:length]))
        assert float(np.abs(got - rows[length - 1]).max()) / spread < TIE, length


def test_the_scores_of_a_text_are_those_of_one_forward(zoo: tuple[str, Model]) -> None:
    _, model = zoo
    ids = [WORDS[(11 * at + at // 5) % len(WORDS)] for at in range(300)]  # three pieces of scores
    rows = truth(model, ids)[:-1]
    logs = (
        rows - np.log(np.exp(rows - rows.max(-1, keepdims=True)).sum(-1, keepdims=True)) - rows.max(-1, keepdims=True)
    )
    assert np.abs(model.score(ids) - logs[np.arange(len(rows)), ids[1:]]).max() < 5e-3


def test_what_was_found_out_about_its_cache_is_said(zoo: tuple[str, Model]) -> None:
    name, model = zoo
    follow = FOLDERS[name].follow
    assert model._backend.decoder.follow == follow  # type: ignore[attr-defined]
    said = [note for note in model.notes if note.startswith(("prompts are processed whole", "no cache"))]
    assert bool(said) == (follow is not None)


def test_what_came_before_matters(zoo: tuple[str, Model]) -> None:
    """Else the other tests here could not fail."""
    _, model = zoo
    ids = [WORDS[(5 * at) % len(WORDS)] for at in range(60)]
    other = [*ids[:40], ids[41], *ids[41:]]
    one, two = truth(model, ids), truth(model, other)
    assert float(np.abs(one[-1] - two[-1]).max()) / float(one.std()) > 3 * TIE


@pytest.mark.parametrize("params", [{"num_beams": 3}, {"prompt_lookup_num_tokens": 4}], ids=str)
def test_beams_and_guesses(zoo: tuple[str, Model], params: dict[str, Any]) -> None:
    _, model = zoo
    ids = [WORDS[(3 * at) % 12] for at in range(40)]
    settings = GREEDY.model_copy(update=params)
    reply = [token.id for token in model.generate(Request(ids, settings, 8))]
    assert len(reply) == 8
    if "num_beams" not in params:
        assert wrong_at(model, ids, reply) is None


def test_a_reply_that_goes_back_continues_as_if_it_had_never_gone_on(zoo: tuple[str, Model]) -> None:
    name, model = zoo
    count = 12 if FOLDERS[name].follow == 0 else 30
    prompt = [WORDS[(7 * at + at // 3) % len(WORDS)] for at in range(LENGTH)]
    never = banned.not_printable(model)
    bans = {"custom_token_bans": ",".join(map(str, never))}
    first = model.generate(Request(prompt, banned.GREEDY.changed(**bans), count))
    strings = banned.strings_of(model, [token.id for token in first])
    tokens, report = banned.avoid(model, prompt, count, strings, **bans)
    assert len(tokens) == count
    assert report.replaced > 0
    rows = truth(model, prompt + tokens)[len(prompt) - 1 : -1]
    assert banned.unexplained(rows, tokens, sorted({*never, *model.tokenizer.end_ids}), TIE) <= report.replaced
