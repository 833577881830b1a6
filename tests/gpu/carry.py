"""Packs what a GPU machine without a network needs into parts of less than 64 MiB, and prints the commands to run
there.

    python -m tests.gpu.carry --gguf models/SmolLM2-135M-Instruct.Q4_1.gguf --into .gpu [--llama ARCHIVE.tar.xz]

makes .gpu/a and .gpu/b (a half of the GGUF each) and .gpu/c (wheels, llama.cpp for CUDA). Each part travels with one
command; the machine keeps /tmp between commands that follow each other within 30 s. Nothing here touches a GPU.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LIMIT = 62 * 2**20  # a little less than what may travel: the repository comes along
PLACE = "/tmp/gpu"

#: What the checks import and the machine lacks (docs/gpu.md lists what it has).
WHEELS = (
    "exllamav2==0.3.2", "gguf", "fastparquet", "cramjam", "websockets", "pydantic", "pydantic-core", "annotated-types",
    "typing-inspection",
)  # fmt: skip
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def halves(file: Path, into: Path) -> list[Path]:
    """Split a file into two parts, `into`/a and `into`/b. Raises: ValueError if a part is too large."""
    size = file.stat().st_size
    middle = (size + 1) // 2
    if middle > LIMIT:
        raise ValueError(
            f"{file.name} is {size / 2**20:.0f} MiB: half of it is more than the {LIMIT / 2**20:.0f} that travel"
        )
    parts = []
    with file.open("rb") as source:
        for name in ("a", "b"):
            part = into / name / f"{file.name}.{name}"
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(source.read(middle))
            parts.append(part)
    return parts


def wheels(into: Path) -> None:
    """Download the wheels for Python 3.12 on x86-64, pinned to versions that fit together."""
    into.mkdir(parents=True, exist_ok=True)
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "-d", str(into)]
    core = pydantic_core(into, command)
    subprocess.run([*command, *(each for each in WHEELS if each != "pydantic-core"), core], check=True)


def pydantic_core(into: Path, command: Sequence[str]) -> str:
    """The version of pydantic-core that the newest pydantic requires."""
    import zipfile

    subprocess.run([*command, "pydantic"], check=True)
    with zipfile.ZipFile(next(into.glob("pydantic-[0-9]*.whl"))) as wheel:
        metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        lines = wheel.read(metadata).decode().splitlines()
    needs = next(line for line in lines if line.lower().startswith("requires-dist: pydantic-core"))
    return needs.split(":", 1)[1].split(";")[0].strip().replace(" ", "")


def commands(gguf: str, into: str, seconds: int) -> list[tuple[str, str]]:
    """The folder to send with each command, and the command."""
    name = shlex.quote(gguf)
    site, llama = f"{PLACE}/site", f"{PLACE}/llama"
    libraries = "$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])')/cu13/lib"
    check = (
        f"cd {PLACE} && cat {name}.a {name}.b >{name} && cd - && "
        f"python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target {site} {into}/c/*.whl && "
        f"mkdir -p {llama} && (tar -xf {into}/c/*.tar.xz -C {llama} || true) && "
        f"export PYTHONPATH={site}:{llama} PYTHONUNBUFFERED=1 TORCH_CUDA_ARCH_LIST=9.0 MAX_JOBS=16 "
        f"LD_LIBRARY_PATH={libraries}:$LD_LIBRARY_PATH && "
        f"python3 -m tests.gpu.check --gguf {PLACE}/{name} --work {PLACE}/work --out $OUT --seconds {seconds}; "
        f"cd $OUT && tar -czf logs.tar.gz *.log *.json && rm -f *.log [!f]*.json"
    )
    copy = f"mkdir -p {PLACE} && cp {into}/%s/{name}.%s {PLACE}/"
    return [(f"{into}/a", copy % ("a", "a")), (f"{into}/b", copy % ("b", "b")), (f"{into}/c", check)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--into", type=Path, default=Path(".gpu"), help="a folder that git does not know")
    parser.add_argument("--llama", type=Path, help="llama-cpp-python built for CUDA, as a tar.xz")
    parser.add_argument("--seconds", type=int, default=570, help="of one command there")
    given = parser.parse_args(arguments)
    halves(given.gguf, given.into)
    wheels(given.into / "c")
    if given.llama:
        (given.into / "c" / given.llama.name).write_bytes(given.llama.read_bytes())
    for part in sorted(given.into.iterdir()):
        size = sum(file.stat().st_size for file in part.iterdir())
        print(f"{part}: {size / 2**20:.1f} MiB{'' if size <= LIMIT else ', which is too much'}")
    for folder, command in commands(given.gguf.name, str(given.into), given.seconds):
        print(f"\ncarry: {folder}\n{command}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
