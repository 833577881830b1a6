"""The environment variables for what is started. It makes dictionaries and changes none, os.environ least of all."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from installer.layout import Layout
from installer.pointer import is_ours

#: What changes where a Python finds itself and its modules; the start scripts unset the same.
OF_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "PYTHONOPTIMIZE")
#: What makes pip and uv install elsewhere, or for another Python.
_OF_INSTALLERS = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN"),
    *("PIP_REQUIRE_HASHES", "UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES"),
)


def clean_environ(layout: Layout) -> dict[str, str]:
    """The environment less what mixes other Pythons' packages into ours, plus CUDA's libraries if we have them."""
    foreign = {*OF_PYTHON, *_OF_INSTALLERS}
    environ = {name: value for name, value in os.environ.items() if name not in foreign}
    environ |= {"PYTHONNOUSERSITE": "1", "PIP_USER": "0"}  # a variable wins over "user = true" in pip's configuration
    if is_ours(layout, environ.get("LLAMA_CPP_LIB_PATH", "")):  # from a Python of the environment, which set it itself
        del environ["LLAMA_CPP_LIB_PATH"]
    libraries = [str(folder) for folder in cuda_folders(layout)]
    if libraries:
        variable = "PATH" if os.name == "nt" else "LD_LIBRARY_PATH"
        others = [each for each in environ.get(variable, "").split(os.pathsep) if each and each not in libraries]
        environ[variable] = os.pathsep.join([*libraries, *others])
    return environ


def cuda_folders(layout: Layout) -> list[Path]:
    """Where NVIDIA's packages keep CUDA's libraries, in the order that they are looked through.

    On Windows llama.cpp is loaded so that PATH counts, and neither its own folder nor os.add_dll_directory; packages up
    to CUDA 12 have their DLLs in bin, those of CUDA 13 in bin/x86_64. Elsewhere they are in lib.
    """
    patterns = ("nvidia/*/bin/x86_64", "nvidia/*/bin") if os.name == "nt" else ("nvidia/*/lib",)
    return [folder for pattern in patterns for folder in sorted(layout.site_packages.glob(pattern))]


def uv_settings(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `pip config list` says of index, proxy and certificates in uv's words: uv does not read pip's settings."""
    options: dict[str, str] = {}
    for section in (
        "global",
        "install",
        ":env:",
    ):  # the later one wins, as for pip; those of other commands are not ours
        for line in pip_config.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                with contextlib.suppress(ValueError, SyntaxError):
                    options[name.rpartition(".")[2]] = " ".join(str(ast.literal_eval(value)).split())
    settings = {
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": options.get("extra-index-url", ""),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in options else "",  # what pip does
        "UV_FIND_LINKS": options.get("find-links", "").replace(" ", ","),
        "UV_INSECURE_HOST": options.get("trusted-host", ""),
        "SSL_CERT_FILE": options.get("cert", ""),
        "HTTPS_PROXY": options.get("proxy", ""),
        "HTTP_PROXY": options.get("proxy", ""),
    }
    return {name: value for name, value in settings.items() if value and name not in environ}
