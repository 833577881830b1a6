"""Drafts: nothing that was typed or generated is lost, even with two pages or after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from errors import BadFile, InvalidName, NotFound, NothingToDo, Unavailable
from modules.prompts.drafts import Drafts
from modules.prompts.line_ends import exact_position, merge_line_ends, normalize_line_ends, use_one_line_end

TEXT = st.text(alphabet=st.sampled_from("ab \n\r\té\u200b😀"), max_size=30)


def test_a_draft_has_a_file_from_its_first_letter_on(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    new = drafts.new("notebook")
    assert not list(tmp_path.iterdir())
    drafts.type(new.id, "O", "page", 1, new.revision)
    assert Drafts(tmp_path).open(new.id).text == "O"
    latest = Drafts(tmp_path).latest("notebook")
    assert latest is not None
    assert latest.id == new.id


def test_late_words_of_a_page_change_nothing(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    id = drafts.new("input").id
    drafts.type(id, "abc", "page", 3, 0)
    assert drafts.type(id, "ab", "page", 2, 0).text == "abc"


def test_two_pages_lose_nothing(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    id = drafts.new("input").id
    seen = drafts.type(id, "both", "one", 1, 0)
    drafts.type(id, "both and one", "one", 2, seen.revision)
    other = drafts.type(id, "both and two", "two", 1, seen.revision)
    assert other.id != id
    assert Drafts(tmp_path).open(id).text == "both and one"
    assert Drafts(tmp_path).open(other.id).text == "both and two"


def test_undo_and_redo_walk_the_models_passages(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    id = drafts.new("notebook", "Once").id
    with pytest.raises(NothingToDo):
        drafts.undo(id)
    drafts.begin(id, "Once")
    drafts.grow(id, "Once upon")
    drafts.begin(id, "Once upon")
    drafts.grow(id, "Once upon a time")
    assert drafts.undo(id).text == "Once upon"
    assert Drafts(tmp_path).undo(id).text == "Once"
    drafts = Drafts(tmp_path)
    assert drafts.redo(id).text == "Once upon"
    assert drafts.redo(id).text == "Once upon a time"
    with pytest.raises(NothingToDo):
        drafts.redo(id)


def test_regenerate_can_be_taken_back(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    id = drafts.new("notebook", "Once").id
    drafts.begin(id, "Once")
    drafts.grow(id, "Once upon")
    drafts.begin(id, "Once", again=True)
    drafts.grow(id, "Once there")
    assert drafts.redo(id).text == "Once upon"
    assert drafts.undo(id).text == "Once there"
    assert drafts.undo(id).text == "Once"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"text": "a", "before": 3}', "null"])
def test_a_broken_file_is_told_and_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "input-1.json").write_text(text)
    with pytest.raises(BadFile):
        Drafts(tmp_path).open("input-1")
    assert Drafts(tmp_path).latest("input") is None


def test_no_path_leaves_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidName):
        Drafts(tmp_path).open("../secret")
    with pytest.raises(NotFound):
        Drafts(tmp_path).open("gone")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "drafts").write_text("a file where the folder should be")
    drafts = Drafts(tmp_path / "drafts")
    id = drafts.new("input").id
    with pytest.raises(Unavailable, match="still in the page"):
        drafts.type(id, "text", "page", 1, 0)


def test_half_a_character_is_kept(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    id = drafts.new("input").id
    drafts.type(id, "lone \ud800", "page", 1, 0)
    assert Drafts(tmp_path).open(id).text == "lone \ud800"
    assert json.loads((tmp_path / f"{id}.json").read_text())["text"] == "lone \ud800"


@given(TEXT, TEXT)
@example("\r", "\n\n")
def test_what_was_not_touched_keeps_its_line_ends(exact: str, field: str) -> None:
    field = normalize_line_ends(field)
    assert normalize_line_ends(merge_line_ends(exact, field)) == field
    assert merge_line_ends(exact, normalize_line_ends(exact)) == exact


@given(TEXT)
def test_a_place_in_the_field_is_a_place_in_the_text(exact: str) -> None:
    for at in range(len(normalize_line_ends(exact)) + 1):
        assert normalize_line_ends(exact[: exact_position(exact, at)]) == normalize_line_ends(exact)[:at]


@given(TEXT)
def test_line_ends_can_be_changed_throughout(text: str) -> None:
    assert "\r" not in use_one_line_end(text, windows=False)
    assert use_one_line_end(text, windows=True).replace("\r\n", "").count("\n") == 0
