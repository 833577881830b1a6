"""What must be done, and why: how things differ from what the last installation left. It must not change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from installer.environment import installed_names, python_version
from installer.fingerprints import changed
from installer.layout import Layout
from installer.pointer import dangles
from installer.processor import mark

_PARTS = {
    frozenset({"llama"}): "Another llama.cpp is wanted than at the last start; it is exchanged.",
    frozenset(
        {"torch"}
    ): "Another torch is wanted than at the last start, or what runs on it; it is brought up to date.",
    frozenset({"llama", "torch"}): "Another llama.cpp and another torch are wanted than at the last start; they are "
    "brought up to date.",
}


def work_to_do(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, bool]:
    """(why something must be installed, whether the environment must be made anew); ("", False) when all is there."""
    if not layout.env.exists():
        return "This is the first start: everything is installed now, once.", True
    if "complete" not in state:
        return f"{layout.state} is missing or cannot be read; the environment is made anew.", True
    if not state["complete"]:
        return "The last installation did not finish; it is made anew (downloads are kept).", True
    if state.get("root") != str(layout.root):
        return "The folder was moved since the installation; the environment is made anew.", True
    version = python_version(layout.python)
    if not version or version != state.get("python"):
        return "The environment's Python no longer runs; the environment is made anew.", True
    missing = sorted(set(state.get("packages", [])) - set(installed_names(layout)))
    if missing:
        return f"Packages are missing from the environment ({', '.join(missing)}); it is made anew.", True
    parts = changed(layout, state)
    if "main" in parts:
        return "The requirements changed since the last start; a new environment is made beside the old one.", True
    if any(state.get(key) != value for key, value in answer.items()):
        return "Another graphics card was chosen than last time; llama.cpp is installed for it.", False
    if state.get("processor", mark()) != mark():
        return "This is another processor than at the installation; llama.cpp is tried on it.", False
    if dangles(layout):
        return "llama.cpp's libraries are no longer in installer_files/llama; they are installed again.", False
    return _PARTS.get(frozenset(parts), ""), False
