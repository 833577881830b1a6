"""A grammar that takes forever affects only its own request: it ends with an error or a text, the others continue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from errors import GrammarTooComplex, InvalidGrammar, ModelClosed, UserError
from loaders import gbnf, loader_named
from loaders.base import Finish, Request
from loaders.engine.scheduling import TURN
from loaders.grammar.matcher import GrammarEngine
from loaders.grammar.messages import RequestKind
from loaders.grammar.process import MatcherSession
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.loaders.hostile_grammars import HOSTILE

HANG = 60  # seconds after which a test has hung


Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def load(request: pytest.FixtureRequest) -> Load:
    def load(name: str) -> Any:
        folder = name == "Transformers"
        if folder:
            pytest.importorskip("transformers")
        path: Path = request.getfixturevalue("tiny_folder" if folder else "demo_model_path")
        options = {"max_seq_len": 512, "cpu": True} if folder else {"n_ctx": 512, "threads": 1, "threads_batch": 1}
        loader = loader_named(name)
        return loader.load(path, loader.Options.parse(options), keep_going)

    return load


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, load: Load) -> Iterator[Any]:
    """The llama.cpp loader's, or that of the given loader."""
    with load(getattr(request, "param", "llama.cpp")) as model:
        yield model


#: The engines that support grammars.
ENGINES = ["llama.cpp", "Transformers"]
EVERY_ENGINE = pytest.mark.parametrize("model", ENGINES, indirect=True)
#: A grammar that takes forever to read, one that takes forever with each token, and one that is rejected immediately.
WORST = ["nullable doubling", "30,000 alternatives", "300,000 alternatives"]


def request(model: Any, tokens: int, grammar: str = "") -> Request:
    params = SamplingParams(temperature=1, seed=1, grammar_string=grammar, ban_eos_token=not grammar)
    return Request(model.tokenizer.encode("Once upon a time"), params, tokens)


@pytest.mark.parametrize(
    ("model", "name"),
    [*(("llama.cpp", name) for name in HOSTILE), *(("Transformers", name) for name in WORST)],
    indirect=["model"],
)
def test_a_hostile_grammar_ends_and_another_stream_goes_on(name: str, model: Any) -> None:
    hostile = model.generate(request(model, 4, HOSTILE[name]))
    honest = list(model.generate(request(model, 8)))
    assert len(honest) == 8
    try:
        text = b"".join(token.data for token in hostile)
    except (InvalidGrammar, GrammarTooComplex) as error:
        assert "grammar" in str(error)
    else:
        assert hostile.report.finish in (Finish.STOP, Finish.LENGTH)
        assert text or hostile.report.finish is Finish.STOP


@pytest.mark.parametrize("name", HOSTILE)
def test_the_check_itself_takes_a_hostile_one(name: str) -> None:
    for problem in gbnf.check_grammar(HOSTILE[name]):
        assert problem.line > 0


def test_others_of_the_same_process_are_read_anew_where_they_were(model: Any) -> None:
    """Its process is ended because of a grammar that has advanced: the next answer is the same as before."""
    grammars: GrammarEngine = model._grammars
    following = grammars.follow('root ::= "one" " " ("two" | "three") [.]+')
    for token in model.tokenizer.encode("one t"):
        following.accept(token)
    before = following.allowed()
    process = following._process._process
    assert process
    process.kill()
    process.wait()
    # no grammar is to blame for that: neither the next one nor the loaded ones
    assert following._process.ask(MatcherSession(10**6, b'root ::= "b"'), RequestKind.MASK).result(HANG)
    assert (following.allowed() == before).all()
    following.close()


class Stuck:
    """A grammar that never answers or, if `unread` is set, is never even parsed."""

    problem = None

    def __init__(self) -> None:
        self.asked, self.closed = threading.Event(), threading.Event()
        self.unread = False

    def ready(self, seconds: float = 0) -> bool:
        if self.unread:
            self.asked.set()
            threading.Event().wait(seconds)
        return not self.unread

    def attempt(self, _token: int) -> Future[bytes | None]:
        self.asked.set()
        return Future()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def stuck(model: Any, monkeypatch: pytest.MonkeyPatch) -> Stuck:
    grammar = Stuck()
    monkeypatch.setattr(
        model._grammars, "of", lambda params: grammar if params.grammar_string == "stuck" else None, raising=True
    )
    return grammar


@EVERY_ENGINE
def test_nobody_waits_for_a_grammar_that_does_not_answer(model: Any, stuck: Stuck) -> None:
    asking = request(model, 8, "stuck")
    stream = model.generate(asking)
    assert stuck.asked.wait(HANG)
    honest: list[object] = []
    reading = threading.Thread(target=lambda: honest.extend(model.generate(request(model, 20))), daemon=True)
    reading.start()
    reading.join(HANG)
    asking.cancel.set()
    assert len(honest) == 20
    assert list(stream) == []
    assert stream.report.finish is Finish.CANCELLED
    assert stuck.closed.wait(HANG)


@EVERY_ENGINE
@pytest.mark.parametrize("unread", [False, True])
def test_grammars_that_do_not_answer_hold_no_places(model: Any, stuck: Stuck, unread: bool) -> None:
    """More of them than slots, all before the ordinary ones, one of which takes more than a turn."""
    stuck.unread = unread
    asking = [request(model, 8, "stuck") for _ in range(12)]
    streams = [model.generate(each) for each in asking]
    assert stuck.asked.wait(HANG)
    honest: list[list[object]] = []
    reading = [
        threading.Thread(target=lambda n=n: honest.append(list(model.generate(request(model, n)))), daemon=True)
        for n in (8, 2 * TURN + 10)
    ]
    for each in reading:
        each.start()
    for each in reading:
        each.join(HANG)
    assert sorted(len(tokens) for tokens in honest) == [8, 2 * TURN + 10]
    assert {entry.label for entry in model.queue()} == {""}
    assert len(model.queue()) == len(asking)
    for each in asking:
        each.cancel.set()
    for stream in streams:
        assert list(stream) == []
        assert stream.report.finish is Finish.CANCELLED
    assert not model.queue()


@EVERY_ENGINE
def test_adapters_change_after_those_whose_grammars_are_slow(model: Any) -> None:
    """A task waits for older requests, with a place or without, and newer ones wait for the task."""
    streams = [model.generate(request(model, 6, 'root ::= "la "+')) for _ in range(6)]
    changed: list[bool] = []
    changing = threading.Thread(target=lambda: (model.set_loras([]), changed.append(True)), daemon=True)
    changing.start()
    later = model.generate(request(model, 6, 'root ::= "lo "+'))
    changing.join(HANG)
    assert changed
    for stream in [*streams, later]:
        assert list(stream)


@pytest.mark.parametrize("name", ENGINES)
def test_closing_does_not_wait_for_a_grammar(load: Load, name: str) -> None:
    model = load(name)
    stream = model.generate(request(model, 8, HOSTILE["30,000 alternatives"]))
    closing = threading.Thread(target=model.close, daemon=True)
    closing.start()
    closing.join(HANG)
    assert not closing.is_alive()
    with pytest.raises(UserError):
        list(stream)
    with pytest.raises(ModelClosed):
        model.grammar_start('root ::= "a"')


@EVERY_ENGINE
def test_more_requests_than_places_all_keep_to_their_grammars(model: Any) -> None:
    streams = [model.generate(request(model, 12, f'root ::= ("la{i} ")+ "end"')) for i in range(7)]
    for i, stream in enumerate(streams):
        text = b"".join(token.data for token in stream).decode()
        whole = f"la{i} " * 12
        assert text
        assert whole.startswith(text) or whole.startswith(text.partition("e")[0])


def test_a_token_that_the_model_lacks_is_named(model: Any) -> None:
    with pytest.raises(InvalidGrammar, match="<nosuch>"):
        model.grammar_start("root ::= <nosuch>")
    with pytest.raises(InvalidGrammar, match="49152"):
        model.grammar_start("root ::= <[49152]>")


def test_a_control_token_stands_for_its_name_in_a_text(model: Any) -> None:
    (start,) = model.tokenizer.encode("<|im_start|>")
    if start in model.tokenizer.end_ids:
        pytest.skip("it ends replies here")
    assert model.grammar_start('root ::= "<|im_start|>user"')[start]
    assert model.grammar_start("root ::= <|im_start|>")[start]
    assert not model.grammar_start("root ::= .*")[start]
