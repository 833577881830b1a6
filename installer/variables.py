"""The environment variables for what is started. It makes dictionaries and changes none, os.environ least of all."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Mapping

from installer.layout import Layout
from installer.pointer import is_ours


def clean_environ(layout: Layout) -> dict[str, str]:
    """The environment less what mixes other Pythons' packages into ours, plus CUDA's libraries if we have them."""
    foreign = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    environ = {name: value for name, value in os.environ.items() if name not in foreign} | {"PYTHONNOUSERSITE": "1"}
    if is_ours(layout, environ.get("LLAMA_CPP_LIB_PATH", "")):  # from a Python of the environment, which set it itself
        del environ["LLAMA_CPP_LIB_PATH"]
    libraries = [str(path) for path in sorted(layout.site_packages.glob("nvidia/*/lib"))]
    if libraries and os.name != "nt":
        environ["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [environ.get("LD_LIBRARY_PATH")])])
    return environ


def uv_settings(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `pip config list` says of index, proxy and certificates in uv's words: uv does not read pip's settings."""
    options: dict[str, str] = {}
    for line in pip_config.splitlines():
        name, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            options.setdefault(name.rpartition(".")[2], " ".join(str(ast.literal_eval(value)).split()))
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
