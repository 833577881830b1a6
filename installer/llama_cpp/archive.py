"""Downloads archives of libraries, verifies them and unpacks them into one folder.

Nothing is unpacked before its SHA-256 is verified, and nothing is unpacked outside the folder. It must not know what
the libraries are for.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import ssl
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

PATIENCE = 30  # seconds without data
MOST = 8 * 2**30  # bytes that an archive may unpack to
_BLOCK = 2**20
#: What is unpacked: libraries, and the files that their licences require. The programs are not needed.
_WANTED = re.compile(r"(\.so(\.\d+)*|\.dylib|\.dll)$|^LICENSE", re.IGNORECASE)

#: Errors of zipfile and tarfile for archives that are damaged or of an unsupported kind.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


class UnusableArchive(Exception):
    """The download failed or cannot be used; the text says why, as a clause."""


def fetch(address: str, target: Path, sha256: str, environ: Mapping[str, str]) -> None:
    """Download to `target`, with one retry. `environ`: proxies, certificates.

    Raises: UnusableArchive, also if the checksum is wrong; `target` does not exist then. OSError for the disk.
    """
    for last in (False, True):
        try:
            found = _download(address, target, environ)
            if found == sha256.lower():
                return
            why = f"{target.name} has the wrong checksum (SHA-256 {found[:12]}..., expected {sha256[:12]}...)"
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError, ValueError) as error:
            why = f"{address} could not be downloaded ({getattr(error, 'reason', None) or error})"
        target.unlink(missing_ok=True)
        if last:
            raise UnusableArchive(why)
        print(f"      {why}; trying again ...", flush=True)


def _download(address: str, target: Path, environ: Mapping[str, str]) -> str:
    """Download and return the SHA-256."""
    proxies = {
        scheme: proxy for scheme in ("http", "https")
        if (proxy := environ.get(f"{scheme}_proxy") or environ.get(f"{scheme.upper()}_PROXY"))
    }  # fmt: skip
    certificates = environ.get("SSL_CERT_FILE") or None
    opener = urllib.request.build_opener(
        *([urllib.request.ProxyHandler(proxies)] if proxies else []),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certificates)),
    )
    request = urllib.request.Request(address, headers={"User-Agent": "text-generation-webui"})
    digest = hashlib.sha256()
    with opener.open(request, timeout=PATIENCE) as answer, target.open("wb") as file:
        progress = _Progress(target.name, int(answer.headers.get("Content-Length") or 0))
        while block := answer.read(_BLOCK):
            file.write(block)
            digest.update(block)
            progress.add(len(block))
        progress.end()
        if progress.done < progress.total:
            raise ConnectionError(f"the connection ended after {progress.done:,} of {progress.total:,} bytes")
    return digest.hexdigest()


class _Progress:
    """Shows the progress: on a terminal one line that changes, else a line every half minute."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.started = self.told = time.monotonic()
        self.terminal = sys.stdout.isatty()
        size = f"{total / 1e6:.0f} MB" if total else "unknown size"
        print(f"      Fetching {name} ({size}) ...", flush=True)

    def add(self, size: int) -> None:
        self.done += size
        now = time.monotonic()
        if now - self.told < (0.5 if self.terminal else 30):
            return
        self.told = now
        print(f"      {self.words(now - self.started)}", end="  \r" if self.terminal else "\n", flush=True)

    def words(self, seconds: float) -> str:
        if not self.total:
            return f"{self.done / 1e6:.0f} MB so far"
        left = seconds * max(self.total - self.done, 0) / max(self.done, 1)
        return f"{self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB, about {left:.0f} s left"

    def end(self) -> None:
        if self.terminal:
            print(end=" " * 60 + "\r", flush=True)


@dataclass(frozen=True)
class _Member:
    """A file of an archive; `link`: the file that it is another name for."""

    path: str
    size: int
    link: str
    content: IO[bytes] | None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the libraries of a zip or tar file into `folder`, without the archive's own folders.

    Raises: UnusableArchive, OSError.
    """
    links: dict[str, str] = {}
    room = MOST
    try:
        for member in _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive):
            name = _name(member.path)
            room -= member.size
            if room < 0:
                raise UnusableArchive(f"{archive.name} would unpack to more than {MOST / 2**30:.0f} GiB")
            if not _WANTED.search(name):
                continue
            if name in links or os.path.lexists(folder / name):
                raise UnusableArchive(f"{archive.name} contains two files named {name}")
            if member.link:
                links[name] = member.link
            elif member.content:
                _write(member, folder / name)
    except _DAMAGE as error:
        raise UnusableArchive(f"{archive.name} is damaged ({error})") from None
    _link(archive.name, folder, links)


def _name(path: str) -> str:
    """The last part of a path, if it stays inside the folder. Raises: UnusableArchive."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or any(":" in part or "\0" in part for part in parts):
        raise UnusableArchive(f"the archive contains a file outside its own folder ({path!r})")
    return parts[-1]


def _zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                _name(info.filename.rstrip("/\\") or "/")
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UnusableArchive(
                    f"the archive contains a link ({info.filename!r}), which is not allowed in a zip file"
                )
            with opened.open(info) as content:
                yield _Member(info.filename, info.file_size, "", content)


def _tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            if info.isdir():
                if info.name not in (".", ""):
                    _name(info.name)
            elif info.issym():
                if info.linkname in (".", "..") or re.search(r"[/\\:\0]", info.linkname):
                    raise UnusableArchive(
                        f"the archive contains a link to another folder ({info.name!r} to {info.linkname!r})"
                    )
                yield _Member(info.name, 0, info.linkname, None)
            elif info.isfile():
                yield _Member(info.name, info.size, "", opened.extractfile(info))
            else:
                raise UnusableArchive(f"the archive contains something other than files and folders ({info.name!r})")


def _write(member: _Member, target: Path) -> None:
    assert member.content
    written = 0
    with target.open("xb") as file:
        while block := member.content.read(_BLOCK):
            written += len(block)
            if written > member.size:  # the sizes in a zip file may be false
                raise UnusableArchive(f"{member.path!r} is larger than the archive states")
            file.write(block)
    if written < member.size:
        raise UnusableArchive(f"{member.path!r} is smaller than the archive states")
    target.chmod(0o755)


def _link(archive: str, folder: Path, links: Mapping[str, str]) -> None:
    """Create the links, or copies if the disk does not support links. Raises: UnusableArchive, OSError."""
    for name in links:
        target, seen = links[name], {name}
        while target in links and target not in seen:
            seen.add(target)
            target = links[target]
        if target in links or not (folder / target).is_file():
            raise UnusableArchive(f"{archive} contains a link to a missing file ({name!r})")
        try:
            (folder / name).symlink_to(target)
        except (OSError, NotImplementedError):
            shutil.copyfile(folder / target, folder / name)
