"""What is learned from loads and replies: margins, bandwidths and speed, stored in a file, and the memory watch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from loaders.gpus import Gpu
from loaders.llamacpp.placement import measurements, search
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.memory_watch import MemoryWatch, process_bytes

MIB, GB = 2**20, 10**9
ROOT = Path(__file__).parents[4]
CARD = Gpu("CUDA0", 7 * GB, 8 * GB, "RTX 3060")


@pytest.fixture
def known(tmp_path: Path) -> Measurements:
    return Measurements(tmp_path / "new" / "measured.json")


def test_a_margin_follows_what_loads_took_beyond_the_account(known: Measurements) -> None:
    assert known.margin(CARD) is None
    known.note_beyond(CARD, 90 * MIB)
    assert known.margin(CARD) is None  # once may be chance
    known.note_beyond(CARD, 60 * MIB)
    assert known.margin(CARD) == (90 + 128) * MIB
    assert known.margin(CARD._replace(total=16 * GB)) is None  # another card
    assert known.margin(CARD._replace(name="Vulkan0")) == (90 + 128) * MIB  # the same one, however it is called
    for _ in range(8):  # old measurements are dropped
        known.note_beyond(CARD, -5 * MIB)
    assert known.margin(CARD) == 128 * MIB
    known.note_beyond(CARD, 7 * GB)
    assert known.margin(CARD) == 2 * GB  # never more than a quarter of the card


def test_room_for_others_is_what_they_were_seen_to_take(known: Measurements) -> None:
    for _ in range(2):
        known.note_beyond(CARD, 0)
    known.note_idle(CARD._replace(free=6 * GB))  # 2 GB taken by others, once
    known.note_idle(CARD)
    assert known.margin(CARD) == 1 * GB + 128 * MIB  # now they have 1 GB, and may want the other again
    assert known.margin(CARD._replace(free=6 * GB)) == 128 * MIB


def test_an_integrated_cards_memory_teaches_nothing(known: Measurements) -> None:
    card = CARD._replace(integrated=True)
    for _ in range(3):
        known.note_beyond(card, GB)
        known.note_idle(card)
    assert known.margin(card) is None


def test_what_loads_take_of_memory_beyond_the_account_is_kept_free(known: Measurements) -> None:
    assert known.memory_margin(16 * GB) == 0
    known.note_memory_beyond(20 * MIB)
    assert known.memory_margin(16 * GB) == 0  # once may be chance
    for size in (30, 900, 24):  # other work of the program at the time of one load
        known.note_memory_beyond(size * MIB)
    assert known.memory_margin(16 * GB) == 27 * MIB
    for _ in range(8):
        known.note_memory_beyond(8 * GB)
    assert known.memory_margin(16 * GB) == GB  # never more than a sixteenth of the machine's
    for _ in range(8):
        known.note_memory_beyond(-MIB)
    assert known.memory_margin(16 * GB) == 0


def test_bytes_of_its_own_are_no_pages_of_mapped_files(tmp_path: Path) -> None:
    if process_bytes() is None:
        pytest.skip("this system does not tell them apart")
    size = 64 * MIB
    (tmp_path / "file").write_bytes(b"1" * size)
    # in a separate process: in this one, threads of other tests allocate and free memory
    program = (
        "import sys, numpy as np; from loaders.llamacpp.placement.memory_watch import process_bytes\n"
        "before = process_bytes(); mapped = np.memmap(sys.argv[1], np.uint8, 'r'); mapped.sum()\n"
        f"print(process_bytes() - before); own = np.ones({size}, np.uint8); print(process_bytes() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert abs(int(told[0])) < size // 4
    assert int(told[1]) > size * 3 // 4


def test_a_kernel_that_tells_of_no_shared_page_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(rss=700 * MIB, shared=0)  # gVisor's /proc/self/statm
    monkeypatch.setattr(
        "loaders.llamacpp.placement.memory_watch.psutil.Process", lambda: SimpleNamespace(memory_info=lambda: told)
    )
    assert process_bytes() is None


def test_the_margin_is_the_one_that_the_choice_keeps(known: Measurements) -> None:
    for _ in range(2):
        known.note_beyond(CARD, 10 * MIB)
    kept = known.margins([CARD, CARD._replace(name="CUDA1", total=4 * GB)])
    assert kept == (("CUDA0", 138 * MIB),)
    assert search.safety_margins(search.PlacementRequest(kept=kept), [CARD]) == {"CUDA0": 138 * MIB}
    assert search.safety_margins(search.PlacementRequest(kept=kept, targets=(7,)), [CARD]) == {
        "CUDA0": 7
    }  # the user's value overrides


def test_another_driver_or_machine_begins_anew(known: Measurements, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        known.note_beyond(CARD, GB // 10)
    for name in ("driver_version", "machine_fingerprint"):
        with monkeypatch.context() as patch:
            patch.setattr(measurements, name, lambda: "another")
            assert known.margin(CARD) is None
    assert known.margin(CARD) is not None


def test_a_bandwidth_is_the_best_of_three_measurements(known: Measurements) -> None:
    measured = iter([0.0, 9e9, 18e9, 15e9])  # one fails, one runs while the machine is busy
    found = [known.bandwidth(None, lambda: next(measured)) for _ in range(5)]
    assert found == [0.0, 9e9, 18e9, 18e9, 18e9]
    assert next(measured, None) is None
    assert known.known_bandwidth(None) == 18e9
    assert known.bandwidth(CARD, lambda: 360e9) == 360e9


def test_the_pace_is_the_median_of_its_kind(known: Measurements) -> None:
    assert known.pace([CARD], "Q4_K_M") is None
    for ratio in (1.2, 9.0, 1.4, 1e9, 1e-9, float("nan")):
        known.note_pace([CARD], "Q4_K_M", ratio)
    assert known.pace([CARD], "Q4_K_M") == 1.4
    assert known.pace([], "Q4_K_M") is None
    assert known.pace([CARD], "Q8_0") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', "[" * 100_000, '{"%s": {"beyond": ["x", 1e999, null]}}'])
def test_a_broken_file_is_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text.replace("%s", measurements._device(CARD)))
    known = Measurements(path)
    assert known.margin(CARD) is None
    for _ in range(2):
        known.note_beyond(CARD, 0)
    assert known.margin(CARD) == 128 * MIB


@pytest.mark.parametrize("figure", ["NaN", "-Infinity", "1e400", "9" * 400, "-1e300", "-5", "0", "true", '"x"', "[]"])
def test_figures_that_nothing_here_writes_change_nothing(tmp_path: Path, figure: str) -> None:
    path = tmp_path / "measured.json"
    kinds = ("bandwidth", "pace Q4_K_M")
    held = ", ".join(f'"{kind}": [{figure}, {figure}, {figure}]' for kind in kinds)
    if figure not in ("-5", "0"):
        held += f', "beyond": [{figure}, {figure}], "idle": [{figure}]'
    path.write_text(f"{{{json.dumps(measurements._device(CARD))}: {{{held}}}}}")
    known = Measurements(path)
    assert known.margin(CARD) is None
    assert known.pace([CARD], "Q4_K_M") is None
    assert known.bandwidth(CARD, lambda: 7e9) == 7e9


def test_two_programs_that_write_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    told = "import sys; from pathlib import Path; from loaders.llamacpp.placement.measurements import Measurements\n"
    told += "for number in range(60): Measurements(Path(sys.argv[1])).note_memory_beyond(number)"
    writers = [subprocess.Popen([sys.executable, "-c", told, str(path)], cwd=ROOT) for _ in range(2)]
    assert [each.wait(60) for each in writers] == [0, 0]
    [held] = json.loads(path.read_text()).values()
    assert len(held["beyond"]) == 8
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_file_stays_small(known: Measurements, tmp_path: Path) -> None:
    for number in range(80):
        known.note_beyond(CARD._replace(total=number << 20), number)
    assert len(json.loads((tmp_path / "new" / "measured.json").read_text())) == 64
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["measured.json"]


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Measurements(tmp_path / "file" / "measured.json").note_beyond(CARD, 1)


def test_a_watch_tells_what_a_load_took_and_how_long_replies_took(known: Measurements) -> None:
    left = [4 * GB]
    for _ in range(2):
        watch = MemoryWatch(
            [CARD], {"CUDA0": 2 * GB}, lambda _: left[0], expected=0.02, kind="Q4_K_M", known=known
        )  # fmt: skip
        left[0] = 4 * GB + 100 * MIB  # another program ends: what was seen before counts
        watch.end(0.03)
        left[0] = 4 * GB
    assert known.margin(CARD) == 1 * GB + 128 * MIB  # 7 GB were free, 4 are left, and llama.cpp reports 2
    assert known.pace([CARD], "Q4_K_M") == pytest.approx(1.5)


def test_a_watch_warns_before_a_card_is_full(known: Measurements, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.llamacpp.placement.memory_watch._PAUSE", 0.0)
    left: list[int | None] = [4 * GB]
    watch = MemoryWatch([CARD], {}, lambda _: left[0], known=known)
    assert watch.warning() == ""
    left[0] = 200 * 10**6
    assert watch.warning().startswith("RTX 3060 is almost full: 0.2 GB left.")
    left[0] = None  # GPUs in the network are not queried
    assert watch.warning() == ""
    watch.end(0.0)
    assert known.pace([CARD], "") is None


def test_a_watch_tells_what_memory_a_load_took(known: Measurements) -> None:
    for beyond in (40 * MIB, None, 44 * MIB):
        MemoryWatch([], {}, lambda _: None, memory_beyond=beyond, known=known).end(0.0)
    assert known.memory_margin(16 * GB) == 42 * MIB
