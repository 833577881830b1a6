"""A program with extensions written by a test, over a scripted model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loaders.base import Model
from modules.chat.characters import Characters
from modules.chat.prompt.client_chat import ChatPromptBuilder
from modules.chat.script_chats import ScriptChats
from modules.chat.service import ChatService
from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths
from modules.extensions import INCLUDED, Extensions
from modules.extensions.compat import build_shims
from modules.generation.completions import CompletionService
from modules.generation.generator import Generator
from modules.generation.draft_generation import DraftWriter
from modules.prompts.drafts import Drafts
from modules.prompts.templates import Templates
from tests.fake_engine import FakeModel, FakeModels

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Home:
    """The services, with loaded extensions; `notes` are the lines printed at startup."""

    extensions: Extensions
    notes: list[str]
    models: Any
    generator: Generator
    chats: ChatService
    completions: CompletionService
    chat_prompts: ChatPromptBuilder
    writing: DraftWriter
    drafts: Drafts
    components: dict[str, Any]

    def script(self, name: str) -> Any:
        """The module of a script."""
        return sys.modules[f"extensions.{name}.script"]


@dataclass
class Held:
    """A ModelSource over an existing model."""

    model: Model

    @property
    def loaded(self) -> Model:
        return self.model

    def current(self) -> Model:
        return self.model

    def forget(self, label: str) -> None:
        self.model.forget(label)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    before = set(sys.modules)

    def make(
        scripts: dict[str, str] | None = None,
        *,
        names: list[str] | None = None,
        settings: dict[str, Any] | None = None,
        model: Model | None = None,
        included: bool = False,
        **fake: Any,
    ) -> Home:
        """`scripts` by name; those in `names` (default: all) are loaded. `included`: those of the program are there,
        too.
        """
        there = tmp_path / "extensions"
        for name, text in (scripts or {}).items():
            (there / name).mkdir(parents=True, exist_ok=True)
            (there / name / "script.py").write_text(text, encoding="utf-8")
        paths = Paths.under(tmp_path)
        shipped = Paths.under(ROOT)
        models: Any = Held(model) if model else FakeModels(FakeModel(**fake))
        extensions = Extensions(there, INCLUDED if included else None)
        generator = Generator(models, extensions)
        components: dict[str, Any] = {}
        templates, characters = Templates(shipped), Characters(shipped)
        chats = ChatService(ConversationStore(paths), characters, templates, generator)
        modules = build_shims(
            {"listen": False}, {"mode": "chat"}, lambda: models.loaded, generator.session, components,
            ScriptChats(chats), extensions.apply, ["temperature", "name1", "mode", "history", "unique_id"], tmp_path,
        )  # fmt: skip
        notes = extensions.load(names if names is not None else list(scripts or {}), settings, modules)
        drafts = Drafts(tmp_path / "drafts")
        return Home(
            extensions,
            notes,
            models,
            generator,
            chats,
            CompletionService(generator),
            ChatPromptBuilder(templates, characters, generator),
            DraftWriter(generator, drafts),
            drafts,
            components,
        )

    yield make
    for name in set(sys.modules) - before:
        if name.startswith(("extensions", "modules.shared", "modules.text_generation", "modules.utils")):
            del sys.modules[name]
