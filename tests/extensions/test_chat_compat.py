"""What scripts for the original program do with the chat of a page, one test for each function that they import."""

from __future__ import annotations

import html
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from errors import InvalidInput, NothingToDo
from modules.chat.reply_settings import ReplySettings
from tests.extensions.conftest import Home

Make = Callable[..., Home]


def theirs(module: str, name: str) -> Any:
    """A function, as a script imports it."""
    return getattr(importlib.import_module(f"modules.{module}"), name)


def state_of(there: Home, id: str, **more: Any) -> dict[str, Any]:
    """The state that the page would gather for a chat."""
    values = {"temperature": 0.5, "name1": "Ada", "mode": "chat", "history": {}, "unique_id": id, **more}
    return dict(theirs("ui", "gather_interface_values")(*values.values()))


def new_chat(there: Home, mode: str = "instruct") -> str:
    return there.chats.new(mode, "Assistant").id


def answered(there: Home, id: str, text: str, **how: Any) -> list[Any]:
    return list(theirs("chat", "generate_chat_reply_wrapper")(text, state_of(there, id), **how))


def test_gather_interface_values_names_the_values_of_input_elements(home: Make) -> None:
    there = home()
    state = state_of(there, new_chat(there, "chat"))
    names = theirs("ui", "list_interface_input_elements")()
    assert names == theirs("shared", "input_elements")
    assert set(names) <= set(state)
    assert (state["temperature"], state["name2"], state["character_menu"]) == (0.5, "Assistant", "Assistant")
    assert theirs("ui", "apply_interface_values")(state)[:2] == [0.5, "Ada"]


def test_generate_chat_reply_wrapper_lets_the_model_answer_in_the_pages_chat(home: Make) -> None:
    there = home(reply="It is Paris & more.")
    id = new_chat(there)
    shown, history = answered(there, id, "Where?")[-1]
    assert history["internal"] == [["Where?", "It is Paris & more."]]
    assert html.escape("It is Paris & more.") in shown
    assert [each.text for each in there.chats.open(id).path()] == ["Where?", "It is Paris & more."]
    assert there.models.loaded.requests[-1].params.temperature == 0.5


def test_generate_chat_reply_regenerates_and_continues(home: Make) -> None:
    there = home(reply="One.")
    id = new_chat(there)
    state = state_of(there, id)
    say = theirs("chat", "generate_chat_reply")
    list(say("Count.", state))
    list(say("", state, regenerate=True))
    last = there.chats.open(id).path()[-1]
    assert len(there.chats.open(id).versions(last.id)) == 2
    assert list(say("", state, _continue=True))[-1]["internal"] == [["Count.", "One.One."]]


def test_a_reply_in_no_chat_is_refused_with_what_to_do(home: Make) -> None:
    there = home()
    with pytest.raises(InvalidInput, match="gather_interface_values"):
        answered(there, "", "Hello")


@pytest.mark.parametrize("writes", [True, False])
def test_a_message_may_be_made_by_the_script_alone(home: Make, writes: bool) -> None:
    """Scripts that send a picture ask for a reply to an empty text, and their chat_input_modifier makes the message."""
    made = '("A picture of a cat", "<img alt=cat>")' if writes else "(text, visible_text)"
    there = home({"sends": f"def chat_input_modifier(text, visible_text, state):\n    return {made}\n"})
    id = new_chat(there)
    if not writes:
        with pytest.raises(NothingToDo):
            answered(there, id, "")
        assert there.chats.writing(id) is None
        return
    history = answered(there, id, "")[-1][1]
    assert (history["internal"][0][0], history["visible"][0][0]) == ("A picture of a cat", "<img alt=cat>")


def test_save_history_stores_what_is_shown_and_nothing_else(home: Make) -> None:
    there = home(reply="Paris.")
    id = new_chat(there)
    history = answered(there, id, "Where?")[-1][1]
    history["visible"] = [[history["visible"][0][0], "<audio></audio>Paris."]]
    theirs("chat", "save_history")(history, id, "Assistant", "instruct")
    saved = there.chats.open(id).path()
    assert (saved[1].text, saved[1].meta["visible"]) == ("Paris.", "<audio></audio>Paris.")
    history["visible"] = history["internal"]
    theirs("chat", "save_history")(history, id)
    assert "visible" not in there.chats.open(id).path()[1].meta
    for wrong in ([["Where?", "Rome."]], [["Where?", "Paris."], ["", "x"]], []):
        with pytest.raises(InvalidInput, match="Nothing was saved"):
            theirs("chat", "save_history")({"internal": wrong, "visible": wrong}, id)
    assert there.chats.open(id).path()[1].text == "Paris."


def test_redraw_html_and_replace_character_names(home: Make) -> None:
    home()
    shown = theirs("chat", "redraw_html")({"internal": [["a", "b"]], "visible": [["", "<b>b</b>"]]}, "You")
    assert shown == "<div class='message'><b>b</b></div>"
    replaced = theirs("chat", "replace_character_names")("{{user}}, I am <BOT>.", "Ada", "Fox")
    assert replaced == "Ada, I am Fox."


def test_generate_reply_wrapper_repeats_the_question_outside_of_chats(home: Make) -> None:
    home(reply="two")
    told = list(theirs("text_generation", "generate_reply_wrapper")("one ", {"max_new_tokens": 8}))
    assert told[-1] == ("one two", "<p>one two</p>")


def test_stop_everything_event_ends_a_scripts_reply(home: Make) -> None:
    there = home(reply="a" * 50)
    growing: Iterator[str] = theirs("text_generation", "generate_reply")("x", {"max_new_tokens": 50})
    first = next(growing)
    theirs("text_generation", "stop_everything_event")()
    assert list(growing) == []
    assert len(first) < 50
    assert there.models.loaded.running == 0


def test_one_wrong_value_of_a_state_costs_only_that_value(home: Make) -> None:
    there = home()
    list(theirs("text_generation", "generate_reply")("x", {"temperature": -5, "max_new_tokens": 3}))
    assert there.models.loaded.requests[-1].params.max_new_tokens == 3


def test_apply_extensions_calls_the_functions_of_all(home: Make) -> None:
    louder = "def output_modifier(string, state, is_chat=False):\n    return string.upper()\n"
    more = "def chat_input_modifier(text, visible_text, state):\n    return text + '!', visible_text\n"
    home({"louder": louder, "more": more})
    apply = theirs("extensions", "apply_extensions")
    assert apply("output", "yes", {}, True) == "YES"
    assert apply("chat_input", "yes", "yes", {}) == ("yes!", "yes")
    with pytest.raises(ValueError, match="nonsense"):
        apply("nonsense", "yes")


def test_fix_newlines_and_generate_basic_html(home: Make) -> None:
    home()
    assert theirs("html_generator", "fix_newlines")("a\r\nb") == "a\nb"
    assert theirs("html_generator", "generate_basic_html")("a < b") == "<p>a &lt; b</p>"


def test_the_pages_own_messages_are_still_refused_if_empty(home: Make) -> None:
    there = home()
    with pytest.raises(NothingToDo):
        there.chats.send(new_chat(there), " ", ReplySettings())
