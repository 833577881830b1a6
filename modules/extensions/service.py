"""All extensions of this installation: which exist, which are loaded, and what they change.

Each method below is one of the hooks, as the program's services call it; without an extension it returns what it got.
This module must not know of chats, engines or pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from errors import UnknownName, did_you_mean
from loaders.base import LogitsProcessor
from loaders.params import SamplingParams
from modules.extensions.arrays import ScriptLogitsProcessor, to_script_array, from_script_ids
from modules.extensions.context import (
    HookContext,
    ModelAccess,
    current_model_access,
    offer_default_prompt,
    params_from_state,
    make_state,
    use_model_access,
)
from modules.extensions.extension import Extension, first_sentence, missing_requirements
from modules.extensions.hooks import HOOKS, HookCall, HookManager
from modules.extensions.requirements import install_requirements
from modules.extensions.compat import install_shims

V = TypeVar("V")

#: The extensions of this program.
INCLUDED = Path(__file__).with_name("included")
#: Extensions of the original that are built into this program.
BUILT_IN: Mapping[str, str] = {
    "openai": "the API is built in; start it with --api",
    "api": "the API is built in; start it with --api",
    "Training_PRO": "training is built in; see the Training tab",
}
#: Extensions of the original that cannot work here.
IDLE: Mapping[str, str] = {
    "multimodal": "its pipelines need loaders that this program does not have",
}


def _scripts(folder: Path | None) -> list[str]:
    """The names of the folders with a script."""
    if folder is None or not folder.is_dir():
        return []
    return [each.name for each in folder.iterdir() if (each / "script.py").is_file()]


class Extensions:
    """The extensions that were requested, in their order. May be used from several threads."""

    def __init__(
        self, folder: Path | None = None, included: Path | None = None, requirements: Path | None = None
    ) -> None:
        """`folder`: the user's extensions. `included`: those of the program, which win if both have a name, because the
        original's scripts of the same names are made for its page. `requirements`: the program's own lock file.
        """
        self._folder = folder or Path("extensions")
        self._included = included
        self._requirements = requirements or self._folder.parent / "requirements.txt"
        self._plugins = HookManager()
        self._having: dict[str, bool] = {}
        self.active: tuple[Extension, ...] = ()
        self.failed: tuple[Extension, ...] = ()  # requested, but not loaded

    # --- which there are ---

    def available(self) -> list[str]:
        """The names of the folders that contain a script.py, sorted without regard to case."""
        names = {*_scripts(self._folder), *_scripts(self._included)}
        return sorted((name for name in names if re.fullmatch(r"\w[\w.-]*", name)), key=str.lower)

    def _place(self, name: str) -> Path:
        """The folder of an extension."""
        own = self._included / name if self._included else None
        return own if own and (own / "script.py").is_file() else self._folder / name

    def load(
        self,
        names: Sequence[str],
        settings: Mapping[str, Any] | None = None,
        modules: Mapping[str, ModuleType] | None = None,
    ) -> list[str]:
        """Import these extensions in this order; returns lines about those that failed. Once, at startup.

        A name with a minus sign removes one that was named before it. `settings`: their entries in settings.yaml, as
        `NAME-param`; `modules`: what scripts import of the original program, by name.
        """
        install_shims(modules or {})
        notes: list[str] = []
        active: list[Extension] = []
        failed: list[Extension] = []
        known = self.available()
        for name in resolve_names(names):
            if name in BUILT_IN:
                notes.append(f"The extension {name} was skipped because it is not needed: {BUILT_IN[name]}.")
                continue
            if name in IDLE:
                notes.append(f"The extension {name} was skipped: {IDLE[name]}.")
                continue
            if name not in known:
                if (self._folder / name).is_dir():
                    notes.append(f"The extension {name} is not loaded: {self._folder / name} contains no script.py.")
                    continue
                notes.append(f"There is no extension {name} in {self._folder}.{did_you_mean(name, known)}")
                continue
            place = self._place(name)
            if self.is_included(name) and (self._folder / name / "script.py").is_file():
                notes.append(
                    f"The program's own {name} is used instead of {self._folder / name}. To use that one, rename its "
                    "folder."
                )
            extension = Extension(place, self._requirements)
            loaded = extension.load(settings or {})
            (active if loaded or extension.hooks else failed).append(extension)
            if problem := extension.problem:
                begin = f"The extension {name} "
                notes.append(problem if problem.startswith(begin) else f"{begin}is not loaded. {problem}")
        for extension in reversed(active):  # pluggy calls the last one first
            self._plugins.register(_Plugin(extension), name=extension.name)
        self._having = {name: any(name in each.hooks for each in active) for name in HOOKS}
        self.active, self.failed = tuple(active), tuple(failed)
        return notes

    def is_included(self, name: str) -> bool:
        """Whether it is one of the program's own."""
        return self._place(name).parent != self._folder

    def about(self, name: str) -> str:
        """An extension's description: the first sentence of its script. The script is not run."""
        return first_sentence(self._place(name) / "script.py")

    def missing(self, name: str) -> list[str]:
        """The packages that an extension needs and that are not installed."""
        return missing_requirements(self._place(name))

    def install(self, name: str) -> Iterator[str]:
        """Install what an extension needs; yields pip's output. Raises: UnknownName, InvalidInput, Unavailable."""
        if name not in self.available():
            raise UnknownName("extension", str(name), self.available())
        return install_requirements(self._place(name), self._requirements)

    def settings(self) -> dict[str, Any]:
        """The extensions' params to be stored in settings.yaml."""
        return {key: value for each in self.active for key, value in each.settings.items()}

    def has(self, hook: str) -> bool:
        """Whether a loaded extension has this function."""
        return self._having.get(hook, False)

    def having(self, hook: str) -> list[Extension]:
        """The extensions that have this function, in their order."""
        return [each for each in self.active if hook in each.hooks]

    def text_of(self, hook: str) -> str:
        """The results of `custom_css` and `custom_js` of all extensions, joined."""
        said = (each.hook(hook, HookCall(None)) for each in self.having(hook))
        return "\n".join(text for text in said if isinstance(text, str))

    # --- one reply ---

    def begin(
        self, params: SamplingParams, *, is_chat: bool = False, words: ModelAccess | None = None, **facts: Any
    ) -> HookContext:
        """The start of a reply, with `state_modifier`. `facts` go into the state in addition to the knobs.

        `words`: the model that answers; scripts see no other while they work on this reply.
        """
        context = HookContext(params, is_chat, words=words)
        if not self.active:
            return context
        context.state = make_state(params, {"stream": params.stream, **facts})
        if self.has("state_modifier"):
            changed = self._change("state_modifier", context.state, (), context)
            context.state = changed
            context.params = params_from_state(changed, params, context.notes)
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
        """The prefix of a character's reply, such as "Assistant:"."""
        return self._change("bot_prefix_modifier", text, (context.state,), context)

    def chat_prompt(self, text: str, context: HookContext, usual: str | None = None, **how: Any) -> str | None:
        """A chat's prompt; None if no extension builds one. `usual`: the one that it would replace."""
        with offer_default_prompt(usual):
            return self._first("custom_generate_chat_prompt", text, (context.state,), context, str, how)

    def ids(self, prompt: str, ids: Sequence[int], context: HookContext) -> list[int]:
        """The token ids of a prompt."""
        for extension in self.having("tokenizer_modifier"):
            passing = HookCall((context.state, prompt, to_script_array(extension, ids), None), notes=context.notes)
            with use_model_access(context.words):
                answer = extension.hook("tokenizer_modifier", passing)
            if answer is not None:
                check = extension.guarded("tokenizer_modifier", lambda made: (made[0], from_script_ids(made[1])), context.notes)
                prompt, ids = check(answer) or (prompt, ids)
        return list(ids)

    def count(self, prompt: str, words: ModelAccess | None = None) -> int | None:
        """How many tokens a prompt has; None if no extension counts them."""
        context = HookContext(SamplingParams(), words=words)
        return self._first("custom_tokenized_length", prompt, (), context, int)

    def processors(self, ids: Sequence[int], context: HookContext) -> list[LogitsProcessor]:
        """The logits processors that extensions add to this reply."""
        found: list[LogitsProcessor] = []
        for extension in self.having("logits_processor_modifier"):
            given: list[Any] = []
            passing = HookCall(given, (to_script_array(extension, ids),), notes=context.notes)
            with use_model_access(context.words):
                answer = extension.hook("logits_processor_modifier", passing)
            made = answer if isinstance(answer, list) else given
            found += [ScriptLogitsProcessor(extension, each, context) for each in made]
        return found

    def reply(
        self, question: str, original: str, context: HookContext, stop: Sequence[str]
    ) -> tuple[Extension, Iterator[Any]] | None:
        """The extension that writes the reply instead of the model, and how; None for the model itself."""
        others = (original, context.params.seed, context.state, list(stop), context.is_chat)
        for extension in self.having("custom_generate_reply"):
            with use_model_access(context.words):
                answer = extension.hook("custom_generate_reply", HookCall(question, others, notes=context.notes))
            if isinstance(answer, str):
                return extension, iter([answer])
            if answer is not None:
                return extension, iter(answer)
        return None

    def apply(self, kind: str, value: Any, *others: Any) -> Any:
        """The original's `apply_extensions`, for scripts: a value as all extensions change it.

        Raises: ValueError for a kind that no function of that name changes.
        """
        name = f"{kind}_modifier"
        if name not in HOOKS or HOOKS[name].kind != "change":
            raise ValueError(f"apply_extensions does not know {kind!r} here.")
        if name == "chat_input_modifier":
            value, others = (value, others[0]), others[1:]
        return self._change(name, value, others, HookContext(SamplingParams(), words=current_model_access()))

    def output(self, text: str, context: HookContext) -> str:
        """The finished reply; in a chat as it is shown (HTML)."""
        return self._change("output_modifier", text, (context.state, context.is_chat), context)

    # --- inside ---

    def _change(self, hook: str, value: V, others: tuple[Any, ...], context: HookContext) -> V:
        if not self.has(hook):
            return value
        passing = HookCall(value, others, notes=context.notes)
        with use_model_access(context.words):
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
        with use_model_access(context.words):
            answer = getattr(self._plugins.hook, hook)(passing=HookCall(value, others, named or {}, context.notes))
        return answer if isinstance(answer, kind) else None


def resolve_names(names: Iterable[str]) -> list[str]:
    """The remaining names, each once, in order: "-gallery" removes "gallery"."""
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
    def method(passing: HookCall) -> Any:
        answer = extension.hook(name, passing)
        if HOOKS[name].kind == "change" and answer is not None:
            fits = isinstance(answer, type(passing.value))
            if fits and not (isinstance(answer, tuple) and len(answer) != len(passing.value)):
                passing.value = answer
            else:
                wanted = type(passing.value).__name__
                wrong = TypeError(f"it returned a {type(answer).__name__} instead of a {wanted}")
                passing.notes.append(extension.failed(name, wrong))
        return answer

    return method
