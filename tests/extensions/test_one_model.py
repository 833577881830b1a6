"""What a script imports from the original uses the model of the request that its function works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from contextlib import suppress
from typing import Any

import pytest

from errors import ModelClosed
from loaders.params import SamplingParams
from modules.chat.prompt.chat_fields import ClientChat
from modules.chat.service import ReplySettings
from modules.extensions.context import current_model_access
from modules.generation.completions import CompletionBatch, GenerationRequest
from tests.extensions.conftest import Held, Home
from tests.fake_engine import FakeModel
from tests.swapped_models import Watched, looked_up, replaced_after

Make = Callable[..., Home]
PARAMS = SamplingParams(max_new_tokens=40)

#: Every function asks for the model's name, and uses it.
_HOOKS = """
import modules.shared as shared
from modules.text_generation import encode, decode, get_encoded_length, get_max_prompt_length, generate_reply

seen = []

def ask(what):
    text = decode(encode("x")[0].tolist())
    shared.tokenizer.encode(text)
    get_encoded_length(text), get_max_prompt_length({})
    seen.append((what, shared.model_name, shared.model.name))

def state_modifier(state):
    ask("state")

def history_modifier(history):
    ask("history")

def chat_input_modifier(text, visible_text, state):
    ask("chat input")
    return text, visible_text

def input_modifier(string, state, is_chat=False):
    ask("input")

def bot_prefix_modifier(string, state):
    ask("prefix")

def tokenizer_modifier(state, prompt, input_ids, input_embeds):
    ask("tokenizer")

def custom_tokenized_length(prompt):
    ask("length")

def logits_processor_modifier(processor_list, input_ids):
    ask("processors")
    processor_list.append(lambda ids, scores: ask("each token"))

def output_modifier(string, state, is_chat=False):
    ask("output")

def custom_generate_chat_prompt(user_input, state, **kwargs):
    ask("chat prompt")
"""
_WRITER = """

def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat):
    ask("reply")
    def words():
        for text in generate_reply(question, state, stopping_strings):
            ask("writing")
            yield text
    return words()
"""


class Processing(Watched):
    """Passes each token to the processors of a request, as an engine does."""

    def generate(self, request: Any) -> Any:
        for process in request.processors:
            process(list(request.ids), self.next_logits(request))
        return super().generate(request)


def page(there: Home, mode: str) -> str:
    id = there.chats.new().id
    return str(list(there.chats.send(id, "Hi", ReplySettings(mode=mode, params=PARAMS)))[-1].text)  # type: ignore[arg-type]


def read(answers: CompletionBatch) -> str:
    return "".join(piece.text for piece in answers.answers[0].stream) + answers.answers[0].stream.model


def chat_api(there: Home) -> str:
    opened = there.chat_prompts.open(ClientChat(messages=[{"role": "user", "content": "Hi"}], mode="chat"), PARAMS)
    ask = replace(opened, params=PARAMS, max_tokens=40)
    return read(there.completions.start(ask))


def completion(there: Home) -> str:
    answers = there.completions.start(GenerationRequest(["Hi"], PARAMS, max_tokens=40))
    said = read(answers)
    answers.best()
    return said


def notebook(there: Home) -> str:
    return list(there.writing.continue_draft(there.drafts.new("notebook", "Hi").id, PARAMS))[-1].text


DOORS: dict[str, Callable[[Home], str]] = {
    "page, instruct": lambda there: page(there, "instruct"),
    "page, chat": lambda there: page(there, "chat"),
    "chat API": chat_api,
    "completion": completion,
    "notebook": notebook,
}
every_door = pytest.mark.parametrize("name", DOORS)
with_or_without = pytest.mark.parametrize("script", [_HOOKS, _HOOKS + _WRITER], ids=["hooks", "writer"])


@every_door
@with_or_without
def test_every_function_of_a_request_sees_its_model(
    home: Make, name: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = home({"asking": script}, model=FakeModel())
    models = [Processing(f"m{number}") for number in range(6)]
    with looked_up(monkeypatch, Held, models) as looks:
        said = DOORS[name](there)
    seen = there.script("asking").seen
    assert looks == [0]
    assert not any(model.touches for model in models[1:])
    assert {each[1:] for each in seen} == {("m0", "m0")}
    functions = {each[0] for each in seen}
    assert {"state", "writing" if script != _HOOKS else "each token"} <= functions
    assert "It is m0." in said
    assert there.extensions.active[0].problem == ""
    assert current_model_access() is None


@every_door
def test_no_function_is_answered_by_the_model_that_came_later(
    home: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = home({"asking": _HOOKS + _WRITER}, model=FakeModel())
    for touches in range(0, 600, 7):
        first, second = Processing("first"), Processing("second")
        with replaced_after(monkeypatch, Held, first, second, touches), suppress(ModelClosed):
            DOORS[name](there)
        assert not second.touches, touches
        if not first.closed:
            break
    else:
        pytest.fail("a request takes more uses of its model than are tried here")


def test_outside_of_a_request_a_script_sees_the_model_that_is_loaded(home: Make) -> None:
    there = home({"asking": _HOOKS}, model=FakeModel(name="one"))
    script = there.script("asking")
    script.ask("a button of its own")
    there.models.model = FakeModel(name="two")
    script.ask("a button of its own")
    assert [each[1] for each in script.seen] == ["one", "two"]
