"""Fetching a file over loopback: our downloads against `hf download`, from the same hub server in the same run.

Then 100 downloads with connections cut at random: every file must be whole, and no byte may come twice.
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
from modules.library import fetch
from modules.library.downloads import Downloads
from modules.library.hub import Hub
from modules.library.hub_address import Address
from tests.library.hub_server import HubServer, Repo

SIZE, ROUNDS, RUNS = 400_000_000, 5, 100
REPO = Address("ann/tiny")
NAME = "tiny.Q4_K_M.gguf"

#: A process of its own for each side, as a person has it; both say how long the transfer took, without their imports.
_OURS = """
import sys, time
from pathlib import Path
from modules.config.paths import Paths
from modules.library.downloads import Downloads
from modules.library.hub import Hub
from modules.library.hub_address import Address
import huggingface_hub.hf_api
downloads = Downloads(Paths.under(Path(sys.argv[1])), lambda token: Hub(token, sys.argv[2]))
start = time.perf_counter()
downloads.wait(downloads.start(Address("ann/tiny"), [sys.argv[3]]))
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
    """How many of RUNS were whole, and the bytes served for each byte of the files."""
    fetch._PAUSE = 0.01  # the cuts are ours: there is nothing to wait for
    data = random.Random(0).randbytes(3_000_000)
    whole = served = 0
    for seed in range(RUNS):
        folder = Path(tempfile.mkdtemp())
        with HubServer({"ann/tiny": Repo({NAME: data})}, cuts=0.8, chance=random.Random(seed)) as hub:
            paths = Paths.under(folder)
            paths.ensure()
            downloads = Downloads(paths, lambda token, url=hub.url: Hub(token, url))  # type: ignore[misc]
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
            Figure("speed", f"a file of {SIZE / 1e6:.0f} MB", "MB/s", Side("ours, checked", ours),
                   Side("hf_hub_download, not checked", theirs), 0.95),
            Figure("cuts", f"{RUNS} downloads, cut", "files", Side("whole", [whole]), Side("begun", [RUNS]), 1.0),
            Figure("cuts", "bytes handed out for each byte of the file", "times", Side("served", [times]),
                   Side("once", [1.0]), 1.1, at_most=True),
        ],
        f"The hub server is Python's own, on the same two cores. {time.perf_counter() - start:.0f} s in all.",
    )  # fmt: skip
