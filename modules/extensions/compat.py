"""The original's modules that scripts import: `modules.shared`, `modules.text_generation`, `modules.utils`,
`modules.logging_colors`, `modules.html_generator`, `modules.ui_chat`; and, of `modules.chat` and `modules.ui`, which
are packages of this program, the attributes that scripts use.

They exist for scripts only; missing names raise an error that names them. A value is looked up when it is used: in a
function that works on a request, a script sees the model of that request, elsewhere the loaded one.
"""

from __future__ import annotations

import html
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from errors import UserError
from loaders.base import Model
from loaders.params import SamplingParams
from modules.extensions.context import ModelAccess, default_chat_prompt, current_model_access


#: Modules of the original whose names are packages here, and the key of what scripts find there in addition.
_PACKAGES = ("modules.chat", "modules.ui")
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
    folder: Path = Path(),
) -> dict[str, ModuleType]:
    """The modules, by name. `loaded` returns the loaded model, `begin` a session for it (it raises without one).

    `components` are those of the page, which fills the dictionary while it is built; `folder`: of the user's files.
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
        "input_params": [],
        "reload_inputs": [],
    }
    told: dict[str, Callable[[], Any]] = {name: _constant(value) for name, value in shared.items()}
    told["model"] = model
    told["model_name"] = lambda: now.name if (now := model()) else "None"

    def encode(prompt: str, add_special_tokens: bool = True, add_bos_token: bool = True, **_: Any) -> Any:
        params = SamplingParams(add_bos_token=add_special_tokens and add_bos_token)
        return np.asarray(words().ids(prompt, params), np.int64).reshape(1, -1)

    def generate_reply(
        question: str, state: Mapping[str, Any], stopping_strings: Sequence[str] | None = None, **_: Any
    ) -> Iterator[str]:
        return words().said(question, _params(state), stopping_strings or ())

    def generate(question: str, _question: str, _seed: int, state: Mapping[str, Any], stop: Any = None, **_: Any) -> Any:
        return words().said(question, _params(state), stop or ())

    generation: dict[str, Any] = {
        "encode": encode,
        "decode": tokenizer.decode,
        "get_encoded_length": lambda prompt: len(words().encode(prompt)),
        "get_max_prompt_length": lambda state: words().max_prompt(_params(state)),
        "generate_reply": generate_reply,
        "generate_reply_HF": generate,
        "generate_reply_custom": generate,
    }
    logger = logging.getLogger("modules.extensions.scripts")
    return {
        "modules.shared": LazyModule("modules.shared", told),
        "modules.text_generation": LazyModule(
            "modules.text_generation", {name: _constant(each) for name, each in generation.items()}
        ),
        "modules.utils": LazyModule("modules.utils", {"gradio": lambda: lambda *names: _components(components, names)}),
        "modules.chat": LazyModule("modules.chat", {"generate_chat_prompt": lambda: _chat_prompt}),
        "modules.ui": LazyModule("modules.ui", {"list_interface_input_elements": lambda: list, "inputs": tuple}),
        "modules.ui_chat": LazyModule("modules.ui_chat", {"inputs": tuple, "clear_arr": tuple}),
        "modules.html_generator": LazyModule(
            "modules.html_generator", {name: _constant(each) for name, each in _HTML.items()}
        ),
        "modules.logging_colors": LazyModule("modules.logging_colors", {"logger": lambda: logger}),
    }


def _chat_prompt(_user_input: str, _state: Any = None, **_: Any) -> str:
    """The default prompt of the chat: available while an extension is asked for its own."""
    prompt = default_chat_prompt()
    if prompt is None:
        raise RuntimeError("chat.generate_chat_prompt can only be called in custom_generate_chat_prompt")
    return prompt


def _paragraphs(text: str, *_: Any) -> str:
    """A text as HTML that shows it unchanged."""
    parts = html.escape(text).split("\n\n")
    return "".join("<p>" + part.replace("\n", "<br>") + "</p>" for part in parts)


#: Replacements for the original's HTML functions: pictures by their path, texts as paragraphs.
_HTML: Mapping[str, Any] = {
    "get_image_cache": lambda path: str(path),
    "convert_to_markdown": _paragraphs,
    "generate_basic_html": _paragraphs,
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


def _params(state: Mapping[str, Any]) -> SamplingParams:
    """The sampling parameters in a state, as far as they are valid."""
    try:
        return SamplingParams.parse({name: state[name] for name in SamplingParams.model_fields if name in state})
    except UserError:
        return SamplingParams()


def _components(components: Mapping[str, Any], names: Sequence[Any]) -> Any:
    """One component for one name, a list for several, as in the original."""
    wanted = [each for name in names for each in (name if isinstance(name, list | tuple) else [name])]
    found = [components[name] for name in wanted]
    return found[0] if len(found) == 1 else found


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
