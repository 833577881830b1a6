"""A model on other servers as a file: models/NAME.remote.yaml with its addresses, kind, model and where its key is.

The key itself is never in that file, which is shown, copied and shared: it is in an environment variable, or in a file
that only its owner can read. This module must not know how servers are asked.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from errors import BadFile, InvalidInput, did_you_mean
from loaders.remote.kinds import KINDS

SUFFIX = ".remote.yaml"
_FIELDS = ("url", "kind", "model", "key_file", "key_env", "ca_file")
_LARGEST = 1 << 16  # bytes of a file
_MOST = 64  # addresses
_LONGEST_KEY = 8192
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?", re.IGNORECASE)
#: A name before the host, perhaps with a password.
_NAME = re.compile(r"(^|//)[^/?#]*@")
_NO_NAMES = "An address contains no names and keys: use key_file or key_env."
#: A route that people copy together with the address, or the last part of one.
_ROUTE = re.compile(r"/(v1|(chat/)?completions?|models|embeddings|messages|responses)?/*$")


@dataclass(frozen=True)
class RemoteEntry:
    """`addresses` end without a slash; an empty `kind` or `model` is asked for. `base`: where relative paths begin."""

    addresses: tuple[str, ...]
    kind: str = ""
    model: str = ""
    key_file: str = ""
    key_env: str = ""
    ca_file: str = ""
    base: Path = field(default=Path())

    def key(self) -> str:
        """The key, "" without one. Raises: InvalidInput."""
        if self.key_env:
            if not (key := os.environ.get(self.key_env, "").strip()):
                raise InvalidInput(f"The environment variable {self.key_env}, which key_env names, is not set.")
            if not _is_key(key):
                raise InvalidInput(
                    f"The environment variable {self.key_env} does not contain a key: one line of letters, digits and "
                    "signs."
                )
            return key
        if not self.key_file:
            return ""
        path = self.base / self.key_file
        try:
            with path.open(encoding="utf-8") as file:
                key = file.read(_LONGEST_KEY).strip()
        except (OSError, UnicodeDecodeError):
            raise InvalidInput(f"The key file {path} cannot be read. Enter the key again in the Model tab.") from None
        if not _is_key(key):
            raise InvalidInput(f"The key file {path} does not contain a key: one line of letters, digits and signs.")
        return key

    def values(self) -> dict[str, Any]:
        """The contents of its file."""
        url: Any = self.addresses[0] if len(self.addresses) == 1 else list(self.addresses)
        named = {name: getattr(self, name) for name in _FIELDS[1:]}
        return {"url": url, **{name: value for name, value in named.items() if value}}


def _is_key(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


def is_entry(path: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return path.name.lower().endswith(SUFFIX)


def entry_name(path: Path) -> str:
    """The model's name: that of the file without the suffix."""
    return path.name[: -len(SUFFIX)] if is_entry(path) else path.name


def read_entry(path: Path) -> RemoteEntry:
    """The entry in a file. Raises: BadFile."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise BadFile(path, "it is too large for a server's entry")
        values = yaml.load(
            data.decode("utf-8-sig"), Loader=yaml.SafeLoader
        )  # in Python: no crash if it is nested deeply
    except OSError as error:
        raise BadFile(path, error.strerror or "access was denied") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        raise BadFile(path, "it is not YAML in UTF-8, such as `url: http://192.168.0.5:8000`") from None
    if not isinstance(values, dict):
        raise BadFile(path, "it does not contain `key: value` lines, such as `url: http://192.168.0.5:8000`")
    try:
        return parse_entry({str(name): value for name, value in values.items()}, path.parent)
    except InvalidInput as error:
        raise BadFile(path, str(error).rstrip(".")) from None


def parse_entry(values: dict[str, Any], base: Path) -> RemoteEntry:
    """An entry from untrusted values. Raises: InvalidInput."""
    if "key" in values or "api_key" in values:
        raise InvalidInput(
            "A key does not belong into this file, which is shown and shared: write it into a file of its own and name "
            "that with key_file, or into an environment variable and name that with key_env."
        )
    for name in values:
        if name not in _FIELDS:
            raise InvalidInput(f"Unknown field {name}.{did_you_mean(name, _FIELDS)} Fields: {', '.join(_FIELDS)}.")
    given = values.get("url")
    if isinstance(given, str) and _NAME.search(given):  # before it is cut at commas, which a password may have
        raise InvalidInput(_NO_NAMES)
    urls = given if isinstance(given, list) else [each for each in str(given or "").split(",") if each.strip()]
    if not urls:
        raise InvalidInput("url is missing: the address of the server, such as http://192.168.0.5:8000.")
    if len(urls) > _MOST:
        raise InvalidInput(f"url has more than {_MOST} addresses.")
    texts = {name: str(values.get(name) or "").strip() for name in _FIELDS[1:]}
    if texts["kind"]:
        texts["kind"] = _kind(texts["kind"])
    return RemoteEntry(tuple(dict.fromkeys(parse_address(str(url)) for url in urls)), **texts, base=base)


def parse_address(text: str) -> str:
    """An address without a route: http://host:port. Raises: InvalidInput."""
    text = text.strip()
    if _NAME.search(text):
        raise InvalidInput(_NO_NAMES)
    full = text if "://" in text else f"http://{text}"
    several = " (commas separate several)" if re.search(r"\s", text) else ""
    wrong = InvalidInput(
        f"{without_keys(text)[:200]!r} is not the address of a server, such as http://192.168.0.5:8000{several}."
    )
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not full.isascii() or not full.isprintable():
        raise wrong
    if " " in full:
        raise wrong
    if parts.query or parts.fragment or not (":" in parts.hostname or _HOST.fullmatch(parts.hostname)):
        raise wrong
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{_without_route(parts.path)}"


def _without_route(path: str) -> str:
    while (shorter := _ROUTE.sub("", path)) != path:
        path = shorter
    return path


def without_keys(address: str) -> str:
    """An address as it may be shown: what is before an @ or behind a question mark may be secret."""
    hidden = re.sub(r"[?#].*", "?...", address, flags=re.DOTALL)
    if "@" not in address:
        return hidden
    # a password may contain all other signs
    end = "" if hidden != address else address.rpartition("@")[2]
    return re.sub(r"^(\w+://)?.*", r"\1...@", address, flags=re.DOTALL) + end


def _kind(text: str) -> str:
    plain = text.lower().replace("_", "-").replace(" ", "-")
    names = {name.replace("-", ""): name for name in KINDS}
    found = names.get(plain.replace("-", "").replace(".", ""))
    if not found:
        raise InvalidInput(
            f"Unknown kind of server {text[:80]!r}.{did_you_mean(text, KINDS)} Kinds: {', '.join(KINDS)}."
        )
    return found
