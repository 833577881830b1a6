"""The registry of loaders, built from their classes. Listing it imports no engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from errors import UnknownName
from loaders.base import Loader
from loaders.exllamav2.loader import ExLlamaV2
from loaders.exllamav2_hf.loader import ExLlamaV2HF
from loaders.huggingface.loader import Transformers
from loaders.llamacpp.loader import LlamaCpp
from loaders.llamacpp_hf.loader import LlamaCppHF
from loaders.remote.loader import Remote

_ALL: tuple[type[Loader], ...] = (LlamaCpp, ExLlamaV2, Transformers, LlamaCppHF, ExLlamaV2HF, Remote)

#: Every loader by its name for users, in menu order.
LOADERS: Mapping[str, type[Loader]] = MappingProxyType({loader.name: loader for loader in _ALL})


def loader_named(name: str) -> type[Loader]:
    """The loader of this name; case, spaces, dots, dashes and underscores do not matter. Raises: UnknownName."""
    for loader in LOADERS.values():
        if _plain(loader.name) == _plain(name):
            return loader
    raise UnknownName("loader", name, LOADERS)


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]", "", name.lower())
