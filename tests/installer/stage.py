"""The surroundings of the installer's tests: a shell script instead of the environment's Python, and more."""

from __future__ import annotations

from typing import Any

from installer.environment.requirements import requirements_fingerprint
from installer.layout import Layout
from installer.state import write_state

# Replaces the environment's Python. It records how it is called; files beside it make it fail.
FAKE_PYTHON = """#!/bin/sh
here=$(dirname "$0")
llama=$here/../lib/python3.11/site-packages/llama_cpp_python-9.dist-info
echo "$*" >>"$here/calls"
case "$*" in
*"uninstall --yes llama-cpp-python"*) rm -rf "$llama" ;;
*sys.version_info*) echo 3.11 ;;
*"pip wheel"*)
    [ -e "$here/no-compile" ] && exit 1
    case $CMAKE_ARGS in *CUDA*)
        [ -e "$here/no-cuda" ] && { echo "hundreds of lines"; echo "CMake Error: no cuBLAS"; exit 1; } ;;
    esac
    while [ "$1" != --wheel-dir ]; do shift; done
    wheel=$2/llama_cpp_python-9-py3-none-any.whl
    mkdir -p "$2" && echo "built with: $CMAKE_ARGS; $CFLAGS; $CXXFLAGS" >"$wheel"
    printf 'PK\\005\\006\\000\\000\\000\\000\\000\\000\\000\\000\\000' >>"$wheel"  # the end of an archive
    printf '\\000\\000\\000\\000\\000\\000\\000\\000\\000' >>"$wheel" ;;
*abetlen*)
    [ -e "$here/unreachable" ] && { echo "  cause: dns error: failed to lookup address information"; exit 1; }
    [ -e "$here/wheels" ] || exit 1
    case "$*" in *dry-run*) exit 0 ;; esac
    [ -e "$llama" ] && exit 0  # the same version is there
    mkdir "$llama"
    case "$*" in
    *whl/vulkan*) [ -e "$here/vulkan-cards" ] && cp "$here/vulkan-cards" "$here/cards" ;;
    esac ;;
*devices.list_gpus*) [ -e "$here/cards" ] && sed "s/^/card: /" "$here/cards" ;;
*download.pytorch.org*) [ -e "$here/no-torch-index" ] && exit 1 ;;
*.whl*) [ -e "$here/no-kept" ] && { rm "$here/no-kept"; exit 1; }
    mkdir -p "$llama" ;;
*nvidia-*) [ -e "$here/no-libraries" ] && exit 1 ;;
*"-m uv"*) [ -e "$here/no-uv" ] && exit 1 ;;
*"-m pip install"*) [ -e "$here/no-pip" ] && exit 1 ;;
*self_test*)
    [ -e "$here/no-compute" ] && { tail -1 "$here/no-compute"; sed -i '$d' "$here/no-compute"
        [ -s "$here/no-compute" ] || rm "$here/no-compute"; kill -SEGV $$; }
    echo "100 tokens read" ;;
*"-c import"*) [ -e "$here/no-import" ] && { echo "ImportError: no such thing"; exit 1; } ;;
esac
exit 0
"""


def make_environment(layout: Layout, *flags: str) -> None:
    layout.python.parent.mkdir(parents=True)
    layout.python.write_text(FAKE_PYTHON)
    layout.python.chmod(0o755)
    for flag in flags:
        (layout.python.parent / flag).touch()
    (layout.env / "lib" / "python3.11" / "site-packages" / "gradio-1.0.dist-info").mkdir(parents=True)


def finished(layout: Layout, **changes: Any) -> dict[str, Any]:
    make_environment(layout)
    state = {"gpu": "N", "cuda118": False, "root": str(layout.root), "python": "3.11", "packages": ["gradio"]}
    state |= {"fingerprint": requirements_fingerprint(layout), "complete": True, **changes}
    write_state(layout, state)
    return state


def calls(layout: Layout) -> list[str]:
    path = layout.python.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []
