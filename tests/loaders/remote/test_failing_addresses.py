"""One of a model's addresses fails in any way while another one works: that one answers if nothing has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from errors import EngineFailed, InvalidInput, PromptTooLong, Unavailable
from loaders.base import Request
from tests.loaders.remote.conftest import Open, text_of
from tests.loaders.remote.scripted_server import ScriptedServer
from tests.loaders.remote.test_hostile_servers import STREAM, chunked, events, head, lines

pytestmark = pytest.mark.usefixtures("reading")

#: Name and what is changed in the server: what it answers to a request.
BAD_REPLIES: list[tuple[str, dict[str, Any]]] = [
    ("status 500", {"status": (500, {"error": "boom"})}),
    ("status 404", {"status": (404, {"error": "no such route"})}),
    ("another key", {"status": (401, {})}),
    ("busy", {"status": (429, {"error": "full"})}),
    ("gateway", {"status": (502, {})}),
    ("a web page", {"raw": head("content-type: text/html") + b"<html>"}),
    ("a web page without a type", {"raw": head() + b"<html>"}),
    ("sends on", {"raw": head("location: http://elsewhere.invalid/", status="307 There")}),
    ("an error as an event", {"raw": head(STREAM) + b'data: {"error": {"message": "engine dead"}}\n\n'}),
    ("no JSON", {"raw": head(STREAM) + b"data: x\n\n"}),
    ("a whole reply", {"raw": head() + b'{"choices": []}'}),
    ("no tokens", {"cut_after": 0}),
    ("another model", {"raw": chunked(lines([{"model": "other", **each} for each in events()]))}),
]
#: What it answers when it is asked for its models.
BAD_LISTS: list[tuple[str, Callable[[str, Any], Any]]] = [
    ("none", lambda path, body: {"data": []}),
    ("no such route", lambda path, body: None),
    ("no list", lambda path, body: {"data": 5}),
    ("a text", lambda path, body: "models"),
    ("another model", lambda path, body: {"data": [{"id": "other"}]}),
]


@pytest.mark.parametrize("change", [each[1] for each in BAD_REPLIES], ids=[each[0] for each in BAD_REPLIES])
def test_another_address_answers_what_one_cannot(
    change: dict[str, Any], connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Formerly, only one that was unreachable or overloaded was passed over: half of the requests failed."""
    monkeypatch.setattr("loaders.remote.server._SHORT", 600.0)
    with ScriptedServer("OpenAI") as bad, ScriptedServer("OpenAI", reply=["go", "od"]) as good:
        model: Any = connect(bad, good)
        for name, value in change.items():
            setattr(bad, name, value)
        for _ in range(3):
            assert text_of(model, Request(model.tokenizer.encode("abc"))) == "good"
        assert len(good.bodies) == 3
        assert len(bad.bodies) == 1, "it is left out for a while"
        assert all(each.running == 0 for each in model._server.addresses.all())
        assert not model.queue()


@pytest.mark.parametrize("facts", [each[1] for each in BAD_LISTS], ids=[each[0] for each in BAD_LISTS])
def test_an_address_without_a_list_of_models_is_passed_over(
    facts: Any, connect: Open, lost: Callable[[Any], None]
) -> None:
    with ScriptedServer() as bad, ScriptedServer(reply=["good"]) as good:
        model: Any = connect(bad, good)
        right = bad._facts
        bad._facts = facts  # type: ignore[method-assign]
        for _ in range(3):
            lost(model)
            ids = model.tokenizer.encode("some text that is longer than those whose tokens are remembered, for sure.")
            lost(model)
            assert text_of(model, Request(ids)) == "good"
        assert bad.bodies == []
        first = model._server.addresses.all()[0]
        assert first.out_until > 0
        bad._facts, first.out_until = right, 0.0  # type: ignore[method-assign]
        assert "Paris" in [text_of(model, Request(ids)) for _ in range(20)], "it is asked again"


@pytest.mark.parametrize("facts", [each[1] for each in BAD_LISTS], ids=[each[0] for each in BAD_LISTS])
@pytest.mark.parametrize("kind", ["OpenAI", "TabbyAPI"])
def test_lists_of_any_form_are_sentences(kind: str, facts: Any, connect: Open, lost: Callable[[Any], None]) -> None:
    with ScriptedServer(kind) as server:
        model = connect(server)
        server._facts = facts  # type: ignore[method-assign]
        lost(model)
        with pytest.raises(Unavailable) as failure:
            text_of(model, Request([(1 << 24) + 97]))
        assert server.url in str(failure.value)
        if facts("", None) != {"data": [{"id": "other"}]}:
            with pytest.raises(EngineFailed, match=r"no models|404"):
                connect(server)


@pytest.mark.parametrize("order", [(4096, 2048), (2048, 4096), (4096, 4096)])
@pytest.mark.parametrize("kind", ["vLLM", "SGLang", "TabbyAPI", "llama-server", "llama-server, old"])
def test_the_smallest_context_of_all_addresses_counts(kind: str, order: tuple[int, int], connect: Open) -> None:
    """Formerly that of the first one, so that longer prompts were refused by the others: now and then."""
    name, _, old = kind.partition(", ")
    with ScriptedServer(name, context=order[0]) as one, ScriptedServer(name, context=order[1]) as two:
        if old:  # only its properties say it
            for each in (one, two):
                each._entry = lambda: {"id": "tiny", "owned_by": "llamacpp", "meta": {"n_vocab": 70_000}}  # type: ignore[method-assign]
        model: Any = connect(one, two)
        assert model.context_length == min(order)
        (note,) = (each for each in model.notes if each.startswith("context"))
        assert note.startswith(f"context: {min(order):,} tokens, as the server says")
        sentence = f"the smallest of its addresses counts ({order[0]:,} at {one.url}, {order[1]:,} at {two.url})"
        assert (sentence in note) is (len({*order}) > 1)
        with pytest.raises(PromptTooLong, match=f"only {min(order) - 1:,} fit"):
            model.generate(Request([97] * min(order)))
        assert connect(one, two, options={"remote_context": 4000}).context_length == min(4000, *order)


@pytest.mark.parametrize("loaded", [None, [], "x", 5, {}, {"x": 1}, {"id": None}])
def test_tabbys_loaded_model_of_any_form_is_a_sentence(loaded: Any, connect: Open) -> None:
    with ScriptedServer("TabbyAPI") as server:
        lists = {"/v1/models": {"data": [{"id": "a", "owned_by": "tabbyAPI", "aliases": 5}]}, "/v1/model": loaded}
        server._facts = lambda path, body: lists.get(path)  # type: ignore[method-assign]
        with pytest.raises(EngineFailed, match="lists no models at /v1/model.$" if loaded is not None else "404"):
            connect(server)


def test_what_the_request_is_refused_for_is_not_tried_elsewhere(connect: Open) -> None:
    refusal = {"status": (400, {"error": "temperature must be positive"})}
    with ScriptedServer("OpenAI") as one, ScriptedServer("OpenAI") as two:
        model = connect(one, two)
        one.status = two.status = refusal["status"]
        with pytest.raises(InvalidInput, match="temperature must be positive"):
            text_of(model, Request(model.tokenizer.encode("abc")))
        assert len(one.bodies) + len(two.bodies) == 1


def test_all_addresses_fail_each_for_its_own_reason(connect: Open) -> None:
    with ScriptedServer("OpenAI") as one, ScriptedServer("OpenAI") as two:
        model = connect(one, two)
        one.status, two.raw = (500, {"error": "boom"}), head(STREAM) + b'data: {"error": {"message": "dead"}}\n\n'
        with pytest.raises(Unavailable, match=r"None of the 2 addresses .*boom.*dead"):
            text_of(model, Request(model.tokenizer.encode("abc")))
        assert len(one.bodies) == len(two.bodies) == 1
