"""One request uses one model: if another is loaded meanwhile, the request is finished by its own or ends with an
error.

Each door of the program is tried twice: where each look at the loaded model would find another one, and with the model
replaced after each single use of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from errors import ModelClosed
from loaders.params import SamplingParams
from modules.app import App
from modules.chat.service import ReplySettings
from modules.generation.sampler_trace import trace_samplers
from modules.generation.token_view import view_tokens
from modules.library.model_manager import ModelManager
from modules.ui.editor.text_editor import TextEditor
from tests.api.conftest import Client
from tests.api.test_openai import events
from tests.fake_engine import FakeModel
from tests.swapped_models import Watched, looked_up, replaced_after

PARAMS = SamplingParams(max_new_tokens=40, guidance_scale=1.5, negative_prompt="not this", temperature=0.5)
SAYS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is it?"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
MOST = 400  # accesses to a model that one request may make in these tests


@dataclass
class Outcome:
    """The result of a request: the text (or what else identifies the model), the model it names, or the error."""

    text: str = ""
    model: str | None = None
    refused: bool = False


Door = Callable[[Client, str], Outcome]
CHAT, WRITTEN = "a chat", "a text"


def http(path: str, body: dict[str, Any], told: Callable[[dict[str, Any]], str]) -> Door:
    def ask(client: Client, _: str) -> Outcome:
        got = client.post(path, body)
        if body.get("stream"):
            return streamed(got.text, told)
        answer = got.json()
        if got.status_code != 200:
            assert (got.status_code, answer["error"]["message"]) == (503, str(ModelClosed()))
            return Outcome(refused=True)
        return Outcome(told(answer), answer.get("model"))

    return ask


def streamed(text: str, told: Callable[[dict[str, Any]], str]) -> Outcome:
    if not text.startswith("data:"):
        assert json.loads(text)["error"]["message"] == str(ModelClosed())
        return Outcome(refused=True)
    found = events(text)
    refused = [each for each in found if "error" in each]
    assert all(each["error"]["message"] == str(ModelClosed()) for each in refused)
    good = [each for each in found if "choices" in each]
    said = "".join(told(each) for each in good)
    return Outcome(said, good[0]["model"] if good else None, refused=bool(refused))


def turn(mode: str) -> ReplySettings:
    return ReplySettings(mode=mode, params=PARAMS)  # type: ignore[arg-type]


def page(act: Callable[[App, str], Iterator[Any]]) -> Door:
    def ask(client: Client, id: str) -> Outcome:
        try:
            texts = [each if isinstance(each, str) else each.text for each in act(client.app, id)]
        except ModelClosed:
            return Outcome(refused=True)
        chats = client.app.chats
        reply = chats.open(id).path()[-1] if id in {info.id for info in chats.list()} else None
        kept = reply is not None and bool(texts) and reply.text == texts[-1]
        return Outcome(texts[-1] if texts else "", reply.model if reply and kept else None)

    return ask


def direct(act: Callable[[App], str]) -> Door:
    def ask(client: Client, _: str) -> Outcome:
        try:
            return Outcome(act(client.app))
        except ModelClosed:
            return Outcome(refused=True)

    return ask


def looked(app: App) -> str:
    place = app.snapshots.compute("Who?", PARAMS, who="test")
    place.distribution(PARAMS, sampled=True, count=5)
    view_tokens(place.model.tokenizer, place.ids)
    trace_samplers(place, PARAMS)
    return str(place.model.name)


def counted(app: App) -> str:
    line = TextEditor.counts_html(SimpleNamespace(app=app), "Who?", PARAMS)  # type: ignore[arg-type]
    if str(ModelClosed()) in line:
        raise ModelClosed
    return line


def content(answer: dict[str, Any]) -> str:
    choice = (answer["choices"] or [{}])[0]
    return str((choice.get("message") or choice.get("delta") or {}).get("content") or "")


def written(answer: dict[str, Any]) -> str:
    return "".join(choice["text"] for choice in answer["choices"])


def chat_api(**more: Any) -> Door:
    body = {"messages": SAYS, "max_tokens": 40, "guidance_scale": 1.5, "negative_prompt": "x", **more}
    return http("/v1/chat/completions", body, content)


def completion(**more: Any) -> Door:
    return http("/v1/completions", {"prompt": "Who?", "max_tokens": 40, **more}, written)


#: name -> (what must exist before, the request)
DOORS: dict[str, tuple[str, Door]] = {
    "completions": ("", completion()),
    "completions, everything": ("", completion(suffix=".", banned_strings=["zz"], logprobs=2, echo=True, n=2)),
    "completions, several prompts": ("", completion(prompt=["Who?", "What?"], best_of=2)),
    "completions, streamed": ("", completion(stream=True, echo=True)),
    "chat API": ("", chat_api()),
    "chat API, streamed": ("", chat_api(stream=True, logprobs=True, top_logprobs=2)),
    "chat API, several": ("", chat_api(n=2)),
    "chat API, tools": ("", chat_api(tools=[TOOL], tool_choice="auto")),
    "chat API, chat": ("", chat_api(mode="chat", character="Assistant")),
    "chat API, chat-instruct": ("", chat_api(mode="chat-instruct")),
    "chat prompt": ("", http("/v1/internal/chat-prompt", {"messages": SAYS}, lambda got: str(got["prompt"]))),
    "embeddings": ("", http("/v1/embeddings", {"input": ["a", "b"]}, lambda got: str(len(got["data"])))),
    "logits": ("", http("/v1/internal/logits", {"prompt": "Who?"}, lambda got: str(len(got["logits"])))),
    "logits, sampled": (
        "",
        http("/v1/internal/logits", {"prompt": "Who?", "use_samplers": True}, lambda got: str(len(got["logits"]))),
    ),
    "token count": ("", http("/v1/internal/token-count", {"text": "Who?"}, lambda got: str(got["length"]))),
    "encode": ("", http("/v1/internal/encode", {"text": "Who?"}, lambda got: str(got["tokens"]))),
    "decode": ("", http("/v1/internal/decode", {"tokens": [87, 104, 111]}, lambda got: str(got["text"]))),
    "page: send": (CHAT, page(lambda app, id: app.chats.send(id, "Who?", turn("instruct")))),
    "page: send, chat": (CHAT, page(lambda app, id: app.chats.send(id, "Who?", turn("chat")))),
    "page: send, chat-instruct": (CHAT, page(lambda app, id: app.chats.send(id, "Who?", turn("chat-instruct")))),
    "page: regenerate": (CHAT, page(lambda app, id: app.chats.regenerate(id, turn("instruct")))),
    "page: continue": (CHAT, page(lambda app, id: app.chats.continue_(id, turn("instruct")))),
    "page: impersonate": (CHAT, page(lambda app, id: app.chats.impersonate(id, "", turn("chat")))),
    "page: prompt": (CHAT, page(lambda app, id: iter([app.chats.prompt(id, turn("instruct"), "Who?").text]))),
    "page: Notebook": (WRITTEN, page(lambda app, id: app.draft_writer.continue_draft(id, PARAMS))),
    "page: Default": (WRITTEN, page(lambda app, id: app.draft_writer.continue_draft(id, PARAMS, start="Who?"))),
    "page: next token": ("", direct(looked)),
    "page: count": ("", direct(counted)),
}

every_door = pytest.mark.parametrize("name", DOORS)


def ready(client: Client, needs: str) -> str:
    """What a request needs, created with a model that is not swapped."""
    client.use(FakeModel("Fine."))
    if needs == CHAT:
        id = client.app.chats.new().id
        list(client.app.chats.send(id, "Hello", turn("instruct")))
        return id
    return client.app.drafts.new("notebook", "Once").id if needs else ""


@every_door
def test_a_request_looks_once_and_asks_one_model(api: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs, door = DOORS[name]
    id = ready(api, needs)
    # different context sizes, so that a budget of one with the prompt of another would show, too
    models = [Watched(f"m{number}", 4096 - 512 * number) for number in range(6)]
    with looked_up(monkeypatch, ModelManager, models) as looks:
        outcome = door(api, id)
    assert looks == [0]
    assert models[0].touches
    assert not any(model.touches for model in models[1:])
    assert not outcome.refused
    assert outcome.text
    assert "m1" not in outcome.text
    assert outcome.model in (None, "m0")
    if "It is" in outcome.text:
        assert "It is m0." in outcome.text
    if models[0].requests:
        prompts = [bytes(id for id in request.ids if id < 256).decode() for request in models[0].requests]
        assert not any("[m1]" in prompt for prompt in prompts)


@every_door
def test_a_model_that_is_replaced_at_any_point_never_hands_over_to_the_next(
    api: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs, door = DOORS[name]
    refused = 0
    for touches in range(MOST):
        id = ready(api, needs)
        first, second = Watched("first"), Watched("second", 256)
        with replaced_after(monkeypatch, ModelManager, first, second, touches):
            outcome = door(api, id)
        assert not second.touches, (touches, second.touches)
        assert "second" not in outcome.text
        assert outcome.model in (None, "first")
        refused += outcome.refused
        if not first.closed:  # it succeeded without a swap: all points have been tested
            break
    else:
        pytest.fail("a request takes more uses of its model than are tried here")
    assert refused or name == "chat prompt"  # that one only reads a template, which is there without the weights, too
    assert not outcome.refused


def test_the_next_request_asks_the_model_that_is_loaded_then(api: Client) -> None:
    for name in ("one", "two"):
        api.use(FakeModel(name, name=name))
        got = api.post("/v1/chat/completions", {"messages": SAYS, "model": "anything"}).json()
        assert (got["model"], content(got)) == (name, name)


def test_a_page_reply_whose_model_goes_away_keeps_what_is_there(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    id = ready(api, CHAT)
    first, second = Watched("first"), Watched("second")
    with replaced_after(monkeypatch, ModelManager, first, second, 10**6):
        reply = api.app.chats.send(id, "Who?", replace(turn("instruct"), params=SamplingParams()))
        seen = [next(reply).text for _ in range(3)][-1]
        first.close()
        with pytest.raises(ModelClosed):
            next(reply)
    last = api.app.chats.open(id).path()[-1]
    assert (last.text, last.model, last.meta["error"]) == (seen, "first", str(ModelClosed()))
    assert not second.touches
