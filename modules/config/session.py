"""This run of the program: its options and those of the next start; switches, and restarting.

It writes CMD_FLAGS.txt and settings.yaml and returns the arguments of the next start; server.py starts it.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errors import NotWritable, UserError
from loaders.knobs import Knob
from modules.config.atomic import write_text
from modules.config.flag_catalog import Loaders
from modules.config.flag_tokens import FILE_NAME, read_flags_text
from modules.config.flags import LaunchOptions, read_flags
from modules.config.permissions import Permissions
from modules.config.server_flags import NOT_YET, ServerFlags
from modules.config.settings import Settings
from modules.config.user_data import user_data_folder

#: The next line of CMD_FLAGS.txt belongs to the Session tab.
MARK = "# Chosen in the Session tab; this and the next line are written by it:"

#: Switches that the page cannot offer: after a restart the page would be gone, or would ask in the terminal.
_NOT_HERE = frozenset({"nowebui", "model_menu", *NOT_YET})


class Session:
    """Thread-safe. `asked` is set when a restart was requested; `argv` are its arguments.

    `user` is the account of the request; None if there is no login.
    """

    def __init__(
        self, root: Path, argv: Sequence[str], launch: LaunchOptions, loaders: Loaders, settings_file: Path
    ) -> None:
        self.asked = threading.Event()
        self.argv = tuple(argv)
        self.launch = launch
        self.settings_file = settings_file
        self.rights = Permissions.of(launch.server)
        self._root = root
        self._flags = user_data_folder(root, launch.server.user_data_dir) / FILE_NAME
        self._loaders = loaders

    # --- flags ---

    @staticmethod
    def switches() -> list[Knob]:
        """The flags that can be toggled here."""
        return [knob for name, knob in ServerFlags.knobs().items() if knob.kind == "bool" and name not in _NOT_HERE]

    def switched_on(self) -> list[str]:
        """The names of those that are on in this run."""
        return [knob.name for knob in self.switches() if getattr(self.launch.server, knob.name)]

    def flags_text(self) -> str:
        """The text of CMD_FLAGS.txt. Raises: BadFile."""
        return read_flags_text(self._flags)

    def check_flags(self, text: str) -> list[str]:
        """Warnings about a text for CMD_FLAGS.txt. Raises: UserError, naming the invalid line."""
        return list(read_flags(self.argv, self._root, self._loaders, text).notes)

    def save_flags(self, text: str, user: str | None = None) -> list[str]:
        """Write CMD_FLAGS.txt if every flag in it is valid. Raises: UserError."""
        self.rights.check(user)
        notes = self.check_flags(text)
        self._check_code(text=text)
        self._write(self._flags, text if not text or text.endswith("\n") else text + "\n")
        return notes

    def restart(
        self, switches: Sequence[str], extensions: Sequence[str], *, keep: bool, user: str | None = None
    ) -> None:
        """Request a restart with these switches on and these extensions; `keep`: for later starts, too.

        The loaded model is loaded again. Raises: UserError, and then nothing changes.
        """
        self.rights.check(user)
        given = {knob.name: knob.name in switches for knob in self.switches()}
        names = self._names(extensions)
        changed = [*_spelled(given), f"--extensions={','.join(names)}"]
        # the loaded model is restored as the last one, with its loader: a --model of this start would override it
        model = ["--model="] if self.launch.server.model else []
        argv = [*_without(self.argv, given), *changed, *model]
        read_flags(argv, self._root, self._loaders)  # before anything is written
        self._check_code(argv)
        if keep:
            text = merge_flags(self.flags_text(), {**given, "extensions": names})
            read_flags(argv, self._root, self._loaders, text)
            self._check_code(argv, text)
            self._write(self._flags, text)
        self.argv = tuple(argv)
        self.asked.set()

    def _names(self, extensions: Sequence[str]) -> list[str]:
        """The extensions, and with a minus sign those of settings.yaml that are not among them."""
        settings, _ = Settings.read(self.settings_file)
        return [*(f"-{name}" for name in settings.default_extensions if name not in extensions), *extensions]

    def _check_code(self, argv: Sequence[str] = (), text: str | None = None) -> None:
        """Raises: NotAllowed if a start with these arguments or this text lets more code run than one without."""
        if not self.rights.is_open:
            return
        settings, _ = Settings.read(self.settings_file)
        known = {*self._code(self.launch), *(f"--extensions {name}" for name in settings.default_extensions)}
        with contextlib.suppress(UserError):  # the stored file may be invalid
            known |= self._code(read_flags((), self._root, self._loaders))
        # also without the arguments, which override the text: a later start may have others
        for words in {tuple(argv), ()}:
            self.rights.check_code(known, sorted(self._code(read_flags(words, self._root, self._loaders, text))))

    def _code(self, launch: LaunchOptions) -> set[str]:
        """The flags of a start that let code run which does not belong to the program."""
        knobs = [knob for each in self._loaders.values() for knob in each.Options.knobs().values() if knob.start_only]
        options = {knob.flag for knob in knobs if launch.load_options.get(knob.name, knob.default) != knob.default}
        extensions = {f"--extensions {name}" for name in launch.server.extensions if not name.startswith("-")}
        settings = {f"--settings {launch.server.settings}"} if launch.server.settings else set()  # may name extensions
        return options | extensions | settings

    # --- settings.yaml ---

    def save_settings(self, settings: Settings) -> Path:
        """Write settings.yaml; it takes effect at the next start. Raises: Unavailable."""
        self._write(self.settings_file, settings.text())
        return self.settings_file

    def change_settings(self, **values: Any) -> Path:
        """Change these settings in settings.yaml; the others stay as they are there. Raises: BadFile, Unavailable."""
        settings, _ = Settings.read(self.settings_file)
        return self.save_settings(settings.changed(**values))

    def _write(self, path: Path, text: str) -> None:
        try:
            write_text(path, text)
        except OSError as error:
            raise NotWritable(path, error) from None


def merge_flags(text: str, choices: Mapping[str, Any]) -> str:
    """A text of CMD_FLAGS.txt with its own flags unchanged and these choices in the line of the Session tab.

    A switch that is off, and is not switched on above, is left out.
    """
    lines = text.splitlines()
    if MARK in lines:
        place = lines.index(MARK)
        del lines[place : place + 2]
    own = "\n".join(lines)
    words = []
    for name, value in choices.items():
        flag = f"--{name.replace('_', '-')}"
        mentioned = re.search(rf"(?im)^[^#]*--{name.replace('_', '[-_]')}\b", own) is not None
        if isinstance(value, bool):
            words += [flag] if value else [f"{flag}=false"] if mentioned else []
        elif value or mentioned:
            words.append(f"{flag}={','.join(value)}")
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join([*lines, *([MARK, " ".join(words)] if words else [])]) + "\n"


def _spelled(given: Mapping[str, bool]) -> list[str]:
    return [f"--{name.replace('_', '-')}={'true' if value else 'false'}" for name, value in given.items()]


def _without(argv: Sequence[str], given: Mapping[str, bool]) -> list[str]:
    """The arguments without those that an earlier restart added."""
    ours = tuple(f"--{name.replace('_', '-')}=" for name in (*given, "extensions", "model"))
    return [each for each in argv if not each.startswith(ours)]
