"""What must be done, and why: how things differ from what the last installation left. It must not change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from installer.environment import installed_names, python_version
from installer.layout import Layout
from installer.pointer import dangles
from installer.processor import mark
from installer.requirements import fingerprint


def work_to_do(layout: Layout, state: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, bool]:
    """(why something must be installed, whether the environment must be made anew); ("", False) when all is there."""
    if not layout.env.exists():
        return "This is the first start: everything is installed now, once.", True
    if not state.get("complete"):
        return "The last installation did not finish; it is made anew (downloads are kept).", True
    if state.get("root") != str(layout.root):
        return "The folder was moved since the installation; the environment is made anew.", True
    version = python_version(layout.python)
    if not version or version != state.get("python"):
        return "The environment's Python no longer runs; the environment is made anew.", True
    missing = sorted(set(state.get("packages", [])) - set(installed_names(layout)))
    if missing:
        return f"Packages are missing from the environment ({', '.join(missing)}); it is made anew.", True
    if any(state.get(key) != value for key, value in answer.items()):
        return "Another graphics card was chosen than last time; llama.cpp is installed for it.", False
    if state.get("processor", mark()) != mark():
        return "This is another processor than at the installation; llama.cpp is tried on it.", False
    if dangles(layout):
        return "llama.cpp's libraries are no longer in installer_files/llama; they are installed again.", False
    if state.get("fingerprint") != fingerprint(layout):
        return "The requirements changed since the last start; a new environment is made beside the old one.", True
    return "", False
