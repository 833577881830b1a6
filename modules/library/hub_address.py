"""What a person may write to name a repository of the hub, and which of its files are meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]{0,127}", re.ASCII)
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANTIZATION = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|BF16|F16|F32|TQ\d_\d|MXFP4))(?=[-._]|$)", re.IGNORECASE)
_HOW = "Write user/repository, user/repository:branch, or the address of its page."
_TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py", ".md", ".yaml", ".yml")
_PICKLED = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class Address:
    """A repository, its branch, and the one file that was named ("" for none)."""

    repo: str
    branch: str = "main"
    file: str = ""

    @property
    def folder(self) -> str:
        """The name of its folder: USER_NAME, with _BRANCH unless that is main."""
        branch = "" if self.branch == "main" else f"_{self.branch}"
        return f"{self.repo}{branch}".replace("/", "_")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `sha256` is known of large files; `blob` is git's own hash of any other."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Choice:
    """What is fetched together: one file, or all parts of a split one. `name` is its first file."""

    name: str
    files: tuple[RemoteFile, ...]
    quantization: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def parse_address(text: str) -> Address:
    """Raises: InvalidInput."""
    text = text.strip().split("?")[0].split("#")[0].strip("/")
    on_the_web = re.match(r"https?://[^/]+/(.+)", text)
    if "://" in text and not on_the_web:
        raise InvalidInput(f"{text[:120]!r} is no repository. {_HOW}")
    words = (on_the_web[1] if on_the_web else text).split("/")
    branch, file = "main", ""
    if len(words) > 3 and words[2] in ("tree", "blob", "resolve", "raw"):
        branch, file = words[3], "/".join(words[4:])
        words = words[:2]
    if len(words) == 2 and ":" in words[1]:
        words[1], branch = words[1].split(":", 1)
    if len(words) != 2 or not all(_NAME.fullmatch(word) and ".." not in word for word in words):
        raise InvalidInput(f"{text[:120]!r} is no repository. {_HOW}")
    if not _BRANCH.fullmatch(branch) or ".." in branch:
        raise InvalidInput(f"{branch[:120]!r} cannot be the name of a branch. {_HOW}")
    if file:
        check_path(file)
    return Address("/".join(words), branch, file)


def check_path(path: str) -> None:
    """A file's path must stay inside its folder. Raises: InvalidInput."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or re.search(r'[<>:"\\|?*\x00-\x1f]', part) for part in parts):
        raise InvalidInput(
            f"The file name {path[:120]!r} leads out of its folder, or cannot be on a disk. Nothing was fetched."
        )


def choices_in(files: Iterable[RemoteFile]) -> list[Choice]:
    """The files, parts of split ones as one, sorted by name."""
    together: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        match = _PART.fullmatch(file.path)
        together.setdefault(f"{match['stem']}/{match['count']}" if match else file.path, []).append(file)
    return [Choice(each[0].path, tuple(each), _quantization(each[0].path)) for each in together.values()]


def chosen(files: Sequence[RemoteFile], wanted: Sequence[str]) -> list[RemoteFile]:
    """What is to be fetched: the files that are named (a part means all parts), else what a loader needs.

    Raises: InvalidInput: a name that is not there, nothing to fetch, or several GGUFs of which one has to be named.
    """
    for file in files:
        check_path(file.path)
    choices = choices_in(files)
    if wanted:
        found: list[RemoteFile] = []
        for name in wanted:
            match = next((each for each in choices if name in (file.path for file in each.files)), None)
            if match is None:
                raise InvalidInput(
                    f"The repository has no file {name[:120]!r}. Press Get file list to see what it has."
                )
            found += match.files
        return list(dict.fromkeys(found))
    models = [each for each in choices if each.name.lower().endswith(".gguf") and "mmproj" not in each.name.lower()]
    if len(models) == 1:
        return list(models[0].files)
    if models:
        names = ", ".join(each.quantization or each.name for each in models[:12])
        raise InvalidInput(f"The repository has {len(models)} GGUF files: choose one. It has {names}.")
    safe = any(file.path.endswith(".safetensors") for file in files)
    needed = [file for file in files if _is_needed(file.path, pickled=not safe)]
    if not any(not file.path.endswith(_TEXTS) for file in needed):
        raise InvalidInput("The repository holds no weights (.gguf, .safetensors, .bin). Nothing was fetched.")
    return needed


def _is_needed(path: str, *, pickled: bool) -> bool:
    lower = path.lower()
    if "/" in path:  # other formats, checkpoints, examples
        return False
    return lower.endswith((*_TEXTS, ".safetensors")) or (pickled and lower.endswith(_PICKLED))


def _quantization(path: str) -> str:
    found = _QUANTIZATION.findall(path.rpartition("/")[2].removesuffix(".gguf"))
    return found[-1].upper() if found else ""
