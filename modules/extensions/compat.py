"""The original's modules that scripts import: `modules.shared`, `modules.text_generation`, `modules.utils`,
`modules.logging_colors`, `modules.html_generator`, `modules.ui_chat`; and, of `modules.chat`, `modules.ui` and
`modules.extensions`, which are packages of this program, the attributes that scripts use.

They exist for scripts only; missing names raise an error that names them. A value is looked up when it is used: in a
function that works on a request, a script sees the model of that request, elsewhere the loaded one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from loaders.base import Model
from loaders.params import SamplingParams
from modules.extensions.chat_compat import (
    REPLY_INPUTS,
    SHOW_INPUTS,
    ChatAccess,
    chat_functions,
    paragraphs,
    state_params,
    ui_functions,
)
from modules.extensions.context import ModelAccess, current_model_access

#: Modules of the original whose names are packages here, and the key of what scripts find there in addition.
_PACKAGES = ("modules.chat", "modules.ui", "modules.extensions")
_BESIDE = " (for scripts)"


class LazyModule(ModuleType):
    """A module whose values are created when they are used."""

    def __init__(self, name: str, values: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(name, f"What scripts for the original program use of {name}.")
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]()
        except KeyError:
            raise AttributeError(
                f"{self.__name__}.{name} of the original program is not supported; available: "
                f"{', '.join(sorted(self._values))} (see docs/extensions.md)"
            ) from None


def install_shims(modules: Mapping[str, ModuleType]) -> None:
    """Let scripts import these, also if files of the same name exist; in addition to packages of this program."""
    sys.modules.update({f"{name}{_BESIDE}" if name in _PACKAGES else name: each for name, each in modules.items()})


def package_attribute(package: str, name: str) -> Any:
    """An attribute that scripts find in a package of this program in addition to its own. Raises: AttributeError."""
    stand = sys.modules.get(f"{package}{_BESIDE}")
    if stand is None or name.startswith("__"):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(stand, name)


def build_shims(
    args: Mapping[str, Any],
    settings: Mapping[str, Any],
    loaded: Callable[[], Model | None],
    begin: Callable[[], ModelAccess],
    components: dict[str, Any],
    chats: ChatAccess,
    apply: Callable[..., Any],
    inputs: list[str],
    folder: Path = Path(),
) -> dict[str, ModuleType]:
    """The modules, by name. `loaded` returns the loaded model, `begin` a session for it (it raises without one).

    `components` are those of the page, and `inputs` the names of its fields; the page fills both while it is built.
    `apply` calls the functions of all extensions; `folder`: of the user's files.
    """

    def words() -> ModelAccess:
        return current_model_access() or begin()

    def model() -> Model | None:
        asked = current_model_access()
        return asked.model if asked else loaded()

    tokenizer = _Tokenizer(words)
    shared: dict[str, Any] = {
        "args": SimpleNamespace(**args),
        "settings": dict(settings),
        "tokenizer": tokenizer,
        "gradio": components,
        "user_data_dir": folder,
        "is_seq2seq": False,
        "processing_message": "*Is typing...*",
        "input_elements": inputs,
        "input_params": list(REPLY_INPUTS),
        "reload_inputs": list(SHOW_INPUTS),
        "is_chat": lambda: True,
    }
    told: dict[str, Callable[[], Any]] = {name: _constant(value) for name, value in shared.items()}
    told["model"] = model
    told["model_name"] = lambda: now.name if (now := model()) else "None"

    def encode(prompt: str, add_special_tokens: bool = True, add_bos_token: bool = True, **_: Any) -> Any:
        params = SamplingParams(add_bos_token=add_special_tokens and add_bos_token)
        return np.asarray(words().ids(prompt, params), np.int64).reshape(1, -1)

    stops = [0]  # how often a script has ended all replies of scripts

    def generate_reply(
        question: str, state: Mapping[str, Any], stopping_strings: Sequence[str] | None = None, **_: Any
    ) -> Iterator[str]:
        before = stops[0]
        with closing(words().said(question, state_params(state), stopping_strings or ())) as growing:  # type: ignore[type-var]
            yield from takewhile(lambda _: stops[0] == before, growing)

    def stop_everything_event() -> None:
        stops[0] += 1

    def generate_reply_wrapper(
        question: str, state: Mapping[str, Any], stopping_strings: Sequence[str] | None = None, **_: Any
    ) -> Iterator[tuple[str, str]]:
        for text in generate_reply(question, state, stopping_strings):
            text = text if state.get("is_chat") else question + text
            yield text, paragraphs(text)

    def generate(question: str, _question: str, _seed: int, state: Mapping[str, Any], stop: Any = None, **_: Any) -> Any:
        return generate_reply(question, state, stop)

    generation: dict[str, Any] = {
        "encode": encode,
        "decode": tokenizer.decode,
        "get_encoded_length": lambda prompt: len(words().encode(prompt)),
        "get_max_prompt_length": lambda state: words().max_prompt(state_params(state)),
        "generate_reply": generate_reply,
        "generate_reply_wrapper": generate_reply_wrapper,
        "generate_reply_HF": generate,
        "generate_reply_custom": generate,
        "stop_everything_event": stop_everything_event,
    }
    logger = logging.getLogger("modules.extensions.scripts")
    return {
        "modules.shared": LazyModule("modules.shared", told),
        "modules.text_generation": LazyModule("modules.text_generation", _constants(generation)),
        "modules.utils": LazyModule("modules.utils", {"gradio": lambda: lambda *names: _components(components, names)}),
        "modules.chat": LazyModule("modules.chat", _constants(chat_functions(lambda: chats))),
        "modules.ui": LazyModule("modules.ui", _constants(ui_functions(inputs, lambda: chats))),
        "modules.extensions": LazyModule("modules.extensions", {"apply_extensions": _constant(apply)}),
        "modules.ui_chat": LazyModule(
            "modules.ui_chat", _constants({"inputs": REPLY_INPUTS, "reload_arr": SHOW_INPUTS})
        ),
        "modules.html_generator": LazyModule("modules.html_generator", _constants(_HTML)),
        "modules.logging_colors": LazyModule("modules.logging_colors", {"logger": lambda: logger}),
    }


#: Replacements for the original's HTML functions: pictures by their path, texts as paragraphs.
_HTML: Mapping[str, Any] = {
    "get_image_cache": lambda path: str(path),
    "convert_to_markdown": paragraphs,
    "fix_newlines": lambda text: text.replace("\r\n", "\n"),
    "generate_basic_html": paragraphs,
    "replace_blockquote": lambda text: text,
    "image_cache": {},
}


class _Tokenizer:
    """The model's vocabulary with the method names of transformers."""

    def __init__(self, words: Callable[[], ModelAccess]) -> None:
        self._words = words

    def encode(self, text: str, **_: Any) -> list[int]:
        return self._words().encode(text)

    def decode(self, ids: Any, **_: Any) -> str:
        return self._words().decode([int(each) for each in np.asarray(ids).reshape(-1).tolist()])


def _components(components: Mapping[str, Any], names: Sequence[Any]) -> Any:
    """One component for one name, a list for several, as in the original."""
    wanted = [each for name in names for each in (name if isinstance(name, list | tuple) else [name])]
    found = [components[name] for name in wanted]
    return found[0] if len(found) == 1 else found


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _constants(values: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    return {name: _constant(value) for name, value in values.items()}
