"""Manages downloads: several repositories at once, each with its files in parallel; paused, resumed, cancelled.

Files are collected in models/.fetching/NAME and moved to their place when all are complete: an unfinished model is
never in the catalog. A download that was interrupted by the program's end continues when it is requested again. What
is already in its place is not downloaded again, and a GGUF never replaces another one of the same name.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from errors import FetchFailed, NotFound, Unavailable, UserError
from modules.config.atomic import write_text
from modules.config.paths import Paths
from modules.library.file_download import DownloadStopped, fetch_file, is_same_file
from modules.library.hub import FoundRepo, HubClient
from modules.library.hub_address import HubAddress
from modules.library.hub_files import FileChoice, RemoteFile, list_file_choices, select_files

log = logging.getLogger(__name__)

Phase = Literal["fetching", "paused", "done", "failed", "cancelled"]

AT_ONCE = 4  # files of one repository
_SPARE = 100_000_000  # bytes that must stay free on the disk
_WINDOW = 5.0  # seconds over which the speed is averaged
_STAGING = ".fetching"


@dataclass(frozen=True)
class DownloadProgress:
    """A download as a page shows it. Bytes, and bytes per second."""

    id: str
    name: str
    phase: Phase
    done: int
    size: int
    speed: float
    error: str = ""
    place: str = ""

    @property
    def seconds_left(self) -> float | None:
        return (self.size - self.done) / self.speed if self.speed > 0 and self.phase == "fetching" else None


@dataclass(frozen=True)
class RepoFiles:
    """What the hub has under an address, with the branch that the repository has."""

    address: HubAddress
    files: Sequence[RemoteFile]

    def choices(self) -> list[FileChoice]:
        """The files, with split ones combined."""
        return list_file_choices(self.files)


@dataclass(frozen=True)
class _Placement:
    """Where files of a repository end up: in a folder of their own, or (`folder` is None) beside other models."""

    root: Path  # of models or LoRAs
    folder: Path | None
    targets: Mapping[str, Path]  # by the path in the repository

    def __str__(self) -> str:
        return str(self.folder or self.root)


@dataclass
class _Job:
    id: str
    hub: HubClient
    address: HubAddress
    files: list[RemoteFile]
    place: _Placement
    staging: Path
    phase: Phase = "fetching"
    done: int = 0
    error: str = ""
    kept: set[str] = field(default_factory=set)  # paths of files that are already in their place
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=400))
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    stop: threading.Event = field(default_factory=threading.Event)  # of the current run: the next has its own

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def name(self) -> str:
        single = len({file.path for file in self.files}) == 1
        return self.files[0].path if single else f"{self.address.repo} ({len(self.files)} files)"

    def report(self, count: int) -> None:
        with self.lock:
            self.done += count
            now = time.monotonic()
            if not self.seen or now - self.seen[-1][0] >= 0.05:
                self.seen.append((now, self.done))

    def speed(self) -> float:
        with self.lock:
            now = time.monotonic()
            recent = [each for each in self.seen if now - each[0] <= _WINDOW]
        if len(recent) < 2:
            return 0.0
        return max(0.0, (recent[-1][1] - recent[0][1]) / max(now - recent[0][0], 0.05))


class DownloadManager:
    """The downloads of this program. May be used from several threads."""

    def __init__(self, paths: Paths, hub: Callable[[str], HubClient] = HubClient) -> None:
        self._models, self._loras = paths.models, paths.loras
        self._hub = hub
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def find(self, address: HubAddress, token: str = "") -> RepoFiles:
        """The files of a repository. Raises: UserError."""
        return RepoFiles(*self._hub(token).find(address))

    def search(self, words: str, token: str = "") -> list[FoundRepo]:
        """Repositories of the hub with these words in their names. Raises: UserError."""
        return self._hub(token).search(words)

    def start(self, address: HubAddress | RepoFiles, names: Sequence[str] = (), token: str = "") -> str:
        """Start downloading these files (by default: what a loader needs); returns the download's id. What `find` has
        found is not listed again. Raises: UserError.
        """
        hub = self._hub(token)
        found = address if isinstance(address, RepoFiles) else self.find(address, token)
        address, everything = found.address, found.files
        files = select_files(everything, names or address.names)
        adapter = any(file.path in ("adapter_config.json", "adapter_model.bin") for file in everything)
        root = self._loras if adapter else self._models
        place = _placement(root, address, files)
        with self._lock:
            for job in self._jobs.values():
                if job.phase in ("fetching", "paused") and (job.address, job.files) == (address, files):
                    self._go_on(job)
                    return job.id
            job = _Job(str(next(self._numbers)), hub, address, files, place, root / _STAGING / address.folder)
            self._check_room(job)
            self._jobs[job.id] = job
            self._run(job)
        return job.id

    def list(self) -> list[DownloadProgress]:
        """All downloads of this run of the program, the newest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [
            DownloadProgress(job.id, job.name, job.phase, job.done, job.size, job.speed(), job.error, str(job.place))
            for job in reversed(jobs)
        ]

    def state_of(self, address: HubAddress, choice: FileChoice) -> Phase | Literal[""]:
        """What became of these files: the state of their download, "done" if they are on disk, "" if neither."""
        wanted = set(choice.files)
        with self._lock:
            jobs = list(self._jobs.values())
        for job in reversed(jobs):
            if job.address == address and wanted <= set(job.files) and job.phase in ("fetching", "paused", "failed"):
                return job.phase
        for root in (self._models, self._loras):
            targets = _placement(root, address, choice.files).targets
            if all(
                any(
                    _has_size(path, file.size)
                    for path in (targets[file.path], root / address.folder / file.path)  # alone, or with all others
                )
                for file in choice.files
            ):
                return "done"
        return ""

    def pause(self, id: str) -> None:
        """Pause it; downloaded data is kept. Raises: NotFound."""
        job = self._job(id)
        if job.phase == "fetching":
            job.phase = "paused"
            job.stop.set()

    def resume(self, id: str) -> None:
        """Continue a paused or failed download. Raises: NotFound, FetchFailed."""
        job = self._job(id)
        with self._lock:
            self._check_room(job)
            self._go_on(job)

    def cancel(self, id: str) -> None:
        """Cancel it, and delete its data. Raises: NotFound."""
        job = self._job(id)
        if job.phase == "done":
            return
        job.phase = "cancelled"
        job.stop.set()
        threading.Thread(target=self._clear, args=(job, job.thread), daemon=True).start()

    def _clear(self, job: _Job, running: threading.Thread | None) -> None:
        """Delete a cancelled download's data, as soon as nothing writes to it any more."""
        if running:
            running.join()
        for file in job.files:
            for path in (job.staging / file.path, job.staging / f"{file.path}.part"):
                path.unlink(missing_ok=True)
        _remove_empty(job.staging)

    def wait(self, id: str, tick: Callable[[DownloadProgress], None] = lambda _: None) -> None:
        """Wait until it is done. Raises: Unavailable if it ends otherwise."""
        while True:
            (now,) = (each for each in self.list() if each.id == id)
            tick(now)
            if now.phase != "fetching":
                break
            time.sleep(0.1)
        if now.phase != "done":
            raise Unavailable(now.error or f"The download of {now.name} is {now.phase}. Start it again to resume it.")

    def close(self) -> None:
        """Stop all; their data is kept for later."""
        for job in self._jobs.values():
            if job.phase == "fetching":
                self.pause(job.id)
        for job in self._jobs.values():
            if job.thread:
                job.thread.join(5)

    # --- inside ---

    def _job(self, id: str) -> _Job:
        job = self._jobs.get(id)
        if job is None:
            raise NotFound("This download no longer exists.")
        return job

    def _go_on(self, job: _Job) -> None:
        if job.phase in ("paused", "failed"):
            job.phase, job.error = "fetching", ""
            self._run(job)

    def _run(self, job: _Job) -> None:
        before, job.stop = job.thread, threading.Event()
        job.thread = threading.Thread(target=self._work, args=(job, job.stop, before), name="download", daemon=True)
        job.thread.start()

    def _work(self, job: _Job, stop: threading.Event, before: threading.Thread | None) -> None:
        if before:
            before.join()  # two downloads must not write to one file
        job.done = 0
        job.seen.clear()
        job.kept.clear()
        pool = ThreadPoolExecutor(AT_ONCE, f"download {job.id}")
        try:
            running = [pool.submit(self._one, job, file, stop) for file in job.files]
            for each in as_completed(running):
                each.result()
            if not stop.is_set():
                self._settle(job)
                job.phase = "done"
        except DownloadStopped:
            pass
        except UserError as error:
            stop.set()
            job.error, job.phase = str(error), "failed"
        except Exception as error:
            stop.set()
            log.exception("A download failed")
            job.error, job.phase = f"Download failed: {error}", "failed"
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, job: _Job, file: RemoteFile, stop: threading.Event) -> None:
        def report(count: int) -> bool:
            job.report(count)
            return not stop.is_set()

        target = job.staging / file.path
        if is_same_file(job.place.targets[file.path], file, report):
            job.kept.add(file.path)
            return
        if target.is_file():  # from an earlier run: read again, because the file may have changed on the hub
            target.replace(target.with_name(f"{target.name}.part"))
        fetch_file(job.hub, job.address, file, target, report)

    def _settle(self, job: _Job) -> None:
        """Everything is complete: move it to its place."""
        new = [file for file in job.files if file.path not in job.kept]
        try:
            if job.place.folder is None and any(job.place.targets[file.path].exists() for file in new):
                self._move_aside(job)
            for file in new:
                target = job.place.targets[file.path]
                target.parent.mkdir(parents=True, exist_ok=True)
                (job.staging / file.path).replace(target)
            if job.place.folder:
                _note(job, job.place.folder)
        except OSError as error:
            raise FetchFailed(
                job.name, f"it could not be moved to {job.place} ({error.strerror})", "Try again."
            ) from None
        _remove_empty(job.staging)

    def _move_aside(self, job: _Job) -> None:
        """Other models have these names: put this one into a folder of its own. Raises: OSError."""
        before, job.place = job.place, _in_folder(job.place.root, job.address, job.files)
        for path in job.kept:  # parts of this model
            target = job.place.targets[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(before.targets[path], target)

    def _check_room(self, job: _Job) -> None:
        """Raises: FetchFailed."""
        job.staging.mkdir(parents=True, exist_ok=True)
        here = sum(path.stat().st_size for path in job.staging.rglob("*") if path.is_file())
        here += sum(file.size for file in job.files if _has_size(job.place.targets[file.path], file.size))
        needed, free = job.size - here + _SPARE, shutil.disk_usage(job.staging).free
        if needed > free:
            raise FetchFailed(
                job.name,
                f"it needs {needed / 1e9:.1f} GB of disk space, but only {free / 1e9:.1f} GB is free",
                "Free some disk space first.",
            )


def _placement(root: Path, address: HubAddress, files: Sequence[RemoteFile]) -> _Placement:
    """GGUF files lie in `root` itself, or in the repository's folder if they are there or two of them have the same
    name; others in a folder, without the name of a folder that is the model by itself.
    """
    if all(file.path.lower().endswith(".gguf") for file in files):
        targets = {file.path: root / file.path.rpartition("/")[2] for file in files}
        aside = _in_folder(root, address, files)
        there = all(_has_size(aside.targets[file.path], file.size) for file in files)
        return aside if there or len({*targets.values()}) < len(targets) else _Placement(root, None, targets)
    inside = _own_folder(files)
    folder = root / "_".join([address.folder, *inside.split("/")]).rstrip("_")
    below = len(f"{inside}/") if inside else 0
    return _Placement(root, folder, {file.path: folder / file.path[below:] for file in files})


def _in_folder(root: Path, address: HubAddress, files: Sequence[RemoteFile]) -> _Placement:
    """Everything in the repository's folder, as it is there."""
    folder = root / address.folder
    return _Placement(root, folder, {file.path: folder / file.path for file in files})


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _own_folder(files: Sequence[RemoteFile]) -> str:
    """The folder that contains all of these files and is a model by itself; "" for none."""
    folder = files[0].path.rpartition("/")[0]
    alone = folder and all(file.path.startswith(f"{folder}/") for file in files)
    return folder if alone and any(file.path == f"{folder}/config.json" for file in files) else ""


def _note(job: _Job, folder: Path) -> None:
    """Write the file with the source that the original also writes."""
    lines = [
        f"url: {job.address.repo}",
        f"branch: {job.address.branch}",
        f"download date: {time.strftime('%Y-%m-%d %H:%M:%S')}",
    ]
    sums = [f"    {file.sha256} {file.path}" for file in job.files if file.sha256]
    write_text(
        folder / "huggingface-metadata.txt", "\n".join([*lines, *(["sha256sum:", *sums] if sums else [])]) + "\n"
    )


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for each in (folder, folder.parent):
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()
