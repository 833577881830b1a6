"""All errors that users may see, in one place.

Each error is a sentence that says what happened and what to do next. The web UI, the API and the log show the same
words. This module imports nothing from this project, so that any package may raise from it; the caller decides how to
show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """An error that the user can act on: `str(error)` is shown unchanged, without a traceback."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its contents instead of its constructor's arguments: the error may come from another process."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[UserError], args: tuple[Any, ...], attributes: dict[str, Any]) -> UserError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class InvalidInput(UserError):
    """The request itself is wrong: a value out of bounds, malformed text."""


class NotFound(UserError):
    """The named thing does not exist: a model, a preset, a conversation."""


class Conflict(UserError):
    """The thing has changed meanwhile or is in use: reload it and try again."""


class Unavailable(UserError):
    """Not possible right now: no model loaded, a package missing, no network."""


# --- naming things -----------------------------------------------------------------------------------------------


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause with the closest known name (" Did you mean X?"); empty if nothing differs by one or two typing errors
    only.
    """
    plain = {each.lower().lstrip("-"): each for each in known}
    close = get_close_matches(name.lower().lstrip("-"), plain, 1, 0.7)
    return f" Did you mean {plain[close[0]]}?" if close else ""


class UnknownName(NotFound):
    """A name that is not in a list of known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no {kind} named {name!r}.{did_you_mean(name, known)}")


class InvalidName(InvalidInput):
    """A name that cannot be used as a file name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} cannot be used as a name: {why}. Choose another one.")


# --- flags and settings ------------------------------------------------------------------------------------------


class UnknownFlag(InvalidInput):
    """A command-line flag that neither this program nor the original knows."""

    def __init__(self, flag: str, source: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Unknown flag {flag} {source}.{did_you_mean(flag, known)} For all flags, run: python server.py --help"
        )


class BadFlagValue(InvalidInput):
    """A known flag with an invalid value."""

    def __init__(self, flag: str, source: str, why: str) -> None:
        super().__init__(f"Invalid flag {flag} {source}: {why}")


class BadFile(InvalidInput):
    """A file of the user's that cannot be parsed."""

    def __init__(self, path: object, why: str, todo: str = "Fix or remove the file, then try again.") -> None:
        super().__init__(f"{path} cannot be read: {why}. {todo}")


class LoneSurrogate(InvalidInput):
    """Text that cannot be encoded as UTF-8. `place` is the character's position, counted from 1."""

    def __init__(self, what: str, place: int) -> None:
        super().__init__(
            f"{what} contains an invalid character (lone surrogate) at position {place}. Remove it; such "
            "characters appear when text is cut in the middle of an emoji."
        )


def encode_utf8(text: str, what: str = "The text") -> bytes:
    """Encode text as UTF-8. Raises: LoneSurrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LoneSurrogate(what, error.start + 1) from None


class NotWritable(Unavailable):
    """A file of the user's that cannot be written: no permission, disk full."""

    def __init__(self, path: object, error: OSError) -> None:
        why = error.strerror or str(error)
        super().__init__(f"{path} cannot be written: {why}. Make it writable, then try again.")


class NotAllowed(UserError):
    """An action that this user of the page is not allowed to take; the sentence says who is."""


# --- models ------------------------------------------------------------------------------------------------------


class NoModelLoaded(Unavailable):
    """Text was requested while no model is loaded, or while one is still `loading`."""

    def __init__(self, *, loading: bool = False, why: str = "") -> None:
        """`why`: what happened to the last one, as a sentence."""
        self.loading = loading
        super().__init__(
            "The model is still being loaded. Try again when it is ready."
            if loading
            else "No model is loaded. Select one in the Model tab and press Load." + (f" ({why})" if why else "")
        )


class ModelFileError(InvalidInput):
    """A model file that cannot be loaded: not a model, damaged or incomplete."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path} cannot be loaded: {why}")


class NotEnoughMemory(Unavailable):
    """The model with these options needs more memory than there is. Sizes in bytes."""

    def __init__(self, what: str, needed: int, available: int, advice: str) -> None:
        super().__init__(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, but only {available / 1e9:.1f} GB is free. {advice}"
        )


class MissingPackage(Unavailable):
    """A loader (or training) whose Python package is not installed."""

    def __init__(self, loader: str, package: str, install: str) -> None:
        super().__init__(f"{loader} requires the package {package}. Install it with: {install}")


class BrokenPackage(Unavailable):
    """A loader whose Python package is installed but cannot be imported, because it was built for another system."""

    def __init__(self, loader: str, package: str, why: str, todo: str) -> None:
        super().__init__(f"{loader} cannot use the installed package {package}: {why}. {todo}")


class NoGraphicsCard(Unavailable):
    """A loader that needs a GPU, on a machine without one that it can use."""

    def __init__(self, loader: str, why: str) -> None:
        super().__init__(
            f"{loader} requires an NVIDIA or AMD GPU: {why}. Load the model with Transformers, or a GGUF version "
            "of it with llama.cpp."
        )


class LoadCancelled(UserError):
    """The user cancelled while a model was loading."""

    def __init__(self) -> None:
        super().__init__("Loading cancelled. No model is loaded.")


class ModelBusy(Conflict):
    """Another load or unload is under way."""

    def __init__(self, doing: str) -> None:
        super().__init__(f"A model is being {doing}. Wait for it to finish, or cancel it.")


class ModelsInUse(Unavailable):
    """A model that has to leave for another one has had requests all the time."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The requested model could not be loaded, because {name} was in use the whole time. Try again later, "
            "or allow more models at once with --max-models."
        )


class OverModelMemory(Unavailable):
    """A model that alone takes more than all models may take together. Sizes in bytes."""

    def __init__(self, name: str, needed: int, limit: int) -> None:
        super().__init__(
            f"{name} needs about {needed / 1e9:.1f} GB of memory, but --max-models-memory allows {limit / 1e9:.1f} GB. "
            "Raise the limit, or use a smaller model."
        )


class ModelNotLoaded(NotFound):
    """A request names a model that is in the models folder, but not in memory."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not loaded. Load it first, or start the program with --load-on-demand.")


class ModelClosed(Unavailable):
    """The model was unloaded while a request was waiting or running."""

    def __init__(self) -> None:
        super().__init__(
            "The model was unloaded while this request was running. Load a model, then send the request again."
        )


class EngineFailed(Unavailable):
    """The engine could not compute a step: this request ends, the others continue."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Generation failed: {why}")


class EngineDied(Unavailable):
    """The process in which the model ran has ended. `reason` is a clause."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"The process of the model ended: {reason}. The model is loaded again by itself, unless it was lost twice "
            "within a minute: then send this again."
        )


class NonFiniteLogits(EngineFailed):
    """The model computed NaN or infinity where a logit should be."""

    def __init__(self) -> None:
        super().__init__(
            "the model produced NaN logits. The file may be damaged, or the model may not work with this cache "
            "type: try cache_type f16."
        )


class OutOfGpuMemory(EngineFailed):
    """The GPU ran out of memory during a step."""

    def __init__(self) -> None:
        super().__init__(
            "the GPU ran out of memory. Close other programs that use it, or load the model with a smaller "
            "max_seq_len, chunk_size or cache_type."
        )


class Overloaded(Unavailable):
    """A server that takes no more requests now; perhaps after `seconds` (0: unknown)."""

    seconds = 0


# --- requests ----------------------------------------------------------------------------------------------------


class EmptyPrompt(InvalidInput):
    """The prompt contains no tokens."""

    def __init__(self) -> None:
        super().__init__("The prompt is empty. Type some text first.")


class PromptTooLong(InvalidInput):
    """The prompt does not fit into the context. Both numbers are tokens; `more` says how to get a larger context."""

    def __init__(
        self, prompt_tokens: int, room: int, advice: str = "", *, more: str = "load the model with a larger n_ctx"
    ) -> None:
        usual = f"equest a shorter reply (max_new_tokens, max_tokens), or {more}."
        if room > 0:
            why, usual = f"only {room:,} fit into the context", f"Shorten it, r{usual}"
        else:  # however short the prompt is
            why, usual = "the requested reply leaves no room for it in the context", f"R{usual}"
        super().__init__(f"The prompt has {prompt_tokens:,} tokens, but {why}. {advice or usual}")


class InvalidToken(InvalidInput):
    """A token id that the model does not have."""

    def __init__(self, token: int, n_vocab: int) -> None:
        super().__init__(f"Invalid token id {token}: this model's ids range from 0 to {n_vocab - 1}.")


class Unsupported(InvalidInput):
    """The request needs something that this model or its loader does not support; the sentence says why."""


class IncompatibleAdapter(InvalidInput):
    """A LoRA adapter that does not fit this model."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The LoRA {name} cannot be used with this model: {why}.")


class Cancelled(UserError):
    """A computation that produces no reply (a score, a distribution) was cancelled."""

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")


class InvalidGrammar(InvalidInput):
    """A grammar that does not parse, or that cannot be used with this model."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Invalid grammar: {why}")


class GrammarTooComplex(InvalidInput):
    """A grammar that needs more computation or memory per step than a request may use."""

    def __init__(self) -> None:
        super().__init__(
            "The grammar is too complex. Simplify it: use fewer alternatives, optional parts and nested "
            "repetitions that match the same text."
        )


class TemplateFailed(InvalidInput):
    """A chat or instruction template that does not parse, or that raised an error."""

    def __init__(self, name: str, why: str, line: int | None = None) -> None:
        self.why, self.line = why, line
        place = f" on line {line}" if line else ""
        super().__init__(f"The template {name} failed{place}: {why}. Choose or edit a template in the Parameters tab.")


class TemplateTooSlow(TemplateFailed):
    """A template that was stopped because it ran too long. Other messages would not make it faster."""


# --- conversations, downloads, extensions ------------------------------------------------------------------------


class ConversationChanged(Conflict):
    """An outdated page tried to overwrite a conversation that has changed since."""

    def __init__(self) -> None:
        super().__init__(
            "This conversation was changed in another window. The current version is now shown; nothing was lost."
        )


class NothingToDo(InvalidInput):
    """The action has nothing to work on."""


class FetchFailed(Unavailable):
    """A download failed."""

    def __init__(self, what: str, why: str, todo: str) -> None:
        super().__init__(f"{what} could not be downloaded: {why.rstrip('. ')}. {todo}")


class ExtensionFailed(Unavailable):
    """An extension raised an error in a function that nothing can replace. `said` names the extension and the error."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said} Fix the extension, or disable it in the Session tab.")


# --- the API (what ends a request before that: modules/web/errors.py) ---------------------------------------------


class TooMany(InvalidInput):
    """A list in a request that is longer than allowed."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"A request may contain at most {limit} {what}. Split it into several requests.")


class InvalidSchema(InvalidInput):
    """A JSON schema that cannot be converted to a grammar; `place` is a path in it, `line` the line in its text."""

    def __init__(self, why: str, place: str = "", line: int | None = None) -> None:
        where = f" on line {line}" if line else ""
        where += f" at {place}" if place else ""
        super().__init__(f"Invalid JSON schema{where}: {why}.")
        self.why, self.place = why, place
