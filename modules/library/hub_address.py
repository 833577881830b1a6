"""Parses what users type to name a repository of the hub, and a branch or files of it. Pure.

It must not know which files a repository has: what the names mean is hub_files's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from errors import InvalidInput
from modules.library.hub_command import HubCommand, read_command
from modules.library.hub_files import PATTERN, QUANTIZATION, check_path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]{0,127}", re.ASCII)
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
_LONGEST = 2000  # the most characters that are parsed
_MOST_READINGS = 3  # the most slashes that an unescaped branch may have
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_QUOTES = {
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a"), "'"),
}
_AROUND = "<>\"'`()[],; \t\n"
_SPACED = re.compile(r"[\w.-]+\s+/\s+[\w.-]+", re.ASCII)  # the heading of a model's page
#: The mark of a list in front of an address.
_ITEM = re.compile(r"^(?:[-*+\u2022\u2013]|\d{1,3}[.)])\s+(?=\S)")
_BOLD = re.compile(r"(\*{1,3}|__)([^\s*].*[^\s*])\1")
#: What may be written before an address, and a choice behind it: user/repo Q4_K_M, user/repo (Q4_K_M).
_LABEL = re.compile(r"^(?:model|repo(?:sitory)?|from)\s*(?:[:=]\s*|\s)(?=\S*/)", re.IGNORECASE)
_CHOICE = re.compile(r"""(\S+?)["'>)\]]?,?\s+(?:[-\u2013\u2014:|]\s+)?[(\["']*([^\s(\["'].*?)[)\]"']*""")
_BITS = re.compile(r"\d{1,2}(?:\.\d+)?bpw", re.IGNORECASE)
#: Words that people take from a repository's name, where they say what its files are.
_FORMAT = re.compile(r"gg(?:uf|ml)|gptq|awq|exl[23]|mlx|onnx|hqq|bnb|safetensors|int[48]|fp8|\d-?bit", re.IGNORECASE)
_HOW = "Enter user/repository, user/repository:branch, or the URL of its page."


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


def parse_address(text: str) -> HubAddress:
    """Parse what a user pasted: user/repo, with :branch or :QUANTIZATION, the URL of a page or a file with or without
    https, hf:// and git URLs, links that open other programs, a Markdown link, a download command, a choice behind a
    space. Raises: InvalidInput.

    `select_files` decides what the names mean. The host of a mirror is ignored; HF_ENDPOINT
    counts.
    """
    pasted = _ITEM.sub("", text[:_LONGEST].translate(_UNSEEN | _QUOTES).strip())
    if bold := _BOLD.fullmatch(pasted):
        pasted = bold[2]
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
    if found := _with_choice(pasted, text):
        return found
    return _parse(pasted.strip(_AROUND).rstrip(_AROUND + "."), command, text)


def _with_choice(pasted: str, text: str) -> HubAddress | None:
    """`user/repo Q4_K_M`, `user/repo (x.gguf)`, `user/repo 4.0bpw`: an address, then what is meant of it. None if it is
    only an address. Raises: InvalidInput if there are words behind an address and they mean nothing.
    """
    match = _CHOICE.fullmatch(pasted.rstrip(_AROUND + "."))
    if not match:
        return None
    named, branch, file = match[1], *_suffix(match[2])
    try:
        address = _parse(named.strip(_AROUND), HubCommand(named), named)
    except InvalidInput:
        return None  # the space belongs to a name
    if address.names or address.branch != "main":
        return None
    if not file and not _BITS.fullmatch(branch):
        raise _no_address(text, *_taken_for(address.repo, match[2]))
    return HubAddress(address.repo, branch or "main", (_name(file),) if file else ())


def _taken_for(repo: str, words: str) -> tuple[str, str]:
    """What these words after a repository are taken for, which they cannot be there, and what to enter instead."""
    words = words[:60]
    if _FORMAT.fullmatch(words):
        return f"{words!r} is taken for a format. ", f"Enter {repo}, or {repo}-{words} if that is its name."
    if _BRANCH.fullmatch(words) and "/" not in words:
        return f"{words!r} is taken for a branch. ", f"Enter {repo}:{words}, or {repo} alone."
    return f"{words!r} is not a file, a quantization or a branch. ", f"Enter {repo} alone."


def _parse(pasted: str, command: HubCommand, text: str) -> HubAddress:
    """An address without anything around it. Raises: InvalidInput."""
    place, words, query = _parted(pasted)
    if not place and words and words[0].lower() in _KINDS:
        raise _no_address(text, f"it is {_KINDS[words[0].lower()]}. ")
    if any(place == host or place.endswith(f".{host}") for host in _OTHER_HOSTS):
        raise _no_address(text, f"{place} is not the model hub. ")
    if len(words) == 1 and not place:
        raise _no_address(text, "the user's name before it is missing. ")
    if len(words) == 1 and place.removeprefix("www.") in _HOSTS and words[0] not in ("models", "api"):
        raise _no_address(text, "only a user or only a name is in it. ")
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


def _no_address(text: str, why: str = "", how: str = _HOW) -> InvalidInput:
    return InvalidInput(f"{text.strip()[:120]!r} is not a model repository: {why or 'unknown format. '}{how}")


def _name(name: str) -> str:
    """A name in a repository; of a pattern for everything in a folder or of a quantization, that. Raises:
    InvalidInput.
    """
    plain = name.removesuffix("/*").rstrip("/")
    if QUANTIZATION.fullmatch(word := plain.strip("*").strip("-._")):
        return word
    check_path(PATTERN.sub("_", plain))
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
    if QUANTIZATION.fullmatch(revision) and not suffix:  # as LM Studio writes it
        branch, suffix = "main", revision
    if suffix.lower() in ("latest", ""):
        suffix = ""
    named, file = _suffix(suffix)
    return f"{user}/{name}", named or branch, file


def _suffix(word: str) -> tuple[str, str]:
    """What stands behind a repository's name: a branch and "", or "" and a file or quantization."""
    if word.lower().startswith("i1-"):  # made with an importance matrix: part of the file's name only
        word = word[3:]
    if word.lower().endswith(_WEIGHTS) or QUANTIZATION.fullmatch(word):
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
