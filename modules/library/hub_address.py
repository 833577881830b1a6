"""Parses what users type to name a repository of the hub, and selects its files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qs, unquote

from errors import InvalidInput
from loaders.llamacpp.companions import is_companion
from modules.library.hub_command import HubCommand, read_command

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]{0,127}", re.ASCII)
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|BF16|FP?16|FP?32|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4))(?=[-._]|$)", re.IGNORECASE
)
_HOSTS = ("huggingface.co", "hf.co", "hf-mirror.com", "huggingface.com")
_OTHER_HOSTS = (
    *("github.com", "gitlab.com", "gitee.com", "civitai.com", "ollama.com", "lmstudio.ai", "modelscope.cn"),
    *("modelscope.ai", "kaggle.com", "openrouter.ai", "replicate.com"),
)
_KINDS = {
    "datasets": "a data set", "spaces": "a space", "collections": "a collection", "papers": "a paper",
    "docs": "documentation", "blog": "an article", "posts": "an article", "buckets": "a bucket",
    "organizations": "an organization",
}  # fmt: skip
_VERBS = ("tree", "blob", "resolve", "raw", "blame", "edit", "commits", "commit", "delete")
_PAGES = ("discussions", "settings", "activity", "community", "new", "upload")
_WEIGHTS = (".gguf", ".safetensors", ".bin", ".pt", ".pth")
_PATTERN = re.compile(r"[*?]")
_LONGEST = 2000  # the most characters that are parsed
_MOST_READINGS = 3  # the most slashes that an unescaped branch may have
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_QUOTES = {
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a"), "'"),
}
_AROUND = "<>\"'`()[],; \t\n"
_SPACED = re.compile(r"[\w.-]+\s+/\s+[\w.-]+", re.ASCII)  # the heading of a model's page
#: What may be written before an address, and a choice behind it: user/repo Q4_K_M, user/repo (Q4_K_M).
_LABEL = re.compile(r"^(?:model|repo(?:sitory)?|from)\s*(?:[:=]\s*|\s)(?=\S*/)", re.IGNORECASE)
_CHOICE = re.compile(r"""(\S+?)["'>)\]]?,?\s+(?:[-\u2013\u2014:|]\s+)?[(\["']*([^\s(\["'].*?)[)\]"']*""")
_BITS = re.compile(r"\d{1,2}(?:\.\d+)?bpw", re.IGNORECASE)
_HOW = "Enter user/repository, user/repository:branch, or the URL of its page."
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
class HubAddress:
    """A repository, its branch, and what was named in it: files, folders, quantizations, patterns such as *Q4_K*."""

    repo: str
    branch: str = "main"
    names: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The name of its folder: USER_NAME, with _BRANCH unless that is main."""
        branch = "" if self.branch == "main" else f"_{self.branch}"
        return f"{self.repo}{branch}".replace("/", "_")

    def readings(self) -> Iterator[HubAddress]:
        """Itself, and the same address with a longer branch: in tree/a/b/x.gguf, the branch may be a, a/b or all."""
        yield self
        if self.branch == "main" or len(self.names) != 1 or "/" in self.branch:
            return
        parts = self.names[0].split("/")
        for count in range(1, min(len(parts), _MOST_READINGS) + 1):
            branch, name = "/".join([self.branch, *parts[:count]]), "/".join(parts[count:])
            if _BRANCH.fullmatch(branch):
                yield HubAddress(self.repo, branch, (name,) if name else ())


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


def parse_address(text: str) -> HubAddress:
    """Parse what a user pasted: user/repo, with :branch or :QUANTIZATION, the URL of a page or a file with or without
    https, hf:// and git URLs, links that open other programs, a Markdown link, a download command, a choice behind a
    space. Raises: InvalidInput.

    `select_files` decides what the names mean. The host of a mirror is ignored; HF_ENDPOINT
    counts.
    """
    pasted = text[:_LONGEST].translate(_UNSEEN | _QUOTES).strip()
    if _SPACED.fullmatch(pasted):
        pasted = "".join(pasted.split())
    if link := re.search(r"\]\(\s*<?([^)\s>]+)", pasted):
        pasted = link[1]
    command = read_command(pasted) or HubCommand(pasted)
    if command.address.count("://") > 1:
        raise _no_address(text, "it contains several addresses. ")
    if command.kind not in ("", "model"):
        raise _no_address(text, f"it is {_KINDS.get(f'{command.kind}s', 'a repository of another type')}. ")
    pasted = _LABEL.sub("", command.address.lstrip(_AROUND))
    if found := _with_choice(pasted):
        return found
    return _parse(pasted.strip(_AROUND).rstrip(_AROUND + "."), command, text)


def _with_choice(pasted: str) -> HubAddress | None:
    """`user/repo Q4_K_M`, `user/repo (x.gguf)`, `user/repo 4.0bpw`: an address, then what is meant of it."""
    match = _CHOICE.fullmatch(pasted.rstrip(_AROUND + "."))
    if not match:
        return None
    named, branch, file = match[1], *_suffix(match[2])
    if not file and not _BITS.fullmatch(branch):
        return None
    try:
        address = _parse(named.strip(_AROUND), HubCommand(named), named)
    except InvalidInput:
        return None  # the space belongs to a name
    if address.names or address.branch != "main":
        return None
    return HubAddress(address.repo, branch or "main", (_name(file),) if file else ())


def _parse(pasted: str, command: HubCommand, text: str) -> HubAddress:
    """An address without anything around it. Raises: InvalidInput."""
    place, words, query = _parted(pasted)
    if not place and words and words[0].lower() in _KINDS:
        raise _no_address(text, f"it is {_KINDS[words[0].lower()]}. ")
    if any(place == host or place.endswith(f".{host}") for host in _OTHER_HOSTS):
        raise _no_address(text, f"{place} is not the model hub. ")
    if len(words) == 1 and not place:
        raise _no_address(text, "the user's name before it is missing. ")
    if words[:1] == ["api"]:
        words = words[1:]
    if words[:1] == ["models"]:
        words = words[1:]
    if place and words and words[0].lower() in _KINDS:
        raise _no_address(text, f"it is {_KINDS[words[0].lower()]}. ")
    repo, branch, file = _repo(words[:2], text)
    rest = [unquote(word) for word in words[2:]]
    if rest and rest[0] in _VERBS:
        revision = 3 if rest[1:2] == ["refs"] else 1
        branch = "/".join(rest[1 : 1 + revision]) or branch
        file = "/".join(rest[1 + revision :]) or file
    elif rest and branch != "main" and not rest[-1].lower().endswith(_WEIGHTS) and place != "hf:":
        branch = "/".join([branch, *rest])  # user/repo:a/b
    elif rest and (rest[-1].lower().endswith(_WEIGHTS) or place == "hf:"):
        file = "/".join(rest)
    elif rest and not (place and rest[0] in _PAGES):
        raise _no_address(text)
    branch = command.branch or branch
    if not _BRANCH.fullmatch(branch) or ".." in branch:
        raise InvalidInput(f"{branch[:120]!r} is not a valid branch name. {_HOW}")
    return HubAddress(repo, branch, tuple(_name(each) for each in command.files or (query or file,) if each))


def _no_address(text: str, why: str = "") -> InvalidInput:
    return InvalidInput(f"{text.strip()[:120]!r} is not a model repository: {why or 'unknown format. '}{_HOW}")


def _name(name: str) -> str:
    """A name in a repository; of a pattern for everything in a folder or of a quantization, that. Raises:
    InvalidInput.
    """
    plain = name.removesuffix("/*").rstrip("/")
    if _QUANTIZATION.fullmatch(word := plain.strip("*").strip("-._")):
        return word
    check_path(_PATTERN.sub("_", plain))
    return plain


def _repo(words: Sequence[str], text: str) -> tuple[str, str, str]:
    """The repository, and a branch and file after its name: `repo:x`, `repo@x`."""
    if len(words) != 2:
        raise _no_address(text)
    user, name = (unquote(word) for word in words)
    name, _, suffix = name.partition(":")
    name, _, revision = name.partition("@")
    name = name.removesuffix(".git")
    if not all(_NAME.fullmatch(word) and ".." not in word for word in (user, name)):
        raise _no_address(text)
    branch = revision or "main"
    if _QUANTIZATION.fullmatch(revision) and not suffix:  # as LM Studio writes it
        branch, suffix = "main", revision
    if suffix.lower() in ("latest", ""):
        suffix = ""
    named, file = _suffix(suffix)
    return f"{user}/{name}", named or branch, file


def _suffix(word: str) -> tuple[str, str]:
    """What stands behind a repository's name: a branch and "", or "" and a file or quantization."""
    if word.lower().startswith("i1-"):  # made with an importance matrix: part of the file's name only
        word = word[3:]
    if word.lower().endswith(_WEIGHTS) or _QUANTIZATION.fullmatch(word):
        return "", word
    return word, ""


def _parted(text: str) -> tuple[str, list[str], str]:
    """The host ("" for none, "hf:" for hf://), the parts of the path, still escaped, the file in the query."""
    text = re.sub(r"^git\+", "", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", text, flags=re.IGNORECASE)
    text = re.sub(r"^(?:hf|huggingface):(?://|/|)(?=[^/])", "hf://", text, flags=re.IGNORECASE)
    scheme, separator, behind = text.partition("://")
    if separator and scheme.lower() == "hf":
        return "hf:", _words(behind), ""
    if separator and scheme.lower() not in ("http", "https"):
        raise _no_address(text)
    path, _, query = (behind if separator else text).partition("#")[0].partition("?")
    words = _words(path)
    host = words[0].lower().rpartition("@")[2].partition(":")[0] if words else ""
    if separator or host.removeprefix("www.") in (*_HOSTS, *_OTHER_HOSTS):
        named = parse_qs(query).get("show_file_info", [""])[0]
        return host, words[1:], named
    return "", words, ""


def _words(path: str) -> list[str]:
    return [word for word in path.replace("\\", "/").strip("/ ").split("/") if word]


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
    if _PATTERN.search(name):
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
    if not fitting and _QUANTIZATION.fullmatch(kind):  # Q4 and Q4_K name several
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
    found = _QUANTIZATION.findall(path.rpartition("/")[2].removesuffix(".gguf"))
    return found[-1].upper() if found else ""
