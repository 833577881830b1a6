"""What loads and replies teach: margins, bandwidths and pace, kept in a file, and the watch that tells of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loaders.llamacpp import fit, measured
from loaders.llamacpp.measured import Measured
from loaders.llamacpp.placement import Card
from loaders.llamacpp.watch import Watch

MIB, GB = 2**20, 10**9
CARD = Card("CUDA0", 7 * GB, 8 * GB, "RTX 3060")


@pytest.fixture
def known(tmp_path: Path) -> Measured:
    return Measured(tmp_path / "new" / "measured.json")


def test_a_margin_follows_what_loads_took_beyond_the_account(known: Measured) -> None:
    assert known.margin(CARD) is None
    known.note_beyond(CARD, 90 * MIB)
    assert known.margin(CARD) is None  # once may be chance
    known.note_beyond(CARD, 60 * MIB)
    assert known.margin(CARD) == (90 + 128) * MIB
    assert known.margin(CARD._replace(total=16 * GB)) is None  # another card
    assert known.margin(CARD._replace(name="Vulkan0")) == (90 + 128) * MIB  # the same one, however it is called
    for _ in range(8):  # what is long past is forgotten
        known.note_beyond(CARD, -5 * MIB)
    assert known.margin(CARD) == 128 * MIB
    known.note_beyond(CARD, 7 * GB)
    assert known.margin(CARD) == 2 * GB  # never more than a quarter of the card


def test_room_for_others_is_what_they_were_seen_to_take(known: Measured) -> None:
    for _ in range(2):
        known.note_beyond(CARD, 0)
    known.note_idle(CARD._replace(free=6 * GB))  # 2 GB taken by others, once
    known.note_idle(CARD)
    assert known.margin(CARD) == 1 * GB + 128 * MIB  # now they have 1 GB, and may want the other again
    assert known.margin(CARD._replace(free=6 * GB)) == 128 * MIB


def test_an_integrated_cards_memory_teaches_nothing(known: Measured) -> None:
    card = CARD._replace(integrated=True)
    for _ in range(3):
        known.note_beyond(card, GB)
        known.note_idle(card)
    assert known.margin(card) is None


def test_the_margin_is_the_one_that_the_choice_keeps(known: Measured) -> None:
    for _ in range(2):
        known.note_beyond(CARD, 10 * MIB)
    kept = known.margins([CARD, CARD._replace(name="CUDA1", total=4 * GB)])
    assert kept == (("CUDA0", 138 * MIB),)
    assert fit.margins(fit.Wish(kept=kept), [CARD]) == {"CUDA0": 138 * MIB}
    assert fit.margins(fit.Wish(kept=kept, targets=(7,)), [CARD]) == {"CUDA0": 7}  # what the user asks for wins


def test_another_driver_or_machine_begins_anew(known: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        known.note_beyond(CARD, GB // 10)
    for name in ("driver", "machine"):
        with monkeypatch.context() as patch:
            patch.setattr(measured, name, lambda: "another")
            assert known.margin(CARD) is None
    assert known.margin(CARD) is not None


def test_a_bandwidth_is_the_best_of_three_measurements(known: Measured) -> None:
    measured = iter([0.0, 9e9, 18e9, 15e9])  # one fails, one comes while the machine is busy
    found = [known.bandwidth(None, lambda: next(measured)) for _ in range(5)]
    assert found == [0.0, 9e9, 18e9, 18e9, 18e9]
    assert next(measured, None) is None
    assert known.known_bandwidth(None) == 18e9
    assert known.bandwidth(CARD, lambda: 360e9) == 360e9


def test_the_pace_is_the_median_of_its_kind(known: Measured) -> None:
    assert known.pace([CARD], "Q4_K_M") is None
    for ratio in (1.2, 9.0, 1.4, 1e9, 1e-9, float("nan")):
        known.note_pace([CARD], "Q4_K_M", ratio)
    assert known.pace([CARD], "Q4_K_M") == 1.4
    assert known.pace([], "Q4_K_M") is None
    assert known.pace([CARD], "Q8_0") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', "[" * 100_000, '{"%s": {"beyond": ["x", 1e999, null]}}'])
def test_a_broken_file_is_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text.replace("%s", measured._device(CARD)))
    known = Measured(path)
    assert known.margin(CARD) is None
    for _ in range(2):
        known.note_beyond(CARD, 0)
    assert known.margin(CARD) == 128 * MIB


def test_the_file_stays_small(known: Measured, tmp_path: Path) -> None:
    for number in range(80):
        known.note_beyond(CARD._replace(total=number << 20), number)
    assert len(json.loads((tmp_path / "new" / "measured.json").read_text())) == 64
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["measured.json"]


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Measured(tmp_path / "file" / "measured.json").note_beyond(CARD, 1)


def test_a_watch_tells_what_a_load_took_and_how_long_replies_took(known: Measured) -> None:
    left = [4 * GB]
    for _ in range(2):
        watch = Watch(
            [CARD], {"CUDA0": 2 * GB}, lambda _: left[0], expected=0.02, kind="Q4_K_M", known=known
        )  # fmt: skip
        left[0] = 4 * GB + 100 * MIB  # another program ends: what was seen before counts
        watch.end(0.03)
        left[0] = 4 * GB
    assert known.margin(CARD) == 1 * GB + 128 * MIB  # 7 GB were free, 4 are left, and llama.cpp tells of 2
    assert known.pace([CARD], "Q4_K_M") == pytest.approx(1.5)


def test_a_watch_warns_before_a_card_is_full(known: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.llamacpp.watch._PAUSE", 0.0)
    left: list[int | None] = [4 * GB]
    watch = Watch([CARD], {}, lambda _: left[0], known=known)
    assert watch.warning() == ""
    left[0] = 200 * 10**6
    assert watch.warning().startswith("RTX 3060 is nearly full: 0.2 GB left.")
    left[0] = None  # one in the network is not asked
    assert watch.warning() == ""
    watch.end(0.0)
    assert known.pace([CARD], "") is None
