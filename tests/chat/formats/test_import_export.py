"""Other programs' chats: their files are read, and exported files can be imported again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from errors import InvalidInput
from modules.chat.conversation import Conversation, Message
from modules.chat.formats import import_export
from modules.chat.formats.import_export import export_jsonl, import_chat


def texts(conversation: Conversation) -> list[str]:
    return [each.text for each in conversation.path()]


@pytest.mark.parametrize("key", ["internal", "data"])
def test_the_originals_file_in_one_line(key: str) -> None:
    assert texts(import_chat("instruct/x", json.dumps({key: [["hi", "hello"]]}))) == ["hi", "hello"]


def test_line_separators_inside_a_text_cut_nothing() -> None:
    made = Conversation("instruct/x")
    made.add("user", "a\u2028b\x85c\u2029d")
    assert texts(import_chat("instruct/y", export_jsonl(made, "Ann", "Bob"))) == ["a\u2028b\x85c\u2029d"]


def test_no_words_are_no_word() -> None:
    lines = [
        {"name": "Ann", "is_user": True, "mes": None},
        {"name": "Bob", "is_user": False, "mes": None, "swipes": ["One.", None, "Three."], "swipe_id": 2},
    ]
    made = import_chat("instruct/x", "\r\n".join(map(json.dumps, lines)))
    assert texts(made) == ["Three."]
    assert "None" not in [each.text for each in made]


def lines_of(count: int, versions: int = 1) -> str:
    swipes = {"swipes": [f"v{each}" for each in range(versions)], "swipe_id": 0} if versions > 1 else {}
    return "\n".join(json.dumps({"is_user": i % 2 == 0, "mes": f"m{i}", **swipes}) for i in range(count))


def pairs_of(count: int) -> str:
    return json.dumps({"internal": [["a", "b"]] * (count // 2)})


@pytest.mark.parametrize(
    "form", [lines_of, lambda count: lines_of(count, 3), pairs_of], ids=["lines", "swipes", "pairs"]
)
def test_an_import_looks_at_each_message_a_few_times(
    form: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    message = Conversation.message

    def counting(self: Conversation, message_id: str) -> Message:
        nonlocal calls
        calls += 1
        return message(self, message_id)

    monkeypatch.setattr(Conversation, "message", counting)
    made = import_chat("instruct/x", form(2000))
    assert len(made.path()) == 2000
    assert calls < 20 * len(made)


@pytest.mark.parametrize("form", [lines_of, lambda count: lines_of(count // 3, 3), pairs_of])
def test_an_import_has_an_end(form: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "MOST", 30)
    assert len(import_chat("instruct/x", form(30))) == 30
    with pytest.raises(InvalidInput, match="more than 30 messages"):
        import_chat("instruct/x", form(36))


class Plain(Conversation):
    """The same tree, which always walks up to the root."""

    def select(self, message_id: str) -> None:
        at: str | None = message_id
        while at is not None:
            at = self.choose(at).parent


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shown_does_not_depend_on_what_is_known(seed: int) -> None:
    pick = random.Random(seed)
    both = (Conversation("instruct/x"), Plain("instruct/x"))
    taken: tuple[Any, ...] = ()
    for _ in range(200):
        names = [None, *(each.id for each in both[0])]
        at, what = pick.choice(names), pick.randrange(7)
        for one in both:
            if what < 3:
                one.add("user", "a", at)
            elif what == 3:
                one.end_at(at)
            elif at and what < 6:
                (one.select, one.choose)[what - 4](at)
        if at and what == 6:
            taken = tuple(one.remove(at) for one in both)
        elif what == 3 and taken and not any(each.id in both[0] for each in taken[0]):
            above = taken[0][0].parent
            for one, gone in zip(both, taken, strict=True):
                if above is None or above in one:
                    one.restore(gone)
        assert [each.id for each in both[0].path()] == [each.id for each in both[1].path()]


HEAD = {"user_name": "You", "character_name": "Ann", "create_date": "2024-1-1"}


def told(*lines: Any) -> tuple[list[tuple[str, str]], list[str]]:
    """Who says what, and what is reported as left out."""
    notes: list[str] = []
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return [(each.role, each.text) for each in import_chat("instruct/x", text, notes=notes).path()], notes


def said(name: str, mes: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "is_user": name == "You", "mes": mes, **more}


#: A local time in each form of SillyTavern's versions, and to what it is exact.
DATES: dict[Any, datetime] = {
    **dict.fromkeys(
        (
            *("June 5, 2023 3:04pm", "June 5, 2023 3:04 PM", "June 5, 2023 3:04\u202fPM", "Jun 5, 2023 3:04pm"),
            *("Jun 05, 2023 15:04", "June 5, 2023  15:04", "2023-6-5 @15h 04m", "2023-06-05T15:04", "2023-06-05 15:04"),
        ),
        datetime(2023, 6, 5, 15, 4),
    ),
    **dict.fromkeys(
        ("2023-6-5 @15h 04m 12s", "2023-06-05@15h04m12s", "2023-06-05T15:04:12"), datetime(2023, 6, 5, 15, 4, 12)
    ),
    **dict.fromkeys(
        ("2023-6-5 @15h 04m 12s 345ms", "2023-06-05@15h04m12s345ms"), datetime(2023, 6, 5, 15, 4, 12, 345_000)
    ),
    "June 5, 2023 12:30am": datetime(2023, 6, 5, 0, 30),
    "2023-06-05T15:04:12.345Z": datetime(2023, 6, 5, 15, 4, 12, 345_000, timezone.utc),
    "2023-06-05T15:04:12+02:00": datetime.fromisoformat("2023-06-05T15:04:12+02:00"),
    **dict.fromkeys(
        (1685977452345, "1685977452345", 1685977452.345), datetime.fromtimestamp(1685977452.345, timezone.utc)
    ),
}


@pytest.mark.parametrize("given", DATES)
def test_the_date_of_a_message_is_read_in_every_form(given: Any) -> None:
    (message,) = import_chat("instruct/x", json.dumps(said("You", "a", send_date=given))).path()
    assert message.created == pytest.approx(DATES[given].timestamp(), abs=0.001)


@pytest.mark.parametrize(
    "given",
    [None, "", "yesterday", 0, -5, True, [], {}, "nan", "1e400", 10**400, "2023-13-45 @99h 99m", "June 99, 2023"],
)
def test_what_is_no_date_is_that_of_the_message_before(given: Any) -> None:
    first, second = said("You", "a", send_date="2023-6-5 @15h 04m 12s"), said("Ann", "b", send_date=given)
    before, after = import_chat("instruct/x", f"{json.dumps(first)}\n{json.dumps(second)}").path()
    assert before.created == after.created == datetime(2023, 6, 5, 15, 4, 12).timestamp()
    (alone,) = import_chat("instruct/x", json.dumps(second)).path()
    assert alone.created > time.time() - 3600
    (dated,) = import_chat("instruct/x", f"{json.dumps(HEAD)}\n{json.dumps(second)}").path()
    assert dated.created == datetime(2024, 1, 1).timestamp()


def test_each_version_has_its_own_date() -> None:
    swipes = [{"send_date": "2023-6-5 @15h 04m 12s"}, {}, None, {"send_date": "2023-6-5 @15h 06m 00s"}]
    line = said("Ann", "c", swipes=["a", "b", "c", "d", "e"], swipe_id=2, swipe_info=swipes, send_date=1685977452345)
    made = import_chat("instruct/x", json.dumps(line))
    first, shown = datetime(2023, 6, 5, 15, 4, 12).timestamp(), 1685977452.345
    assert [each.created for each in made] == [first, shown, shown, datetime(2023, 6, 5, 15, 6).timestamp(), shown]


def test_an_exported_chat_keeps_its_dates() -> None:
    made = Conversation("instruct/x")
    asked = made.add("user", "a", created=1_700_000_000)
    made.add("assistant", "b", asked.id, created=1_700_000_007)
    again = import_chat("instruct/y", export_jsonl(made, "Ann", "Bob"))
    assert [each.created for each in again.path()] == [1_700_000_000, 1_700_000_007]


def test_a_file_that_was_cut_gives_what_is_whole() -> None:
    path, notes = told(HEAD, said("You", "a"), said("Ann", "b"), '{"name":"You","is_user":true,"mes":"cut o')
    assert path == [("user", "a"), ("assistant", "b")]
    assert notes == ["Line 4 of the file is not a complete message and was skipped."]
    assert told(HEAD, "[1", said("Ann", "b"), "5")[1] == [
        "Lines 2, 4 of the file are not complete messages and were skipped."
    ]


def test_what_was_hidden_is_named() -> None:
    path, notes = told(HEAD, said("You", "a", is_system=True), said("Ann", "b"), said("Ann", "c", is_system="true"))
    assert path == [("assistant", "b")]
    assert notes[0].startswith("2 hidden messages were skipped")


def test_members_of_a_group_keep_their_names() -> None:
    path, _ = told(HEAD, said("You", "a"), said("Ann", "b"), said("Bob", "c", swipes=["c", "Bob: d"]))
    assert [text for _, text in path] == ["a", "b", "Bob: c"]
    renamed, _ = told({**HEAD, "character_name": "unused"}, said("Ann", "b"), said("Ann", "c"))
    assert [text for _, text in renamed] == ["b", "c"]


@pytest.mark.parametrize(("value", "role"), [("false", "assistant"), ("True", "user"), (0, "assistant"), (1, "user")])
def test_a_yes_or_no_as_a_text(value: Any, role: str) -> None:
    assert told(HEAD, {"name": "Ann", "is_user": value, "mes": "b"})[0] == [(role, "b")]
