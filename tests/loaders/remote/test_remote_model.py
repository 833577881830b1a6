"""A model on another server: replies, abilities and failures, against a scripted server of each kind."""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import (
    EngineFailed,
    InvalidGrammar,
    InvalidInput,
    ModelClosed,
    Overloaded,
    PromptTooLong,
    Unavailable,
    Unsupported,
    UserError,
)
from loaders.base import ABILITIES, Finish, Request
from loaders.cancel import CancelEvent
from loaders.params import SamplingParams
from loaders.remote.failures import ServerKeyRefused, ServerModelChanged, ServerUnreachable, StreamCut
from loaders.remote.kinds import KINDS
from tests.loaders.remote.conftest import PROMPT, Open, ask, text_of, wait_until
from tests.loaders.remote.scripted_server import N_VOCAB, ScriptedServer, encode

# --- what works, with every kind ---


@pytest.mark.parametrize("kind", [each.name for each in KINDS.values()])
def test_a_reply_comes_through_with_what_the_server_says_of_it(kind: str, connect: Open) -> None:
    with ScriptedServer(kind, reply=["Pa", "ris", " ü"]) as server:
        model = connect(server)
        stream = model.generate(ask(model, max_tokens=9))
        tokens = list(stream)
        assert b"".join(token.data for token in tokens).decode() == "Paris ü"
        assert stream.report.finish is Finish.STOP
        assert (stream.report.new_tokens, stream.report.reused_tokens) == (3, 3)
        assert stream.report.seed >= 0
        body = server.bodies[0]
        assert body.get("max_tokens", body.get("n_predict")) == 9
        assert body["prompt"] == (encode(PROMPT) if KINDS[kind.lower()].ids else PROMPT)
        assert model.name == "tiny"
        assert kind in model.notes[0]
        with_ids = kind in ("llama-server", "vLLM")
        assert [token.id >= 0 for token in tokens] == [with_ids] * 3


@pytest.mark.parametrize("kind", [each.name for each in KINDS.values()])
def test_every_knob_is_sent_or_has_a_reason(kind: str) -> None:
    """A knob that a kind claims to honour changes what is sent; the others are in `unsupported`."""
    server_kind = KINDS[kind.lower()]
    knobs = SamplingParams.knobs()
    for name in server_kind.knobs:
        base = SamplingParams(dynamic_temperature=name.startswith("dynatemp"), dynatemp_low=0.5)
        changed = base.changed(**{name: other_value(knobs[name])})
        sent = [server_kind.fields(Request((1,), params), "", "") for params in (base, changed)]
        assert sent[0] != sent[1], name
        assert name not in server_kind.unsupported(), name
    assert set(server_kind.unsupported()) <= {*knobs, *ABILITIES}
    assert all(each.endswith(".") for each in server_kind.unsupported().values())


def other_value(knob: Any) -> Any:
    known = {
        "custom_token_bans": "5", "grammar_string": 'root ::= "a"', "banned_strings": "bad",
        "dry_sequence_breakers": '"x"', "sampler_priority": ["top_k", "temperature"],
    }  # fmt: skip
    if knob.name in known:
        return known[knob.name]
    if knob.kind == "bool":
        return not knob.default
    return knob.maximum if knob.maximum != knob.default else knob.minimum


def test_abilities_follow_the_kind(connect: Open) -> None:
    for kind in KINDS.values():
        with ScriptedServer(kind.name) as server:
            model = connect(server)
            ids = encode("abc")
            uses = {
                "logits": partial(model.next_logits, Request(ids)),
                "score": partial(model.score, ids),
                "tokens": partial(model.require, "tokens"),
            }
            for ability, use in uses.items():
                if model.supports(ability):
                    use()
                else:
                    with pytest.raises(Unsupported, match=kind.name):
                        use()
            with pytest.raises(Unsupported):
                model.embed([ids])
            with pytest.raises(Unsupported, match="guidance_scale"):
                model.generate(Request(ids, SamplingParams(guidance_scale=1.5)))
            if model.supports("logits"):
                logits = model.next_logits(Request(ids))
                assert logits[80] == np.float32(-0.1)
                assert int(np.isfinite(logits).sum()) == (1 if kind.name == "llama-server" else 2)
            if model.supports("score"):
                assert model.score(ids).tolist() == [-1.5, -1.5]


@pytest.mark.parametrize("kind", [each.name for each in KINDS.values()])
def test_ids_outside_the_vocabulary_are_never_sent_in_silence(kind: str, connect: Open) -> None:
    """Nor dropped in silence: a sentence says which, or that the server does not say what it has."""
    strange = 10**9
    for fields in (
        {"logit_bias": {5: 2.0, strange: 1.0}},
        {"params": SamplingParams(custom_token_bans=f"5,{strange}")},
        {"logit_bias": {5: 2.0, -1: 1.0}},
    ):
        with ScriptedServer(kind) as server:
            model = connect(server)
            stream = model.generate(ask(model, **fields))
            list(stream)
            wrong = -1 if -1 in fields.get("logit_bias", ()) else strange
            assert f"Token id {wrong} does not exist" in stream.report.warnings[0]
            unchecked = [each for each in stream.report.warnings if "passed on unchecked" in each]
            assert len(unchecked) == (kind != "llama-server")  # in the script, only this one says how many it has
            sent = server.bodies[0]["logit_bias"]
            assert [int(each) for each in (sent if isinstance(sent, dict) else dict(sent))] == [5]


@pytest.mark.parametrize("name", ["folder/tiny", "a b&c=d?"])
def test_a_llama_server_with_several_models_is_always_told_which(name: str, connect: Open) -> None:
    with ScriptedServer("llama-server", router=True, model=name) as server:
        model = connect(server)
        assert "context: 4,096 tokens, as the server says" in model.notes
        assert text_of(model, ask(model)) == "Paris"
        logits = model.next_logits(Request(encode("abc")))
        assert len(logits) == N_VOCAB
        assert model.tokenizer.piece(97) == b"a"


def test_biases_are_numbers_that_servers_can_read(connect: Open) -> None:
    for kind in KINDS.values():
        with ScriptedServer(kind.name) as server:
            model = connect(server)
            with pytest.raises(InvalidInput, match="NaN"):
                model.generate(ask(model, logit_bias={5: float("nan")}))
            text_of(model, ask(model, logit_bias={5: float("inf"), 6: -float("inf")}))
            assert "Infinity" not in json.dumps(server.bodies[0])


def test_what_is_too_long_says_what_to_do_at_the_server(connect: Open) -> None:
    """n_ctx is an option of models that load here; what the session raises says it in the model's words, too."""
    with ScriptedServer(context=100) as server:
        model = connect(server)
        with pytest.raises(PromptTooLong, match="start the server with a larger context") as failure:
            model.generate(Request(encode("a" * 200)))
        assert "n_ctx" not in f"{failure.value} {model.larger_context}"
        short = connect(server, options={"remote_context": 50})
        with pytest.raises(PromptTooLong, match="larger remote_context"):
            short.generate(Request(encode("a" * 60)))


def test_log_probabilities_are_passed_on(connect: Open) -> None:
    with ScriptedServer(reply=["é"]) as server:
        model = connect(server)
        (token,) = model.generate(ask(model, alternatives=1))
        assert (token.id, token.data, token.logprob) == (88, "é".encode(), -0.5)
        assert [(each.id, each.data, each.logprob) for each in token.alternatives] == [(90, b"Z", -3.0)]


@pytest.mark.parametrize("beyond", [-1, 0, 1, 50])
@pytest.mark.parametrize("kind", [each.name for each in KINDS.values()])
def test_more_log_probabilities_than_a_server_tells_are_limited(kind: str, beyond: int, connect: Open) -> None:
    """Formerly, the server refused the whole request."""
    most = KINDS[kind.lower()].most_logprobs
    with ScriptedServer(kind) as server:
        model = connect(server)
        stream = model.generate(ask(model, alternatives=(most or 500) + beyond))
        assert b"".join(token.data for token in stream) == b"Paris"
        body = server.bodies[0]
        told = [each for each in stream.report.warnings if "log-probabilities" in each]
        if most and beyond > 0:
            assert body["logprobs"] == most
            assert f"at most {most} " in told[0]
            assert f"not {most + beyond}." in told[0]
        else:
            assert body.get("logprobs", body.get("n_probs")) == (most or 500) + beyond
            assert not told


@pytest.mark.parametrize("kind", ["llama-server", "vLLM", "SGLang", "TabbyAPI"])
def test_the_servers_tokenizer_is_used(kind: str, connect: Open) -> None:
    with ScriptedServer(kind) as server:
        tokenizer = connect(server).tokenizer
        ids = tokenizer.encode(PROMPT)
        assert ids == encode(PROMPT)
        assert b"".join(tokenizer.piece(each, special=True) for each in ids).decode() == PROMPT
        assert tokenizer.control == {"<|im_start|>", "<|im_end|>"}
        assert tokenizer.special_ids == {1, 2}
        assert tokenizer.piece(1) == b""
        plain = tokenizer.encode("a<|im_end|>b", special=False)  # text that only looks like a control token
        assert not set(plain) & tokenizer.special_ids
        assert b"".join(map(tokenizer.piece, plain)) == b"a<|im_end|>b"


def test_an_estimate_gives_every_text_back(connect: Open) -> None:
    with ScriptedServer("OpenAI") as server:
        model = connect(server)
        for text in ("", "a", "Grüße 🎉 <|im_end|>\n" * 20):
            ids = model.tokenizer.encode(text)
            assert b"".join(map(model.tokenizer.piece, ids)).decode() == text
            assert len(ids) == -(-len(text.encode()) // 3)
        assert "estimated" in " ".join(model.notes)
        assert not model.supports("tokens")


def test_a_json_schema_is_sent_as_one_and_a_mixed_form_as_a_grammar(connect: Open) -> None:
    with ScriptedServer() as server:
        model = connect(server)
        text_of(model, ask(model, params=SamplingParams(grammar_string='root ::= %json {"type": "object"}\n')))
        assert server.bodies[-1]["json_schema"] == {"type": "object"}
        assert "grammar" not in server.bodies[-1]
        text_of(model, ask(model, params=SamplingParams(grammar_string='root ::= "a"')))
        assert server.bodies[-1]["grammar"] == 'root ::= "a"'
        text_of(model, ask(model, params=SamplingParams(grammar_string='root ::= "x" %json {"type": "null"}\n')))
        assert server.bodies[-1]["grammar"].startswith('root ::= "x" schema1\n')
        text_of(model, ask(model, params=SamplingParams(grammar_string='root ::= "x" %text {"end": "."}\n')))
        assert server.bodies[-1]["grammar"].startswith('root ::= "x" text1\n')
        odd = 'root ::= "x" %text {"end": ".", "patterns": ["a+"]}\n'
        with pytest.raises(Unsupported, match="regular expression has no form in GBNF"):
            model.generate(ask(model, params=SamplingParams(grammar_string=odd)))


@pytest.mark.parametrize(
    ("text", "sent", "left_out"),
    [
        ("a cat\n b \n\n", ["a cat", "b"], ""),
        (json.dumps(["a", "b\nc", " d"]), ["a", "b\nc", " d"], ""),
        ('" cat "\n"say \\"hm\\""', [" cat ", 'say "hm"'], ""),
        ("cat\n/do+g/", ["cat"], "/do+g/"),
        (json.dumps(["/a+/", "/b+/", "x"]), ["x"], "/a+/ and 1 more"),
    ],
)
def test_banned_strings_are_sent_as_they_are_meant(text: str, sent: list[str], left_out: str, connect: Open) -> None:
    """What the server cannot do is said."""
    with ScriptedServer("TabbyAPI") as server:
        model = connect(server)
        stream = model.generate(ask(model, params=SamplingParams(banned_strings=text)))
        list(stream)
        assert server.bodies[-1]["banned_strings"] == sent
        told = " ".join(each for each in stream.report.warnings if "banned_strings" in each)
        assert left_out in told
        assert bool(told) == bool(left_out)


# --- ends ---


def test_a_cancelled_reply_ends_here_and_there(connect: Open) -> None:
    with ScriptedServer(reply=["a", "b", "c"], hold_after=2) as server:
        model = connect(server)
        request = ask(model)
        stream = model.generate(request)
        assert [next(stream).data, next(stream).data] == [b"a", b"b"]
        threading.Timer(0.05, request.cancel.set).start()  # the reader waits in the middle of a read
        assert list(stream) == []
        assert stream.report.finish is Finish.CANCELLED
        assert server.left.wait(5)
        wait_until(lambda: not model.queue())


def test_a_reply_that_nobody_reads_on_is_ended_at_the_server(connect: Open) -> None:
    with ScriptedServer(reply=["a", "b"], hold_after=1) as server:
        model = connect(server)
        request = ask(model)
        stream = model.generate(request)
        next(stream)
        request.cancel.set()  # as a reader does that has seen a stop string: it does not call again
        assert server.left.wait(5)
        wait_until(lambda: not model.queue())
        server.release.set()
        assert text_of(model, ask(model)) == "ab"


def test_cancelled_before_it_is_sent(connect: Open) -> None:
    with ScriptedServer() as server:
        model = connect(server)
        request = ask(model)
        request.cancel.set()
        stream = model.generate(request)
        assert list(stream) == []
        assert stream.report.finish is Finish.CANCELLED
        assert server.bodies == []


def test_connections_are_used_again(connect: Open) -> None:
    with ScriptedServer() as server:
        model = connect(server)
        before = len(server._sockets)
        for _ in range(5):
            assert text_of(model, ask(model)) == "Paris"
        assert len(server._sockets) == before


def test_closing_ends_replies(connect: Open) -> None:
    with ScriptedServer(hold_after=1) as server:
        model = connect(server)
        stream = model.generate(ask(model))
        next(stream)
        threading.Timer(0.05, model.close).start()
        with pytest.raises(ModelClosed):
            next(stream)
        with pytest.raises(ModelClosed):
            model.generate(ask_ids())
        assert server.left.wait(5)


def ask_ids() -> Request:
    return Request(encode("abc"), cancel=CancelEvent())


# --- failures ---


def test_a_cut_stream_keeps_what_came_and_says_so(connect: Open) -> None:
    with ScriptedServer(reply=["a", "b", "c"], cut_after=2) as server:
        model = connect(server)
        stream = model.generate(ask(model))
        got: list[bytes] = []
        with pytest.raises(StreamCut, match=r"after 2 tokens .* kept") as failure:
            got.extend(token.data for token in stream)
        assert server.url in str(failure.value)
        assert got == [b"a", b"b"]
        assert len(server.bodies) == 1  # nothing is asked twice once something has come


def test_a_stream_cut_before_its_first_token_is_sent_to_another_address(connect: Open) -> None:
    with ScriptedServer(cut_after=0) as bad, ScriptedServer(reply=["good"]) as good:
        model = connect(bad, good)
        assert text_of(model, ask(model)) == "good"
        assert text_of(model, ask(model)) == "good"
        assert len(bad.bodies) == 1  # it is left out for a while


@pytest.mark.parametrize(
    ("status", "answer", "kind", "part"),
    [
        (400, {"error": {"message": "the request exceeds the available context size", "n_prompt_tokens": 900,
                         "n_ctx": 512}}, PromptTooLong, "900 tokens, but only 512"),
        (400, {"message": "This model's maximum context length is 512 tokens. However, your messages resulted in "
                         "900 tokens"},
         PromptTooLong, "900 tokens, but only 512"),
        (400, {"error": {"message": "failed to parse grammar"}}, InvalidGrammar, "failed to parse"),
        (422, {"detail": "no such thing"}, InvalidInput, "no such thing"),
        (401, {}, ServerKeyRefused, "requires a key"),
        (403, {}, ServerKeyRefused, "requires a key"),
        (429, {"error": "queue full"}, Overloaded, "queue full"),
        (503, {"error": {"message": "Loading model"}}, Overloaded, "Loading model"),
        (502, {}, ServerUnreachable, "gateway"),
        (500, {"error": {"message": "boom"}}, EngineFailed, "boom"),
        (404, {"error": {"message": "no model x"}}, EngineFailed, "404"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(status: int, answer: Any, kind: type[UserError], part: str, connect: Open) -> None:
    with ScriptedServer(status=(status, answer)) as server:
        model = connect(server)
        with pytest.raises(kind, match=part) as failure:
            text_of(model, ask(model))
        assert kind is InvalidGrammar or str(failure.value).endswith(".")
        if kind is not PromptTooLong:
            assert server.url in str(failure.value)


def test_overload_tells_when_to_come_back_and_another_address_helps(connect: Open) -> None:
    full = {"status": (429, {"error": "full"}), "headers": {"Retry-After": "7"}}
    with ScriptedServer(**full) as busy, ScriptedServer(reply=["free"]) as free:  # type: ignore[arg-type]
        with pytest.raises(Overloaded, match="in 7 seconds") as failure:
            text_of(model := connect(busy), ask(model))
        assert failure.value.seconds == 7
        both = connect(busy, free)
        assert [text_of(both, ask(both)) for _ in range(3)] == ["free"] * 3


def test_keys(connect: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(key="secret") as server:
        with pytest.raises(ServerKeyRefused, match="requires a key"):
            connect(server)
        (tmp_path / "wrong").write_text("other\n")
        with pytest.raises(ServerKeyRefused, match="refused the key") as failure:
            connect(server, key_file="wrong")
        assert "other" not in str(failure.value)
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(InvalidInput, match="does not contain a key"):
            connect(server, key_file="empty")
        (tmp_path / "right").write_text("secret\n")
        model = connect(server, key_file="right")
        assert text_of(model, ask(model)) == "Paris"
        monkeypatch.setenv("A_KEY", "secret")
        connect(server, key_env="A_KEY")
        with pytest.raises(InvalidInput, match="B_KEY"):
            connect(server, key_env="B_KEY")


def test_an_event_that_does_not_end_is_a_sentence(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.remote.events._LARGEST", 5000)
    with ScriptedServer(reply=["x" * 300_000]) as server:
        model = connect(server)
        with pytest.raises(EngineFailed, match="not a part of a reply: an event has more than") as failure:
            text_of(model, Request(encode("abc")))
        assert server.url in str(failure.value)
        server.reply = ["short"]
        assert text_of(model, Request(encode("abc"))) == "short"


def test_the_queue_can_be_looked_at_while_requests_begin(connect: Open) -> None:
    """A set that grows cannot be read: formerly, the look failed now and then."""
    with ScriptedServer() as server:
        model: Any = connect(server)

        class Growing(weakref.WeakSet[Any]):
            """Somebody begins a request in the middle of each look, and waits for it as long as it takes."""

            def __iter__(self) -> Iterator[Any]:
                for each in super().__iter__():
                    thread = threading.Thread(target=lambda: begun.append(model.generate(Request(encode("abc")))))
                    thread.start()
                    thread.join(0.2)
                    threads.append(thread)
                    yield each

        model._running, threads = Growing(), list[threading.Thread]()
        begun = [model.generate(Request(encode("abc"))) for _ in range(2)]
        assert len(model.queue()) == 2
        for each in threads:
            each.join(60)
        assert len(begun) == 4
        model._running = weakref.WeakSet()


def test_unreachable(connect: Open) -> None:
    server = ScriptedServer()
    model = connect(server)
    server.kill()
    for _ in range(2):
        with pytest.raises(ServerUnreachable, match=rf"{server.url} is not reachable: it refuses connections\. Start"):
            text_of(model, Request(encode("abc")))
    with pytest.raises(ServerUnreachable):
        connect(server.url)


def test_another_model_there_now(connect: Open) -> None:
    server = ScriptedServer()
    model = connect(server)
    server.kill()
    with pytest.raises(Unavailable):
        text_of(model, Request(encode("abc")))
    with ScriptedServer(model="other", port=server.port) as again:
        with pytest.raises(ServerModelChanged, match="no longer has the model folder/tiny; now it has other"):
            text_of(model, Request(encode("abc")))
        assert again.bodies == []
    with ScriptedServer(reply=["back"], port=server.port):  # the same model is back
        assert text_of(model, Request(encode("abc"))) == "back"


def test_another_model_after_a_pause_without_requests(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails then: the connection is simply a new one."""
    with ScriptedServer() as server:
        model = connect(server)
        server.model = "other"
        monkeypatch.setattr("loaders.remote.addresses.TRUSTED", 0.0)
        with pytest.raises(ServerModelChanged, match="now it has other"):
            text_of(model, Request(encode("abc")))
        assert server.bodies == []


def test_the_wanted_model_is_not_there(connect: Open) -> None:
    with ScriptedServer() as server:
        assert connect(server, model="folder/tiny").name == "tiny"
        with pytest.raises(ServerModelChanged, match="no longer has the model big"):
            connect(server, model="big")


def test_what_is_no_server_of_models(connect: Open) -> None:
    with ScriptedServer(key="x") as server:
        server.key = ""
        server._facts = lambda path, body: {"data": []}  # type: ignore[method-assign]
        with pytest.raises(EngineFailed, match="lists no models"):
            connect(server)
        server._facts = lambda path, body: None  # type: ignore[method-assign]
        with pytest.raises(EngineFailed, match="404"):
            connect(server)


def test_a_server_that_has_changed_its_model_while_it_ran(connect: Open) -> None:
    with ScriptedServer("vLLM", status=(404, {"message": "The model `folder/tiny` does not exist."})) as server:
        model = connect(server)
        server.model = "other"
        with pytest.raises(ServerModelChanged, match="now it has other"):
            text_of(model, ask(model))


# --- several addresses, many requests ---


def test_the_least_busy_address_comes_first(connect: Open) -> None:
    with ScriptedServer(hold_after=1) as one, ScriptedServer(hold_after=1) as two:
        model = connect(one, two)
        streams = [model.generate(ask(model)) for _ in range(6)]
        for each in streams:
            next(each)
        assert (len(one.bodies), len(two.bodies)) == (3, 3)
        assert len(model.queue()) == 6
        one.release.set(), two.release.set()
        assert all(b"".join(token.data for token in each) == b"ris" for each in streams)
        assert not model.queue()


def test_many_requests_while_servers_are_killed_end_with_text_or_a_sentence(connect: Open) -> None:
    """None hangs, and none gets another reply than its server's."""
    reply = [f"{number} " for number in range(10)]
    server = ScriptedServer(reply=reply)
    port = server.port
    model = connect(server)
    outcomes: list[str] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                outcomes.append(text_of(model, Request(encode("abc"))))
            except UserError as error:
                outcomes.append(str(error))
                time.sleep(0.002)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for each in threads:
        each.start()
    for _ in range(5):
        time.sleep(0.1)
        server.kill()
        time.sleep(0.02)
        server = ScriptedServer(reply=reply, port=port)
    before = len(outcomes)
    wait_until(lambda: len(outcomes) > before + 20)
    stop.set()
    for each in threads:
        each.join(10)
    server.kill()
    assert not any(each.is_alive() for each in threads)
    whole = "".join(reply)
    assert outcomes.count(whole) > 20
    assert all(each == whole or each.endswith(".") for each in outcomes)
    assert not model.queue()
    assert all(each.running == 0 for each in model._server.addresses.all())  # type: ignore[attr-defined]
