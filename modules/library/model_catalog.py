"""The catalog: the models in models/, with metadata from their headers.

Files copied there by hand, git or a browser count like any other: only the folder is read. An unusable file is listed
with the reason. A file's metadata is cached until its size or time changes. This module must not load a model, or
import an engine.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from errors import BadFile, ModelFileError, UnknownName
from loaders.llamacpp.companions import is_companion
from loaders.llamacpp.gguf import read_header, split_parts
from loaders.remote.entry import SUFFIX, is_entry, read_entry
from modules.config.paths import Paths
from modules.library.hf_folder import read_folder

#: Files that may be models by their name. Those that no loader reads are listed with the reason; all others (notes,
#: locks, checksums, archives) are not listed.
_MODEL_ENDINGS = (".gguf", ".safetensors", ".bin", ".ggml", ".pth", ".ckpt", ".onnx", ".h5")
#: Folders that are not models by their name, as in the original.
_SKIPPED_FOLDERS = ("-np", ".tmp", ".part", ".incomplete", ".download", ".lock")
_SKIPPED_PARTS = ("llama-tokenizer",)
_DEEPEST = 6  # levels of folders below one in the models folder
_NOT_A_MODEL = "This file is not in a supported format. Remove it from the models folder."

_Stamp = tuple[tuple[str, int, int], ...]  # file, time, size


@dataclass(frozen=True)
class ModelEntry:
    """One model in the catalog. `size` in bytes; unknown values are "" or 0."""

    name: str
    path: Path  # the GGUF (its first part), the folder, or the .remote.yaml
    size: int = 0
    format: str = ""  # GGUF, Transformers, EXL2, GPTQ ...; of a model on servers, their addresses
    architecture: str = ""
    quantization: str = ""
    context_length: int = 0
    n_layers: int = 0
    has_template: bool = False
    problem: str | None = None


class ModelCatalog:
    """The models folder. May be used from several threads."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.models
        self._known: dict[str, tuple[_Stamp, ModelEntry]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The models' names in natural order, without reading headers."""
        return sorted(self._paths(), key=_natural)

    def items(self) -> list[ModelEntry]:
        """Every model, in the order of `names`."""
        paths = self._paths()
        items = [self._item(name, paths[name]) for name in sorted(paths, key=_natural)]
        with self._lock:
            self._known = {name: known for name, known in self._known.items() if name in paths}
        return items

    def find(self, name: str) -> ModelEntry:
        """A model by its name; case, ".gguf" and a leading "models/" do not matter.

        Raises: UnknownName.
        """
        paths = self._paths()
        for known in paths:
            if known == name:
                return self._item(known, paths[known])
        wanted = loose_name(name, self._folder.name)
        for known in paths:
            if loose_name(known, self._folder.name) == wanted:
                return self._item(known, paths[known])
        raise UnknownName("model", name, paths)

    def means(self, name: str, known: str, *also: str) -> bool:
        """Whether this model (its name in the list of models, and others that it has) is meant by `name`: exactly, or
        loosely (as in `find`) if no other model in the list has exactly this name.
        """
        return name == known or (is_named(name, known, *also) and name not in self._paths())

    def _paths(self) -> dict[str, Path]:
        return {name: path for entry in _entries(self._folder) for name, path in _models_of(entry)}

    def _item(self, name: str, path: Path) -> ModelEntry:
        try:
            stamp = _stamp(path)
        except OSError:  # deleted since it was listed, or a broken link
            return ModelEntry(name, path, problem="The file no longer exists, or cannot be read.")
        with self._lock:
            known = self._known.get(name)
        if known and known[0] == stamp:
            return known[1]
        item = replace(_read(name, path), size=0 if is_entry(path) else sum(size for _, _, size in stamp))
        with self._lock:
            self._known[name] = (stamp, item)
        return item


def _read(name: str, path: Path) -> ModelEntry:
    if path.is_dir():
        folder = read_folder(path)
        return ModelEntry(
            name=name,
            path=path,
            format=folder.format,
            architecture=folder.architecture,
            quantization=folder.quantization,
            context_length=folder.context_length,
            n_layers=folder.n_layers,
            has_template=folder.has_template,
            problem=folder.problem,
        )
    if is_entry(path):
        return _read_remote(name, path)
    if path.suffix.lower() != ".gguf":
        return ModelEntry(name, path, problem=_NOT_A_MODEL)
    try:
        header = read_header(path)
        return ModelEntry(
            name=name,
            path=path,
            format="GGUF",
            architecture=header.architecture,
            quantization=header.quantization,
            context_length=header.context_length,
            n_layers=header.n_layers,
            has_template=header.chat_template is not None,
        )
    except ModelFileError as error:
        return ModelEntry(name, path, format="GGUF", problem=str(error))


def _read_remote(name: str, path: Path) -> ModelEntry:
    try:
        entry = read_entry(path)
    except BadFile as error:
        return ModelEntry(name, path, problem=str(error))
    return ModelEntry(name, path, format=", ".join(entry.addresses), architecture=entry.kind)


def _entries(folder: Path) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        if not _is_skipped(entry) and not _is_partial(entry, names):
            yield entry


def _is_skipped(entry: Path) -> bool:
    lower = entry.name.lower()
    if lower.startswith((".", "mmproj")) or any(part in lower for part in _SKIPPED_PARTS):
        return True
    if entry.is_dir():
        return lower.endswith(_SKIPPED_FOLDERS)
    return not lower.endswith((*_MODEL_ENDINGS, SUFFIX)) or is_companion(entry.name)


def _is_partial(entry: Path, names: Collection[str]) -> bool:
    """Whether a program is still downloading this file: aria2 writes into it and keeps a list beside it, a browser
    keeps its place empty until the end.
    """
    if f"{entry.name}.aria2" in names:
        return True
    return f"{entry.name}.part" in names and entry.is_file() and entry.stat().st_size == 0


def _models_of(entry: Path) -> list[tuple[str, Path]]:
    """The models in an entry of the folder: one file, one folder, or those inside a folder.

    Models below are named by their path (X-GGUF/UD-Q4_K_XL/x.gguf); the only GGUF of a folder by the folder.
    """
    if not entry.is_dir():
        first = split_parts(entry)[0]
        return [(first.name, first)]
    found = [(path.relative_to(entry.parent).as_posix(), path) for path in sorted(set(_below(entry, 0, set())))]
    if len(found) == 1 and found[0][1].parent == entry and found[0][1].is_file():
        return [(entry.name, found[0][1])]
    return found or [(entry.name, entry)]


def _below(folder: Path, depth: int, seen: set[Path]) -> Iterator[Path]:
    """The GGUFs in a folder and its subfolders, and the subfolders that are models by themselves."""
    true = folder.resolve()
    if true in seen:  # a link that leads back
        return
    seen.add(true)
    entries = list(_entries(folder))
    yield from (split_parts(each)[0] for each in entries if each.suffix.lower() == ".gguf" and each.is_file())
    if depth >= _DEEPEST or (folder / "config.json").is_file():
        return  # what is inside a model's own folder belongs to it: checkpoints, other formats
    for each in entries:
        if each.is_dir():
            if (each / "config.json").is_file() and _has_weights(each):
                yield each
            yield from _below(each, depth + 1, seen)


def _has_weights(folder: Path) -> bool:
    return any(each.suffix in (".safetensors", ".bin") for each in folder.iterdir())


def _stamp(path: Path) -> _Stamp:
    if path.is_dir():
        files = [each for each in path.iterdir() if each.is_file()]
    else:
        files = [part for part in split_parts(path) if part.exists()] or [path]
    stats = [(file.name, file.stat()) for file in sorted(files)]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts 7B before 13B, ignoring case."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def loose_name(name: str, folder: str) -> str:
    """A name as it is compared: without case, ".gguf" or ".remote.yaml" and the models folder's own name before it."""
    path = Path(name.replace("\\", "/"))
    if len(path.parts) > 1 and path.parts[0] == folder:
        path = Path(*path.parts[1:])
    text = path.as_posix()
    if text.lower().endswith(".gguf"):
        text = split_parts(Path(text))[0].as_posix()
    return text.lower().removesuffix(".gguf").removesuffix(SUFFIX)


def is_named(name: str, *names: str) -> bool:
    """Whether it is one of these names, as they are compared."""
    return loose_name(name, "models") in [loose_name(each, "models") for each in names]
