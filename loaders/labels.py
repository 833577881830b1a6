"""The labels of requests, by which is known what was computed for whom. It must not know what they stand for."""

from __future__ import annotations


def is_of(label: str, whose: str) -> bool:
    """Whether a label is this one, or it followed by a colon and a purpose: "chat 1" and "chat 1: reading ahead"."""
    return bool(whose) and (label == whose or label.startswith(f"{whose}: "))


def owner_of(label: str) -> str:
    """Whose it is, without the purpose: all requests to the API have the same owner."""
    return label.partition(": ")[0]
