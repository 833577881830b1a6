"""Models on other servers, as files in the models folder: written here for the page and the flags, read by the catalog.

The key is stored like the hub token: in a file of its own, readable only by its owner. This module must not know how
servers are asked.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from errors import BadFile, InvalidInput, NotWritable
from loaders.remote.entry import SUFFIX, RemoteEntry, parse_entry, read_entry
from loaders.remote.kinds import KINDS
from modules.config.paths import Paths, safe_child
from modules.config.server_flags import ServerFlags
from modules.config.yaml_file import write_mapping

_KEYS = "remote_keys"

#: The kinds of servers.
KIND_NAMES: tuple[str, ...] = tuple(kind.name for kind in KINDS.values())


@dataclass(frozen=True)
class FlagEntry:
    """The entry of --remote: its name in the catalog, and the contents of its file, now and before (None: no file)."""

    name: str
    written: bytes
    before: bytes | None


class RemoteModels:
    """The entries in one models folder."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.models
        self._keys = paths.cache / _KEYS

    def add(self, url: str, *, name: str = "", kind: str = "", model: str = "", key: str = "") -> str:
        """Write an entry, replacing an older one of this name; without a key, that one's key is kept.

        `url`: one address, or several separated by commas. Without a name, the first address is the name. Returns the
        name in the catalog. Raises: InvalidInput, InvalidName, NotWritable.
        """
        entry = parse_entry({"url": url, "kind": kind, "model": model}, self._folder)
        name = name.strip().removesuffix(SUFFIX) or _name_of(entry.addresses[0])
        path = safe_child(self._folder, name, SUFFIX)
        key = key.strip()
        if key and not (key.isascii() and key.isprintable()):
            raise InvalidInput("The key contains invalid characters. Copy it again, as one line.")
        with contextlib.suppress(BadFile):
            old = read_entry(path) if path.is_file() else None
            if old and not key and set(old.addresses) >= set(entry.addresses):  # a key is not shown to a new address
                entry = replace(entry, key_file=old.key_file, key_env=old.key_env, ca_file=old.ca_file)
        if key:
            entry = replace(entry, key_file=str(self._store_key(name, key)))
        return self._write(path, entry)

    def add_from_flags(self, flags: ServerFlags) -> FlagEntry:
        """Write the entry that --remote asks for, under the name of its address. Raises: InvalidInput, NotWritable."""
        values = {"url": flags.remote, "kind": flags.remote_kind, "model": flags.remote_model}
        entry = parse_entry(values, self._folder)
        path = safe_child(self._folder, _name_of(entry.addresses[0]), SUFFIX)
        before = path.read_bytes() if path.is_file() else None
        with contextlib.suppress(BadFile):
            old = read_entry(path) if before is not None else None
            if old and set(old.addresses) >= set(entry.addresses):  # the key that was entered in the page
                entry = replace(entry, key_file=old.key_file, key_env=old.key_env, ca_file=old.ca_file)
        if flags.remote_key_env:
            entry = replace(entry, key_env=flags.remote_key_env, key_file="")
        return FlagEntry(self._write(path, entry), path.read_bytes(), before)

    def take_back(self, added: FlagEntry) -> None:
        """No server answered there: its file is as before, unless somebody has changed it since."""
        path = self._folder / added.name
        with contextlib.suppress(OSError):
            if added.written != added.before and path.read_bytes() == added.written:
                if added.before is None:
                    path.unlink()
                else:
                    path.write_bytes(added.before)

    def _write(self, path: Path, entry: RemoteEntry) -> str:
        try:
            write_mapping(path, entry.values())
        except OSError as error:
            raise NotWritable(path, error) from None
        return path.name

    def _store_key(self, name: str, key: str) -> Path:
        """Write the key to a file that only its owner can read. Raises: NotWritable."""
        path = safe_child(self._keys, name)
        try:
            self._keys.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
                file.write(key)
        except OSError as error:
            raise NotWritable(path, error) from None
        return path.absolute()


def _name_of(address: str) -> str:
    """A file name for an address: "192.168.0.5-8000"."""
    parts = urlsplit(address)
    return re.sub(r"[^\w.-]+", "-", f"{parts.netloc}{parts.path}").strip("-.") or "server"
