"""How messages may look. The style sheet has a part for each: [data-chat-style=NAME] in chat_styles.css."""

from __future__ import annotations

#: Name, as settings.yaml has it (the original's names), to what the menu says.
CHAT_STYLES = {
    "cai-chat": "Column",
    "cai-chat-square": "Column, square pictures",
    "plain": "Plain text",
    "messenger": "Messenger",
    "wpp": "Bubbles without names",
    "TheEncrypted777": "Portraits",
    "Dark": "Terminal",
}

DEFAULT = "cai-chat"


def choices() -> list[tuple[str, str]]:
    """For a dropdown."""
    return [(label, name) for name, label in CHAT_STYLES.items()]


def known(name: str) -> str:
    """The style of this name, else the usual one."""
    return name if name in CHAT_STYLES else DEFAULT
