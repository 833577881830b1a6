"""Decides what must be installed and why, by comparing with the last installation. It must not change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from installer.environment.environment import installed_names, python_version
from installer.environment.fingerprints import changed_parts
from installer.hardware.processor import cpu_fingerprint
from installer.layout import Layout
from installer.llama_cpp.library_pointer import is_dangling

#: The folder of an environment that can be moved: its Python is a complete one, not a link to another.
ANYWHERE = "anywhere"

_PARTS = {
    frozenset({"llama"}): "The required version of llama.cpp has changed; it is replaced.",
    frozenset({"torch"}): "The required version of torch, or of packages that use it, has changed; it is updated.",
    frozenset({"llama", "torch"}): "The required versions of llama.cpp and torch have changed; both are updated.",
}


def what_to_install(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, bool]:
    """(why something must be installed, whether the environment must be created again); ("", False) if nothing."""
    if not layout.env.exists():
        return "This is the first start: everything is installed once.", True
    if "complete" not in state:
        return f"{layout.state} is missing or cannot be read; the environment is created again.", True
    if not state["complete"]:
        return "The last installation did not finish; it starts again (downloads are kept).", True
    if state.get("root") not in (str(layout.root), ANYWHERE):
        return "The folder was moved since the installation; the environment is created again.", True
    version = python_version(layout.python)
    if not version or version != state.get("python"):
        return "The environment's Python no longer works; the environment is created again.", True
    missing = sorted(set(state.get("packages", [])) - set(installed_names(layout)))
    if missing:
        return f"Packages are missing from the environment ({', '.join(missing)}); it is created again.", True
    parts = changed_parts(layout, state)
    if "main" in parts:
        return (
            "The requirements have changed since the last start; a new environment is created and the old one is kept.",
            True,
        )
    if any(state.get(key) != value for key, value in answer.items()):
        return "You chose another GPU than last time; llama.cpp is installed for it.", False
    if state.get("processor", cpu_fingerprint()) != cpu_fingerprint():
        return "The CPU has changed since the installation; llama.cpp is tested on it.", False
    if is_dangling(layout):
        return "llama.cpp's libraries are missing from installer_files/llama; they are installed again.", False
    return _PARTS.get(frozenset(parts), ""), False
