"""How a model on other servers is used: its load options. The servers themselves are in its file."""

from __future__ import annotations

from loaders.knobs import knob
from loaders.params import LoadOptions


class RemoteOptions(LoadOptions):
    """Load options of models on other servers."""

    remote_context: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="main",
        help="Context length in tokens. 0 is what the server says; a larger value than that has no effect.",
    )  # fmt: skip
    remote_connect_timeout: float = knob(
        5.0, ge=0.1, le=600, range=(1, 60, 1), group="other",
        help="Seconds until a server that does not accept a connection counts as unreachable.",
    )  # fmt: skip
    remote_read_timeout: float = knob(
        600.0, ge=1, le=86_400, range=(10, 3600, 10), group="other",
        help="Seconds for which a server may say nothing: in its queue, and while it processes a prompt.",
    )  # fmt: skip
