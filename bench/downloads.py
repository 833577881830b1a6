"""Downloading a file over loopback: our downloads compared with `hf download`, from the same local server.

Then 100 downloads with connections cut at random: every file must be complete, and no byte may be sent twice.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figure import Figure, Side, in_turn, write
from modules.config.paths import Paths
from modules.library import file_download
from modules.library.downloads import DownloadManager
from modules.library.hub import HubClient
from modules.library.hub_address import HubAddress
from tests.library.hub_server import HubServer, Repo

SIZE, ROUNDS, RUNS = 400_000_000, 5, 100
REPO = HubAddress("ann/tiny")
NAME = "tiny.Q4_K_M.gguf"

#: Each side runs in its own process, as for a user; both print the duration of the transfer without their imports.
_OURS = """
import sys, time
from pathlib import Path
from modules.config.paths import Paths
from modules.library.downloads import DownloadManager
from modules.library.hub import HubClient
from modules.library.hub_address import HubAddress
import huggingface_hub.hf_api
downloads = DownloadManager(Paths.under(Path(sys.argv[1])), lambda token: HubClient(token, sys.argv[2]))
start = time.perf_counter()
downloads.wait(downloads.start(HubAddress("ann/tiny"), [sys.argv[3]]))
print(time.perf_counter() - start)
"""
_THEIRS = """
import sys, time
from huggingface_hub import hf_hub_download
start = time.perf_counter()
hf_hub_download("ann/tiny", sys.argv[3], local_dir=sys.argv[1], endpoint=sys.argv[2], token=False)
print(time.perf_counter() - start)
"""


def megabytes_per_second(script: str, url: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HOME": folder}
        done = subprocess.run(
            [sys.executable, "-c", script, folder, url, NAME],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        return SIZE / 1e6 / float(done.stdout.splitlines()[-1])


def with_cuts() -> tuple[int, float]:
    """How many of RUNS were complete, and the bytes sent per byte of the files."""
    file_download._PAUSE = 0.01  # the interruptions are ours: no need to wait before a retry
    data = random.Random(0).randbytes(3_000_000)
    whole = served = 0
    for seed in range(RUNS):
        folder = Path(tempfile.mkdtemp())
        with HubServer({"ann/tiny": Repo({NAME: data})}, cuts=0.8, chance=random.Random(seed)) as hub:
            paths = Paths.under(folder)
            paths.ensure()
            downloads = DownloadManager(paths, lambda token, url=hub.url: HubClient(token, url))  # type: ignore[misc]
            downloads.wait(downloads.start(REPO, [NAME]))
            whole += (paths.models / NAME).read_bytes() == data
            served += hub.served[NAME]
        shutil.rmtree(folder)
    return whole, served / (RUNS * len(data))


def main() -> None:
    start = time.perf_counter()
    with HubServer({"ann/tiny": Repo({NAME: os.urandom(SIZE)})}) as hub:
        ours, theirs = in_turn(
            ROUNDS, lambda: megabytes_per_second(_OURS, hub.url), lambda: megabytes_per_second(_THEIRS, hub.url)
        )
    whole, times = with_cuts()
    write(
        "downloads",
        [
            Figure("speed", f"a file of {SIZE / 1e6:.0f} MB", "MB/s", Side("ours, verified", ours),
                   Side("hf_hub_download, not verified", theirs), 0.95),
            Figure("cuts", f"{RUNS} cut downloads", "files", Side("whole", [whole]), Side("begun", [RUNS]), 1.0),
            Figure("cuts", "bytes sent per byte of the file", "times", Side("served", [times]),
                   Side("once", [1.0]), 1.1, at_most=True),
        ],
        f"The hub server is Python's own, on the same two cores. {time.perf_counter() - start:.0f} s in all.",
    )  # fmt: skip
