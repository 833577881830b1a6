"""The application: its services, made once and handed to the user interface and the API. Nothing else is global.

This module knows which services there are and what each needs; it must not know how anything is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from errors import UnknownName
from loaders import LOADERS
from loaders.base import Lora
from loaders.params import SamplingParams
from modules.chat.archive import Archive
from modules.chat.characters import Characters
from modules.chat.dialogue import Dialogues
from modules.chat.edits import Edits
from modules.chat.person import Person
from modules.chat.service import Chats
from modules.chat.store import Store
from modules.config.flags import Launch, read
from modules.config.leftovers import clear_temporaries
from modules.config.paths import Paths, safe_child
from modules.config.session import Session
from modules.config.settings import Settings, locate
from modules.config.user_data import bring, paths_of
from modules.extensions import Extensions
from modules.extensions.original import stands
from modules.generation.completions import Completions
from modules.generation.generator import Generator
from modules.generation.places import Places
from modules.generation.writing import Writing
from modules.library.downloads import Downloads
from modules.library.hub_token import HubToken
from modules.library.machine import Machine
from modules.library.model_settings import ModelSettings
from modules.library.models import Models
from modules.library.shelf import Shelf
from modules.prompts.drafts import Drafts
from modules.prompts.presets import Presets
from modules.prompts.templates import Templates
from modules.prompts.text_files import TextFiles
from modules.training.evaluations import Evaluations
from modules.training.measuring import Measuring
from modules.training.texts import Texts
from modules.training.workshop import Workshop

_PATIENCE = 3.0  # seconds for everything to end; a training that is left saves what it has learned by itself


@dataclass(frozen=True)
class App:
    """All services. `notes` are lines about flags and settings that are worth printing at the start."""

    launch: Launch
    settings: Settings
    notes: tuple[str, ...]
    paths: Paths
    shelf: Shelf
    models: Models
    extensions: Extensions
    session: Session
    components: dict[str, Any]  # of the page, by the original's names: extensions look them up
    downloads: Downloads
    hub_token: HubToken
    machine: Machine
    presets: Presets
    templates: Templates
    prompts: TextFiles
    grammars: TextFiles
    drafts: Drafts
    generator: Generator
    completions: Completions
    places: Places
    writing: Writing
    characters: Characters
    person: Person
    dialogues: Dialogues
    chats: Chats
    edits: Edits
    archive: Archive
    measuring: Measuring
    workshop: Workshop

    @classmethod
    def build(cls, root: Path, argv: Sequence[str]) -> Self:
        """Read flags and settings, make the services. Raises: UserError for a flag or file that cannot be read."""
        launch = read(argv, root, LOADERS)
        paths = paths_of(root, launch.server)
        bring(root, paths.root)
        paths.ensure()
        ours = (paths.models, paths.loras, paths.presets, paths.characters, paths.instruction_templates)
        clear_temporaries(
            (paths.root, paths.cache), deep=(*ours, paths.grammars, paths.prompts, paths.logs, paths.training)
        )
        extensions = Extensions(paths.extensions)
        settings_file = locate(paths.root, launch.server.settings)
        settings, notes = Settings.read(settings_file, extensions.available())
        shelf = Shelf(paths)
        model_settings = ModelSettings(paths)
        models = Models(
            paths,
            shelf,
            model_settings,
            LOADERS,
            launch.load_options,
            preferred_loader=launch.server.loader,
        )
        generator = Generator(models, extensions, model_settings.sampling_for)
        templates = Templates(paths, model_settings.matches, settings.model_dump())
        characters = Characters(paths)
        store = Store(paths)
        chats = Chats(store, characters, templates, generator, extensions)
        drafts = Drafts(paths.logs / "drafts")
        components: dict[str, Any] = {}
        given = {**launch.server.model_dump(), **launch.load_options}
        modules = stands(given, settings.model_dump(), lambda: models.loaded, generator.session, components)
        troubles = extensions.load([*settings.default_extensions, *launch.server.extensions], settings.kept, modules)
        return cls(
            launch=launch,
            settings=settings,
            notes=(*launch.notes, *notes, *troubles),
            paths=paths,
            shelf=shelf,
            models=models,
            extensions=extensions,
            session=Session(root, argv, launch, LOADERS, settings_file),
            components=components,
            downloads=Downloads(paths),
            hub_token=HubToken(paths),
            machine=Machine(),
            presets=Presets(paths),
            templates=templates,
            prompts=TextFiles(paths.prompts, ".txt", "prompt"),
            grammars=TextFiles(paths.grammars, ".gbnf", "grammar"),
            drafts=drafts,
            generator=generator,
            completions=Completions(generator, extensions),
            places=Places(generator),
            writing=Writing(generator, drafts, extensions),
            characters=characters,
            person=Person(paths),
            dialogues=Dialogues(templates, characters, generator, extensions),
            chats=chats,
            edits=Edits(chats, store),
            archive=Archive(store),
            measuring=Measuring(
                models, Texts(paths.training / "datasets"), Evaluations(paths.logs / "evaluations.csv")
            ),
            workshop=Workshop(paths, shelf),
        )

    def starting_params(self) -> SamplingParams:
        """The sampling knobs that the interface starts with: the preset, then settings.yaml, then the flags.

        Raises: UserError, when the preset of the settings is not there or a value is out of bounds.
        """
        params = self.presets.apply(SamplingParams(), self.settings.preset)
        return params.changed(**{**self.settings.sampling, **self.launch.sampling})

    def launch_params(self) -> SamplingParams:
        """The sampling knobs that a request of the API starts with: neutral, but for the flags."""
        return SamplingParams.parse(dict(self.launch.sampling))

    def settings_with(self, values: Mapping[str, Any], params: SamplingParams) -> Settings:
        """The settings with these values: of the knobs only what differs from the preset's, and what extensions keep.

        Raises: UserError.
        """
        settings = self.settings.changed(**values)
        start = self.presets.apply(SamplingParams(), settings.preset).model_dump()
        knobs = {name: value for name, value in params.model_dump().items() if value != start[name]}
        theirs = tuple(f"{each.name}-" for each in self.extensions.active)
        kept = (
            {key: value for key, value in settings.kept.items() if not key.startswith(theirs)}
            if theirs
            else {**settings.kept}
        )
        return settings.with_sampling(knobs).with_kept({**kept, **self.extensions.settings()})

    def lora_names(self) -> list[str]:
        """The adapters in the folder of the LoRAs."""
        folder = self.paths.loras
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(file.name for file in files if file.suffix == ".gguf" or (file.is_dir() and file.name[0] != "."))

    def install_extension(self, name: str, user: str | None = None) -> Iterator[str]:
        """Install what an extension needs; what pip says. `user`: the account of who asks. Raises: UserError."""
        self.session.rights.check(user)
        return self.extensions.install(name)

    def use_named_loras(self) -> None:
        """Let the adapters of --lora act, if there are any. Raises: as `use_loras`."""
        if names := self.launch.server.lora:
            self.use_loras(names)

    def load_with_lora(self, model: str, lora: str, strength: float) -> None:
        """Let this adapter act on its base, which is loaded unless it is there already. Raises: UserError."""
        base = self.models.named(model, "Transformers") or self.models.load(model, "Transformers")
        base.set_loras(self._loras([lora], strength))

    def use_loras(self, names: Sequence[str], strength: float = 1.0) -> None:
        """Let these adapters act and no others. Raises: NoModelLoaded, UnknownName, InvalidName, Unsupported."""
        loras = self._loras(names, strength)
        self.models.current().set_loras(loras)

    def _loras(self, names: Sequence[str], strength: float) -> list[Lora]:
        known = self.lora_names()
        for name in names:
            safe_child(self.paths.loras, name)
            if name not in known:
                raise UnknownName("LoRA", name, known)
        return [Lora(self.paths.loras / name, strength) for name in names]

    def keep(self) -> None:
        """Write down all texts that are growing, as far as they have come."""
        self.chats.keep()
        self.writing.keep()

    def close(self) -> bool:
        """Keep the growing texts, stop what is running, and give the model's memory back. False where that takes too
        long: whoever ends the process then loses nothing.
        """
        self.keep()
        deadline = time.monotonic() + _PATIENCE
        parts = (self.chats, self.writing, self.downloads, self.workshop, self.measuring, self.models, self.templates)
        # beside each other: none waits for the time that another one takes
        threads = [threading.Thread(target=part.close, name="closing", daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.keep()
        return not any(thread.is_alive() for thread in threads)
