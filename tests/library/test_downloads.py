"""Downloads from an unreliable hub: a file is always complete and in its place, or it does not exist."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import FetchFailed, InvalidInput, NotFound, Unavailable, UserError
from modules.config.paths import Paths
from modules.library import file_download
from modules.library.downloads import DownloadManager
from modules.library.hub import HubClient
from modules.library.hub_address import HubAddress, parse_address
from modules.library.model_catalog import ModelCatalog
from tests.library.hub_server import HubServer, Repo

ROOT = Path(__file__).resolve().parents[2]
CHANCE = random.Random(1)
BIG = CHANCE.randbytes(3_000_000)
REPO = HubAddress("ann/tiny")
FOLDER = {
    "config.json": b"{}", "tokenizer.json": CHANCE.randbytes(900), "model-00001-of-00002.safetensors": BIG,
    "model-00002-of-00002.safetensors": BIG[::-1], "pytorch_model.bin": b"x" * 2000,
    "original/consolidated.pth": b"y" * 2000, "README.md": b"# Tiny",
}  # fmt: skip
GGUFS = {
    "tiny.Q4_K_M.gguf": BIG, "tiny.Q8_0.gguf": BIG[:-5], "tiny-f16-00001-of-00002.gguf": BIG[:5000],
    "tiny-f16-00002-of-00002.gguf": BIG[5000:9000], "README.md": b"# Tiny",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_download, "_PAUSE", 0.01)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({"ann/tiny": Repo(dict(FOLDER), ("main", "8-bit")), "ann/tiny-GGUF": Repo(dict(GGUFS))}) as hub:
        yield hub


@pytest.fixture
def downloads(paths: Paths, hub: HubServer) -> Iterator[DownloadManager]:
    made = DownloadManager(paths, lambda token: HubClient(token, hub.url))
    yield made
    made.close()


def test_a_folder_comes_whole_and_without_what_no_loader_needs(
    downloads: DownloadManager, paths: Paths, hub: HubServer
) -> None:
    downloads.wait(downloads.start(REPO))
    folder = paths.models / "ann_tiny"
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    note = there.pop("huggingface-metadata.txt").decode()
    assert there == {name: data for name, data in FOLDER.items() if name.endswith(("json", "safetensors", "md"))}
    assert "branch: main" in note
    assert not (paths.models / ".fetching").exists()
    assert sum(hub.served.values()) == sum(map(len, there.values()))


def test_a_branch_has_its_own_folder(downloads: DownloadManager, paths: Paths) -> None:
    downloads.wait(downloads.start(parse_address("ann/tiny:8-bit")))
    assert (paths.models / "ann_tiny_8-bit" / "config.json").is_file()


def test_a_gguf_goes_straight_onto_the_shelf_with_all_its_parts(downloads: DownloadManager, paths: Paths) -> None:
    address = parse_address("https://huggingface.co/ann/tiny-GGUF/blob/main/tiny-f16-00002-of-00002.gguf")
    downloads.wait(downloads.start(address))
    assert sorted(path.name for path in paths.models.glob("*.gguf")) == [
        "tiny-f16-00001-of-00002.gguf", "tiny-f16-00002-of-00002.gguf"
    ]  # fmt: skip
    downloads.wait(downloads.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q8_0.gguf", "tiny.Q4_K_M.gguf"]))
    assert (paths.models / "tiny.Q4_K_M.gguf").read_bytes() == BIG


def test_of_several_ggufs_one_has_to_be_named(downloads: DownloadManager, paths: Paths) -> None:
    with pytest.raises(InvalidInput, match=r"3 GGUF files. Choose one.*Q4_K_M"):
        downloads.start(HubAddress("ann/tiny-GGUF"))
    names = {
        each.name: (len(each.files), each.quantization)
        for each in downloads.find(HubAddress("ann/tiny-GGUF")).choices()
    }
    assert names["tiny-f16-00001-of-00002.gguf"] == (2, "F16")
    assert names["tiny.Q4_K_M.gguf"] == (1, "Q4_K_M")
    assert not list(paths.models.glob("*.gguf"))


def test_a_folder_that_is_a_model_gets_its_own_place(downloads: DownloadManager, paths: Paths, hub: HubServer) -> None:
    parts = {f"{bits}/{name}": BIG[:99] for bits in ("4bpw", "6bpw") for name in ("config.json", "output.safetensors")}
    hub.repos["ann/exl2"] = Repo({"README.md": b"#", **parts})
    with pytest.raises(InvalidInput, match="are in folders: 4bpw, 6bpw"):
        downloads.start(HubAddress("ann/exl2"))
    downloads.wait(downloads.start(parse_address("hf.co/ann/exl2/tree/main/4bpw")))
    assert ModelCatalog(paths).names() == ["ann_exl2_4bpw"]
    assert (paths.models / "ann_exl2_4bpw" / "output.safetensors").read_bytes() == BIG[:99]
    assert not (paths.models / ".fetching").exists()


def test_a_quantization_is_fetched_by_its_name(downloads: DownloadManager, paths: Paths) -> None:
    downloads.wait(downloads.start(parse_address("hf.co/ann/tiny-GGUF:q4_k_m")))
    assert [path.name for path in paths.models.glob("*.gguf")] == ["tiny.Q4_K_M.gguf"]


_NAMES: dict[str, tuple[list[str], str]] = {
    "ann/tiny": ([], "ann_tiny/model-00001-of-00002.safetensors"),
    "ann/tiny-GGUF": (["tiny.Q4_K_M.gguf"], "tiny.Q4_K_M.gguf"),
    "ann/tiny-GGUF:split": (["tiny-f16-00001-of-00002.gguf"], "tiny-f16-00002-of-00002.gguf"),
    "ann/tiny-GGUF:all": (["README.md", "tiny.Q8_0.gguf"], "ann_tiny-GGUF/tiny.Q8_0.gguf"),
}


@pytest.mark.parametrize(
    ("name", "change"),  # a wrong GGUF counts as another model
    [*itertools.product(_NAMES, ["none", "lost"]), ("ann/tiny", "damaged"), ("ann/tiny", "cut")],
)
def test_what_is_there_is_not_fetched_again(paths: Paths, hub: HubServer, name: str, change: str) -> None:
    """At the next start of the program, too; a file that is lost or wrong is fetched alone."""
    files, one = _NAMES[name]
    address, place = HubAddress(name.partition(":")[0]), paths.models / one
    for _ in range(2):
        downloads = DownloadManager(paths, lambda token: HubClient(token, hub.url))
        downloads.wait(downloads.start(address, files))
        downloads.close()
        before = {path: path.read_bytes() for path in paths.models.rglob("*.*") if path.suffix != ".txt"}
        data = place.read_bytes()
        if change == "lost":
            place.unlink()
        elif change != "none":
            place.write_bytes(data[:-1] if change == "cut" else data[:-1] + b"?")
    served = hub.served.copy()
    downloads = DownloadManager(paths, lambda token: HubClient(token, hub.url))
    downloads.wait(downloads.start(address, files))
    downloads.close()
    again = {each for each in hub.served if hub.served[each] != served[each]}
    assert again == (set() if change == "none" else {place.name})
    assert {path: path.read_bytes() for path in paths.models.rglob("*.*") if path.suffix != ".txt"} == before
    assert not (paths.models / ".fetching").exists()


@pytest.mark.parametrize("other", [BIG[:-1] + b"?", BIG[:7000]], ids=["of the same size", "smaller"])
@pytest.mark.parametrize("name", ["model.Q4_K_M.gguf", "Q4/model-00001-of-00002.gguf"])
def test_a_gguf_never_replaces_another_one_of_its_name(
    downloads: DownloadManager, paths: Paths, hub: HubServer, name: str, other: bytes
) -> None:
    names = [name, name.replace("00001", "00002")] if "00001" in name else [name]
    for user, data in (("ann", BIG), ("bob", other)):
        hub.repos[f"{user}/x"] = Repo(dict.fromkeys(names, data))
    for _ in range(2):
        served = hub.served.copy()
        for user in ("ann", "bob"):
            downloads.wait(downloads.start(HubAddress(f"{user}/x"), [name]))
            (choice,) = downloads.find(HubAddress(f"{user}/x")).choices()
            assert downloads.state_of(HubAddress(f"{user}/x"), choice) == "done"
    assert hub.served == served  # of what is there, nothing was fetched again
    for each in names:
        assert (paths.models / each.rpartition("/")[2]).read_bytes() == BIG
        assert (paths.models / "bob_x" / each).read_bytes() == other
    assert len(ModelCatalog(paths).names()) == 2


def test_files_of_one_name_in_two_folders_stay_two(downloads: DownloadManager, paths: Paths, hub: HubServer) -> None:
    hub.repos["ann/x"] = Repo({"Q4/model.gguf": BIG[:5000], "Q8/model.gguf": BIG})
    downloads.wait(downloads.start(HubAddress("ann/x"), ["Q4/model.gguf", "Q8/model.gguf"]))
    assert [(paths.models / "ann_x" / each / "model.gguf").stat().st_size for each in ("Q4", "Q8")] == [5000, len(BIG)]
    assert not list(paths.models.glob("*.gguf"))


def test_an_adapter_goes_to_the_loras(downloads: DownloadManager, paths: Paths, hub: HubServer) -> None:
    hub.repos["ann/lora"] = Repo({"adapter_config.json": b"{}", "adapter_model.safetensors": BIG})
    downloads.wait(downloads.start(HubAddress("ann/lora")))
    assert (paths.loras / "ann_lora" / "adapter_model.safetensors").read_bytes() == BIG


@pytest.mark.parametrize("seed", range(12))
def test_connections_cut_at_random_cost_no_byte_twice(
    downloads: DownloadManager, paths: Paths, hub: HubServer, seed: int
) -> None:
    hub.cuts, hub.chance = 0.7, random.Random(seed)
    hub.statuses = hub.chance.choices([500, 503, 429], k=3)
    downloads.wait(downloads.start(REPO))
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert (paths.models / "ann_tiny" / name).read_bytes() == FOLDER[name]
        assert hub.served[name] < len(BIG) * 2.5


def test_a_hub_that_ignores_ranges_is_no_reason_for_a_broken_file(
    downloads: DownloadManager, paths: Paths, hub: HubServer
) -> None:
    part = paths.models / ".fetching" / "ann_tiny-GGUF" / "tiny.Q8_0.gguf.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BIG[:1000])
    hub.ignores_ranges = True
    id = downloads.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q8_0.gguf"])
    downloads.wait(id)
    assert (paths.models / "tiny.Q8_0.gguf").read_bytes() == BIG[:-5]


@pytest.mark.parametrize("garbage", [b"other bytes", BIG + b"more", b""])
def test_what_was_left_there_is_checked(downloads: DownloadManager, paths: Paths, garbage: bytes) -> None:
    part = paths.models / ".fetching" / "ann_tiny-GGUF" / "tiny.Q8_0.gguf.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(garbage)
    downloads.wait(downloads.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q8_0.gguf"]))
    assert (paths.models / "tiny.Q8_0.gguf").read_bytes() == BIG[:-5]


def test_a_wrong_checksum_is_no_file(downloads: DownloadManager, paths: Paths, hub: HubServer) -> None:
    hub.lies = BIG[:-6] + b"!"
    with pytest.raises(Unavailable, match="wrong checksum"):
        downloads.wait(downloads.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q8_0.gguf"]))
    assert not list(paths.models.rglob("*.gguf*"))
    hub.lies = b""
    downloads.resume(downloads.list()[0].id)
    downloads.wait(downloads.list()[0].id)
    assert (paths.models / "tiny.Q8_0.gguf").read_bytes() == BIG[:-5]


def test_pause_go_on_and_cancel(downloads: DownloadManager, paths: Paths, hub: HubServer) -> None:
    hub.slow = threading.Event()
    id = downloads.start(REPO)
    while downloads.list()[0].done < 2_000_000:
        time.sleep(0.01)
    assert ModelCatalog(paths).names() == []
    downloads.pause(id)
    assert downloads.list()[0].phase == "paused"
    hub.slow.set()
    assert downloads.start(REPO) == id  # requested again: it continues
    downloads.wait(id)
    assert (paths.models / "ann_tiny" / "model-00001-of-00002.safetensors").read_bytes() == BIG
    hub.slow = threading.Event()
    other = downloads.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q4_K_M.gguf"])
    while downloads.list()[0].done < 1_000_000:
        time.sleep(0.01)
    hub.slow.set()
    downloads.cancel(other)
    assert downloads.list()[0].phase == "cancelled"
    while (paths.models / ".fetching").exists():
        time.sleep(0.01)
    assert not (paths.models / "tiny.Q4_K_M.gguf").exists()


def test_another_start_of_the_program_goes_on_where_it_stopped(paths: Paths, hub: HubServer) -> None:
    hub.slow = threading.Event()
    first = DownloadManager(paths, lambda token: HubClient(token, hub.url))
    first.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q4_K_M.gguf"])
    while first.list()[0].done < 1_400_000:
        time.sleep(0.01)
    hub.slow.set()
    first.close()
    hub.slow = None
    served = hub.served["tiny.Q4_K_M.gguf"]
    second = DownloadManager(paths, lambda token: HubClient(token, hub.url))
    second.wait(second.start(HubAddress("ann/tiny-GGUF"), ["tiny.Q4_K_M.gguf"]))
    assert (paths.models / "tiny.Q4_K_M.gguf").read_bytes() == BIG
    assert hub.served["tiny.Q4_K_M.gguf"] - served < 2_600_000


def test_a_token_opens_what_is_closed_and_is_shown_to_nobody_else(
    downloads: DownloadManager, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    hub.repos["ann/gated"] = Repo(dict(FOLDER), gate="secret", gated=True)
    hub.repos["ann/private"] = Repo(dict(FOLDER), gate="secret")
    with pytest.raises(Unavailable, match="gated: an access token is required"):
        downloads.start(HubAddress("ann/gated"))
    with pytest.raises(NotFound, match="or it is private"):
        downloads.start(HubAddress("ann/private"))
    for name in ("ann/gated", "ann/private"):
        downloads.wait(downloads.start(HubAddress(name), token="secret"))
    assert "Bearer secret" in hub.tokens
    assert "secret" not in caplog.text


def test_a_typo_gets_the_nearest_names(downloads: DownloadManager) -> None:
    with pytest.raises(NotFound, match=r"no repository ann/tinny.*Did you mean ann/tiny"):
        downloads.start(HubAddress("ann/tinny"))
    with pytest.raises(NotFound, match="no branch"):
        downloads.start(HubAddress("ann/tiny", "other"))
    with pytest.raises(InvalidInput, match="no file"):
        downloads.start(REPO, ["nothing.gguf"])


@pytest.mark.parametrize(
    ("address", "branch"),
    [
        (HubAddress("ann/tiny", "try", ("new",)), "try/new"),
        (HubAddress("ann/tiny", "try", ("new/config.json",)), "try/new"),
        (HubAddress("ann/tiny", "8-bit", ("config.json",)), "8-bit"),
    ],
)
def test_the_branch_is_one_that_the_repository_has(
    downloads: DownloadManager, hub: HubServer, paths: Paths, address: HubAddress, branch: str
) -> None:
    """In an address with unescaped slashes, only the hub knows where the branch ends."""
    hub.repos["ann/tiny"].branches = ("main", "8-bit", "try/new")
    found = downloads.find(address)
    assert (found.address.branch, len(found.choices()) > 3) == (branch, True)
    asked = [each for each in hub.asked if "/tree/" in each]
    downloads.wait(downloads.start(found))
    assert [each for each in hub.asked if "/tree/" in each] == asked  # listed once
    assert (paths.models / f"ann_tiny_{branch.replace('/', '_')}" / "config.json").is_file()
    with pytest.raises(NotFound, match="no branch other\\."):
        downloads.start(HubAddress("ann/tiny", "other", ("x/y.gguf",)))


def test_bad_hubs_are_a_sentence(
    downloads: DownloadManager, hub: HubServer, monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    hub.html = True
    with pytest.raises(FetchFailed, match="response is not from the hub"):
        downloads.start(REPO)
    hub.html = False
    hub.repos["ann/sly"] = Repo({"../../evil.gguf": BIG})
    with pytest.raises(InvalidInput, match="points outside its folder"):
        downloads.start(HubAddress("ann/sly"))
    hub.repos["ann/empty"] = Repo({"README.md": b"# Nothing"})
    with pytest.raises(InvalidInput, match="contains no weights"):
        downloads.start(HubAddress("ann/empty"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(FetchFailed, match=r"needs 0\.1 GB of disk space"):
        downloads.start(REPO)
    closed = DownloadManager(paths, lambda token: HubClient(token, "http://127.0.0.1:9"))
    with pytest.raises(FetchFailed, match="is unreachable"):
        closed.start(REPO)


@pytest.mark.parametrize("status", [500, 404, 401, 416])
def test_a_transfer_that_fails_for_good_leaves_no_model(
    downloads: DownloadManager, paths: Paths, hub: HubServer, status: int
) -> None:
    hub.statuses = [status] * 60
    with pytest.raises(UserError):
        downloads.wait(downloads.start(REPO))
    assert downloads.list()[0].phase == "failed"
    assert ModelCatalog(paths).names() == []


def test_a_path_says_where(tmp_path: Path) -> None:
    assert HubAddress("ann/tiny", "x/y").folder == "ann_tiny_x_y"


def test_the_command_line_does_the_same(hub: HubServer, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "download-model.py"), *words, "--output", str(tmp_path)],
            env={**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert "tiny.Q4_K_M.gguf" in run("ann/tiny-GGUF", "--list").stdout
    done = run("ann/tiny-GGUF", "--specific-file", "tiny.Q8_0.gguf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tiny.Q8_0.gguf").read_bytes() == BIG[:-5]
    failed = run("ann/none")
    assert (failed.returncode, failed.stderr.strip()[:26]) == (1, "There is no repository ann")
