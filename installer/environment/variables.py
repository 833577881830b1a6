"""Environment variables for child processes. It creates dictionaries and changes none, least of all os.environ."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from installer.layout import Layout
from installer.llama_cpp.library_pointer import is_ours

#: Variables that change where Python finds itself and its modules; the start scripts unset the same ones.
OF_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "PYTHONOPTIMIZE")
#: Variables that make pip and uv install elsewhere or for another Python.
_OF_INSTALLERS = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN"),
    *("PIP_REQUIRE_HASHES", "UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES"),
)


def clean_environ(layout: Layout) -> dict[str, str]:
    """The environment without variables that mix packages of other Pythons into ours, with our CUDA libraries if there
    are any.
    """
    foreign = {*OF_PYTHON, *_OF_INSTALLERS}
    environ = {name: value for name, value in os.environ.items() if name not in foreign}
    environ |= {"PYTHONNOUSERSITE": "1", "PIP_USER": "0"}  # a variable wins over "user = true" in pip's configuration
    if is_ours(layout, environ.get("LLAMA_CPP_LIB_PATH", "")):  # set by a Python of the environment itself
        del environ["LLAMA_CPP_LIB_PATH"]
    libraries = [str(folder) for folder in cuda_library_folders(layout)]
    if libraries:
        variable = "PATH" if os.name == "nt" else "LD_LIBRARY_PATH"
        others = [each for each in environ.get(variable, "").split(os.pathsep) if each and each not in libraries]
        environ[variable] = os.pathsep.join([*libraries, *others])
    return environ


def cuda_library_folders(layout: Layout) -> list[Path]:
    """Where NVIDIA's packages keep the CUDA libraries, in search order.

    On Windows, llama.cpp finds its libraries through PATH, not through its own folder or os.add_dll_directory. Packages
    up to CUDA 12 have their DLLs in bin, those of CUDA 13 in bin/x86_64. On other systems they are in lib.
    """
    patterns = ("nvidia/*/bin/x86_64", "nvidia/*/bin") if os.name == "nt" else ("nvidia/*/lib",)
    return [folder for pattern in patterns for folder in sorted(layout.site_packages.glob(pattern))]


def uv_settings(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of pip for index, proxy and certificates as uv's variables: uv does not read pip's settings."""
    options: dict[str, str] = {}
    for section in (
        "global",
        "install",
        ":env:",
    ):  # the last one wins, as in pip; those of other commands do not concern us
        for line in pip_config.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                with contextlib.suppress(ValueError, SyntaxError):
                    options[name.rpartition(".")[2]] = " ".join(str(ast.literal_eval(value)).split())
    settings = {
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": options.get("extra-index-url", ""),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in options else "",  # as pip does
        "UV_FIND_LINKS": options.get("find-links", "").replace(" ", ","),
        "UV_INSECURE_HOST": options.get("trusted-host", ""),
        "SSL_CERT_FILE": options.get("cert", ""),
        "HTTPS_PROXY": options.get("proxy", ""),
        "HTTP_PROXY": options.get("proxy", ""),
    }
    return {name: value for name, value in settings.items() if value and name not in environ}
