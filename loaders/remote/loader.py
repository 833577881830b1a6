"""Uses a model on other servers: its file names them, and loading asks them what they have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from errors import LoadCancelled, MissingPackage
from loaders.base import Loader, Model, Progress
from loaders.params import LoadOptions
from loaders.remote.entry import entry_name, is_entry, read_entry
from loaders.remote.options import RemoteOptions


class Remote(Loader):
    """Models on vLLM, SGLang, llama-server, TabbyAPI and other servers with OpenAI's routes."""

    name = "remote"
    summary = (
        "Models on other servers: vLLM, SGLang, llama-server, TabbyAPI, or any with OpenAI's routes. Requests go "
        "straight through."
    )
    Options = RemoteOptions
    computes = False

    @classmethod
    def accepts(cls, path: Path) -> int:
        return 100 if is_entry(path) else 0

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("httpcore") is None:
            return str(MissingPackage(cls.name, "httpcore", "pip install httpcore"))
        return None

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Ask the servers for their model, version, context length and abilities. Raises: UserError."""
        from loaders.remote.model import RemoteModel
        from loaders.remote.questions import ask_facts
        from loaders.remote.server import Server

        assert isinstance(options, RemoteOptions)
        entry = read_entry(path)
        server = Server(entry, connect=options.remote_connect_timeout, read=options.remote_read_timeout)
        try:
            if not progress(0.1, f"asking {entry.addresses[0]}"):
                raise LoadCancelled
            problems = server.find_model()
            facts = ask_facts(server)
            if not progress(0.6, "asking for its tokenizer"):
                raise LoadCancelled
            # the name by which templates and settings are found, wherever the server has its file
            name = server.model.name.rstrip("/").rpartition("/")[2] or entry_name(path)
            model = RemoteModel(name, server, facts, options, options.remote_context)
        except BaseException:
            server.close()
            raise
        where = ", ".join(each.url for each in server.addresses.all())
        length = f"{model.context_length:,} tokens"
        said = "as the server says" if facts.context_length else "assumed, because the server does not say"
        if len({*server.lengths.values()}) > 1:
            each = ", ".join(f"{tokens:,} at {url}" for url, tokens in server.lengths.items())
            said += f": the smallest of its addresses counts ({each})"
        given = options.remote_context and model.context_length == options.remote_context
        version = f" {facts.version}" if facts.version else ""
        slots = f"; it serves {facts.slots} requests at a time" if facts.slots else ""
        tokens = model.unsupported.get("tokens")
        model.notes = (
            f"{server.model.name} on {server.kind.name}{version} at {where}{slots}",
            f"context: {length}, {'as given' if given else said}",
            f"tokens: estimated from the text's length. {tokens}" if tokens else "tokens: by the server's tokenizer",
            *problems,
        )
        return model
