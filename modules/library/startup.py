"""Which model a start begins with, and bringing it into memory beside everything else.

In this order: the one named by --model (`none` for none), the one chosen from --model-menu, the one that was in memory
when the program last ended, the only one on the shelf; and where the shelf is empty, the demo model, which is fetched.
With several models and nothing to choose by, the user chooses in the Model tab.
This module must not know how a model is loaded, nor how anything is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from errors import UnknownName, UserError
from modules.config.flags import Launch
from modules.config.paths import Paths
from modules.library.demo import DemoModel
from modules.library.last_model import Memory
from modules.library.models import Models
from modules.library.shelf import Shelf

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What to load ("" for nothing), why, with which loader (None: the best), and whether to fetch it first."""

    name: str
    reason: str
    loader: str | None = None
    fetch: bool = False


def wants_demo(launch: Launch, shelf: Shelf) -> bool:
    """Whether such a start fetches the demo model: no model is asked for, and there is none."""
    return not launch.server.model and not shelf.names()


class Startup:
    """The start of one program. `ask` reads an answer in the terminal; `loaded` is called when the model is there."""

    def __init__(
        self,
        paths: Paths,
        shelf: Shelf,
        models: Models,
        launch: Launch,
        *,
        demo: DemoModel | None = None,
        ask: Callable[[str], str] = input,
        loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._shelf = shelf
        self._models = models
        self._launch = launch
        self._demo = demo or DemoModel(paths)
        self._memory = Memory(paths)
        self._ask = ask
        self._loaded = loaded

    def choose(self) -> Choice:
        """Decide, from names alone: no header is read. Raises: UnknownName, for a --model that is not there."""
        asked = self._launch.server.model
        if asked.lower() == "none":
            return Choice("", "--model none was given")
        if asked:
            return self._named(asked)
        names = self._shelf.names()
        if wants_demo(self._launch, self._shelf):
            return Choice(self._demo.name, "there is no model yet, so a very small one is fetched to try", fetch=True)
        if self._launch.server.model_menu:
            return self._from_menu(names)
        last = self._memory.read()
        if last.died_loading:
            self._memory.settled()  # once: the start after this one tries again
        if last.died_loading and (last.died_loading == last.name or len(names) == 1):
            return Choice("", f"the program ended while loading {last.died_loading}, so it is left alone this time")
        if last.name in names:
            # --loader is asked before the remembered one, where it suits the model
            loader = None if self._launch.server.loader else last.loader
            return Choice(last.name, "it was in memory last time", loader or None)
        if len(names) == 1:
            return Choice(names[0], "it is the only model")
        return Choice("", f"there are {len(names)} models to choose from in the Model tab")

    def begin(self, choice: Choice) -> threading.Thread:
        """Load the chosen model in a thread of its own; what goes wrong is in `models.state` and in the log."""
        thread = threading.Thread(target=self._run, args=(choice,), name="startup", daemon=True)
        thread.start()
        return thread

    def _run(self, choice: Choice) -> None:
        if not choice.name:
            log.info("No model is loaded: %s.", choice.reason)
            return
        log.info("Loading %s: %s.", choice.name, choice.reason)
        try:
            obtain = self._demo.fetch if choice.fetch else None
            self._models.load(choice.name, choice.loader, obtain=obtain, flags_win=True)
        except UserError:
            log.debug("The start goes on without a model.")  # the reason is in the state, and logged already
        except Exception:
            log.exception("Loading %s at the start failed", choice.name)
        else:
            try:
                self._loaded()
            except UserError as error:
                log.warning("%s", error)

    def _named(self, asked: str) -> Choice:
        loader = self._launch.server.loader or None
        try:
            return Choice(self._shelf.find(asked).name, "--model names it", loader)
        except UnknownName:
            if asked.lower().removesuffix(".gguf") == self._demo.name.lower().removesuffix(".gguf"):
                return Choice(self._demo.name, "--model names it, and it can be fetched", loader, fetch=True)
            raise

    def _from_menu(self, names: list[str]) -> Choice:
        menu = "\n".join(f"{number:4d}. {name}" for number, name in enumerate(names, start=1))
        question = f"The models:\n{menu}\nWhich one? Its number, or nothing for none: "
        while True:
            try:
                answer = self._ask(question).strip()
            except EOFError:
                return Choice("", "--model-menu was given, and there is no terminal to ask in")
            if not answer:
                return Choice("", "none was chosen")
            if answer.isdecimal() and 1 <= int(answer) <= len(names):
                return Choice(names[int(answer) - 1], "it was chosen", self._launch.server.loader or None)
            question = f"A number from 1 to {len(names)}: "
