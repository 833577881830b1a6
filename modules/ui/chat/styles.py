"""The styles of messages. The style sheet has a section for each: [data-chat-style=NAME] in chat_styles.css."""

from __future__ import annotations

from modules.ui.texts import tr

#: As in settings.yaml: the original's names.
CHAT_STYLES = ("cai-chat", "cai-chat-square", "plain", "messenger", "wpp", "TheEncrypted777", "Dark")

DEFAULT = "cai-chat"


def style_choices() -> list[tuple[str, str]]:
    """The choices of a dropdown."""
    return [(tr(f"chat.look.{name}"), name) for name in CHAT_STYLES]


def known_style(name: str) -> str:
    """The style of this name, else the default."""
    return name if name in CHAT_STYLES else DEFAULT
