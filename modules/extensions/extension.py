"""One extension: its folder, its script, its params, and calls of its functions that cannot break anything else.

A script that raises is named in the log, in the reply's warnings and in the Session tab, and its result is ignored.
This module must not know what a function's result is used for.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from errors import InvalidInput
from modules.extensions.hooks import HOOKS, HookCall
from modules.extensions.script_import import describe_import_error, import_script

log = logging.getLogger(__name__)

#: What fails there is among the lines that the program prints at startup.
_AT_START = ("import", "setup")


class Extension:
    """A loaded script. May be called from several threads; its functions are called one at a time."""

    def __init__(self, folder: Path, requirements: Path | None = None) -> None:
        """`requirements`: the program's own lock file."""
        self.name = folder.name
        self.folder = folder
        self._own = requirements or folder.parent.parent / "requirements.txt"
        self.problem = ""  # the last error, as a sentence
        self.calls = 0
        self._module: ModuleType | None = None
        self._params: dict[str, Any] = {}  # as the script itself sets them
        self._lock = threading.RLock()

    # --- coming to life ---

    def load(self, settings: Mapping[str, Any]) -> bool:
        """Import the script, set its params from settings.yaml (`NAME-param`), call `setup`. False: see `problem`."""
        missing = missing_requirements(self.folder)
        if missing:
            self.problem = _needs(missing, self._own)
            return False
        try:
            self._module = import_script(self.folder)
            params = getattr(self._module, "params", None)
            if isinstance(params, dict):
                self._params = deepcopy(params)
                for key in params:
                    if (value := settings.get(f"{self.name}-{key}")) is not None:
                        params[key] = value
        except (Exception, SystemExit) as error:
            self._module = None
            self._failed("import", error)
            return False
        self.hook("setup", HookCall(None))
        return not self.problem

    # --- looking ---

    @property
    def title(self) -> str:
        """Its display name."""
        return str(self._now().get("display_name") or self.name)

    @property
    def is_tab(self) -> bool:
        """Whether it has a tab of its own."""
        return bool(self._now().get("is_tab"))

    @property
    def settings(self) -> dict[str, Any]:
        """The params that differ from the script's own, as settings.yaml spells them."""
        unset = object()
        now = self._now()
        return {f"{self.name}-{key}": now[key] for key in now if now[key] != self._params.get(key, unset)}

    @property
    def hooks(self) -> list[str]:
        """The hooks that it implements."""
        return [name for name in HOOKS if callable(getattr(self._module, name, None))]

    @property
    def uses_torch(self) -> bool:
        """Whether the script imports torch; it then gets tensors instead of NumPy arrays."""
        torch = sys.modules.get("torch")
        return torch is not None and any(value is torch for value in vars(self._module or object).values())

    # --- working ---

    def hook(self, name: str, passing: HookCall) -> Any:
        """Call a function with as many arguments as it takes. An error becomes a note, and the result is None."""
        function = getattr(self._module, name, None)
        if not callable(function):
            return None
        hook = HOOKS[name]
        first = passing.value if isinstance(passing.value, tuple) else (passing.value,)
        arguments = [*first, *passing.others][: len(hook.arguments)]
        try:
            with self._lock:
                self.calls += 1
                return function(*_fitting(function, arguments), **_known(function, passing.named))
        except Exception as error:
            passing.notes.append(self._failed(name, error))
            return None

    def guarded(self, name: str, function: Callable[..., Any], notes: list[str]) -> Callable[..., Any]:
        """A function of the script's that, once it has raised, is not called again; it returns None from then on."""
        broken = False

        def call(*arguments: Any) -> Any:
            nonlocal broken
            if broken:
                return None
            try:
                return function(*arguments)
            except Exception as error:
                broken = True
                notes.append(self._failed(name, error))
                return None

        return call

    def failed(self, name: str, error: BaseException) -> str:
        """Record an error of a function that was called elsewhere."""
        return self._failed(name, error)

    def _now(self) -> dict[str, Any]:
        params = getattr(self._module, "params", None)
        return params if isinstance(params, dict) else {}

    def _failed(self, name: str, error: BaseException) -> str:
        trace = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(trace) if Path(frame.filename).parent == self.folder), None)
        if isinstance(error, SyntaxError):
            line = error.lineno
        where = f" (script.py, line {line})" if line else ""
        said = describe_import_error(error, self.folder) or f"{type(error).__name__}: {error}".strip().rstrip(":.")
        after = "it is not loaded" if name == "import" else "its effect is skipped"
        self.problem = f"The extension {self.name} failed in {name}{where}: {said}; {after}."
        if name not in _AT_START:
            log.warning("%s", self.problem)
        log.debug("The extension's traceback", exc_info=error)
        return self.problem


def first_sentence(script: Path) -> str:
    """The first sentence of a script's docstring; empty if it has none or cannot be read."""
    try:
        said = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    except (OSError, SyntaxError, ValueError):
        return ""
    first = " ".join(said.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", first, maxsplit=1)[0][:200]


def missing_requirements(folder: Path) -> list[str]:
    """The packages of the extension's requirements.txt that are not installed, as that file spells them."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    missing = []
    for line in (line.partition(" #")[0].strip() for line in lines):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:  # an option, a URL, a comment: left to pip
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            if not wanted.specifier.contains(version(wanted.name), prereleases=True):
                missing.append(line)
        except PackageNotFoundError:
            missing.append(line)
    return missing


def _needs(missing: list[str], own: Path) -> str:
    """What is missing, and what to do: versions that conflict with the program's own can never be installed."""
    from packaging.requirements import Requirement

    fixed = locked_versions(own)
    never = [
        f"{line} ({name} {fixed[name]} is required by the program itself)"
        for line in missing
        if (name := _plain(Requirement(line).name)) in fixed
        and not Requirement(line).specifier.contains(fixed[name], prereleases=True)
    ]
    if never:
        return (
            f"It requires {', '.join(never)} and cannot run in this program. Try a newer version of the "
            "extension, or another version of the package in its requirements.txt."
        )
    return f"It requires {', '.join(missing)}: press Install requirements in the Session tab."


def locked_versions(requirements: Path) -> dict[str, str]:
    """The versions to which the program itself is locked, by package name."""
    try:
        text = requirements.read_text("utf-8")
    except OSError:
        return {}
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s\\;#]+)", text, re.MULTILINE)
    return {_plain(name): each for name, each in found}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fitting(function: Callable[..., Any], arguments: list[Any]) -> list[Any]:
    """As many arguments as the function takes: older scripts take fewer."""
    kinds = [each.kind for each in _parameters(function)]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return arguments
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return arguments[: sum(kind in by_position for kind in kinds)]


def _known(function: Callable[..., Any], named: Mapping[str, Any]) -> dict[str, Any]:
    if not named:
        return {}
    parameters = _parameters(function)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return dict(named)
    return {each.name: named[each.name] for each in parameters if each.name in named}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("arguments", inspect.Parameter.VAR_POSITIONAL)]
