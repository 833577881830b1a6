"""The store: what is written is read again, including the original's files, and nothing is ever lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadFile, ConversationChanged, InvalidName, NotFound, Unavailable
from modules.chat.conversation import Conversation
from modules.chat.store.journal import Journal
from modules.chat.store.search import search_chats
from modules.chat.store.store import ConversationStore, scope_of
from modules.config.paths import Paths

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore(Paths.under(tmp_path))


def written(store: ConversationStore, *texts: str, id: str = "instruct/20240115-13-45-59") -> Conversation:
    conversation = Conversation(id)
    parent = None
    for number, text in enumerate(texts):
        parent = conversation.add("assistant" if number % 2 else "user", text, parent).id
    store.save(conversation)
    return conversation


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.path()]


def put(tmp_path: Path, value: Any, name: str = "instruct/20240115-13-45-59") -> Path:
    path = tmp_path / "logs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


MESSAGES = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["user", "assistant"]), st.text(max_size=8)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(MESSAGES, st.integers(0, 30), st.text(max_size=10))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, messages: Any, chosen: int, title: str) -> None:
    """Any tree with any text (lone surrogates, markers, HTML and more) is loaded as it was saved."""
    store = ConversationStore(Paths.under(tmp_path_factory.getbasetemp()))
    conversation = Conversation("chat/Some One/x", title=title, meta={"kept for others": {"a": [1, None]}})
    ids: list[str | None] = [None]
    for place, role, text in messages:
        ids.append(conversation.add(role, text, ids[place % len(ids)], model="m", created=5.0, seed=place).id)
    if len(ids) > 1:
        conversation.select(ids[1 + chosen % (len(ids) - 1)] or "")
    store.save(conversation)
    again = store.open(conversation.id)
    assert list(again) == list(conversation)
    assert again.path() == conversation.path()
    assert (again.title, again.meta, again.revision) == (title, conversation.meta, conversation.revision)
    store.delete(conversation.id)


# --- the original's form ---


def test_the_form_is_the_originals(store: ConversationStore, tmp_path: Path) -> None:
    conversation = Conversation("chat/Assistant/20240115-13-45-59")
    hello = conversation.add("assistant", "Hello & welcome", greeting=True)
    asked = conversation.add("user", "1 < 2?", hello.id)
    conversation.add("assistant", "Yes", asked.id, model="m")
    store.save(conversation)
    value = json.loads((tmp_path / "logs/chat/Assistant/20240115-13-45-59.json").read_text())
    assert value["internal"] == [["<|BEGIN-VISIBLE-CHAT|>", "Hello & welcome"], ["1 < 2?", "Yes"]]
    assert value["visible"] == [["", "Hello &amp; welcome"], ["1 &lt; 2?", "Yes"]]
    assert value["metadata"]["assistant_1"]["model_name"] == "m"


@pytest.mark.parametrize("keys", [("internal", "visible"), ("data", "data_visible")])
def test_the_originals_files_are_read(store: ConversationStore, tmp_path: Path, keys: tuple[str, str]) -> None:
    rows = [["<|BEGIN-VISIBLE-CHAT|>", "Hi"], ["q1", "a1"], ["", "a dummy reply"], ["q2", ""]]
    put(tmp_path, {keys[0]: rows, keys[1]: [["", "Hi"], ["q1", "a1"], ["", "a dummy reply"], ["q2", ""]]})
    conversation = store.open("instruct/20240115-13-45-59")
    said = [(message.role, message.text) for message in conversation.path()]
    assert said == [
        ("assistant", "Hi"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("assistant", "a dummy reply"),
        ("user", "q2"),
    ]
    assert conversation.path()[0].is_greeting
    store.save(conversation, conversation.revision)
    assert json.loads((tmp_path / "logs/instruct/20240115-13-45-59.json").read_text())["internal"] == rows


def test_versions_and_notes_of_newer_files_are_kept(store: ConversationStore, tmp_path: Path) -> None:
    note = {
        "timestamp": "Jan 15, 2024 13:45",
        "versions": [{"content": "a1", "visible_content": "a1"}, {"content": "a2", "visible_content": "a2"}],
        "current_version_index": 1,
        "attachments": [{"name": "x.txt"}],
    }
    internal, visible = [["q", "a2"]], [["q", "<em>a2</em>"]]
    put(tmp_path, {"internal": internal, "visible": visible, "metadata": {"assistant_0": note}, "else": 1})
    conversation = store.open("instruct/20240115-13-45-59")
    reply = conversation.path()[-1]
    assert [conversation.message(id).text for id in conversation.versions(reply.id)] == ["a1", "a2"]
    store.save(conversation)
    value = json.loads((tmp_path / "logs/instruct/20240115-13-45-59.json").read_text())
    assert value["metadata"]["assistant_0"]["attachments"] == [{"name": "x.txt"}]
    assert value["metadata"]["assistant_0"]["current_version_index"] == 1
    assert value["visible"] == visible
    assert value["else"] == 1


@pytest.mark.parametrize("keeps_tree", [True, False])
def test_when_the_original_rewrote_it_the_rows_win(store: ConversationStore, tmp_path: Path, keeps_tree: bool) -> None:
    conversation = written(store, "q1", "a1", "q2", "a2")
    other = conversation.add("assistant", "a2 once more", conversation.path()[2].id)
    store.save(conversation)
    path = tmp_path / "logs/instruct/20240115-13-45-59.json"
    value = json.loads(path.read_text())
    for key in ("internal", "visible"):
        value[key] = [["q1", "a1"], ["q2", "a2"], ["q3", "a3"]]
    if not keeps_tree:
        del value["tree"], value["about"], value["metadata"]
    path.write_text(json.dumps(value))
    again = store.open(conversation.id)
    assert texts(again) == ["q1", "a1", "q2", "a2", "q3", "a3"]
    versions = [again.message(id).text for id in again.versions(again.path()[3].id)]
    assert versions == (["a2", other.text] if keeps_tree else ["a2"])
    again.title = "named"
    store.save(again)
    assert texts(store.open(conversation.id)) == ["q1", "a1", "q2", "a2", "q3", "a3"]


def test_when_the_original_took_the_end_away(store: ConversationStore, tmp_path: Path) -> None:
    conversation = written(store, "q1", "a1", "q2", "a2")
    path = tmp_path / "logs/instruct/20240115-13-45-59.json"
    value = json.loads(path.read_text())
    value["internal"], value["visible"] = [["q1", "a1"]], [["q1", "a1"]]
    path.write_text(json.dumps(value))
    again = store.open(conversation.id)
    assert texts(again) == ["q1", "a1"]
    assert len(again) == 4  # the rest is still in the tree


# --- files that are broken ---


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"internal": 5}',
        '{"internal": [["a"]]}',
        '{"internal": [["a", 5]]}',
        "[" * 100_000,
        '{"internal": [["a", "b"]',
    ],
)
def test_a_broken_file_is_a_sentence_and_left_alone(store: ConversationStore, tmp_path: Path, text: str) -> None:
    path = put(tmp_path, text)
    written(store, "q", "a", id="instruct/20250101-00-00-00")
    with pytest.raises(BadFile, match="20240115"):
        store.open("instruct/20240115-13-45-59")
    assert path.read_text() == text
    infos = store.list("instruct")
    assert {info.id: info.problem is None for info in infos} == {
        "instruct/20240115-13-45-59": False,
        "instruct/20250101-00-00-00": True,
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows makes no such files")
@pytest.mark.parametrize("name", [b"aux", b"what\\next", b"two\nlines", b"half \xff"])
def test_a_file_with_an_impossible_name_is_named_and_stops_nothing(
    store: ConversationStore, tmp_path: Path, name: bytes
) -> None:
    good = written(store, "words", "a")
    text = (tmp_path / f"logs/{good.id}.json").read_bytes()
    bad = tmp_path / "logs/instruct" / os.fsdecode(name + b".json")
    for data in (text, json.dumps({"internal": [["words", "a"]]}).encode()):  # ours, and the original's
        bad.write_bytes(data)
        store = ConversationStore(Paths.under(tmp_path))
        problems = {info.id: info.problem for info in store.list("instruct")}
        assert problems.pop(good.id) is None
        ((id, problem),) = problems.items()
        assert "cannot be used as a name" in (problem or "")
        assert id.encode("utf-8")
        assert good.id in [found.info.id for found in search_chats(store, "words")]


@pytest.mark.skipif(os.name == "nt", reason="Windows makes no such folders")
def test_a_folder_with_an_impossible_name_does_not_stop_the_search(store: ConversationStore, tmp_path: Path) -> None:
    good = written(store, "words", "a")
    for place in ("logs/chat/Con", "logs/chat/a\\b", "logs/trash/chat/Con"):
        (tmp_path / place).mkdir(parents=True)
    assert [found.info.id for found in search_chats(store, "words")] == [good.id]
    assert store.trash() == []


def test_a_file_cut_at_any_byte_is_a_sentence(store: ConversationStore, tmp_path: Path) -> None:
    written(store, "q é", "a", "q2", "a2")
    path = tmp_path / "logs/instruct/20240115-13-45-59.json"
    data = path.read_bytes()
    for end in range(0, len(data) - 2, 7):
        path.write_bytes(data[:end])
        with pytest.raises(BadFile):
            store.open("instruct/20240115-13-45-59")


def test_junk_in_the_tree_leaves_the_rows_standing(store: ConversationStore, tmp_path: Path) -> None:
    junk = [1, None, {"id": 5}, {"id": "9", "parent": "none", "role": "user", "text": "x"}, {"id": "1", "role": "god"}]
    good = {"id": "2", "parent": None, "role": "user", "text": "q", "meta": {"original": "odd"}}
    tree = {"messages": [*junk, good, good], "chosen": {"": "7", "2": 5, "x": None}}
    put(tmp_path, {"internal": [["q", "a"]], "visible": [], "tree": tree, "about": [], "metadata": 3})
    conversation = store.open("instruct/20240115-13-45-59")
    assert texts(conversation) == ["q", "a"]
    store.save(conversation)


KEYS = st.sampled_from(["id", "parent", "role", "text", "chosen", "messages", "meta", "created"])
JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(JUNK)
def test_no_tree_whatsoever_breaks_the_opening(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    base = tmp_path_factory.getbasetemp()
    put(base, {"internal": [["q", "a"]], "visible": [["q", "a"]], "tree": tree}, "instruct/fuzz")
    store = ConversationStore(Paths.under(base))
    conversation = store.open("instruct/fuzz")
    assert texts(conversation) == ["q", "a"]
    store.save(conversation)


# --- revisions, names, the list ---


def test_a_stale_writer_is_told_and_overwrites_nothing(store: ConversationStore) -> None:
    written(store, "q", "a")
    mine, yours = store.open("instruct/20240115-13-45-59"), store.open("instruct/20240115-13-45-59")
    yours.title = "yours"
    store.save(yours, yours.revision)
    mine.title = "mine"
    with pytest.raises(ConversationChanged):
        store.save(mine, mine.revision)
    assert store.open(mine.id).title == "yours"


def test_of_many_writers_at_once_one_wins(store: ConversationStore) -> None:
    written(store, "q", "a")
    copies = [store.open("instruct/20240115-13-45-59") for _ in range(8)]
    refused = []

    def save(copy: Conversation) -> None:
        try:
            store.save(copy, copy.revision)
        except ConversationChanged:
            refused.append(copy)

    threads = [threading.Thread(target=save, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7


def test_ids_are_unique_within_a_second(store: ConversationStore) -> None:
    ids = [store.new_id("instruct") for _ in range(30)]
    assert len(set(ids)) == 30
    other = ConversationStore(Paths.under(store.journal(ids[0]).parents[2]))
    written(store, "q", id=ids[0])
    assert other.new_id("instruct") != ids[0]


OUTSIDE = ["", "x", "instruct/../x", "instruct/", "chat/x", "chat/../a", "chat/a/b/c", "trash/x", "instruct/.x"]


@pytest.mark.parametrize("id", [*OUTSIDE, "/etc/passwd", "instruct/a\x00"])
def test_ids_from_outside_stay_in_their_place(store: ConversationStore, id: str) -> None:
    with pytest.raises((InvalidName, NotFound)):
        store.open(id)


def test_the_list_is_newest_first_with_titles(store: ConversationStore, tmp_path: Path) -> None:
    written(store, "What is\n  the capital?", "Paris", id="instruct/20240101-00-00-00")
    written(store, "second " * 30, id="instruct/20240102-00-00-00")
    put(tmp_path, {"internal": [["from the original", "a"]], "visible": []}, "instruct/My story")
    os.utime(tmp_path / "logs/instruct/My story.json", (1.5e9, 1.5e9))
    infos = store.list("instruct")
    assert [info.title for info in infos][1:] == ["What is the capital?", "My story"]
    assert infos[0].title.startswith("second second")
    assert len(infos[0].title) <= 60
    assert [info.messages for info in infos] == [1, 2, 2]
    assert store.list(scope_of("chat", "Nobody")) == []


def test_copied_conversations_keep_their_dates(store: ConversationStore, tmp_path: Path) -> None:
    """A copy, a zip or git gives every file the same time; the name of the file says when it was begun."""
    for day in ("20231224-10-20-30", "20220101-00-00-00", "20240229-23-59-59"):
        put(tmp_path, {"internal": [[f"of {day}", "a"]], "visible": []}, f"instruct/{day}")
        os.utime(tmp_path / f"logs/instruct/{day}.json", (1.7e9, 1.7e9))
    shown = {info.id: time.strftime("%Y-%m-%d", time.localtime(info.updated)) for info in store.list("instruct")}
    assert list(shown.values()) == ["2024-02-29", "2023-12-24", "2022-01-01"]
    old = store.open("instruct/20220101-00-00-00")
    assert time.localtime(old.path()[0].created).tm_year == 2022
    old.add("user", "and now?", old.path()[-1].id)  # continued here: it is new again
    store.save(old)
    os.utime(tmp_path / "logs/instruct/20220101-00-00-00.json", (1e9, 1e9))
    assert store.list("instruct")[0].id == old.id


def test_the_list_sees_every_change(store: ConversationStore) -> None:
    conversation = written(store, "q", "a")
    assert store.list("instruct")[0].title == "q"
    conversation.title = "renamed"
    store.save(conversation)
    assert store.list("instruct")[0].title == "renamed"
    store.delete(conversation.id)
    assert store.list("instruct") == []


def test_a_thousand_conversations_are_listed_quickly(tmp_path: Path) -> None:
    store = ConversationStore(Paths.under(tmp_path))
    model = written(store, *(f"message {number} " * 20 for number in range(40)))
    text = (tmp_path / "logs/instruct/20240115-13-45-59.json").read_text()
    for number in range(1000):
        put(tmp_path, text, f"instruct/c{number}")
    store.delete(model.id)
    started = time.thread_time()  # CPU time of this thread: the machine may be busy with other things
    assert len(store.list("instruct")) == 1000
    cold = time.thread_time() - started
    started = time.thread_time()
    store.list("instruct")
    warm = time.thread_time() - started
    assert cold < 1.0, cold  # 0.1 s on a machine that does nothing else
    assert warm < 0.3, warm


def test_deleted_ones_lie_in_the_trash(store: ConversationStore, tmp_path: Path) -> None:
    for text in ("first", "second"):
        written(store, text)
        assert store.delete("instruct/20240115-13-45-59").is_file()
    assert len(list((tmp_path / "logs/trash/instruct").glob("*.json"))) == 2
    with pytest.raises(NotFound):
        store.open("instruct/20240115-13-45-59")
    with pytest.raises(NotFound):
        store.delete("instruct/20240115-13-45-59")


def test_a_disk_that_refuses_is_a_sentence(store: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = written(store, "q", "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modules.chat.store.store.write_bytes", full)
    with pytest.raises(Unavailable, match="No space left"):
        store.save(conversation)
    assert conversation.revision == 1


# --- the journal ---


def test_what_a_crash_left_of_a_reply_is_there_again(store: ConversationStore) -> None:
    conversation = written(store, "q", "a")
    reply = conversation.path()[-1]
    journal = Journal(store.journal(conversation.id), reply.id, interval=0.01)
    journal.note(lambda: "a long answer")
    deadline = time.monotonic() + 5
    while not store.journal(conversation.id).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    journal.close()
    again = store.open(conversation.id)
    assert texts(again) == ["q", "a long answer"]
    assert again.path()[-1].meta["unfinished"] is True
    store.save(again)
    assert not store.journal(conversation.id).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"message": 5, "text": "x"}', '{"message": "99", "text": "x"}'])
def test_junk_in_a_journal_is_passed_over(store: ConversationStore, text: str) -> None:
    conversation = written(store, "q", "a")
    store.journal(conversation.id).write_text(text)
    assert texts(store.open(conversation.id)) == ["q", "a"]
    assert len(store.list("instruct")) == 1


#: Starts writers and kills them at different moments; what the last one left must be readable and not less than before.
_NURSERY = """
import os, random, signal, sys, time
from pathlib import Path
from modules.chat.conversation import Conversation
from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths

ID, TEXT = "instruct/20240115-13-45-59", "text " * 50
paths, chance, kept = Paths.under(Path(sys.argv[1])), random.Random(0), 0
for number in range(200):
    if number % 20 == 0:  # short again: the writers make it long
        conversation, parent = Conversation(ID), None
        for _ in range(20):
            parent = conversation.add("user", TEXT, parent).id
        ConversationStore(paths).save(conversation)
        kept = 20
    pid = os.fork()
    if pid == 0:
        try:
            store = ConversationStore(paths)
            conversation = store.open(ID)
            while True:
                conversation.add("user", TEXT, conversation.last().id)
                store.save(conversation, conversation.revision)
        finally:
            os._exit(1)
    time.sleep(chance.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    now = len(ConversationStore(paths).open(ID).path())
    assert now >= kept, (number, now, kept)
    kept = now
print("survived", kept > 20)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_killed_200_times_while_writing_it_is_always_readable(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: PLW1510 - its end is looked at below
        [sys.executable, "-c", _NURSERY, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.returncode) == ("survived True\n", 0), done.stderr


def test_a_save_that_asks_for_no_match_still_counts_on_from_what_is_there(store: ConversationStore) -> None:
    """Otherwise a page with an older state would take it for its own."""
    written(store, "q", "a")
    old = store.open("instruct/20240115-13-45-59")
    for _ in range(3):
        newer = store.open(old.id)
        store.save(newer, newer.revision)
    seen = newer.revision
    store.save(old)
    assert store.revision(old.id) == old.revision == seen + 1
    with pytest.raises(ConversationChanged):
        store.save(newer, seen)


def move_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay each move of a chat, so that another one can choose the same name."""
    replace, together = Path.replace, threading.Barrier(2)

    def slow(path: Path, target: Path) -> Path:
        if path.suffix == ".json" and "." not in path.stem:
            try:
                together.wait(0.3)
            except threading.BrokenBarrierError:
                together.reset()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", slow)


def test_of_two_that_restore_the_same_chat_one_is_told_that_it_is_gone(
    store: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = written(store, "q").id
    store.delete(id)
    move_slowly(monkeypatch)
    said: list[Any] = []

    def restore() -> None:
        try:
            said.append(store.restore(id))
        except Exception as error:
            said.append(type(error))

    threads = [threading.Thread(target=restore) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(said, key=str) == sorted([id, NotFound], key=str)


MOVERS = {
    # two ids whose next free name is the same one
    "restore": (("20240115-13-45-59", "20240115-13-45-59-2"), lambda store, id: store.restore(id)),
    "delete": (("20240115-13-45-59", "20240115-13-45-59-2"), lambda store, id: store.delete(id)),
}


@pytest.mark.parametrize("name", MOVERS)
def test_two_that_move_files_at_once_overwrite_nothing(
    store: ConversationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (first, second), move = MOVERS[name]
    ids = [f"instruct/{first}", f"instruct/{second}"]
    for id in ids:
        written(store, f"in the trash {id}", id=id)
    if name == "restore":
        for id in ids:
            store.delete(id)
        written(store, "stands where the first one was", id=ids[0])  # so both want the name that ends in -2
    else:
        trash = tmp_path / "logs/trash/instruct"
        trash.mkdir(parents=True)
        (trash / f"{first}.json").write_text("lies where the first one goes")
    move_slowly(monkeypatch)
    threads = [threading.Thread(target=move, args=(store, id)) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    monkeypatch.undo()
    texts = [file.read_text() for file in (tmp_path / "logs").rglob("*.json")]
    assert sum("in the trash" in text for text in texts) == 2
    assert any("stands where" in text or "lies where" in text for text in texts)
