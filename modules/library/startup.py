"""Chooses the model to load at startup, and loads it in the background.

In this order: the one named by --model (`none` for none), that of --remote, the one chosen from --model-menu, the one
that was loaded when the program last ended, the only one in the catalog; if the catalog is empty, the demo model, which
is downloaded. With several models and no other information, the user chooses in the Model tab. This module must not
know how a model is loaded, or how anything is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from errors import EngineFailed, UnknownName, UserError
from loaders.remote.failures import ServerUnreachable
from modules.config.flags import LaunchOptions
from modules.config.paths import Paths
from modules.library.demo_model import DemoModel
from modules.library.last_model import LastModelFile
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.remote_models import FlagEntry, RemoteModels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartupChoice:
    """What to load ("" for nothing), why, with which loader (None: the best), and whether to download it first.

    `remote`: the entry that was written for --remote.
    """

    name: str
    reason: str
    loader: str | None = None
    fetch: bool = False
    remote: FlagEntry | None = None


def wants_demo(launch: LaunchOptions, shelf: ModelCatalog) -> bool:
    """Whether such a start downloads the demo model: no model is requested, and there is none."""
    return not launch.server.model and not launch.server.remote and not shelf.names()


class Startup:
    """The start of one program. `ask` reads an answer in the terminal; `loaded` is called when the model is loaded."""

    def __init__(
        self,
        paths: Paths,
        shelf: ModelCatalog,
        models: ModelManager,
        launch: LaunchOptions,
        *,
        demo: DemoModel | None = None,
        ask: Callable[[str], str] = input,
        loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._shelf = shelf
        self._models = models
        self._launch = launch
        self._demo = demo or DemoModel(paths)
        self._remotes = RemoteModels(paths)
        self._memory = LastModelFile(paths)
        self._ask = ask
        self._loaded = loaded

    def choose(self) -> StartupChoice:
        """Decide by names only: no header is read. An entry for --remote is written. Raises: UnknownName for a --model
        that does not exist; InvalidInput, NotWritable for a --remote.
        """
        asked = self._launch.server.model
        remote = self._remotes.add_from_flags(self._launch.server) if self._launch.server.remote else None
        if asked.lower() == "none":
            return StartupChoice("", "--model none was given")
        if asked:
            return self._named(asked)
        if remote:
            return StartupChoice(remote.name, "requested with --remote", remote=remote)
        names = self._shelf.names()
        if wants_demo(self._launch, self._shelf):
            return StartupChoice(
                self._demo.name, "no model is installed, so a small demo model is downloaded", fetch=True
            )
        if self._launch.server.model_menu:
            return self._from_menu(names)
        last = self._memory.read()
        if last.died_loading:
            self._memory.finish_loading()  # once: the next start tries again
        if last.died_loading and (last.died_loading == last.name or len(names) == 1):
            return StartupChoice(
                "", f"the program ended while loading {last.died_loading}, so it is not loaded this time"
            )
        if last.name in names:
            # --loader overrides the remembered one, if it supports the model
            loader = None if self._launch.server.loader else last.loader
            return StartupChoice(last.name, "it was loaded last time", loader or None)
        if len(names) == 1:
            return StartupChoice(names[0], "it is the only model")
        return StartupChoice("", f"choose one of {len(names)} models in the Model tab")

    def begin(self, choice: StartupChoice) -> threading.Thread:
        """Load the chosen model in a separate thread; errors are in `models.state` and in the log."""
        thread = threading.Thread(target=self._run, args=(choice,), name="startup", daemon=True)
        thread.start()
        return thread

    def _run(self, choice: StartupChoice) -> None:
        if not choice.name:
            log.info("No model is loaded: %s.", choice.reason)
            return
        log.info("Loading %s: %s.", choice.name, choice.reason)
        try:
            obtain = self._demo.fetch if choice.fetch else None
            self._models.load(choice.name, choice.loader, obtain=obtain, flags_win=True)
        except UserError as error:
            log.debug("Startup continues without a model.")  # the reason is in the state, and already logged
            if choice.remote and isinstance(error, (ServerUnreachable, EngineFailed)):
                self._remotes.take_back(choice.remote)
        except Exception:
            log.exception("Loading %s at startup failed", choice.name)
        else:
            try:
                self._loaded()
            except UserError as error:
                log.warning("%s", error)

    def _named(self, asked: str) -> StartupChoice:
        loader = self._launch.server.loader or None
        try:
            return StartupChoice(self._shelf.find(asked).name, "requested with --model", loader)
        except UnknownName:
            if asked.lower().removesuffix(".gguf") == self._demo.name.lower().removesuffix(".gguf"):
                return StartupChoice(
                    self._demo.name, "requested with --model; it will be downloaded", loader, fetch=True
                )
            raise

    def _from_menu(self, names: list[str]) -> StartupChoice:
        menu = "\n".join(f"{number:4d}. {name}" for number, name in enumerate(names, start=1))
        question = f"Models:\n{menu}\nEnter a number, or press Enter to start without a model: "
        while True:
            try:
                answer = self._ask(question).strip()
            except EOFError:
                return StartupChoice("", "--model-menu requires a terminal")
            if not answer:
                return StartupChoice("", "none was chosen")
            if answer.isdecimal() and 1 <= int(answer) <= len(names):
                return StartupChoice(names[int(answer) - 1], "chosen in the menu", self._launch.server.loader or None)
            question = f"Enter a number from 1 to {len(names)}: "
