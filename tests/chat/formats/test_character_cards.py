"""Character cards of all versions: every field is used or kept, exports equal imports, and damaged cards cause
errors.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, PngImagePlugin

from errors import BadFile, Conflict, InvalidInput, InvalidName
from modules.chat.characters import Characters
from modules.chat.formats.character_cards import read_card, write_card
from modules.config.paths import Paths
from tests.chat.test_service import TURN, house
from tests.fake_engine import FakeModel

DATA: dict[str, Any] = {
    "name": "Aria", "description": "{{char}} sails.", "personality": "calm", "scenario": "A harbour.",
    "first_mes": "Ahoy, {{user}}.", "mes_example": "<START>\n{{user}}: Hi\n{{char}}: Ahoy",
    "creator_notes": "notes", "system_prompt": "Be {{char}}.", "post_history_instructions": "Stay on deck.",
    "alternate_greetings": ["Land!", "Storm!"], "tags": ["sea"], "creator": "me", "character_version": "1",
    "extensions": {"depth": {"x": 1}}, "character_book": {"entries": [{"keys": ["ship"], "content": "wood"}]},
}  # fmt: skip


def png(**chunks: Any) -> bytes:
    info = PngImagePlugin.PngInfo()
    for keyword, value in chunks.items():
        info.add_text(keyword, base64.b64encode(json.dumps(value).encode()).decode())
    made = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(made, "PNG", pnginfo=info)
    return made.getvalue()


@pytest.fixture
def characters(tmp_path: Path) -> Characters:
    return Characters(Paths.under(tmp_path))


def yaml_card(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True).encode()


@pytest.mark.parametrize(
    ("data", "ending"),
    [
        (png(chara={"spec": "chara_card_v2", "spec_version": "2.0", "data": DATA}), "png"),
        (png(ccv3={"spec": "chara_card_v3", "data": DATA}, chara={"name": "old"}), "png"),
        (json.dumps({"spec": "chara_card_v2", "data": DATA}).encode(), "json"),
        (png(chara=DATA), "png"),
        *((yaml_card({"spec": f"chara_card_{each}", "data": DATA}), "yaml") for each in ("v2", "v3")),
        (yaml_card({"spec": "chara_card_v2", "data": DATA}), "YML"),
        (yaml_card(DATA), "yml"),
    ],
    ids=["v2", "v3", "json", "v1", "yaml v2", "yaml v3", "yml v2", "yml v1"],
)
def test_every_version_is_read_and_written_back(characters: Characters, data: bytes, ending: str) -> None:
    name = characters.import_card(data, f"card.{ending}")
    assert name == "Aria"
    who = characters.load(name)
    assert (who.name, who.greeting, who.greetings, who.after) == (
        "Aria", "Ahoy, {{user}}.", ("Land!", "Storm!"), "Stay on deck.",
    )  # fmt: skip
    for words in ("Be {{char}}.", "{{char}} sails.", "calm", "A harbour.", "{{char}}: Ahoy"):
        assert words in who.context
    again = read_card(characters.export_card(name))
    assert dict(again.data) == DATA
    assert again.picture is not None


def test_a_chat_uses_all_of_a_card(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    home = house(tmp_path, FakeModel("Aye."), paths.characters)
    Characters(paths).import_card(png(chara={"data": DATA}), "card.png")
    conversation = home.chats.new("chat", "Aria", "Ann")
    assert [each.text for each in conversation.path()] == ["Ahoy, Ann."]
    assert [conversation.message(each).text for each in conversation.versions(conversation.path()[0].id)] == [
        "Ahoy, Ann.", "Land!", "Storm!",
    ]  # fmt: skip
    prompt = home.chats.prompt(conversation.id, _turn(), "Hello").text
    for words in ("Be Aria.", "Aria sails.", "A harbour.", "Aria: Ahoy, Ann.", "Ann: Hello", "Stay on deck."):
        assert words in prompt
    assert prompt.index("Ann: Hello") < prompt.index("Stay on deck.")


def _turn() -> Any:
    return replace(TURN, mode="chat", character="Aria", name1="Ann")


def test_an_edited_card_goes_out_as_edited(characters: Characters) -> None:
    name = characters.import_card(png(chara={"data": DATA}), "card.png")
    characters.save(name, called="Aria II", greeting="New.", context="Another.")
    card = read_card(characters.export_card(name))
    assert (card.text("name"), card.text("first_mes"), card.context) == (
        "Aria II",
        "New.",
        "Aria II's Persona: Another.",
    )
    assert card.data["character_book"] == DATA["character_book"]


def test_characters_are_saved_renamed_pictured_and_deleted(characters: Characters) -> None:
    characters.save("Fox", called="Fox", greeting="Hi.", context="A fox.", as_new=True)
    with pytest.raises(Conflict):
        characters.save("Fox", called="Fox", greeting="", context="", as_new=True)
    with pytest.raises(InvalidName):
        characters.save("../Fox", called="Fox", greeting="", context="")
    with pytest.raises(InvalidInput):
        characters.save("Fox", called=" ", greeting="", context="")
    made = io.BytesIO()
    Image.new("RGB", (5, 5)).save(made, "JPEG")
    characters.set_picture("Fox", made.getvalue())
    assert characters.load("Fox").picture is not None
    characters.set_picture("Fox", None)
    assert characters.load("Fox").picture is None
    characters.delete("Fox")
    assert "Fox" not in characters.names()


def broken_chunk() -> bytes:
    data = bytearray(png(chara={"data": DATA}))
    at = data.index(b"IDAT")
    data[at + 6] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "a.png"),
        (b"\x89PNG\r\n\x1a\n", "a.png"),
        (broken_chunk(), "a.png"),
        (png(), "a.png"),
        (png(chara=[1]), "a.png"),
        (b"{}", "a.json"),
        (b'{"data": {"name": 3}}', "a.json"),
        (b"\xff\xfe\x00", "a.json"),
        (b"x" * 50_000_000, "a.png"),
        (b"!!python/object/apply:os.system ['echo taken']", "a.yaml"),
        (b"name: [", "a.yaml"),
        (b"other: 1", "a.yaml"),
        (b"\xff", "a.yaml"),
    ],
)
def test_bad_cards_get_a_sentence_and_nothing_is_written(characters: Characters, data: bytes, name: str) -> None:
    before = characters.names()
    with pytest.raises((InvalidInput, BadFile)):
        characters.import_card(data, name)
    assert characters.names() == before


def test_a_name_with_a_path_in_it_stays_in_the_folder(characters: Characters, tmp_path: Path) -> None:
    name = characters.import_card(json.dumps({"name": "../../etc/x"}).encode(), "a.json")
    assert "/" not in name
    assert [each.name for each in (tmp_path / "characters").glob("*.yaml")] == [f"{name}.yaml"]


def test_a_bomb_is_not_unfolded() -> None:
    head = b"\x89PNG\r\n\x1a\n"
    ihdr = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + ihdr + zlib.crc32(ihdr).to_bytes(4, "big")
    with pytest.raises(InvalidInput):
        read_card(head + chunk)


def test_a_card_without_a_picture_gets_one() -> None:
    made = write_card({"name": "Aria"}, None)
    assert read_card(made).text("name") == "Aria"


def test_the_originals_json_is_brought_in_with_all_it_says(characters: Characters) -> None:
    own = {"name": "Fox", "greeting": "Hi.", "context": "A fox.", "mood": "sly"}
    who = characters.load(characters.import_card(json.dumps(own).encode(), "Reynard.json"))
    assert (who.file, who.name, who.greeting, who.context) == ("Reynard", "Fox", "Hi.", "A fox.")


@pytest.mark.parametrize(
    "value",
    [{"spec": "chara_card_v2", "data": DATA}, DATA, {"data": {key: DATA[key] for key in DATA if key != "name"}}],
    ids=["v2", "v1", "v2 without a name"],
)
@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_a_card_that_was_put_into_the_folder(
    characters: Characters, tmp_path: Path, value: dict[str, Any], ending: str
) -> None:
    (tmp_path / "characters").mkdir()
    text = json.dumps(value) if ending == "json" else yaml_card(value).decode()
    (tmp_path / f"characters/Aria.{ending}").write_text(text)
    who = characters.load("Aria")
    assert (who.name, who.greeting, who.greetings, who.after) == (
        "Aria", "Ahoy, {{user}}.", ("Land!", "Storm!"), "Stay on deck.",
    )  # fmt: skip
    assert "A harbour." in who.context
    assert dict(read_card(characters.export_card("Aria")).data) == DATA
    characters.save("Aria", called="Aria", greeting=who.greeting, context=who.context)
    assert dict(read_card(characters.export_card("Aria")).data) == DATA


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("creation_date: 2024-01-02", {"creation_date": "2024-01-02"}),
        ("made: 2024-01-02 03:04:05", {"made": "2024-01-02 03:04:05"}),
        ("extensions: {1: 2}", {"extensions": {"1": 2}}),
        ("picture: !!binary aGk=", {"picture": "b'hi'"}),
    ],
)
def test_what_only_yaml_has_becomes_what_a_card_can_have(
    characters: Characters, tmp_path: Path, line: str, kept: dict[str, Any]
) -> None:
    data = f"spec: chara_card_v3\ndata:\n  name: Aria\n  first_mes: Ahoy\n  {line}\n".encode()
    (tmp_path / "characters").mkdir()
    (tmp_path / "characters/Put.yaml").write_bytes(data)
    for name in (characters.import_card(data, "x.yaml"), "Put"):
        assert characters.load(name).greeting == "Ahoy"
        card = read_card(characters.export_card(name))
        assert {key: card.data.get(key) for key in kept} == kept


def test_a_character_of_ours_is_no_card(characters: Characters) -> None:
    own = {"name": "Fox", "greeting": "Hi.", "context": "A fox.", "description": "not for the model"}
    who = characters.load(characters.import_card(yaml_card(own), "Reynard.yaml"))
    assert (who.file, who.name, who.greeting, who.context) == ("Reynard", "Fox", "Hi.", "A fox.")


def test_the_mark_of_an_example_is_no_part_of_it() -> None:
    card = read_card(json.dumps({"name": "A", "mes_example": "<start>\nhi\n<Start>\nho"}).encode())
    assert "start" not in card.context.lower()


@pytest.mark.parametrize(
    ("called", "file"),
    [
        ("\U0001f98a" * 80, "\U0001f98a" * 50),
        ("Con", "_Con"),
        ("nul.x", "_nul.x"),
        ("a\x7fb", "a b"),
        ("half \ud83d!", "half  !"),
        ("\x00", "Character"),
    ],
)
def test_any_name_becomes_a_files(characters: Characters, called: str, file: str) -> None:
    data = json.dumps({"name": called, "first_mes": "Hi."}).encode()
    assert characters.import_card(data, "card.json") == file
    assert characters.import_card(data, "card.json") == f"{file} 2"
    assert characters.load(f"{file} 2").greeting == "Hi."


def _damaged() -> dict[str, bytes]:
    whole = png(chara={"name": "x"})
    huge = bytearray(whole)
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    return {
        "cut.png": whole[:60], "head.png": whole[:8], "huge.png": bytes(huge),
        "noise.png": whole[:8] + bytes(range(256)) * 4, "flipped.png": whole[:45] + b"\xff" * 9 + whole[54:],
        "deep.yaml": b"name: " + b"[" * 500, "colons.yaml": b"name: a: b: c", "tag.yaml": b"name: !!python/name:os.x y",
        "list.yaml": b"- a\n- b", "latin.yaml": b"name: \xfc\xff", "empty.yaml": b"", "json.json": b'{"name": ',
    }  # fmt: skip


@pytest.mark.parametrize("name", _damaged())
def test_what_is_said_of_a_damaged_file_names_no_file_of_ours(name: str, tmp_path: Path) -> None:
    """Neither a path of the server, nor a missing file's name, nor a Python object."""
    characters = Characters(Paths.under(tmp_path))
    with pytest.raises(InvalidInput) as caught:
        characters.import_card(_damaged()[name], f"/tmp/passing/0123/{name}")
    said = str(caught.value)
    assert not any(each in said for each in (str(tmp_path), "/tmp", "characters/", "object at", "<", "BytesIO"))
    assert said.endswith(".")
    assert isinstance(caught.value, BadFile) <= (name in said)


def _with_chunks(**chunks: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for keyword, text in chunks.items():
        info.add_text(keyword, text)
    made = io.BytesIO()
    Image.new("RGB", (2, 2)).save(made, "PNG", pnginfo=info)
    return made.getvalue()


def _packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


EMPTY: list[Any] = [None, [], {}, {"data": {"description": "x"}}]
GOOD: dict[str, Any] = {"spec": "chara_card_v2", "data": {"name": "Ann?>~", "description": "D"}}


@pytest.mark.parametrize(
    "chunks",
    [
        *({"ccv3": _packed(value), "chara": _packed(GOOD)} for value in EMPTY),
        {"ccv3": "???", "chara": _packed(GOOD)},
        {"Chara": _packed(GOOD)},
        {"chara": _packed(GOOD).rstrip("=")},
        {"chara": base64.urlsafe_b64encode(json.dumps(GOOD).encode()).decode()},
        {"chara": _packed({"name": GOOD["data"]["name"], "spec": "chara_card_v2", "data": {"description": "D"}})},
        {"chara": _packed({"name": GOOD["data"]["name"], "data": {"name": "", "description": "D"}})},
    ],
)
def test_a_card_is_read_wherever_and_however_it_was_written(chunks: dict[str, str]) -> None:
    card = read_card(_with_chunks(**chunks))
    assert (card.data["name"], card.data["description"]) == ("Ann?>~", "D")
