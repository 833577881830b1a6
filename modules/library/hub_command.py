"""Finds the repository in what pages show to be copied: a command that downloads or runs a model of the hub, lines of
Python that load one, a link that opens it in another program, a sentence with a URL. Pure.

It knows hf, git, wget, curl, llama.cpp, Ollama, vLLM and others. It must not know what addresses look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

#: A word with its quoted parts.
_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+|\S""")
_CONTINUED = re.compile(r"[ \t][\\^`][ \t]*\r?\n")
_END = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "2>&1", "\\", "^"})
#: What may stand before a program's name: a prompt, variables, programs that start others.
_BEFORE = re.compile(
    r"|[A-Z_][A-Z0-9_]*=\S*|sudo|exec|nohup|time|uvx|uv|run|pipx|npx|-y|--yes|--no|wsl|"
    r"(?:export|set)|bash|sh|PS|~\S*|\(\S+\)|\[?\S+@\S+|[A-Za-z]:\S*>|\S+\][$#%]?|#"
)
_PROGRAM = re.compile(
    r"hf|huggingface-cli|git|ollama|wget|curl|aria2c|llama|llama-[a-z-]+|docker|podman|lms|vllm|sglang|transformers|"
    r"mlx_lm[a-z._]*|text-generation-launcher|koboldcpp|python[0-9.]*|py|llamafile|llama\.cpp|node-llama-cpp|"
    r"ramalama|local-?ai|hfd(?:\.sh)?|mistralrs|mistralrs-server|unsloth|aphrodite|lmdeploy|axel"
)
_HF = ("hf", "huggingface-cli")
_BRANCH = ("--revision", "--branch")
_FILE = ("--hf-file", "-hff", "--specific-file")
_FILES = ("--include", "--exclude")  # several values each
_REPO = ("-hf", "-hfr", "--hf-repo", "--model", "--model-id", "--model-path", "--repo", "-mu", "--model-url")
#: In Python: what names a repository, a file of it or a branch, and the first two texts of a call.
_NAMED = re.compile(
    r"""\b(repo_id|model_id|model_name|model_path|model|pretrained_model_name_or_path|filename|revision|repo_type)"""
    r"""\s*=\s*["']([^"'\s]+)["']""",
    re.IGNORECASE,
)
_CALLED = re.compile(r"""\w\(\s*["']([^"'\s/:]+/[^"'\s/:]+)["'](?:\s*,\s*["']([^"'\s]+)["'])?""")
_PYTHON_REPO = ("repo_id", "pretrained_model_name_or_path", "model_id", "model_name", "model_path", "model")
_URL = re.compile(r"""(?:https?://|\b(?:hf|huggingface)\.co/)[^\s<>"'()\[\]]+""", re.IGNORECASE)
#: A link of another program: its scheme or host, the path, the query. The repository is a value of the query, or stands
#: behind a word of the path.
_LINK = re.compile(
    r"(?:(?!https?:|hf:|huggingface:|git|ssh:)[a-z][a-z0-9.+-]+://|https?://(?:model\.lmstudio\.ai|backyard\.ai)/)"
    r"([^\s?#\"'<>]*)(?:\?([^\s#\"'<>]*))?",
    re.IGNORECASE,
)
_LINK_REPO = ("model", "hf-model-id", "repo", "repo_id")
_LINK_FILE = ("file", "filename")
_LINK_PATH = re.compile(r"(?:^|/)(?:hf|huggingface|download)/(?:\w+/)?([^/]+/[^/]+)/?$", re.IGNORECASE)
_TAKING = (
    *("--local-dir", "--cache-dir", "--token", "--repo-type", "--type", "--local-dir-use-symlinks", "--max-workers"),
    *("--output", "--output-document", "--directory-prefix", "-o", "-O", "-P", "-d", "-H", "--header", "--depth"),
    *("-c", "--origin", "--threads", "--model-dir", "--user-data-dir"),
)


@dataclass(frozen=True)
class HubCommand:
    """What a command names: an address, a branch and files ("" and () for none), the type of repository."""

    address: str
    branch: str = ""
    files: tuple[str, ...] = ()
    kind: str = ""


def read_command(text: str) -> HubCommand | None:
    """The first command with an address in a text of one or more lines, else a link of another program, a call in
    Python, the only URL; None if it contains none.
    """
    for line in _CONTINUED.sub(" ", text.strip().strip("`")).splitlines():
        for words in _commands(line):
            if found := _read(words):
                return found
    return _read_link(text) or _read_python(text) or _read_sentence(text)


def _read_link(text: str) -> HubCommand | None:
    """`lmstudio://open_from_hf?model=ann/tiny&file=x.gguf`, `jan://models/huggingface/ann/tiny`."""
    link = _LINK.search(text)
    if not link:
        return None
    values = {key: found[0] for key, found in parse_qs(link[2] or "").items()}
    repo = next((values[key] for key in _LINK_REPO if "/" in values.get(key, "")), "")
    files = tuple(values[key] for key in _LINK_FILE if key in values)
    if not repo and (path := _LINK_PATH.search(link[1])):
        repo = unquote(path[1])
    return HubCommand(repo, files=files) if repo else None


def _read_python(text: str) -> HubCommand | None:
    """`from_pretrained("ann/tiny")`, `repo_id="ann/tiny", filename="x.gguf"`, `model_name = "ann/tiny"`."""
    named = {name.lower(): value for name, value in reversed(_NAMED.findall(text))}  # the first of each counts
    called = _CALLED.search(text)
    repo = next((named[name] for name in _PYTHON_REPO if "/" in named.get(name, "")), "")
    if not repo and not called:
        return None
    file = named.get("filename") or (called[2] if called and not repo else "") or ""
    return HubCommand(
        repo or (called[1] if called else ""),
        named.get("revision", ""),
        (file,) if file else (),
        named.get("repo_type", ""),
    )


def _read_sentence(text: str) -> HubCommand | None:
    """The only URL behind other words; at the beginning, what follows may belong to a file's name."""
    if _URL.match(text.strip()):
        return None
    found = {url.rstrip(".,;:!?") for url in _URL.findall(text)}
    return HubCommand(found.pop()) if len(found) == 1 else None


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, from the program's name on."""
    words = [re.sub("[\"']", "", word) for word in _WORD.findall(line)]
    # a command may end without a space before the mark: export A=b; hf download ann/tiny
    words = [part for word in words for part in ((word[:-1], ";") if word[1:].endswith(";") else (word,))]
    while words:
        end = next((at for at, word in enumerate(words) if word in _END), len(words))
        command, words = words[:end], words[end + 1 :]
        while command and _BEFORE.fullmatch(word := command.pop(0).lstrip("$!%>")):
            pass
        if command:
            yield [word, *command]


def _read(words: Sequence[str]) -> HubCommand | None:
    program = re.split(r"[/\\]", words[0].lower())[-1].removesuffix(".exe")
    if len(words) < 2 or not (_PROGRAM.fullmatch(program) or words[0] in _REPO):
        return None
    branch, kind = "", ""
    files = list[str]()
    repos, sure, perhaps = list[str](), list[str](), list[str]()  # named by an option; alone; after an unknown option
    at = 0 if words[0] in _REPO else 1  # only the options were copied
    while at < len(words):
        option, equals, value = words[at].partition("=")
        if not option.startswith("-"):
            doubtful = program not in _HF and words[at - 1].startswith("-") and "=" not in words[at - 1]
            (perhaps if doubtful else sure).append(words[at])
            at += 1
            continue
        following = [value] if equals else list(words[at + 1 : at + 2])
        if option in _FILES and not equals:
            following = list(_values(words[at + 1 :]))
        given = following[0] if following else ""
        taken = True
        if option in _BRANCH or (program == "git" and option == "-b"):
            branch = given
        elif option in _FILE:
            files.append(given)
        elif option in _FILES:
            files += following if option == "--include" else []
        elif option in _REPO and "/" in given:
            repos.append(given)
        elif option in _TAKING and not (program == "curl" and option == "-O"):
            kind = given if option in ("--repo-type", "--type") else kind
        else:
            taken = False
        at += 1 + (len(following) if taken and not equals else 0)
    names = [*repos, *(word for word in (*sure, *perhaps) if "/" in word)]
    if not names:
        return None
    if program in _HF:
        files += sure[sure.index(names[0]) + 1 :]
    return HubCommand(names[0], branch, tuple(file for file in files if file), kind)


def _values(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-"):
            return
        yield word
