"""Generating into a draft: it grows on disk, can be stopped, and loses nothing if the model is unloaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from errors import Conflict, ModelClosed, NoModelLoaded, NothingToDo
from loaders.base import Finish, Report
from loaders.params import SamplingParams
from modules.extensions import Extensions
from modules.generation.draft_generation import DraftWriter
from modules.prompts.drafts import Drafts

PARAMS = SamplingParams()


@dataclass
class Piece:
    text: str


class Stream:
    """What a TextStream offers its reader: pieces, a report, and a way to stop."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces, self.report, self.cancelled = pieces, Report(), threading.Event()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Piece]:
        for piece in self.pieces:
            if self.cancelled.is_set():
                return
            if isinstance(piece, Exception):
                raise piece
            yield Piece(piece)

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None: ...


@dataclass
class Ended:
    """A reply of these pieces that ended so."""

    pieces: list[str]
    finish: Finish


class Source:
    """A generator with prepared replies."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.prompts, self.extensions = list(replies), list[str](), Extensions()

    def session(self) -> Source:
        return self

    def start(self, prompt: str, _params: SamplingParams, **_: Any) -> Stream:
        self.prompts.append(prompt)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Ended):
            stream = Stream(reply.pieces)
            stream.report.finish = reply.finish
            return stream
        return Stream(reply)


def made(folder: Path, *replies: Any) -> tuple[DraftWriter, Drafts, Source]:
    drafts, source = Drafts(folder), Source(*replies)
    return DraftWriter(source, drafts), drafts, source  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["", "Once"])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("pieces", "finish", "said"),
    [
        ([], Finish.STOP, "ended at once"),
        (["", ""], Finish.STOP, "ended at once"),
        (["", ""], Finish.LENGTH, "only control tokens"),
        ([], Finish.CANCELLED, ""),
        ([" "], Finish.STOP, ""),
        ([" upon"], Finish.LENGTH, ""),
    ],
)
def test_a_run_that_adds_nothing_says_so(
    tmp_path: Path, start: str, again: bool, pieces: list[str], finish: Finish, said: str
) -> None:
    writing, drafts, source = made(tmp_path, *([[" was"]] if again else []), Ended(pieces, finish))
    id = drafts.new("notebook", start).id
    if again:
        list(writing.continue_draft(id, PARAMS))
    *_, last = writing.continue_draft(id, PARAMS, again=again)
    assert last.report is not None
    assert [said in each for each in last.report.warnings] == [True] * bool(said)
    assert last.text == drafts.open(id).text == start + "".join(pieces)
    assert source.prompts[-1] == start


def test_a_text_grows_and_the_last_word_tells_how_it_went(tmp_path: Path) -> None:
    writing, drafts, source = made(tmp_path, [" upon", " a time"])
    id = drafts.new("notebook", "Once").id
    steps = list(writing.continue_draft(id, PARAMS))
    assert steps[-1].text == "Once upon a time"
    assert steps[-1].report is not None
    assert source.prompts == ["Once"]
    assert Drafts(tmp_path).open(id).text == "Once upon a time"
    assert writing.growing(id) is None


def test_a_model_that_goes_away_leaves_what_it_wrote(tmp_path: Path) -> None:
    writing, drafts, _ = made(tmp_path, [" upon", ModelClosed()])
    id = drafts.new("notebook", "Once").id
    with pytest.raises(ModelClosed):
        list(writing.continue_draft(id, PARAMS))
    assert Drafts(tmp_path).open(id).text == "Once upon"
    assert Drafts(tmp_path).undo(id).text == "Once"
    assert writing.growing(id) is None


def test_a_refused_prompt_changes_nothing(tmp_path: Path) -> None:
    writing, drafts, _ = made(tmp_path, NoModelLoaded())
    id = drafts.type(drafts.new("input").id, "Once", "page", 1, 0).id
    with pytest.raises(NoModelLoaded):
        list(writing.continue_draft(id, PARAMS))
    assert Drafts(tmp_path).open(id).text == "Once"
    assert not Drafts(tmp_path).open(id).before


def test_stop_ends_it_and_one_at_a_time_writes(tmp_path: Path) -> None:
    writing, drafts, _ = made(tmp_path, [" one", " two", " three"])
    id = drafts.new("notebook", "Zero").id
    steps = writing.continue_draft(id, PARAMS)
    assert next(steps).text == "Zero one"
    with pytest.raises(Conflict):
        next(writing.continue_draft(id, PARAMS))
    writing.stop(id)
    assert list(steps)[-1].text in ("Zero one", "Zero one two")


def test_a_stop_before_the_first_token_counts_and_the_next_time_is_another(tmp_path: Path) -> None:
    writing, drafts, _ = made(tmp_path, *[[" one", " two", " three"]] * 3)
    id = drafts.new("notebook", "Zero").id
    writing.stop(id)  # nothing has been started
    writing.expect(id)
    writing.stop(id)
    assert list(writing.continue_draft(id, PARAMS))[-1].text in ("Zero", "Zero one")
    assert list(writing.continue_draft(id, PARAMS))[-1].text.endswith(" one two three")
    writing.expect(id)
    writing.stop(id)
    writing.expect(id)  # started again
    assert list(writing.continue_draft(id, PARAMS))[-1].text.endswith(" one two three")


@pytest.mark.parametrize("first", ["one page", "another"])
def test_two_pages_on_one_draft_lose_no_stop(tmp_path: Path, first: str) -> None:
    """Whichever of them writes first: runs started before the stop end, and later ones do not."""
    writing, drafts, _ = made(tmp_path, *[[" one", " two", " three"]] * 2)
    id = drafts.new("notebook", "Zero").id
    writing.expect(id, "one page")
    writing.stop(id)
    writing.expect(id, "another")
    for writer in sorted(("one page", "another"), key=lambda each: each != first):
        before = drafts.open(id).text
        grown = list(writing.continue_draft(id, PARAMS, writer=writer))[-1].text.removeprefix(before)
        assert (grown == " one two three") is (writer == "another")


def test_closing_the_page_keeps_what_is_there(tmp_path: Path) -> None:
    writing, drafts, _ = made(tmp_path, [" one", " two"])
    id = drafts.new("notebook", "Zero").id
    steps = writing.continue_draft(id, PARAMS)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert Drafts(tmp_path).open(id).text == "Zero one"
    with pytest.raises(NothingToDo):
        next(writing.continue_draft(drafts.new("notebook").id, PARAMS, again=True))
