"""Lists of banned strings: how they are read, and that the automaton finds what Python's own expressions find."""

from __future__ import annotations

import contextlib
import json
import random
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidInput
from loaders.banned.budget import MOST_STEPS, STEPS_PER_TOKEN
from loaders.banned.entries import BannedEntry, join_banned_strings, parse_banned_strings, write_entry
from loaders.banned.guard import _without
from loaders.banned.pattern import _MOST_KEPT, BannedPattern, compile_banned_strings
from loaders.banned.regex import MOST_NODES, RegexAutomaton
from loaders.banned.text_scan import LONGEST_MATCH, TextPosition, TextScan


def found_at(pattern: BannedPattern, pieces: list[bytes]) -> tuple[int, int] | None:
    """At which piece a string is complete, and in which it began; the number of pieces, if only the end shows it."""
    scan, at = TextScan(pattern), TextPosition()
    for place, piece in enumerate(pieces):
        at, found = scan.advance(at, piece, place)
        if found is not None:
            return place, found
    found = scan.ending(at)
    return None if found is None else (len(pieces), found)


def pattern_of(text: str, *, ignore_case: bool = True) -> BannedPattern:
    made = compile_banned_strings(text, ignore_case)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a\n\n b c \n", ["a", "b c"]),
        ('["a", " b", "c\\nd", "\\"q\\""]', ["a", " b", "c\nd", '"q"']),
        ('" cat "\n"say \\"hm\\""', [" cat ", 'say "hm"']),
        ("[not json\na", ["[not json", "a"]),
        ("a\na", ["a"]),
        ("[]", []),
    ],
)
def test_lists_are_read_as_people_and_clients_write_them(text: str, entries: list[str]) -> None:
    assert parse_banned_strings(text) == [BannedEntry(each) for each in entries]


def test_an_entry_between_slashes_is_a_regular_expression() -> None:
    assert parse_banned_strings("/a+b/\n/\n//") == [BannedEntry("a+b", regex=True), BannedEntry("/"), BannedEntry("//")]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), max_size=4))
def test_written_entries_mean_themselves(texts: list[str]) -> None:
    lines = "\n".join(write_entry(text) for text in texts)
    assert [each.text for each in parse_banned_strings(lines)] == list(dict.fromkeys(texts))
    assert [each.text for each in parse_banned_strings(json.dumps(texts))] == list(
        dict.fromkeys(
            BannedEntry(text).text if len(text) < 3 or text[0] + text[-1] != "//" else text[1:-1] for text in texts
        )
    )


@given(st.lists(st.lists(st.text('ab "[/', min_size=1, max_size=5), max_size=3), min_size=1, max_size=3))
def test_joined_lists_have_the_entries_of_all(lists: list[list[str]]) -> None:
    texts = [json.dumps(each) for each in lists]
    joined = parse_banned_strings(join_banned_strings(texts))
    assert set(joined) == {entry for text in texts for entry in parse_banned_strings(text)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/a*/", "empty"), ("/(a/", "not a regular expression"), ("/(?=x)y/", "lookaround"), (r"/(a)\1/", "a group"),
        ("/(a{100}){100}/", "too large"), ("/(?x)a b/", "flag x"),
        ("/(?s)a.b/", "flag s"), ("/a(?s:.)b/", "flag s"), (r"/(?a)\w/", "flag s or a"), (r"/\Aab/", "line"),
        (r"/ab\Z/", "line"), ("x" * 500, "longer"), ('"a\\q"', "quoted"),
        ("[1, 2]", "list of strings"), ("\n".join(map(str, range(6000))), "6,000 entries"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        compile_banned_strings(text, True)


@given(st.lists(st.sampled_from(["{4000}", "{0}", "{9,4000}", "{0,4000}", "*", "+", "?"]), max_size=5))
def test_repetitions_of_nothing_cost_no_more_than_nodes(times: list[str]) -> None:
    """Each level of an expression is gone through about as often as there may be nodes, not in powers of it."""
    automaton, passes = RegexAutomaton(True), 0
    sequence = automaton._sequence

    def counted(parts: list[Any], after: int, fold: bool) -> int:
        nonlocal passes
        passes += 1
        assert passes <= 2 * (len(times) + 2) * (MOST_NODES + 1)
        return sequence(parts, after, fold)

    automaton._sequence = counted  # type: ignore[method-assign]
    nothing = ""
    for each in times:
        nothing = f"({nothing}){each}"
    with contextlib.suppress(InvalidInput):
        automaton.add(f"{nothing}a")
        assert automaton.starts


PIECE = st.sampled_from(
    ["a", "b", "A", " ", "\n", "[ab]", "[^a]", ".", r"\w", r"\s", r"\d", "(a|bb)", "(?:ab)", r"\b", "^", "$"]
)
TIMES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "*?"])
EXPRESSION = st.lists(st.tuples(PIECE, TIMES), min_size=1, max_size=5).map(
    lambda parts: "".join(piece + ("" if piece in (r"\b", "^", "$") else times) for piece, times in parts)
)


@given(EXPRESSION, st.text("abA \n1é", max_size=14), st.booleans())
def test_expressions_match_where_pythons_do(expression: str, text: str, ignore_case: bool) -> None:
    try:
        pattern = BannedPattern([BannedEntry(expression, regex=True)], ignore_case=ignore_case)
    except InvalidInput:
        assert re.search(expression, "", re.M) or "^" in expression or "$" in expression or r"\b" in expression
        return
    wanted = re.compile(expression, re.M | (re.I if ignore_case else 0))
    found = found_at(pattern, [char.encode() for char in text])
    match = wanted.search(text)
    assert (found is not None) == (match is not None)
    if found and match:
        # it is found as soon as it is complete: nothing shorter contains it, except that its end may need one more
        assert wanted.search(text[: found[0] + 1])
        assert wanted.match(text, found[1])


@given(
    st.lists(st.text("abA ", min_size=1, max_size=4), min_size=1, max_size=5),
    st.lists(st.text("abA é", min_size=1, max_size=4), max_size=12),
)
def test_plain_strings_are_found_whatever_the_tokens(strings: list[str], tokens: list[str]) -> None:
    found = found_at(pattern_of(json.dumps(strings)), [token.encode() for token in tokens])
    folded = "".join(tokens).lower()
    assert (found is not None) == any(each.lower() in folded for each in strings)


def test_a_character_may_be_split_between_tokens() -> None:
    pieces = [b"x", "é".encode()[:1], "é".encode()[1:], b"t"]
    assert found_at(pattern_of("ét"), pieces) == (3, 1)


def test_case_counts_where_it_is_wanted() -> None:
    assert found_at(pattern_of("Cat", ignore_case=False), [b"a cat"]) is None
    assert found_at(pattern_of("Cat"), [b"a cat"]) == (0, 0)
    assert found_at(pattern_of("/(?-i:C)AT/"), [b"a cat"]) is None
    assert found_at(pattern_of("/(?-i:C)AT/"), [b"a Cat"]) == (0, 0)


def test_a_word_is_known_when_the_next_character_is() -> None:
    pattern = pattern_of(r"/\bcat\b/")
    assert found_at(pattern, [b"a", b" cat", b"egory", b" of", b" cat", b","]) == (5, 4)
    assert found_at(pattern, [b"a", b" cat"]) == (2, 1)


def test_what_could_go_on_for_ever_is_given_up() -> None:
    scan, at = TextScan(pattern_of("/a[^.]*b/")), TextPosition()
    at, _ = scan.advance(at, b"a" + b"x" * (LONGEST_MATCH - 2), 0)
    assert at.earliest == 0
    at, found = scan.advance(at, b"xxb", 1)
    assert (at.earliest, found) == (None, None)


def test_hostile_expressions_take_no_time() -> None:
    text = b"a" * 3000
    assert found_at(pattern_of("/(a+)+$/\n/(a|aa)+b/\n/(.*a){12}c/"), [text, b"!"]) is None


#: Each makes an automaton whose states are many and large, or whose nodes are slow.
EXPLOSIVE = (
    r"/(.?){1900}\u1234/",
    r"/(a?b?c?d?e? ?.?){260}\u1234/",
    r"/(\b|.){1200}\u1234/",
    f"/([{''.join(map(chr, range(0x400, 0x570)))}a-j .,]?){{1900}}\u1234/",
    f"/(({'|' * 300}).?){{1200}}\u1234/",
    r"/([a-z ]{0,60}[^x]){30}\u1234/",
    r"/(a|.{2}|.{3}){0,400}\u1234/",
)


def words(count: int) -> str:
    dice = random.Random(1)
    return "".join(dice.choice("abcdefghij  .,") for _ in range(count))


def read_all(pattern: BannedPattern, text: str) -> None:
    scan, at = TextScan(pattern), TextPosition()
    for place, char in enumerate(text):
        at, _ = scan.advance(at, char.encode(), place)


@pytest.mark.parametrize("text", EXPLOSIVE)
def test_what_takes_too_many_steps_ends_with_a_sentence(text: str) -> None:
    """However often it is tried: what is kept from earlier requests is limited, too."""
    pattern = pattern_of(text)
    said = words(3000)
    for _ in range(3):
        with pytest.raises(InvalidInput, match=r"^banned_strings: .* takes too long.*\.$"):
            read_all(pattern, said)
        assert sum(len(state.nodes) + len(state.moves) for state in pattern._states.values()) <= _MOST_KEPT


@pytest.mark.parametrize("text", EXPLOSIVE)
def test_no_token_costs_more_than_the_budget(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visited = 0
    closure = RegexAutomaton.closure

    def counted(self: RegexAutomaton, *given: Any) -> set[int]:
        nonlocal visited
        found = closure(self, *given)
        visited += len(found)
        return found

    monkeypatch.setattr(RegexAutomaton, "closure", counted)
    pattern = BannedPattern(parse_banned_strings(text), ignore_case=True)
    scan, at, before = TextScan(pattern), TextPosition(), visited
    with contextlib.suppress(InvalidInput):
        for place, char in enumerate(words(3000)):
            at, _ = scan.advance(at, char.encode(), place)
            assert visited - before <= MOST_STEPS + STEPS_PER_TOKEN * (place + 1) + 2 * MOST_NODES


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(rf"/\b{words(6)[:2]}{index}\w*(s|ed|ing)?\b/" for index in range(180)),
        "\n".join(f"/[^.]*word{index}/" for index in range(60)),
        "/.{0,100}indeed/\n/(\\w+ ){3,8}indeed/\n/not (just|only)[^.]{1,120}but/",
        "\n".join(f"plain words {index}" for index in range(5000)),
    ],
)
def test_the_budget_suffices_for_usual_lists(text: str) -> None:
    scan, at = TextScan(pattern_of(text)), TextPosition()
    said = words(6000)
    for place in range(0, len(said), 4):
        at, found = scan.advance(at, said[place : place + 4].encode(), place)
        assert found is None


@pytest.mark.parametrize(
    ("text", "skip", "wanted"),
    [
        ("x" + "a" * 300 + "x" + "a" * 250 + "y", set(), 301),  # the first beginning has expired
        ("x" + "a" * 600 + "x" + "a" * 300 + "x" + "a" * 300 + "y", set(), 902),
        ("xaaxaay", set(), 0),
        ("xaaxaay", {0}, 3),  # the first beginning could not be avoided
        ("xaaxaaxaay", {0}, 6),
    ],
)
def test_of_two_beginnings_the_later_one_stays(text: str, skip: set[int], wanted: int) -> None:
    scan, at, found = TextScan(pattern_of("/x.*y/")), TextPosition(), None
    for place, char in enumerate(text):
        at, found = scan.advance(at, char.encode(), place)
        if place == len(text) - 2:
            scan.skip |= skip  # only now is it known
            at = _without(at, skip)
    assert found == wanted


WRITTEN_OTHERWISE = [
    ("ΛΟΓΟΣ", "λογος"), ("λογος", "ΛΟΓΟΣ"), ("ſo", "SO"), ("ẞ", "ß"), ("straße", "STRASSE"), ("STRASSE", "straße"),
    ("ﬁn", "FIN"), ("fin", "ﬁn"), ("İstanbul", "istanbul"), ("İstanbul", "ISTANBUL"), ("istanbul", "İSTANBUL"),
    ("i\u0307stanbul", "İstanbul"), ("ışık", "IŞIK"), ("Işık", "ışık"),
    ("ÉTÉ", "e\u0301te\u0301"),
]  # fmt: skip
EQUIVALENT = [
    ("café", "cafe\u0301"), ("cafe\u0301", "café"), ("각", "\u1100\u1161\u11a8"), ("\u212bngström", "Ångström"),
    ("İstanbul", "I\u0307stanbul"), ("don't", "don’t"), ("don’t", "don't"),
]  # fmt: skip


@pytest.mark.parametrize(("banned", "text"), WRITTEN_OTHERWISE)
def test_a_string_is_found_in_any_case(banned: str, text: str) -> None:
    assert found_at(pattern_of(banned), [text.encode()]) == (0, 0)
    assert found_at(pattern_of(banned, ignore_case=False), [text.encode()]) is None


@pytest.mark.parametrize(("banned", "text"), EQUIVALENT)
def test_a_string_is_found_however_its_characters_are_composed(banned: str, text: str) -> None:
    for ignore_case in (True, False):
        assert found_at(pattern_of(banned, ignore_case=ignore_case), [text.encode()]) == (0, 0)


@pytest.mark.parametrize(
    ("banned", "text"),
    [("cafe", "café"), ("stras", "straß"), ("s", "ß"), ("가", "각"), ("że", "ze"), ("’", "'"), ("'", "’")],
)
def test_a_part_of_a_character_is_no_string(banned: str, text: str) -> None:
    assert found_at(pattern_of(banned), [text.encode()]) is None


@given(st.text("sSßẞiIİıeéE\u0301\u0307'’xﬁ", min_size=1, max_size=6), st.text("sßİıéx", max_size=3))
def test_a_string_is_found_in_whatever_python_takes_for_the_same(banned: str, before: str) -> None:
    for same in (banned, banned.casefold(), banned.upper(), unicodedata.normalize("NFC", banned)):
        if same.casefold() == banned.casefold() or unicodedata.normalize("NFD", same) == banned:
            assert found_at(pattern_of(json.dumps([banned])), [(before + "|" + same).encode()]) is not None
