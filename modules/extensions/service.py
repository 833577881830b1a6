"""All extensions of this installation: which there are, which are at work, and what they make of a text.

Each method below is one of the functions that an extension may have, as the services of the program call it; without
an extension it hands back what it got. This module must not know of chats, engines or pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from errors import UnknownName, nearest
from loaders.base import LogitsProcessor
from loaders.params import SamplingParams
from modules.extensions.arrays import Processor, array_for, ids_from
from modules.extensions.context import HookContext, Words, instead_of, params_from, state_of, using
from modules.extensions.extension import Extension, first_sentence, missing_requirements
from modules.extensions.hooks import HOOKS, Passing, Plugins
from modules.extensions.installing import install
from modules.extensions.original import provide

V = TypeVar("V")

#: Extensions of the original that are a part of this program itself.
BUILT_IN: Mapping[str, str] = {
    "openai": "the API is built in: --api starts it",
    "api": "the API is built in: --api starts it",
    "Training_PRO": "training is built in: see the Training tab",
}
#: Extensions of the original that cannot do anything here.
IDLE: Mapping[str, str] = {
    "multimodal": "its pipelines need loaders that this program does not have",
}


class Extensions:
    """Those that were asked for, in their order. May be used from several threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: where extensions lie."""
        self._folder = folder or Path("extensions")
        self._plugins = Plugins()
        self._having: dict[str, bool] = {}
        self.active: tuple[Extension, ...] = ()
        self.failed: tuple[Extension, ...] = ()  # asked for, and not loaded

    # --- which there are ---

    def available(self) -> list[str]:
        """The names of the folders that hold a script.py, without regard to case in order."""
        if not self._folder.is_dir():
            return []
        found = (each.name for each in self._folder.iterdir() if (each / "script.py").is_file())
        return sorted((name for name in found if re.fullmatch(r"\w[\w.-]*", name)), key=str.lower)

    def load(
        self,
        names: Sequence[str],
        settings: Mapping[str, Any] | None = None,
        modules: Mapping[str, ModuleType] | None = None,
    ) -> list[str]:
        """Import these extensions, in this order; lines that say what could not be. Once, at the start.

        A name after a minus takes one out again that was named before it.
        `settings`: what settings.yaml holds for them, as `NAME-param`; `modules`: what scripts import of the original
        program, by name.
        """
        provide(modules or {})
        notes: list[str] = []
        active: list[Extension] = []
        failed: list[Extension] = []
        known = self.available()
        for name in chosen(names):
            if name in BUILT_IN:
                notes.append(f"The extension {name} is passed over; it is not needed: {BUILT_IN[name]}.")
                continue
            if name in IDLE:
                notes.append(f"The extension {name} is passed over: {IDLE[name]}.")
                continue
            if name not in known:
                notes.append(f"There is no extension {name} in {self._folder}.{nearest(name, known)}")
                continue
            extension = Extension(self._folder / name)
            loaded = extension.load(settings or {})
            (active if loaded or extension.hooks else failed).append(extension)
            if extension.problem:
                notes.append(extension.problem)
        for extension in reversed(active):  # pluggy asks the last one first
            self._plugins.register(_Plugin(extension), name=extension.name)
        self._having = {name: any(name in each.hooks for each in active) for name in HOOKS}
        self.active, self.failed = tuple(active), tuple(failed)
        return notes

    def about(self, name: str) -> str:
        """What an extension says of itself: the first sentence of its script. The script is not run."""
        return first_sentence(self._folder / name / "script.py")

    def missing(self, name: str) -> list[str]:
        """The packages that an extension needs and that are not installed."""
        return missing_requirements(self._folder / name)

    def install(self, name: str) -> Iterator[str]:
        """Install what an extension needs; what pip says. Raises: UnknownName, InvalidInput, Unavailable."""
        if name not in self.available():
            raise UnknownName("extension", str(name), self.available())
        return install(self._folder / name, self._folder.parent / "requirements.txt")

    def settings(self) -> dict[str, Any]:
        """What of the extensions' params belongs into settings.yaml."""
        return {key: value for each in self.active for key, value in each.settings.items()}

    def has(self, hook: str) -> bool:
        """Whether an extension at work has this function."""
        return self._having.get(hook, False)

    def having(self, hook: str) -> list[Extension]:
        """The extensions that have this function, in their order."""
        return [each for each in self.active if hook in each.hooks]

    def text_of(self, hook: str) -> str:
        """What `custom_css` and `custom_js` of all extensions say, one after the other."""
        said = (each.hook(hook, Passing(None)) for each in self.having(hook))
        return "\n".join(text for text in said if isinstance(text, str))

    # --- one reply ---

    def begin(
        self, params: SamplingParams, *, is_chat: bool = False, words: Words | None = None, **facts: Any
    ) -> HookContext:
        """The start of a reply, with `state_modifier`. `facts` go into the state beside the knobs.

        `words`: the model that answers; scripts see no other one while they work on this reply.
        """
        context = HookContext(params, is_chat, words=words)
        if not self.active:
            return context
        context.state = state_of(params, {"stream": params.stream, **facts})
        if self.has("state_modifier"):
            changed = self._change("state_modifier", context.state, (), context)
            context.state = changed
            context.params = params_from(changed, params, context.notes)
        return context

    def history(self, history: dict[str, Any], context: HookContext) -> dict[str, Any]:
        """The rows of a chat, as {"internal": [[user, bot], ...], "visible": ...}."""
        return self._change("history_modifier", history, (), context)

    def message(self, text: str, visible: str, context: HookContext) -> tuple[str, str]:
        """A new message in a chat: as the model gets it, and as it is shown (HTML)."""
        text, visible = self._change("chat_input_modifier", (text, visible), (context.state,), context)
        return self._change("input_modifier", text, (context.state, True), context), visible

    def prompt(self, text: str, context: HookContext) -> str:
        """A whole prompt, outside of chats."""
        return self._change("input_modifier", text, (context.state, False), context)

    def prefix(self, text: str, context: HookContext) -> str:
        """What a character's reply begins with, such as "Assistant:"."""
        return self._change("bot_prefix_modifier", text, (context.state,), context)

    def chat_prompt(self, text: str, context: HookContext, usual: str | None = None, **how: Any) -> str | None:
        """A chat's prompt; None where no extension makes one. `usual`: the one that it would replace."""
        with instead_of(usual):
            return self._first("custom_generate_chat_prompt", text, (context.state,), context, str, how)

    def ids(self, prompt: str, ids: Sequence[int], context: HookContext) -> list[int]:
        """The token ids of a prompt."""
        for extension in self.having("tokenizer_modifier"):
            passing = Passing((context.state, prompt, array_for(extension, ids), None), notes=context.notes)
            with using(context.words):
                answer = extension.hook("tokenizer_modifier", passing)
            if answer is not None:
                check = extension.guarded("tokenizer_modifier", lambda made: (made[0], ids_from(made[1])), context.notes)
                prompt, ids = check(answer) or (prompt, ids)
        return list(ids)

    def count(self, prompt: str, words: Words | None = None) -> int | None:
        """How many tokens a prompt has; None where no extension knows better than the tokenizer."""
        context = HookContext(SamplingParams(), words=words)
        return self._first("custom_tokenized_length", prompt, (), context, int)

    def processors(self, ids: Sequence[int], context: HookContext) -> list[LogitsProcessor]:
        """What extensions do to the logits of each token of this reply."""
        found: list[LogitsProcessor] = []
        for extension in self.having("logits_processor_modifier"):
            given: list[Any] = []
            passing = Passing(given, (array_for(extension, ids),), notes=context.notes)
            with using(context.words):
                answer = extension.hook("logits_processor_modifier", passing)
            made = answer if isinstance(answer, list) else given
            found += [Processor(extension, each, context) for each in made]
        return found

    def reply(
        self, question: str, original: str, context: HookContext, stop: Sequence[str]
    ) -> tuple[Extension, Iterator[Any]] | None:
        """Who writes the reply in the model's place, and how; None for the model itself."""
        others = (original, context.params.seed, context.state, list(stop), context.is_chat)
        for extension in self.having("custom_generate_reply"):
            with using(context.words):
                answer = extension.hook("custom_generate_reply", Passing(question, others, notes=context.notes))
            if isinstance(answer, str):
                return extension, iter([answer])
            if answer is not None:
                return extension, iter(answer)
        return None

    def output(self, text: str, context: HookContext) -> str:
        """The finished reply; in a chat as it is shown (HTML)."""
        return self._change("output_modifier", text, (context.state, context.is_chat), context)

    # --- inside ---

    def _change(self, hook: str, value: V, others: tuple[Any, ...], context: HookContext) -> V:
        if not self.has(hook):
            return value
        passing = Passing(value, others, notes=context.notes)
        with using(context.words):
            getattr(self._plugins.hook, hook)(passing=passing)
        made: V = passing.value
        return made

    def _first(
        self,
        hook: str,
        value: Any,
        others: tuple[Any, ...],
        context: HookContext,
        kind: type[V],
        named: Mapping[str, Any] | None = None,
    ) -> V | None:
        if not self.has(hook):
            return None
        with using(context.words):
            answer = getattr(self._plugins.hook, hook)(passing=Passing(value, others, named or {}, context.notes))
        return answer if isinstance(answer, kind) else None


def chosen(names: Iterable[str]) -> list[str]:
    """The names that are left, each once, in order: "-gallery" takes "gallery" out."""
    left: dict[str, None] = {}
    for name in names:
        if name.startswith("-"):
            left.pop(name[1:], None)
        else:
            left[name] = None
    return list(left)


class _Plugin:
    """An extension as pluggy sees it: a method for each function that the script has."""

    def __init__(self, extension: Extension) -> None:
        for name in extension.hooks:
            setattr(self, name, _method(extension, name))


def _method(extension: Extension, name: str) -> Any:
    def method(passing: Passing) -> Any:
        answer = extension.hook(name, passing)
        if HOOKS[name].kind == "change" and answer is not None:
            fits = isinstance(answer, type(passing.value))
            if fits and not (isinstance(answer, tuple) and len(answer) != len(passing.value)):
                passing.value = answer
            else:
                wanted = type(passing.value).__name__
                wrong = TypeError(f"it returned a {type(answer).__name__} where a {wanted} is wanted")
                passing.notes.append(extension.failed(name, wrong))
        return answer

    return method
