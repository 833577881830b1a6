"""Starts the installer with one injected fault, in a separate process: `python faulty.py ROOT [ARGUMENT ...]`.

All is real but the Pythons, which are a shell script, and the C compiler. Faults of the Pythons are files in the folder
faults beside ROOT: the name is a step, the text says what happens there. Faults of the disk come by the variable FAULT:
"full:5" lets nothing be written from the fifth change on, "read-only" lets nothing be changed at all, and "moments"
copies ROOT before each change into a folder of moments beside it: what would be there had the power failed then.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

# Replaces every Python: the one that creates the environment, and the one in it.
FAKE_PYTHON = r"""#!/bin/sh
here=$(dirname "$0")
faults=FAULTS
packages=$here/../lib/python3.11/site-packages
echo "$*" >>"$faults/../calls"
at() { # STEP
    [ -e "$faults/$1" ] || return 0
    case $(cat "$faults/$1") in
    once*) rm "$faults/$1"; kill -SEGV $$ ;;
    fail*) echo "ERROR: $1 went wrong"; exit 1 ;;
    network*) echo "ERROR: Could not reach the index"; exit 1 ;;
    hash*) echo "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"; exit 1 ;;
    full*) echo "OSError: [Errno 28] No space left on device"; exit 1 ;;
    crash*) kill -SEGV $$ ;;
    memory*) kill -KILL $$ ;;
    kill*) kill -KILL $PPID; exit 1 ;;
    esac
}
put() { # FILE: what is said becomes its text, in a new file, as pip and uv do it
    cat >"$1.new" && mv "$1.new" "$1"
}
case "$*" in
*server.py*)
    if [ -n "$WEBUI_STANDS_BY" ]; then
        folder=${WEBUI_STANDS_BY#*\"folder\": \"}
        folder=${folder%%\"*}
        echo "$folder" >>"$faults/../stood-by"
        (at imports) >"$folder/said" 2>&1 || exit 1
        touch "$folder/imported"
        at waiting
        read -r word || exit 1
    fi
    echo "THE PAGE RUNS"; exit 0 ;;
*"-m venv"*)
    at venv
    for env in "$@"; do :; done
    mkdir -p "$env/bin" "$env/lib/python3.11/site-packages/gradio-1.dist-info"
    cp "$0" "$env/bin/python" ;;
*sys.version_info*) at version; echo 3.11 ;;
*"-m pip install"*uv==*) at uv-itself ;;
*"pip config"*) at settings ;;
*"uninstall --yes llama-cpp-python"*) rm -rf "$packages"/llama_cpp* ;;
*"pip wheel"*)
    at compile
    while [ "$1" != --wheel-dir ]; do shift; done
    wheel=$2/llama_cpp_python-9-py3-none-any.whl
    mkdir -p "$2"
    printf 'PK\005\006\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000' >"$wheel" ;;
*abetlen*)
    [ -e "$faults/ready-made" ] || exit 1
    case "$*" in *dry-run*) ;; *) echo cuda | put "$here/llama" ;; esac ;;
*.whl*)
    at llama
    mkdir -p "$packages/llama_cpp" "$packages/llama_cpp_python-9.dist-info"
    echo processor | put "$here/llama"
    echo "$*" | put "$packages/llama_cpp/made-from" ;;
*install*requirements-*)
    case "$*" in *"-m uv"*) at uv ;; esac
    at torch-packages; cat "$(dirname "$here")"/../../requirements-torch.txt | put "$here/torch-made-from" ;;
*install*torch==*)
    mkdir -p "$packages/torch"
    echo "$*" | put "$packages/torch/half"
    at torch
    echo "$*" | put "$packages/torch/whole" ;;
*"-m uv pip"*-r*) at uv; at packages; cat "$(dirname "$here")/../tmp/requirements.txt" | put "$here/made-from" ;;
*"-m pip install"*-r*) at packages; cat "$(dirname "$here")/../tmp/requirements.txt" | put "$here/made-from" ;;
*"import torch"*assert*) exit 1 ;;
*self_test*)
    [ -e "$faults/old-driver" ] && [ "$(cat "$here/llama")" = cuda ] &&
        { echo "CUDA driver version is insufficient for CUDA runtime version"; exit 1; }
    at trial
    [ -e "$packages/llama_cpp" ] || [ -e "$faults/ready-made" ] || { echo "no llama_cpp"; exit 1; }
    echo "100 tokens read" ;;
*"-c import llama_cpp, "*) at look ;;
*"-c import"*) at imports; echo "the processor" ;;
esac
exit 0
"""


class Disk:
    """An audit hook: it counts changes in a folder, and causes the fault when its turn comes."""

    def __init__(self, root: str, fault: str) -> None:
        self.root = root
        self.kind, _, turn = fault.partition(":")
        self.turn = int(turn or 1)
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | Path) or not str(path).startswith(self.root):
            return
        self.count += 1
        if self.count < self.turn:
            return
        if self.kind == "moments":
            shutil.copytree(self.root, Path(self.root).parent / "moments" / f"{self.count:05}", symlinks=True)
        if self.kind == "full" and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if self.kind == "read-only":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def main() -> None:
    root = Path(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import one_click
    from installer.environment import environment
    from installer.hardware import compiler
    from installer.llama_cpp import unused_gpu

    faults = root.parent / "faults"
    base = root.parent / "python"
    base.write_text(FAKE_PYTHON.replace("FAULTS", f'"{faults}"'))
    base.chmod(0o755)
    sys.executable = str(base)
    there = not (faults / "no-compiler").exists()
    compiler.has_compilers = lambda layout: there
    compiler.accepted_options = lambda layout, options: []
    environment.bundled_pip = lambda: None  # a thousand files, which the stand-in needs not
    unused_gpu.is_reachable = lambda url: not (faults / "torch").exists()
    one_click.__file__ = str(root / "one_click.py")
    if fault := os.environ.get("FAULT"):
        sys.addaudithook(Disk(str(root), fault))
    sys.exit(one_click.main(sys.argv[2:]))


if __name__ == "__main__":
    main()
