"""Every error that a user may meet, in one place.

An error here is a sentence that says what happened and what to do next. The same words reach the toast in the
browser, an API's answer and the log. It imports nothing of ours: every floor may raise from it; who shows it says how.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something that the user can act on: `str(error)` is shown as it stands, without a traceback."""


class InvalidInput(UserError):
    """What was asked for does not make sense as it stands: a value out of bounds, a malformed text."""


class NotFound(UserError):
    """What was named does not exist: a model, a preset, a conversation."""


class Conflict(UserError):
    """The thing has changed meanwhile, or is in use: look at it again, then repeat."""


class Unavailable(UserError):
    """It cannot be done now: no model loaded, a package missing, no network."""


# --- naming things -----------------------------------------------------------------------------------------------


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that names the closest known name (" Did you mean X?"); nothing where more than a slip or two differ."""
    plain = {each.lower().lstrip("-"): each for each in known}
    close = get_close_matches(name.lower().lstrip("-"), plain, 1, 0.7)
    return f" Did you mean {plain[close[0]]}?" if close else ""


class UnknownName(NotFound):
    """A name that is not in a list of known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no {kind} named {name!r}.{nearest(name, known)}")


class InvalidName(InvalidInput):
    """A name that cannot be a file's name here."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name!r} cannot be used as a name: {why}. Choose another one.")


# --- flags and settings ------------------------------------------------------------------------------------------


class UnknownFlag(InvalidInput):
    """A command-line flag that neither this program nor the original has."""

    def __init__(self, flag: str, source: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown flag {flag} {source}.{nearest(flag, known)} All flags: python server.py --help")


class BadFlagValue(InvalidInput):
    """A flag that is known, with a value that it cannot take."""

    def __init__(self, flag: str, source: str, why: str) -> None:
        super().__init__(f"The flag {flag} {source} cannot be used: {why}")


class BadFile(InvalidInput):
    """A file of the user's that cannot be read as what it should be."""

    def __init__(self, path: object, why: str, todo: str = "Mend it or move it away, then try again.") -> None:
        super().__init__(f"{path} cannot be read: {why}. {todo}")


class HalfCharacter(InvalidInput):
    """A text that no file, no tokenizer and no model can take. `place` counts characters from 1."""

    def __init__(self, what: str, place: int) -> None:
        super().__init__(
            f"{what} holds half a character (a lone surrogate, character {place}). Remove it: it often comes from text "
            "that was cut or pasted in the middle of an emoji."
        )


def utf8(text: str, what: str = "The text") -> bytes:
    """A text as UTF-8. Raises: HalfCharacter."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise HalfCharacter(what, error.start + 1) from None


class NotWritable(Unavailable):
    """A file of the user's that cannot be written: rights, a full disk."""

    def __init__(self, path: object, error: OSError) -> None:
        why = error.strerror or str(error)
        super().__init__(f"{path} cannot be written: {why}. Make it writable and try again.")


class NotAllowed(UserError):
    """Something that this visitor of the page may not do; the sentence says who may."""


# --- models ------------------------------------------------------------------------------------------------------


class NoModelLoaded(Unavailable):
    """Text was asked for while no model is loaded."""

    def __init__(self) -> None:
        super().__init__("No model is loaded. Choose one in the Model tab and press Load.")


class ModelFileError(InvalidInput):
    """A model file that cannot be loaded: not a model, broken, cut short."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path} cannot be loaded: {why}")


class NotEnoughMemory(Unavailable):
    """The model with these options takes more memory than there is. Sizes in bytes."""

    def __init__(self, what: str, needed: int, available: int, advice: str) -> None:
        super().__init__(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free. {advice}"
        )


class MissingPackage(Unavailable):
    """A loader, or the training, whose Python package is not installed."""

    def __init__(self, loader: str, package: str, install: str) -> None:
        super().__init__(f"{loader} needs the package {package}. Install it with: {install}")


class BrokenPackage(Unavailable):
    """A loader whose Python package is installed but cannot be imported: it was built for something else."""

    def __init__(self, loader: str, package: str, why: str, todo: str) -> None:
        super().__init__(f"{loader} cannot use the installed package {package}: {why}. {todo}")


class NoGraphicsCard(Unavailable):
    """A loader that computes on a graphics card alone, where there is none that it can use."""

    def __init__(self, loader: str, why: str) -> None:
        super().__init__(
            f"{loader} needs an NVIDIA or AMD graphics card: {why}. "
            "Load the model with Transformers, or a GGUF version of it with llama.cpp."
        )


class LoadCancelled(UserError):
    """The user cancelled while a model was loading."""

    def __init__(self) -> None:
        super().__init__("Loading was cancelled. No model is loaded.")


class ModelBusy(Conflict):
    """Another load or unload is under way."""

    def __init__(self, doing: str) -> None:
        super().__init__(f"A model is being {doing} right now. Wait until it is done, or cancel it.")


class ModelClosed(Unavailable):
    """The model was unloaded while a request was waiting or running."""

    def __init__(self) -> None:
        super().__init__("The model was unloaded while this request was running. Load a model and send it again.")


class EngineFailed(Unavailable):
    """The engine could not compute a step: the request ends, the others go on."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The engine stopped this reply: {why}")


class NotNumbers(EngineFailed):
    """The model computed NaN or infinity where a logit should be."""

    def __init__(self) -> None:
        super().__init__(
            "the model computed values that are not numbers (NaN). The file may be damaged, "
            "or its cache type may not suit it: load it with cache_type f16."
        )


class OutOfGpuMemory(EngineFailed):
    """The graphics card ran out of memory in the middle of a step."""

    def __init__(self) -> None:
        super().__init__(
            "the graphics card ran out of memory. Close other programs that use it, or load the model with a smaller "
            "max_seq_len, chunk_size or cache_type."
        )


# --- requests ----------------------------------------------------------------------------------------------------


class EmptyPrompt(InvalidInput):
    """There is not one token to continue from."""

    def __init__(self) -> None:
        super().__init__("The prompt is empty. Write something first, or tick add_bos_token.")


class PromptTooLong(InvalidInput):
    """The prompt does not fit into the context. Both numbers are tokens."""

    def __init__(self, prompt_tokens: int, room: int, advice: str = "") -> None:
        usual = "ask for a shorter reply (max_new_tokens, max_tokens), or load the model with a larger n_ctx."
        super().__init__(
            f"The prompt is {prompt_tokens:,} tokens long, and {room:,} fit. {advice or f'Shorten it, {usual}'}"
        )


class InvalidToken(InvalidInput):
    """A token id that the model does not have."""

    def __init__(self, token: int, n_vocab: int) -> None:
        super().__init__(f"Token id {token} does not exist: this model's ids go from 0 to {n_vocab - 1}.")


class Unsupported(InvalidInput):
    """What was asked for is beyond this model or its loader; the sentence says why."""


class AdapterUnfit(InvalidInput):
    """A LoRA adapter that cannot act on this model."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The LoRA {name} cannot be used with this model: {why}.")


class Cancelled(UserError):
    """A computation without a reply (a score, a distribution) was cancelled."""

    def __init__(self) -> None:
        super().__init__("It was cancelled.")


class InvalidGrammar(InvalidInput):
    """A grammar that does not parse, or that this model cannot follow."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The grammar cannot be used: {why}")


class GrammarTooComplex(InvalidInput):
    """A grammar that takes more computation or memory for one step than a request may have."""

    def __init__(self) -> None:
        super().__init__(
            "The grammar is too complex to follow. Make it smaller, or less ambiguous: fewer alternatives, optional "
            "parts and nested repetitions that match the same text."
        )


class TemplateFailed(InvalidInput):
    """A chat or instruction template that does not parse, or that raised."""

    def __init__(self, name: str, why: str, line: int | None = None) -> None:
        self.why, self.line = why, line
        place = f" in line {line}" if line else ""
        super().__init__(f"The template {name} failed{place}: {why}. Choose or edit it in Parameters.")


class TemplateTooSlow(TemplateFailed):
    """A template that was ended because it ran for too long: other messages would not make it faster."""


# --- conversations, downloads, extensions ------------------------------------------------------------------------


class ConversationChanged(Conflict):
    """A stale page tried to write over a conversation that has moved on."""

    def __init__(self) -> None:
        super().__init__(
            "This conversation was changed in another window. It is shown again as it stands now; nothing was lost."
        )


class NothingToDo(InvalidInput):
    """A button was pressed that has nothing to act on."""


class FetchFailed(Unavailable):
    """Something could not be fetched from the network."""

    def __init__(self, what: str, why: str, todo: str) -> None:
        super().__init__(f"{what} could not be fetched: {why}. {todo}")


class ExtensionFailed(Unavailable):
    """An extension that was asked for what nothing else can give raised. `said` names it and what it raised."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said} Mend it, or switch it off in the Session tab.")


# --- the API -----------------------------------------------------------------------------------------------------


class WrongKey(UserError):
    """A request to the API without the right key."""

    def __init__(self, admin: bool = False) -> None:
        which = "admin key (--admin-key)" if admin else "key (--api-key)"
        super().__init__(f"This needs the API's {which}: send it as the header Authorization: Bearer KEY.")


class TooLarge(UserError):
    """The body of a request is larger than allowed: `limit` MiB, which a flag sets."""

    def __init__(self, limit: int, flag: str = "--api-max-body") -> None:
        super().__init__(f"The request is larger than {limit} MiB. Send less, or raise {flag}.")


class BodyTooSlow(UserError):
    """The body of a request that did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        waited = f"its body was not there after {seconds:.0f} seconds of waiting"
        super().__init__(f"The request was given up: {waited}. Send it again.")


class HeaderTooSlow(UserError):
    """A connection on which no request came."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The connection was closed: no complete request came within {seconds:.0f} seconds.")


class TooManyConnections(UserError):
    """More open connections than a server may hold."""

    def __init__(self, most: int) -> None:
        super().__init__(f"The connection was closed: {most} are open, and that is the most. Try again in a moment.")


class TooBusy(UserError):
    """More replies at the same time than allowed."""

    def __init__(self, limit: int) -> None:
        most = f"at most {limit} replies may run or wait at the same time"
        super().__init__(f"The server is busy: {most}. Try again in a moment.")


class BodiesTooLarge(UserError):
    """The bodies that are on their way take more memory than allowed, and this one takes the most."""

    def __init__(self) -> None:
        super().__init__("The server is busy: too many large requests are being sent. Try again in a moment.")


class TooManyReplies(InvalidInput):
    """A request that asks for more replies than may ever run at the same time."""

    def __init__(self, asked: int, limit: int) -> None:
        super().__init__(
            f"The request asks for {asked} replies, and at most {limit} may run at the same time. Ask for fewer, or "
            "raise --api-max-requests."
        )


class TooManyGuesses(UserError):
    """Wrong passwords, one after the other."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many wrong passwords. Wait {max(1, round(seconds))} seconds, then try again.")


class TooMany(InvalidInput):
    """A list in a request that is longer than allowed."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"At most {limit} {what} are allowed. Send several requests.")


class InvalidSchema(InvalidInput):
    """A JSON schema that cannot be turned into a grammar; `place` is a path in it, `line` its line in the text."""

    def __init__(self, why: str, place: str = "", line: int | None = None) -> None:
        where = f" in line {line}" if line else ""
        where += f" at {place}" if place else ""
        super().__init__(f"The JSON schema cannot be used{where}: {why}.")
        self.why, self.place = why, place
