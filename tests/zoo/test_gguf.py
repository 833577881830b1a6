"""Whatever llama.cpp's context reuses, the reply equals that of a model that has read nothing before.

For each architecture, as a user goes through two chats, with and without copies in memory, forks, contexts apart,
shifting, and the types of the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import InvalidInput
from loaders import loader_named
from loaders.base import Model, Request
from loaders.drafting.model_policy import ModelPolicy
from loaders.drafting.policy import DraftPolicy
from loaders.llamacpp.engine.checkpoints import WORTH
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from loaders.sampling import SamplerChain
from tests.conftest import keep_going
from tests.zoo import banned, ggufs
from tests.zoo.compare import Reply, difference, reply
from tests.zoo.walk import most, walk

#: Those that llama.cpp cannot run, or that write no text.
_OTHERS = ("bert", "t5", "granitemoehybrid", "llama4")
PLAIN = ("llama", "mixtral", "qwen3moe")
RECURRENT = ("jamba", "lfm2", "mamba2")
ARCHITECTURES = tuple(name for name in ggufs.architectures() if name not in _OTHERS)

#: What changes how things are reused.
OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no copies": {"cache_capacity": "0"},
    "no checkpoints": {"ctx_checkpoints": 0},
    "small windows": {"swa_full": False},
    "contexts apart": {"separate_contexts": True},
    "apart, no copies": {"separate_contexts": True, "cache_capacity": "0"},
    "shifting": {"context_shift": True, "keep": 8},
    "shifting, q8_0": {"context_shift": True, "keep": 8, "cache_type": "q8_0"},
    "one at a time": {"parallel": 1},
    "small pieces": {"n_batch": 48},
    "no flash attention": {"flash_attn": "off"},
    "q4_0": {"cache_type": "q4_0"},
}
#: Those with which less is reused than could be.
FORGETFUL = ("no copies", "apart, no copies", "no checkpoints")
LENGTH = 90  # of the first message: beyond the window of 64
N_CTX = 1024
#: Standard deviations of the logits: rounding, and what a cache of 8 or 4 bits adds to it.
ROUNDING, COARSE = 0.06, 0.3

Load = Callable[..., Model]


class Models:
    """Models by recipe and options, kept for whoever wants the same, and closed together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[tuple[Any, ...], Model] = {}
        self._made: dict[tuple[str, bool], Path] = {}

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        for model in self._open.values():
            model.close()

    def load(self, name: str, loader: str = "llama.cpp", **options: Any) -> Model:
        options = {"n_ctx": N_CTX, "threads": 1, "threads_batch": 1, **options}
        key = (loader, name, *sorted(options.items()))
        if key not in self._open:
            file = (name, "cache_type" in options)
            if file not in self._made:
                self._made[file] = ggufs.make(name, self._folder, wide=file[1])
            found = loader_named(loader)
            self._open[key] = found.load(self._made[file], found.Options.parse(options), keep_going)
        return self._open[key]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    with Models(tmp_path_factory.mktemp("zoo")) as models:
        yield models.load


class Cold:
    """A model that forgets everything before each reply; what it said is remembered."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[tuple[tuple[int, ...], int], Reply] = {}

    def reply(self, prompt: list[int], count: int) -> Reply:
        key = (tuple(prompt), count)
        if key not in self._known:
            self._model.set_loras([])  # what was computed under other adapters is not reused
            found = self._known[key] = reply(self._model, prompt, count)
            assert not found.reused
        return self._known[key]


def differences(
    model: Model, cold: Cold, *, seed: int = 1, length: int = LENGTH, again: dict[str, int] | None = None
) -> dict[str, float]:
    """What the user does -> how far the reply is from a cold model's, in standard deviations of its logits.

    `again` gets how many tokens were read although they had been read before.
    """
    found: dict[str, float] = {}
    last: list[Reply] = []
    read: list[list[int]] = []

    def answer(prompt: list[int], count: int) -> list[int]:
        last[:] = [reply(model, prompt, count)]
        return last[0].tokens

    for step in walk(answer, vocab=range(40, 1000), length=length, seed=seed):
        found[step.name] = difference(last[0], cold.reply(step.prompt, len(step.reply)))
        if again is not None:
            known = max((common_prefix(step.prompt[:-1], each) for each in read), default=0)
            again[step.name] = known - last[0].reused
        read.append(step.prompt + step.reply)
    return found


def cold_of(load: Load, name: str, options: dict[str, Any]) -> Cold:
    same = {key: value for key, value in options.items() if key in ("cache_type", "flash_attn")}
    shifts = {key: value for key, value in options.items() if key in ("context_shift", "keep") and same}
    return Cold(load(name, parallel=1, separate_contexts=True, cache_capacity="0", **same, **shifts))


def bound_of(how: str) -> float:
    return COARSE if "cache_type" in OPTIONS[how] else ROUNDING


def cases() -> list[tuple[str, str]]:
    few = dict.fromkeys(PLAIN, ("as it is", "shifting, q8_0", "q4_0"))
    few |= {name: tuple(how for how in OPTIONS if how != "small windows") for name in RECURRENT}
    return [(name, how) for name in ARCHITECTURES for how in few.get(name, OPTIONS)]


def _allowed(name: str, step: str) -> int:
    """How many known tokens may be read again: recurrent layers go back to a checkpoint, not into a message."""
    inside = name in RECURRENT and step == "edit the middle of the first message"
    return LENGTH if inside else WORTH


@pytest.mark.parametrize(("name", "how"), cases())
def test_what_is_reused_is_what_a_cold_start_reads(load: Load, name: str, how: str) -> None:
    assert most(length=LENGTH) <= N_CTX
    model, cold = load(name, **OPTIONS[how]), cold_of(load, name, OPTIONS[how])
    again: dict[str, int] = {}
    found = differences(model, cold, again=again)
    assert {step: far for step, far in found.items() if far > bound_of(how)} == {}
    if how not in FORGETFUL:
        assert {step: count for step, count in again.items() if count > _allowed(name, step)} == {}


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in PLAIN])
def test_two_users_at_once_do_not_take_each_others_window(load: Load, name: str) -> None:
    model, cold = load(name), cold_of(load, name, {})
    found: list[dict[str, Reply]] = [{}, {}]
    steps: list[list[tuple[str, list[int], int]]] = [[], []]

    def user(number: int) -> None:
        def answer(prompt: list[int], count: int) -> list[int]:
            last[:] = [reply(model, prompt, count)]
            return last[0].tokens

        last: list[Reply] = []
        for step in walk(answer, vocab=range(40, 1000), length=LENGTH, seed=number + 5, long=LENGTH):
            found[number][step.name] = last[0]
            steps[number].append((step.name, step.prompt, len(step.reply)))

    users = [threading.Thread(target=user, args=(number,)) for number in range(2)]
    for each in users:
        each.start()
    for each in users:
        each.join()
    far = {
        f"{number}: {name}": difference(found[number][name], cold.reply(prompt, count))
        for number in range(2)
        for name, prompt, count in steps[number]
    }
    assert len(far) == 2 * len(steps[0])
    assert {step: each for step, each in far.items() if each > ROUNDING} == {}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loader_behind_transformers_reads_the_same(load: Load, name: str) -> None:
    model, cold = load(name, "llamacpp_HF"), cold_of(load, name, {})
    assert {step: far for step, far in differences(model, cold).items() if far > ROUNDING} == {}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("options", [{}, {"cache_type": "q8_0"}, {"separate_contexts": True}], ids=str)
def test_a_full_context_shifts_or_says_why_not(load: Load, name: str, options: dict[str, Any]) -> None:
    model = load(name, n_ctx=256, context_shift=True, keep=8, parallel=1, **options)
    found = reply(model, list(range(40, 240)), 150)
    if name in (*RECURRENT, "gptoss"):  # the last one has YaRN, which makes keys longer as it turns them
        assert any("context_shift has no effect" in note for note in model.notes)
        assert len(found.tokens) == 56
    else:
        assert len(found.tokens) == 150
        quantized = any("keys stay at f16" in note for note in model.notes)
        assert quantized == ("cache_type" in options)


def test_where_all_layers_have_windows_llama_cpp_cannot_shift_and_that_is_said(tmp_path: Path) -> None:
    """It has no other cache then, shifts it all the same, and would end the program."""
    loader, path = loader_named("llama.cpp"), ggufs.make("gemma3", tmp_path, blocks=1)
    options = loader.Options.parse({"n_ctx": 256, "context_shift": True, "parallel": 1})
    with loader.load(path, options, keep_going) as model:
        assert any("context_shift has no effect" in note for note in model.notes)
        assert len(reply(model, list(range(40, 240)), 150).tokens) == 56


def test_to_keep_all_is_to_keep_half(load: Load) -> None:
    model = load("llama", n_ctx=256, context_shift=True, keep=8000, parallel=1)
    found = reply(model, list(range(40, 240)), 400)
    assert len(found.tokens) == 400


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_reply_that_goes_back_continues_as_if_it_had_never_gone_on(load: Load, name: str) -> None:
    model, cold = load(name), cold_of(load, name, {})._model
    prompt = [40 + (7 * at + at // 3) % 900 for at in range(LENGTH)]
    strings = banned.strings_of(model, reply(model, prompt, 40).tokens)
    tokens, report = banned.avoid(model, prompt, 40, strings)
    assert len(tokens) == 40
    assert report.taken_back >= report.replaced > 0
    assert report.warnings == []
    rows = np.stack([cold.next_logits(Request([*prompt, *tokens[:at]])) for at in range(len(tokens))])
    assert banned.unexplained(rows, tokens, sorted(model.tokenizer.end_ids), ROUNDING) <= report.replaced


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_draft_model_changes_nothing(load: Load, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drafts for itself, and every third guess is wrong; those that cannot go back say so. Repetitions, which the
    random models write, are not drafted.
    """

    def guess(self: SamplerChain, logits: Any, ahead: int = 0) -> int:
        return int(logits.argmin()) if ahead == 2 else int(logits.argmax())

    monkeypatch.setattr(SamplerChain, "guess", guess)
    monkeypatch.setattr(DraftPolicy, "length", lambda *_: 0)
    monkeypatch.setattr(ModelPolicy, "pays", lambda *_: True)
    monkeypatch.setattr(ModelPolicy, "worth_reading", lambda *_: True)
    load("llama")  # so that its file is there
    if name == "jamba":
        with pytest.raises(InvalidInput, match="its vocabulary is of another kind"):
            load(name, draft_model="zoo-llama")
        return
    cold = cold_of(load, name, {})
    model = load(name, draft_model="zoo-llama" if name in RECURRENT else f"zoo-{name}", draft_max=4)
    prompt = [40 + (7 * at + at // 3) % 900 for at in range(LENGTH)]
    found = reply(model, prompt, 40)
    assert difference(found, cold.reply(prompt, 40)) <= ROUNDING
    again = model.generate(Request([*prompt, *found.tokens], SamplingParams(do_sample=False), 12))
    assert len(list(again)) > 0
    if name in RECURRENT:
        assert any("draft_model has no effect" in note for note in model.notes)
    else:
        assert 0 < again.report.accepted_tokens < again.report.drafted_tokens
