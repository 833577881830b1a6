"""Extensions in the services: each function has its effect, in order, and none of their errors ends anything."""

from __future__ import annotations


from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from errors import ExtensionFailed, InvalidInput, Unavailable, UnknownName
from loaders.base import Model
from loaders.params import SamplingParams
from modules.chat.prompt.chat_fields import ClientChat
from modules.chat.service import ReplySettings
from modules.extensions.hooks import HOOKS
from modules.extensions.service import resolve_names
from modules.generation.completions import GenerationRequest
from tests.extensions.conftest import Home

Make = Callable[..., Home]
PARAMS = SamplingParams(max_new_tokens=64)
SHIPPED = ("character_bias", "example", "gallery", "long_replies", "perplexity_colors")


def said(home: Home, text: str = "Hello", **turn: object) -> str:
    """Send one message in a new chat and return the whole reply."""
    how = ReplySettings(params=PARAMS, mode="chat", **turn)  # type: ignore[arg-type]
    chat = home.chats.new("chat", "Assistant")
    return list(home.chats.send(chat.id, text, how))[-1].text


# --- available extensions, and loading them ---


def test_order_of_naming_is_order_of_application(home: Make) -> None:
    add = "def input_modifier(string, state, is_chat=False):\n    return string + '{}'\n"
    there = home({"one": add.format(1), "two": add.format(2)}, names=["two", "one"])
    list(there.generator.session().start("x", PARAMS))
    assert there.models.loaded.prompt == "<s>x21"


def test_a_minus_takes_an_extension_out() -> None:
    assert resolve_names(["gallery", "a", "a", "-gallery", "b"]) == ["a", "b"]


def test_what_is_not_there_is_said_with_the_nearest_name(home: Make) -> None:
    there = home({"long_replies": "params = {}"}, names=["long_replys", "openai"])
    assert any("no extension long_replys" in note and "Did you mean long_replies?" in note for note in there.notes)
    assert any("built in" in note for note in there.notes)
    assert not there.extensions.active


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import nothing_of_that_name", "it requires nothing_of_that_name, which is not installed"),
        ("def broken(:\n    pass", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1\n\n1 / 0", "line 3): ZeroDivisionError"),
    ],
)
def test_a_script_that_cannot_be_imported_is_named_and_left_out(home: Make, script: str, why: str) -> None:
    there = home({"bad": script, "good": "def input_modifier(s, state):\n    return s + '!'"})
    assert [each.name for each in there.extensions.active] == ["good"]
    assert [each.name for each in there.extensions.failed] == ["bad"]
    assert why in there.notes[0]


def test_params_come_from_settings_and_go_back_there(home: Make) -> None:
    script = "params = {'a': 1, 'b': 'x'}\nseen = {}\ndef setup():\n    seen.update(params)\n"
    there = home({"mine": script}, settings={"mine-b": "y", "mine-none": 3, "other-a": 9})
    assert there.script("mine").seen == {"a": 1, "b": "y"}
    there.script("mine").params["a"] = 5
    assert there.extensions.settings() == {"mine-a": 5, "mine-b": "y"}


def test_missing_requirements_are_named_before_the_import(home: Make, tmp_path: Path) -> None:
    folder = tmp_path / "extensions" / "needy"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("no-such-package-here>=1 # why\npyyaml\npyyaml<1\n-e .\n", "utf-8")
    there = home({"needy": "raise RuntimeError('imported')"})
    assert there.extensions.missing("needy") == ["no-such-package-here>=1", "pyyaml<1"]
    assert "Install requirements" in there.notes[0]
    assert "imported" not in there.notes[0]


def test_nothing_to_install_and_nobody_to_install_for(home: Make) -> None:
    there = home({"plain": "params = {}"})
    with pytest.raises(InvalidInput, match="no packages are required"):
        list(there.extensions.install("plain"))
    with pytest.raises(UnknownName):
        list(there.extensions.install("../plain"))


def test_an_extension_cannot_change_the_programs_own_packages(home: Make, tmp_path: Path) -> None:
    there = home({"greedy": "params = {}"})
    (tmp_path / "extensions" / "greedy" / "requirements.txt").write_text("pyyaml==1.0\n", "utf-8")
    (tmp_path / "requirements.txt").write_text("pyyaml==6.0.3\n", "utf-8")
    with pytest.raises(Unavailable, match="greedy"):
        list(there.extensions.install("greedy"))


# --- a chat ---


def test_what_is_said_and_what_is_shown_are_two_things(home: Make) -> None:
    script = """
def chat_input_modifier(text, visible_text, state):
    return text + " (softly)", visible_text + " <b>softly</b>"
def output_modifier(string, state, is_chat=False):
    return f"<i>{string}</i>" if is_chat else string + "?"
"""
    there = home({"shown": script}, reply="a < b")
    chat = there.chats.new("chat", "Assistant")
    list(there.chats.send(chat.id, "1 < 2", ReplySettings(params=PARAMS, mode="chat")))
    user, reply = there.chats.open(chat.id).path()[-2:]
    assert (user.text, user.meta["visible"]) == ("1 < 2 (softly)", "1 &lt; 2 <b>softly</b>")
    assert (reply.text, reply.meta["visible"]) == ("a < b", "<i>a &lt; b</i>")
    assert "1 < 2 (softly)" in there.models.loaded.prompt
    assert "<i>" not in there.models.loaded.prompt


def test_older_signatures_are_served(home: Make) -> None:
    script = """
def input_modifier(text):
    return text.upper()
def output_modifier(text):
    return text + "!"
def bot_prefix_modifier(text):
    return text + " *smiles*"
"""
    there = home({"old": script}, reply="Fine.")
    said(there, "hello")
    assert "HELLO" in there.models.loaded.prompt
    assert there.models.loaded.prompt.endswith("AI: *smiles*")


def test_a_prefix_is_no_part_of_the_reply_and_goes_before_its_start(home: Make) -> None:
    there = home({"mood": "def bot_prefix_modifier(string, state):\n    return string + ' *glad*'"}, reply=" indeed")
    assert said(there, start_with="Yes") == "Yes indeed"
    assert there.models.loaded.prompt.endswith("AI: *glad* Yes")


def test_history_is_changed_for_the_model_only(home: Make) -> None:
    script = "def history_modifier(history):\n    history['internal'] = history['internal'][-1:]\n    return history\n"
    there = home({"short": script}, reply="Yes.")
    chat = there.chats.new("instruct")
    for text in ("first words", "second words", "third words"):
        list(there.chats.send(chat.id, text, ReplySettings(params=PARAMS)))
    assert "first words" not in there.models.loaded.prompt
    assert "third words" in there.models.loaded.prompt
    assert [each.text for each in there.chats.open(chat.id).path()][0] == "first words"


def test_state_changes_the_knobs_and_a_bad_value_is_told(home: Make) -> None:
    script = (
        "def state_modifier(state):\n    state['temperature'] = 0.25\n    state['top_p'] = 'much'\n    return state\n"
    )
    there = home({"cool": script})
    stream = there.generator.session().start("x", PARAMS)
    list(stream)
    assert there.models.loaded.requests[-1].params.temperature == 0.25
    assert there.models.loaded.requests[-1].params.top_p == PARAMS.top_p
    assert any("top_p" in warning for warning in stream.report.warnings)


def test_a_prompt_of_its_own(home: Make) -> None:
    script = """
def custom_generate_chat_prompt(user_input, state, **kwargs):
    return f"{len(kwargs['history']['internal'])} before; {user_input}; {kwargs.get('regenerate', False)}"
"""
    there = home({"own": script}, reply="Yes.")
    chat = there.chats.new("instruct")
    list(there.chats.send(chat.id, "one", ReplySettings(params=PARAMS)))
    list(there.chats.send(chat.id, "two", ReplySettings(params=PARAMS)))
    assert there.models.loaded.prompt == "<s>1 before; two; False"
    list(there.chats.regenerate(chat.id, ReplySettings(params=PARAMS)))
    assert there.models.loaded.prompt == "<s>1 before; two; True"


# --- every way to generate text ---


def test_drafts_and_the_api_pass_through_the_same_functions(home: Make) -> None:
    script = """
def input_modifier(string, state, is_chat=False):
    return string + (" in a chat" if is_chat else " alone")
def output_modifier(string, state, is_chat=False):
    return string.upper()
"""
    there = home({"both": script}, reply="yes")
    draft = there.drafts.new("output")
    assert list(there.writing.continue_draft(draft.id, PARAMS, start="A draft"))[-1].text == "A draftYES"
    answers = there.completions.start(GenerationRequest(["A prompt"], PARAMS))
    for answer in answers.answers:
        list(answer.stream)
    assert [each.text for each in answers.best()] == ["YES"]
    assert there.models.loaded.prompt == "<s>A prompt alone"
    opened = there.chat_prompts.open(ClientChat(messages=[{"role": "user", "content": "Hello"}]), PARAMS)
    assert "Hello in a chat" in opened.prompts[0]
    assert opened.context is not None and opened.context.is_chat
    changed = opened.context.params.changed(max_new_tokens=3)  # as a forced tool sets a grammar
    there.completions.start(replace(opened, params=changed)).close()
    assert there.models.loaded.requests[-1].params.max_new_tokens == 3
    streamed = there.completions.start(GenerationRequest(["A prompt"], PARAMS, stream=True))
    assert any("both could not modify the reply" in each for each in streamed.warnings)
    streamed.close()


def test_tokens_and_their_count(home: Make) -> None:
    script = """
import numpy as np
def tokenizer_modifier(state, prompt, input_ids, input_embeds):
    assert input_ids.shape[0] == 1 and input_embeds is None
    return prompt, np.append(input_ids, [[33]], axis=1), None
def custom_tokenized_length(prompt):
    return 7
"""
    there = home({"ids": script})
    list(there.generator.session().start("x", PARAMS))
    assert there.models.loaded.prompt == "<s>x!"
    assert there.generator.session().count_prompt("a long text", PARAMS) == 7


def test_a_reply_of_its_own(home: Make) -> None:
    script = """
def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat=False):
    for end in range(1, 4):
        yield "one two three".rsplit(" ", 3 - end)[0]
"""
    there = home({"own": script})
    assert said(there) == "one two three"
    assert not there.models.loaded.requests


def test_a_reply_of_its_own_by_the_models_help(home: Make) -> None:
    script = """
from modules.text_generation import generate_reply_HF
def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat=False):
    for text in generate_reply_HF(question, original_question, seed, state, stopping_strings):
        yield text.upper()
"""
    assert said(home({"loud": script}, reply="quiet words")) == "QUIET WORDS"


# --- errors ---


@pytest.mark.parametrize("name", [hook.name for hook in HOOKS.values() if hook.arguments])
def test_a_function_that_raises_is_named_and_the_reply_is_there(home: Make, name: str) -> None:
    script = f"def {name}(*arguments, **named):\n    raise ValueError('oh dear')\n"
    there = home({"bad": script}, reply="Still here.")
    assert said(there) == "Still here."
    problem = there.extensions.active[0].problem
    assert f"bad failed in {name} (script.py, line 2): ValueError: oh dear" in problem
    chat = there.chats.list("chat", "Assistant")[0]
    warnings = there.chats.open(chat.id).path()[-1].meta.get("warnings") or []
    assert any("oh dear" in each for each in warnings) or name == "custom_tokenized_length"


def test_a_wrong_answer_is_left_out_and_named(home: Make) -> None:
    there = home({"odd": "def input_modifier(string, state):\n    return 5"})
    stream = there.generator.session().start("x", PARAMS)
    list(stream)
    assert there.models.loaded.prompt == "<s>x"
    assert any("returned a int instead of a str" in each for each in stream.report.warnings)


def test_a_reply_that_breaks_off_keeps_what_was_said(home: Make) -> None:
    script = """
def custom_generate_reply(question, original_question, seed, state, stopping_strings, is_chat=False):
    yield "The beginning"
    raise OSError("the line is dead")
"""
    there = home({"dead": script})
    chat = there.chats.new("instruct")
    with pytest.raises(ExtensionFailed, match="dead failed in custom_generate_reply .*the line is dead"):
        list(there.chats.send(chat.id, "Hello", ReplySettings(params=PARAMS)))
    assert there.chats.open(chat.id).path()[-1].text == "The beginning"


def test_what_the_original_had_and_this_lacks_is_named(home: Make) -> None:
    there = home({"deep": "from modules import shared\nx = shared.model_config\n"})
    assert "modules.shared.model_config of the original program is not supported" in there.notes[0]


# --- logits, on the real model ---


def test_a_processor_bans_tokens_and_one_that_raises_is_switched_off(home: Make, demo_model: Model) -> None:
    script = """
import numpy as np
calls = []
class Ban:
    def __call__(self, input_ids, scores):
        calls.append((input_ids.shape, scores.shape))
        scores[:, :] = np.where(np.arange(scores.shape[1]) == TOKEN, scores, -np.inf)
        return scores
class Broken:
    def __call__(self, input_ids, scores):
        calls.append("broken")
        raise RuntimeError("no")
def logits_processor_modifier(processor_list, input_ids):
    processor_list.append(Ban())
    processor_list.append(Broken())
"""
    token = demo_model.tokenizer.encode(" Paris")[0]
    there = home({"ban": script.replace("TOKEN", str(token))}, model=demo_model)
    stream = there.generator.session().start(
        "The capital of France is", PARAMS.changed(max_new_tokens=4, do_sample=False)
    )
    pieces = list(stream)
    assert [each.id for piece in pieces for each in piece.tokens] == [token] * 4
    calls = there.script("ban").calls
    shapes = [each for each in calls if each != "broken"]
    assert shapes[0][1] == (1, demo_model.tokenizer.n_vocab)
    assert [shape[0][1] - shapes[0][0][1] for shape in shapes] == [0, 1, 2, 3]
    assert calls.count("broken") == 1
    assert any("its logits processor" in each and "RuntimeError: no" in each for each in stream.report.warnings)


def test_a_script_that_uses_torch_gets_tensors(home: Make, demo_model: Model) -> None:
    pytest.importorskip("torch")
    script = """
import torch
from transformers import LogitsProcessor
class First(LogitsProcessor):
    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor):
        scores.fill_(-float("inf"))
        scores[:, 28] = 0
        return scores
def logits_processor_modifier(processor_list, input_ids):
    assert isinstance(input_ids, torch.Tensor)
    processor_list.append(First())
"""
    there = home({"tensors": script}, model=demo_model)
    stream = there.generator.session().start("x", PARAMS.changed(max_new_tokens=3))
    assert [token.id for piece in stream for token in piece.tokens] == [28, 28, 28]


def test_processors_change_nothing_for_others(home: Make, demo_model: Model) -> None:
    there = home({"none": "params = {}"}, model=demo_model)
    greedy = PARAMS.changed(max_new_tokens=12, do_sample=False)
    plain = there.generator.session().start("The capital of France is", greedy)
    text = "".join(piece.text for piece in plain)
    look = (
        "def logits_processor_modifier(processor_list, input_ids):\n    processor_list.append(lambda ids, scores: None)"
    )
    watched = home({"look": look}, model=demo_model).generator.session().start("The capital of France is", greedy)
    assert "".join(piece.text for piece in watched) == text


# --- the shipped extensions ---


def test_the_shipped_ones_are_there_and_load(home: Make) -> None:
    there = home(names=list(SHIPPED), included=True)
    assert there.extensions.available() == sorted(SHIPPED)
    assert there.notes == []
    assert [each.name for each in there.extensions.active] == list(SHIPPED)
    assert set(there.extensions.active[1].hooks) == set(HOOKS)  # the example has every function


def test_the_example_changes_nothing_until_it_is_told_to(home: Make) -> None:
    there = home(names=["example"], included=True, reply="Paris.")
    assert said(there) == "Paris."
    assert "visible" not in there.chats.open(there.chats.list("chat", "Assistant")[0].id).path()[-1].meta


def test_character_bias(home: Make) -> None:
    there = home(names=["character_bias"], included=True)
    said(there)
    assert there.models.loaded.prompt.endswith("AI: *I am so happy*")
    other = home(names=["character_bias"], included=True, settings={"character_bias-activate": False})
    said(other)
    assert other.models.loaded.prompt.endswith("AI:")


def test_long_replies(home: Make, demo_model: Model) -> None:
    settings = {"long_replies-min_length": 40}
    there = home(names=["long_replies"], included=True, settings=settings, model=demo_model)
    params = PARAMS.changed(max_new_tokens=60, do_sample=False)
    prompt = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
    stream = there.generator.session().start(prompt, params)
    ids = [token.id for piece in stream for token in piece.tokens]
    newline = demo_model.tokenizer.encode("\n")[-1]
    assert len(ids) >= 40
    assert newline not in ids[:40]


def test_perplexity_colors(home: Make, demo_model: Model) -> None:
    there = home(names=["perplexity_colors"], included=True, model=demo_model)
    chat = there.chats.new("instruct")
    turn = ReplySettings(params=PARAMS.changed(max_new_tokens=24, do_sample=False))
    list(there.chats.send(chat.id, "Tell me the capital of France.", turn))
    reply = there.chats.open(chat.id).path()[-1]
    shown = str(reply.meta["visible"])
    assert shown.count("<span style=") >= 4
    import re

    assert re.sub("<[^>]*>", "", shown) == reply.text
    assert there.script("perplexity_colors").color(1.0, 1.0) == "hsl(130, 70%, 45%)"
    assert np.isclose(float(there.script("perplexity_colors").params["ppl_scale"]), 15.0)


def test_scripts_see_what_the_user_says_about_themselves(home: Callable[..., Home]) -> None:
    script = "def input_modifier(string, state, is_chat=False):\n    return string + '|' + state['user_bio']\n"
    there = home({"bios": script})
    asked = ClientChat(messages=[{"role": "user", "content": "Hi"}], mode="chat", user_bio="Ann climbs.")
    assert "You: Hi|Ann climbs.\n" in there.chat_prompts.open(asked, PARAMS).prompts[0]
    id = there.chats.new("chat", "Assistant").id
    list(there.chats.send(id, "Hi", ReplySettings(mode="chat", params=PARAMS, user_bio="Ann climbs.")))
    assert "You: Hi|Ann climbs.\n" in there.models.loaded.prompt
