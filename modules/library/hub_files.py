"""The files of a repository of the hub, and which of them are downloaded together. Pure.

It must not know how an address is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from errors import InvalidInput
from loaders.llamacpp.companions import is_companion

QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|BF16|FP?16|FP?32|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4))(?=[-._]|$)", re.IGNORECASE
)
PATTERN = re.compile(r"[*?]")
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py", ".md", ".yaml", ".yml")
_STATES = frozenset(  # training checkpoints, not weights
    (
        "training_args.bin",
        "optimizer.bin",
        "optimizer.pt",
        "scheduler.bin",
        "scheduler.pt",
        "rng_state.pth",
        "scaler.pt",
    )
)
_PICKLED = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `sha256` is known for large files; `blob` is git's own hash of any other."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class FileChoice:
    """Files downloaded together: one file, or all parts of a split one. `name` is its first file."""

    name: str
    files: tuple[RemoteFile, ...]
    quantization: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def check_path(path: str) -> None:
    """A file's path must stay inside its folder. Raises: InvalidInput."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or re.search(r'[<>:"\\|?*\x00-\x1f]', part) for part in parts):
        raise InvalidInput(
            f"The file name {path[:120]!r} is not allowed: it points outside its folder or is not valid on this "
            "system. Nothing was downloaded."
        )


def list_file_choices(files: Iterable[RemoteFile]) -> list[FileChoice]:
    """The files, with split ones combined, sorted by name."""
    together: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        match = _PART.fullmatch(file.path)
        together.setdefault(f"{match['stem']}/{match['count']}" if match else file.path, []).append(file)
    return [FileChoice(each[0].path, tuple(each), _quantization(each[0].path)) for each in together.values()]


def list_model_folders(files: Iterable[RemoteFile]) -> list[FileChoice]:
    """The folders that are models by themselves: weights, parts of a quantization. `name` is the folder's."""
    inside: dict[str, list[RemoteFile]] = {}
    for file in files:
        folder = file.path.rpartition("/")[0]
        if folder:
            inside.setdefault(folder, []).append(file)
    return [
        FileChoice(name, tuple(each), _quantization(name))
        for name, each in sorted(inside.items())
        if any(_is_gguf_model(file.path) or file.path.lower().endswith(".safetensors") for file in each)
    ]


def select_files(files: Sequence[RemoteFile], wanted: Sequence[str]) -> list[RemoteFile]:
    """The files to download: the named ones (a part means all parts, a folder everything in it, a quantization its
    GGUF), else what a loader needs, with one format of each weight.

    Raises: InvalidInput: a name that does not exist, nothing to download, or several GGUFs of which one must be named.
    """
    for file in files:
        check_path(file.path)
    choices = list_file_choices(files)
    if wanted:
        found: list[RemoteFile] = []
        for name in wanted:
            match = _named(name, choices, files)
            if not match:
                raise InvalidInput(f"The repository has no file {name[:120]!r}. Press Get file list to see its files.")
            found += match
        return list(dict.fromkeys(found))
    models = [each for each in choices if _is_gguf_model(each.name)]
    if len(models) == 1:
        return list(models[0].files)
    if models:
        names = ", ".join(each.quantization or each.name for each in models[:12])
        raise InvalidInput(f"The repository has {len(models)} GGUF files. Choose one: {names}.")
    safe = any(file.path.endswith(".safetensors") and "/" not in file.path for file in files)
    needed = _once([file for file in files if _is_needed(file.path, pickled=not safe)])
    if not any(not file.path.endswith(_TEXTS) for file in needed):
        if folders := list_model_folders(files):
            names = ", ".join(each.name for each in folders[:12])
            raise InvalidInput(
                f"The weights of this repository are in folders: {names}. Choose one under Files, or append "
                f"/tree/main/{folders[0].name} to the URL."
            )
        raise InvalidInput("The repository contains no weights (.gguf, .safetensors, .bin). Nothing was downloaded.")
    return needed


def _named(name: str, choices: Sequence[FileChoice], files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files that a name means: itself with its parts, a folder's, a quantization's. Raises: InvalidInput."""
    if PATTERN.search(name):
        return [file for file in files if fnmatchcase(file.path, name.replace("[", "[[]"))]
    for choice in choices:
        if name in (file.path for file in choice.files):
            return list(choice.files)
    within = name.rstrip("/") + "/"
    for inside in (
        [file for file in files if file.path.startswith(within)],
        [file for file in files if file.path.lower().startswith(within.lower())],
    ):
        if inside:
            return inside
    models = [each for each in choices if _is_gguf_model(each.name)]
    kind = name.upper()
    fitting = [each for each in models if each.quantization == kind]
    fitting = fitting or [each for each in models if each.quantization == f"UD-{kind}"]
    if not fitting and QUANTIZATION.fullmatch(kind):  # Q4 and Q4_K name several
        fitting = [each for each in models if each.quantization.removeprefix("UD-").startswith(f"{kind}_")]
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting[:12])
        raise InvalidInput(f"The repository has {len(fitting)} files of {name}. Choose one: {names}.")
    return list(fitting[0].files) if fitting else []


def _once(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files without duplicates of the same weights in another layout, precision or split."""
    names = {file.path.lower() for file in files if not file.path.lower().endswith(_TEXTS)}
    mains = {name for name in names if not name.startswith(("consolidated", "adapter_")) and name not in _STATES}
    whole = {stem for stem in ("model.safetensors", "pytorch_model.bin") if stem in names}

    def is_second(path: str) -> bool:
        name = path.lower()
        if name in _STATES:
            return True
        if name.startswith("consolidated") and not name.endswith(_TEXTS):
            return bool(mains)
        variant = re.fullmatch(r"(model|pytorch_model)\.(?:fp16|bf16|fp32|non_ema)(-\d{5}-of-\d{5})?\.(\w+)", name)
        if variant:
            return any(each.startswith((f"{variant[1]}.{variant[3]}", f"{variant[1]}-0")) for each in names)
        part = re.fullmatch(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(\w+)", name)
        return bool(part) and f"{part[1]}.{part[2]}" in whole if part else False

    return [file for file in files if not is_second(file.path)]


def _is_needed(path: str, *, pickled: bool) -> bool:
    lower = path.lower()
    if "/" in path:  # other formats, checkpoints, examples
        return False
    return lower.endswith((*_TEXTS, ".safetensors")) or (pickled and lower.endswith(_PICKLED))


def _is_gguf_model(path: str) -> bool:
    return path.lower().endswith(".gguf") and not is_companion(path)


def _quantization(path: str) -> str:
    """The quantization in a model's name; "" if there is none, or if the file is no model."""
    if is_companion(path):
        return ""
    found = QUANTIZATION.findall(path.rpartition("/")[2].removesuffix(".gguf"))
    return found[-1].upper() if found else ""
