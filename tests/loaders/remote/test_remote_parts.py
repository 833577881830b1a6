"""The parts of the remote loader by themselves: events, entries, addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadFile, InvalidInput, UserError
from loaders.remote import events
from loaders.remote.addresses import LEFT_OUT, Address, Addresses
from loaders.remote.entry import RemoteEntry, parse_address, parse_entry, read_entry
from loaders.remote.events import EventReader, EventTooLarge
from loaders.remote.failures import NoServerUsable, ServerOverloaded, ServerUnreachable, failure_of_all, refusal
from loaders.remote.kinds import OPENAI, SGLANG, TABBY, VLLM, kind_of_owner

NOISE = st.sampled_from([b": comment", b"event: x", b"id: 3", b"retry: 5"])


@given(
    st.lists(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3), max_size=8),
    st.lists(NOISE, max_size=3),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
@settings(max_examples=200, deadline=None)
def test_events_are_the_same_however_they_are_cut(
    values: list[dict[str, str]], noise: list[bytes], end: bytes, cuts: list[int]
) -> None:
    lines = [line for value in values for line in (*noise, b"data: " + json.dumps(value).encode(), b"")]
    whole = b"".join(line + end for line in lines)
    reader, found, at, turn = EventReader(), list[bytes](), 0, 0
    while at < len(whole):
        size = cuts[turn % len(cuts)]
        found += reader.push(whole[at : at + size])
        at, turn = at + size, turn + 1
    assert [json.loads(each) for each in found] == values


def test_an_event_of_several_lines_is_joined() -> None:
    assert EventReader().push(b"data:a\ndata: b\n\ndata: c\n") == [b"a\nb"]


@pytest.mark.parametrize("line", [b"x" * 999, b"data: " + b"x" * 93 + b"\n", b"data: \r\n" * 20])
def test_an_event_that_does_not_end_is_given_up(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is one line, or many lines without an empty one."""
    monkeypatch.setattr(events, "_LARGEST", 100_000)
    reader = EventReader()
    for _ in range(2000):
        assert reader.push(b"data: short\n\n") == [b"short"], "many events are none that is too large"
    for _ in range(90_000 // len(line)):
        assert reader.push(line) == []
    with pytest.raises(EventTooLarge):
        reader.push(line * (20_000 // len(line)))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" http://h/ ", "http://h"),
        ("https://h:1/v1/", "https://h:1"),
        ("http://h/v1/chat/completions", "http://h"),
        ("http://h/completion", "http://h"),
        ("https://h/llm/v1", "https://h/llm"),
        ("[::1]:80", "http://[::1]:80"),
        ("https://h/v1/models/", "https://h"),
        ("https://h/v1/openai", "https://h/v1/openai"),
        ("https://h/v1/openai/chat/completions", "https://h/v1/openai"),
        ("https://h/api/v3/", "https://h/api/v3"),
    ],
)
def test_addresses_without_routes(text: str, address: str) -> None:
    assert parse_address(text) == address
    assert parse_address(address) == address


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h", "http://h/v1/models"),
        ("https://h/openai", "https://h/openai/v1/models"),
        ("https://h/v1/openai", "https://h/v1/openai/models"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai/models"),
        ("https://h/api/v3", "https://h/api/v3/models"),
        ("https://v2.example/llm", "https://v2.example/llm/v1/models"),
        ("http://v2", "http://v2/v1/models"),
        ("https://h/video", "https://h/video/v1/models"),
    ],
)
def test_a_version_in_the_address_replaces_ours(address: str, url: str) -> None:
    """As services have it whose routes begin otherwise than OpenAI's."""
    assert Address(address).at("/v1/models") == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://h",
        "http://",
        "http://h:x",
        "http://a b",
        "http://h?x=1",
        "http://u:p@h",
        "http://h:99999",
        "ü",
        "not a url",
        "a:1 b:2",
        "-h",
        "h-",
        "h!",
        "h*",
        "(h)",
        "h\nb",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:secret@h",
        "user:secret@h:80",
        "secret@h",
        "http://:secret@h",
        "https://user:secret@h:99999",
        "ftp://user:secret@h",
        "http://user:secret@h x",
        "http://user:secret/1@h",
        "http://user:a,secret@h",
        "a:1,http://user:secret@h!",
        "http://user:secret@ü",
        "https://h/v1?api_key=secret",
        "https://h/v1?a@b=secret",
        "http://u:secret?x@h",
        "https://h/v1#secret",
        "http://h\n?secret",
        ["a:1", "https://user:secret@h"],
    ],
)
def test_keys_in_an_address_are_not_shown(text: str | list[str], tmp_path: Path) -> None:
    """The sentence is in the list of models, which every account sees, and in the log."""
    with pytest.raises(InvalidInput) as failure:
        parse_entry({"url": text}, tmp_path)
    assert "secret" not in str(failure.value)
    path = tmp_path / "x.remote.yaml"
    path.write_text(json.dumps({"url": text}))
    with pytest.raises(BadFile) as bad:
        read_entry(path)
    assert "secret" not in str(bad.value)


def test_an_at_sign_in_a_path_is_no_name() -> None:
    assert parse_address("http://h/@team/v1") == "http://h/@team"


@pytest.mark.parametrize("to", ["http://u:secret@h/v1", "https://h/login?token=secret", "/login#secret"])
def test_keys_in_the_address_that_a_server_sends_on_to_are_not_shown(to: str) -> None:
    said = str(refusal("http://h", 307, b"", {"location": to}, True))
    assert "sends on to" in said
    assert "secret" not in said


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        found = parse_address(text)
    except UserError:
        return
    assert parse_address(found) == found


@pytest.mark.parametrize("text", ["not a url", "http://a:1 http://b:2", "a:1, b 2", "a,,b c", ["a", "not a url"]])
def test_words_are_not_several_addresses(text: str | list[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is not the address of a server.*commas separate several") as failure:
        parse_entry({"url": text}, tmp_path)
    assert str(failure.value).endswith(".")


def test_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    values = {"url": "a:1, b:2", "kind": "llama.cpp".replace("llama.cpp", "Llama-Server"), "model": "m"}
    entry = parse_entry(values, tmp_path)
    assert entry == RemoteEntry(("http://a:1", "http://b:2"), "llama-server", "m", base=tmp_path)
    assert parse_entry(entry.values(), tmp_path) == entry


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "key: value"),
        ("- a", "key: value"),
        ("url: [", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("model: x", "url is missing"),
        ("url: a\nkind: vlm", "Did you mean vllm"),
        ("url: a\nmodle: x", "Did you mean model"),
        ("url: a\nkey: secret", "key_file"),
        ("url: a\nx: " + "y" * 70_000, "too large"),
        ("url: http://u:p@h", "no names and keys"),
    ],
)
def test_wrong_entries_are_sentences(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "x.remote.yaml"
    path.write_text(text)
    with pytest.raises(BadFile, match=part) as failure:
        read_entry(path)
    assert "secret" not in str(failure.value)


def test_kinds_by_what_servers_say() -> None:
    assert [kind_of_owner(each) for each in ("vllm", "sglang", "tabbyAPI", "openai", "")] == [
        VLLM, SGLANG, TABBY, OPENAI, OPENAI,
    ]  # fmt: skip


def test_the_dead_are_left_out_for_a_while() -> None:
    now = [0.0]
    addresses = Addresses(["a", "b"], lambda: now[0])
    first = addresses.take()
    assert first is not None
    addresses.release(first)
    addresses.leave_out(first)
    others = [addresses.take() for _ in range(3)]
    assert {each.url for each in others if each} == {"b"}  # although they are busy
    again = addresses.take([each for each in others if each])
    assert again is first  # if there is no other
    addresses.release(first)
    now[0] = LEFT_OUT + 1
    assert addresses.take() is first
    assert first.suspect
    assert addresses.take(addresses.all()) is None


@given(st.binary(max_size=300), st.sampled_from([400, 401, 404, 413, 422, 429, 500, 502, 503]))
@settings(max_examples=200, deadline=None)
def test_any_answer_is_a_sentence(data: bytes, status: int) -> None:
    said = str(refusal("http://h", status, data, {"retry-after": "x"}, False))
    assert len(said) < 700
    assert "http://h" in said or status == 400


def test_the_failures_of_all_addresses_are_told_together() -> None:
    dead = [ServerUnreachable(f"http://{host}:1", f"reason {host}") for host in "abcde"]
    busy = [ServerOverloaded("http://x:1", "full", seconds) for seconds in (0, 30)]
    assert failure_of_all(dead[:1]) is dead[0]
    both = failure_of_all(dead[:2])
    assert isinstance(both, NoServerUsable)
    assert all(f"http://{host}:1 is not reachable: reason {host}" in str(both) for host in "ab")
    assert "2 more failed" in str(failure_of_all(dead)), "a long list of addresses is cut"
    assert failure_of_all([dead[0], *busy]) is busy[0], "a request can be repeated where a server is only busy"
    assert failure_of_all([busy[1], dead[0]]) is busy[1]
