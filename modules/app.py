"""The application: its services, created once and passed to the web UI and the API. Nothing else is global.

This module knows which services there are and what each needs; it must not know how anything is shown.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from errors import UnknownName, UserError
from loaders import LOADERS
from loaders.base import Lora
from loaders.params import SamplingParams
from loaders.process import load_in_this_process, load_model
from modules.chat.characters import Characters
from modules.chat.edits import ConversationEdits
from modules.chat.folders import ChatFolders
from modules.chat.phrases import PhraseMeter
from modules.chat.prompt.client_chat import ChatPromptBuilder
from modules.chat.script_chats import ScriptChats
from modules.chat.service import ChatService
from modules.chat.store.archive import ChatArchive
from modules.chat.store.old_logs import move_old_chats
from modules.chat.store.store import ConversationStore
from modules.chat.user_profile import UserProfile
from modules.chat.work_ahead import WorkAhead
from modules.config.cleanup import delete_temporaries
from modules.config.flags import LaunchOptions, read_flags
from modules.config.ignored_settings import SeenNotes
from modules.config.paths import Paths, safe_child
from modules.config.session import Session
from modules.config.settings import Settings, find_settings_file
from modules.config.user_data import copy_shipped_files, unused_folder_note, user_paths
from modules.extensions import INCLUDED, Extensions
from modules.extensions.compat import build_shims
from modules.generation.completions import CompletionService
from modules.generation.draft_generation import DraftWriter
from modules.generation.generator import Generator
from modules.generation.snapshot_cache import SnapshotCache
from modules.library.downloads import DownloadManager
from modules.library.fit_badges import FitBadges
from modules.library.hub_token import HubToken
from modules.library.idle_timer import IdleTimer
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_memory import ModelLimits
from modules.library.model_router import ModelRouter, RoutingRules
from modules.library.model_settings import ModelSettings
from modules.library.remote_models import RemoteModels
from modules.library.system_memory import SystemMemory
from modules.prompts.drafts import Drafts
from modules.prompts.named_texts import NamedTexts
from modules.prompts.presets import Presets
from modules.prompts.templates import Templates
from modules.training.manager import TrainingManager
from modules.training.perplexity.evaluations import Evaluations
from modules.training.perplexity.manager import PerplexityManager
from modules.training.perplexity.texts import PerplexityTexts

#: Seconds for everything to end. A training left running saves its progress by itself; models that still write the
#: states of chats get the time that they need.
_PATIENCE, _LOOK = 3.0, 0.05


@dataclass(frozen=True)
class App:
    """All services. `notes` are lines about flags and settings to print at startup."""

    launch: LaunchOptions
    settings: Settings
    notes: tuple[str, ...]
    paths: Paths
    catalog: ModelCatalog
    models: ModelManager
    router: ModelRouter
    idle_timer: IdleTimer
    extensions: Extensions
    session: Session
    components: dict[str, Any]  # of the page, under the original's names: used by extensions
    fields: list[str]  # the names of those that have a value which a reply depends on
    script_chats: ScriptChats
    downloads: DownloadManager
    hub_token: HubToken
    remote_models: RemoteModels
    system_memory: SystemMemory
    badges: FitBadges
    presets: Presets
    templates: Templates
    prompts: NamedTexts
    grammars: NamedTexts
    banned_lists: NamedTexts
    drafts: Drafts
    generator: Generator
    completions: CompletionService
    snapshots: SnapshotCache
    draft_writer: DraftWriter
    characters: Characters
    user_profile: UserProfile
    chat_prompts: ChatPromptBuilder
    chats: ChatService
    ahead: WorkAhead
    edits: ConversationEdits
    folders: ChatFolders
    archive: ChatArchive
    phrases: PhraseMeter
    perplexity: PerplexityManager
    training: TrainingManager

    @classmethod
    def build(cls, root: Path, argv: Sequence[str]) -> Self:
        """Read flags and settings and create the services. Raises: UserError for a flag or file that cannot be read."""
        launch = read_flags(argv, root, LOADERS)
        paths = user_paths(root, launch.server)
        copy_shipped_files(root, paths.root)
        paths.ensure()
        ours = (paths.models, paths.loras, paths.presets, paths.characters, paths.users, paths.instruction_templates)
        texts = (paths.grammars, paths.banned_strings, paths.prompts)
        delete_temporaries((paths.root, paths.cache), deep=(*ours, *texts, paths.logs, paths.training))
        moved = (*unused_folder_note(root, paths.root), *move_old_chats(paths.logs))
        extensions = Extensions(paths.extensions, INCLUDED, root / "requirements.txt")
        settings_file = find_settings_file(paths.root, launch.server.settings)
        settings, notes = Settings.read(settings_file, extensions.available())
        notes += SeenNotes(paths.cache / "seen_notes").unseen(settings.ignored)
        shelf = ModelCatalog(paths)
        model_settings = ModelSettings(paths)
        models = ModelManager(
            paths,
            shelf,
            model_settings,
            LOADERS,
            launch.load_options,
            preferred_loader=launch.server.loader,
            load=load_in_this_process if launch.server.in_process else load_model,
            limits=ModelLimits(launch.server.max_models, round(launch.server.max_models_memory * 1e9)),
        )
        flags = launch.server
        router = ModelRouter(
            models, shelf, RoutingRules(flags.load_on_demand, flags.strict_model, flags.embedding_model)
        )
        generator = Generator(models, extensions, model_settings.sampling_for, router)
        presets = Presets(paths)
        templates = Templates(paths, model_settings.matches, settings.model_dump())
        characters = Characters(paths)
        store = ConversationStore(paths)
        chats = ChatService(store, characters, templates, generator)
        ahead = WorkAhead(chats, store, generator)
        drafts = Drafts(paths.logs / "drafts")
        components: dict[str, Any] = {}
        fields: list[str] = []
        script_chats = ScriptChats(chats)
        given = {**launch.server.model_dump(), **launch.load_options}
        modules = build_shims(
            given, settings.model_dump(), lambda: models.loaded, generator.session, components, script_chats,
            extensions.apply, fields, paths.root,
        )  # fmt: skip
        troubles = extensions.load([*settings.default_extensions, *launch.server.extensions], settings.kept, modules)
        machine = SystemMemory()
        return cls(
            launch=launch,
            settings=settings,
            notes=(*launch.notes, *notes, *_preset_note(presets, settings), *moved, *troubles),
            paths=paths,
            catalog=shelf,
            models=models,
            router=router,
            idle_timer=IdleTimer(models.unload_idle, flags.idle_timeout),
            extensions=extensions,
            session=Session(root, argv, launch, LOADERS, settings_file),
            components=components,
            fields=fields,
            script_chats=script_chats,
            downloads=DownloadManager(paths),
            hub_token=HubToken(paths),
            remote_models=RemoteModels(paths),
            system_memory=machine,
            badges=FitBadges(models, model_settings, machine, LOADERS),
            presets=presets,
            templates=templates,
            prompts=NamedTexts(
                paths.prompts, ".txt", "prompt", also=[paths.logs / "notebook"]
            ),  # the original's newer place
            grammars=NamedTexts(paths.grammars, ".gbnf", "grammar"),
            banned_lists=NamedTexts(paths.banned_strings, ".txt", "list"),
            drafts=drafts,
            generator=generator,
            completions=CompletionService(generator),
            snapshots=SnapshotCache(generator),
            draft_writer=DraftWriter(generator, drafts),
            characters=characters,
            user_profile=UserProfile(paths),
            chat_prompts=ChatPromptBuilder(templates, characters, generator),
            chats=chats,
            ahead=ahead,
            edits=ConversationEdits(chats, store),
            folders=ChatFolders(chats, store),
            archive=ChatArchive(store, forget=ahead.forget, warm=generator.warm_labels),
            phrases=PhraseMeter(store),
            perplexity=PerplexityManager(
                models, PerplexityTexts(paths.training / "datasets"), Evaluations(paths.logs / "evaluations.csv")
            ),
            training=TrainingManager(paths, shelf),
        )

    def starting_params(self) -> SamplingParams:
        """The start values of the web UI's sampling parameters: the preset, then settings.yaml, then the flags.

        A preset that does not exist or cannot be read counts as neutral; `notes` says so. Raises: UserError if a value
        is out of bounds.
        """
        params = SamplingParams()
        with suppress(UserError):
            params = self.presets.apply(params, self.settings.preset)
        return params.changed(**{**self.settings.sampling, **self.launch.sampling})

    def launch_params(self) -> SamplingParams:
        """The start values of the API's sampling parameters: neutral, except for the flags."""
        return SamplingParams.parse(dict(self.launch.sampling))

    def settings_with(self, values: Mapping[str, Any], params: SamplingParams) -> Settings:
        """The settings with these values: of the knobs only what differs from the preset, and extensions' params.

        None, from a menu in which nothing is selected, leaves a setting as it is. Raises: UserError.
        """
        settings = self.settings.changed(**{name: value for name, value in values.items() if value is not None})
        start = SamplingParams()
        if settings.preset in self.presets.names():  # it may have been deleted
            start = self.presets.apply(start, settings.preset)
        usual = start.model_dump()
        knobs = {name: value for name, value in params.model_dump().items() if value != usual[name]}
        theirs = tuple(f"{each.name}-" for each in self.extensions.active)
        kept = (
            {key: value for key, value in settings.kept.items() if not key.startswith(theirs)}
            if theirs
            else {**settings.kept}
        )
        return settings.with_sampling(knobs).with_kept({**kept, **self.extensions.settings()})

    def lora_names(self) -> list[str]:
        """The adapters in the LoRA folder."""
        folder = self.paths.loras
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(file.name for file in files if file.suffix == ".gguf" or (file.is_dir() and file.name[0] != "."))

    def install_extension(self, name: str, user: str | None = None) -> Iterator[str]:
        """Install what an extension needs; yields pip's output. `user`: the account of the request. Raises:
        UserError.
        """
        self.session.rights.check(user)
        return self.extensions.install(name)

    def add_remote_model(
        self, url: str, *, name: str = "", kind: str = "", model: str = "", key: str = "", user: str | None = None
    ) -> str:
        """Add a model on another server; everybody's prompts will go there. `user`: the account of the request.

        Returns its name in the catalog. Raises: UserError.
        """
        self.session.rights.check(user)
        return self.remote_models.add(url, name=name, kind=kind, model=model, key=key)

    def use_named_loras(self) -> None:
        """Apply the adapters of --lora, if there are any. Raises: as `use_loras`."""
        if names := self.launch.server.lora:
            self.use_loras(names)

    def load_with_lora(self, model: str, lora: str, strength: float) -> None:
        """Apply this adapter to its base model, loading that if necessary. Raises: UserError."""
        base = self.models.named(model, "Transformers") or self.models.load(model, "Transformers")
        base.set_loras(self._loras([lora], strength))

    def use_loras(self, names: Sequence[str], strength: float = 1.0) -> None:
        """Apply exactly these adapters; one that is named twice acts twice. Raises: NoModelLoaded, UnknownName,
        InvalidName, Unsupported.
        """
        loras = self._loras(names, strength)
        self.models.current().set_loras(loras)

    def _loras(self, names: Sequence[str], strength: float) -> list[Lora]:
        known = self.lora_names()
        for name in names:
            safe_child(self.paths.loras, name)
            if name not in known:
                raise UnknownName("LoRA", name, known)
        return [Lora(self.paths.loras / name, strength * count) for name, count in Counter(names).items()]

    def keep(self) -> None:
        """Save all texts that are being generated."""
        self.chats.keep()
        self.draft_writer.keep()

    def close(self) -> bool:
        """Save texts that are being generated, stop everything, and free the model's memory. False if that takes too
        long: the process can then be ended without losing anything.
        """
        self.keep()
        loaded = [entry.model for entry in self.models.memory.all]
        deadline = time.monotonic() + _PATIENCE
        parts = (
            self.ahead,
            self.chats,
            self.draft_writer,
            self.downloads,
            self.training,
            self.perplexity,
            self.idle_timer,
            self.models,
            self.templates,
        )
        # in parallel, so that their waiting times do not add up
        threads = [threading.Thread(target=part.close, name="closing", daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            while thread.is_alive() and any(model.saving for model in loaded):  # for a minute at most
                thread.join(_LOOK)
        self.keep()
        return not any(thread.is_alive() for thread in threads)


def _preset_note(presets: Presets, settings: Settings) -> tuple[str, ...]:
    """A line if the settings' preset cannot be used."""
    try:
        presets.load(settings.preset)
    except UserError as error:
        return (f"The preset of the settings is not used, and its parameters start neutral: {error}",)
    return ()
