"""Downloaded archives: truncated, wrong or malicious ones leave nothing behind, inside the folder or outside."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.llama_cpp import archive
from tests.installer.web import Web, web

CONTENT = b"library" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLAIN = {"no_proxy": "127.0.0.1"}


@pytest.fixture
def there() -> Iterator[Web]:
    with web() as found:
        yield found


@pytest.mark.parametrize(
    ("content", "cut", "words", "asked"),
    [
        (CONTENT, 0, "", 1),
        (CONTENT, 1, "", 2),
        (CONTENT, 2, "the connection ended after [1-9][0-9,]* of 700,000 bytes", 2),
        (b"<html>", 0, "has the wrong checksum", 2),
        (b"", 0, "has the wrong checksum", 2),
        (None, 0, "could not be downloaded .*(Not Found|404)", 2),
    ],
)
def test_what_is_fetched_is_checked_and_tried_twice(
    there: Web, tmp_path: Path, content: bytes | None, cut: int, words: str, asked: int
) -> None:
    if content is not None:
        there.files["/a.zip"] = content
    there.cut["/a.zip"] = cut
    target = tmp_path / "a.zip"
    if words:
        with pytest.raises(archive.UnusableArchive, match=words):
            archive.fetch(f"{there.address}/a.zip", target, SHA256, PLAIN)
        assert not target.exists()
    else:
        archive.fetch(f"{there.address}/a.zip", target, SHA256.upper(), PLAIN)
        assert target.read_bytes() == CONTENT
    assert there.asked == ["/a.zip"] * asked


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.zip", "nonsense", "http://[/a.zip"])
def test_an_address_that_does_not_answer_is_named(tmp_path: Path, address: str) -> None:
    with pytest.raises(archive.UnusableArchive, match="could not be downloaded"):
        archive.fetch(address, tmp_path / "a.zip", SHA256, PLAIN)


def test_the_proxy_of_the_settings_is_asked(there: Web, tmp_path: Path) -> None:
    there.files["http://releases.invalid/a.zip"] = CONTENT
    archive.fetch("http://releases.invalid/a.zip", tmp_path / "a.zip", SHA256, {"HTTP_PROXY": there.address})
    assert there.asked == ["http://releases.invalid/a.zip"]


def test_progress_tells_what_has_come_and_what_is_left() -> None:
    progress = archive._Progress("a.zip", 4_000_000)
    progress.done = 1_000_000
    assert progress.words(10) == "1 of 4 MB, about 30 s left"
    unknown = archive._Progress("a.zip", 0)
    unknown.add(2_000_000)
    assert unknown.words(10) == "2 MB so far"


def tar(path: Path, *members: tuple[str, bytes | str | None]) -> Path:
    """A tar file: of bytes a file, of text a link to it, of None a folder."""
    with tarfile.open(path, "w:gz") as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            else:
                info.type, info.linkname = (tarfile.DIRTYPE, "") if content is None else (tarfile.SYMTYPE, content)
            opened.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return path


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members:
            opened.writestr(zipfile.ZipInfo(name), content)
    return path


def test_libraries_come_side_by_side_and_programs_stay_out(tmp_path: Path) -> None:
    folder = tmp_path / "to"
    folder.mkdir()
    archive.unpack(
        tar(
            tmp_path / "a.tar.gz",
            ("llama-b1", None),
            ("llama-b1/libllama.so", "libllama.so.0"),
            ("llama-b1/libllama.so.0", "libllama.so.0.5.0"),
            ("llama-b1/libllama.so.0.5.0", b"elf"),
            ("llama-b1/libggml-cpu-haswell.so", b"elf"),
            ("llama-b1/llama-server", b"program"),
            ("llama-b1/LICENSE", b"MIT"),
        ),
        folder,
    )
    archive.unpack(zip_of(tmp_path / "b.zip", ("cudart64_12.dll", b"dll"), ("x/y.exe", b"")), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENSE", "cudart64_12.dll", "libggml-cpu-haswell.so", "libllama.so", "libllama.so.0", "libllama.so.0.5.0",
    ]  # fmt: skip
    assert (folder / "libllama.so").read_bytes() == b"elf"
    assert (folder / "libllama.so").is_symlink()


def test_where_the_disk_knows_no_links_they_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "to").mkdir()
    archive.unpack(tar(tmp_path / "a.tar.gz", ("a.so", "b.so"), ("b.so", "c.so"), ("c.so", b"elf")), tmp_path / "to")
    assert [(tmp_path / "to" / name).read_bytes() for name in ("a.so", "b.so", "c.so")] == [b"elf"] * 3


HOSTILE_TARS: list[tuple[tuple[tuple[str, bytes | str | None], ...], str]] = [
    ((("../out.so", b"x"),), "outside"),
    ((("/tmp/out.so", b"x"),), "outside"),
    ((("a/../../out.so", b"x"),), "outside"),
    ((("../folder", None),), "outside"),
    ((("a.so", "../out.so"),), "link to another folder"),
    ((("a.so", "/etc/passwd"),), "link to another folder"),
    ((("a.so", ".."),), "link to another folder"),
    ((("a.so", "b.so"), ("b.so", "a.so")), "link to a missing file"),
    ((("a.so", "a.so"),), "link to a missing file"),
    ((("a.so", "gone.so"),), "link to a missing file"),
    ((("a.so", b"1"), ("x/a.so", b"2")), "two files named a.so"),
    ((("a.so", "b.so"), ("a.so", b"2")), "two files named a.so"),
]


@pytest.mark.parametrize(("members", "words"), HOSTILE_TARS)
def test_a_tar_that_reaches_outside_is_refused(
    tmp_path: Path, members: tuple[tuple[str, bytes | str | None], ...], words: str
) -> None:
    folder = tmp_path / "deep" / "to"
    folder.mkdir(parents=True)
    with pytest.raises(archive.UnusableArchive, match=words):
        archive.unpack(tar(tmp_path / "a.tar.gz", *members), folder)
    assert not list(tmp_path.rglob("out.so"))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_with_anything_else_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        info = tarfile.TarInfo("a.so")
        info.type, info.linkname = kind, "/etc/passwd"
        opened.addfile(info)
    with pytest.raises(archive.UnusableArchive, match="other than files and folders"):
        archive.unpack(tmp_path / "a.tar", tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../out.dll", "/out.dll", "C:\\out.dll", "a\\..\\..\\out.dll", "..\\out.dll", "../", "c:out.dll"],
)
def test_a_zip_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "to"
    folder.mkdir(parents=True)
    with pytest.raises(archive.UnusableArchive, match="outside"):
        archive.unpack(zip_of(tmp_path / "a.zip", ("good.dll", b"x"), (name, b"x")), folder)
    assert not list(tmp_path.rglob("*out.dll"))


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.so")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(archive.UnusableArchive, match="contains a link"):
        archive.unpack(tmp_path / "a.zip", tmp_path)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST", 10)
    with pytest.raises(archive.UnusableArchive, match="would unpack to more than"):
        archive.unpack(zip_of(tmp_path / "a.zip", ("a.exe", bytes(6)), ("b.exe", bytes(6))), tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "zip cut", "zip bad", "tar cut"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a"
    if damage.startswith("zip"):
        zip_of(path, ("a.dll", CONTENT[:5000]))
    elif damage.startswith("tar"):
        tar(path, ("a.so", hashlib.shake_256(b"").digest(5000)))
    content = bytearray(path.read_bytes() if path.exists() else b"<html>" if damage == "text" else b"")
    if damage.endswith("cut"):
        del content[len(content) // 2 :]
    elif damage.endswith("bad"):
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    (tmp_path / "to").mkdir()
    with pytest.raises(archive.UnusableArchive, match="is damaged"):
        archive.unpack(path, tmp_path / "to")
