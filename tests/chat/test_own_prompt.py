"""What a chat keeps of the knobs that shape its prompt (thinking, effort, templates), in every way of generating."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from errors import InvalidInput
from loaders.params import SamplingParams
from modules.chat.edits import ConversationEdits
from modules.chat.model_title import write_title
from modules.chat.own_settings import KEY, OwnSettings
from modules.chat.prompt_knobs import TEMPLATES, PromptKnobs
from modules.chat.reply_settings import ReplySettings
from modules.chat.store.archive import ChatArchive
from modules.config.settings import Settings
from modules.config.thinking_knobs import SWITCHES
from tests.chat.test_own_settings import OWN, WAYS, begun, last_request
from tests.chat.test_service import House, house
from tests.fake_engine import FakeModel

SWITCHED = (
    "[{{ enable_thinking }} {{ reasoning_effort or 'usual' }}]"
    "{% for m in messages %}({{ m.content }}){% endfor %}{% if add_generation_prompt %}>{% endif %}"
)
PLAIN = "{% for m in messages %}({{ m.content }}){% endfor %}{% if add_generation_prompt %}>{% endif %}"
PAGE = ReplySettings(params=SamplingParams(max_new_tokens=200))

#: What a chat keeps, the mode, and what stands in its prompts then; without it, what stands there instead.
KEPT = (
    ({"thinking": False}, "instruct", "[False usual]", "[True usual]"),
    ({"effort": "high"}, "instruct", "[True high]", "[True usual]"),
    ({"thinking": False, "effort": "low"}, "chat-instruct", "[False low]", "[True usual]"),
    ({"instruction_template": "OWN" + PLAIN}, "instruct", "OWN(", "[True usual]"),
    ({"chat_template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}, "chat", "<Capital of", "You: Capital"),
    ({"command": "Say it as <|character|>: <|prompt|>"}, "chat-instruct", "Say it as ", "Continue the chat"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> House:
    """One for all: templates of chats run in a process, which takes a second to start."""
    return house(tmp_path_factory.mktemp("home"), FakeModel("Paris."))


@pytest.fixture(scope="module")
def edits(home: House) -> ConversationEdits:
    return ConversationEdits(home.chats, home.store)


def test_every_knob_is_a_setting_of_replies_with_the_same_default() -> None:
    settings = {field.name: field.default for field in fields(ReplySettings)}
    assert {name: settings[name] for name in PromptKnobs.knobs()} == PromptKnobs().model_dump()
    assert {*SWITCHES, *TEMPLATES} == PromptKnobs.knobs().keys()
    assert {name: Settings.knobs()[name].aliases for name in SWITCHES} == {name: (SWITCHES[name],) for name in SWITCHES}


@pytest.mark.parametrize(("kept", "mode", "mine", "usual"), KEPT)
def test_every_way_of_generating_uses_what_the_chat_keeps(
    home: House, edits: ConversationEdits, kept: dict[str, object], mode: str, mine: str, usual: str
) -> None:
    home.models.loaded = FakeModel(chat_template=SWITCHED)
    turn = replace(PAGE, mode=mode)  # type: ignore[arg-type]
    own, other = begun(home, mode), begun(home, mode)
    edits.shape_prompt(own, kept)
    for generate in WAYS.values():
        for id, here, away in ((own, mine, usual), (other, usual, mine)):
            generate(home, id, turn)
            _, prompt = last_request(home)
            assert here in prompt
            assert away not in prompt
            assert here in str(home.chats.prompt(id, turn, "And?").text)
    edits.shape_prompt(own, dict.fromkeys(kept))
    assert not OwnSettings.of(home.chats.open(own))
    list(home.chats.send(own, "And?", turn))
    assert usual in last_request(home)[1]


def test_the_page_has_no_say_in_what_the_chat_keeps_and_all_in_the_rest(home: House, edits: ConversationEdits) -> None:
    home.models.loaded = FakeModel(chat_template=SWITCHED)
    id = begun(home, "instruct")
    edits.shape_prompt(id, {"thinking": True, "effort": ""})
    page = replace(PAGE, thinking=False, effort="high")
    list(home.chats.send(id, "And?", page))
    assert "[True usual]" in last_request(home)[1]
    edits.shape_prompt(id, {"effort": None})
    list(home.chats.send(id, "And?", page))
    assert "[True high]" in last_request(home)[1]
    assert OwnSettings.of(home.chats.open(id)).prompt == {"thinking": True}


@pytest.mark.parametrize("place", ["the file", "a branch", "JSON", "JSONL", "undo", "the trash"])
def test_it_survives_beside_the_rest(home: House, edits: ConversationEdits, place: str) -> None:
    id, archive = begun(home, "instruct"), ChatArchive(home.store)
    prompt = {"thinking": False, "effort": "low", "instruction_template": "{{ 'é\n' }}" + PLAIN}
    edits.shape_prompt(id, prompt)
    edits.keep_params(id, OWN)
    edits.set_system_message(id, "Be brief.")
    if place == "a branch":
        id = edits.branch(id, home.chats.open(id).path()[0].id).id
    elif place in ("JSON", "JSONL"):
        _, data = archive.export_chat(id, lines=place == "JSONL")
        id = archive.import_chat(data.decode(), "instruct", "").id
    elif place == "undo":
        edits.reset_settings(id)
        assert not OwnSettings.of(home.chats.open(id))
        home.chats.undo(id)
    elif place == "the trash":
        home.chats.delete(id)
        id = archive.restore(id).id
    assert OwnSettings.of(home.store.open(id)) == OwnSettings(OWN, "Be brief.", prompt=prompt)


@pytest.mark.parametrize(
    ("kept", "used", "told"),
    [
        ({"thinking": "perhaps"}, "[True usual]", 1),
        ({"effort": "utmost", "thinking": False}, "[False usual]", 1),
        ({"effort": ["high"], "no_such": 1}, "[True usual]", 2),
        ({"enable_thinking": False}, "[False usual]", 0),  # as templates and clients call it
        ({"instruction_template": 3}, "[True usual]", 1),
        ([], "[True usual]", 0),
        ("thinking", "[True usual]", 0),
        (None, "[True usual]", 0),
    ],
)
def test_what_is_not_valid_in_a_file_is_not_used_and_said(home: House, kept: object, used: str, told: int) -> None:
    home.models.loaded = FakeModel(chat_template=SWITCHED)
    id = begun(home, "instruct")
    chat = home.store.open(id)
    chat.meta[KEY] = {"prompt": kept}
    home.store.save(chat)
    *_, last = home.chats.send(id, "Hello", PAGE)
    assert used in last_request(home)[1]
    assert len([note for note in last.notes if "this chat keeps" in note.lower()]) == told


@pytest.mark.parametrize(
    "values", [{"effort": "utmost"}, {"thinking": "perhaps"}, {"no_such": 1}, {"command": "\ud800"}]
)
def test_what_is_not_valid_is_not_kept(home: House, edits: ConversationEdits, values: dict[str, object]) -> None:
    id = begun(home, "instruct")
    with pytest.raises(InvalidInput):
        edits.shape_prompt(id, values)
    assert not OwnSettings.of(home.chats.open(id))


@pytest.mark.parametrize(
    ("template", "mode", "kept", "said"),
    [
        (
            PLAIN,
            "instruct",
            {"thinking": False, "effort": "low"},
            ["no enable_thinking", "no reasoning_effort"],
        ),
        (PLAIN, "instruct", {"thinking": True, "effort": ""}, []),  # as it is anyway
        (SWITCHED, "chat", {"thinking": False}, ["chat mode uses no instruction template"]),
        (SWITCHED, "chat-instruct", {"thinking": False, "effort": "low"}, []),
        (PLAIN, "instruct", {"instruction_template": SWITCHED, "effort": "low"}, []),
    ],
)
def test_a_switch_without_effect_says_so(
    home: House, edits: ConversationEdits, template: str, mode: str, kept: dict[str, object], said: list[str]
) -> None:
    home.models.loaded = FakeModel(chat_template=template)
    id = begun(home, mode)
    edits.shape_prompt(id, kept)
    *_, last = home.chats.send(id, "And?", replace(PAGE, mode=mode))  # type: ignore[arg-type]
    notes = [note for note in last.notes if "has no effect" in note]
    assert [part in note for part, note in zip(said, notes, strict=True)] == [True] * len(said)
    list(home.chats.send(begun(home, mode), "And?", replace(PAGE, mode=mode)))  # type: ignore[arg-type]
    quiet = replace(PAGE, mode=mode, thinking=False)  # type: ignore[arg-type]
    *_, last = home.chats.send(begun(home, mode), "And?", quiet)
    assert not [note for note in last.notes if "has no effect" in note]  # the page greys its own switches out


def test_a_broken_template_of_a_chat_changes_nothing_and_says_where(home: House, edits: ConversationEdits) -> None:
    id = begun(home, "instruct")
    edits.shape_prompt(id, {"instruction_template": "{% for %}"})
    before = home.said(id)
    with pytest.raises(Exception, match="line 1"):
        list(home.chats.send(id, "And?", PAGE))
    assert home.said(id) == before


def test_a_title_does_without_the_chats_switches(home: House, edits: ConversationEdits) -> None:
    home.models.loaded = FakeModel("A title", chat_template=SWITCHED)
    id = begun(home, "instruct")
    edits.shape_prompt(id, {"thinking": True, "effort": "high"})
    turn = replace(PAGE, own=("thinking", "effort"), effort="high")
    session = home.generator.session()
    title, _ = write_title(session, home.chats.open(id), turn, home.chats.prompt_after, lambda _: None)
    assert title == "A title"
    assert "[False usual]" in last_request(home)[1]
