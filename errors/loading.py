"""Errors about models: loading and unloading them, and the memory for them. Imports nothing but the kinds of errors."""

from __future__ import annotations

from errors.kinds import Conflict, InvalidInput, NotFound, Unavailable, UserError


class NoModelLoaded(Unavailable):
    """Text was requested while no model is loaded, or while one is still `loading`."""

    def __init__(self, *, loading: bool = False, why: str = "") -> None:
        """`why`: what happened to the last one, as a sentence."""
        self.loading = loading
        self.told = ("model_loading", {}) if loading else ("no_model", {"why": f" ({why})" if why else ""})
        super().__init__(
            "The model is still being loaded. Try again when it is ready."
            if loading
            else "No model is loaded. Select one in the Model tab and press Load." + (f" ({why})" if why else "")
        )


class ModelFileError(InvalidInput):
    """A model file that cannot be loaded: not a model, damaged or incomplete."""

    def __init__(self, path: object, why: str) -> None:
        self._say("model_file", {"path": path, "why": why}, f"{path} cannot be loaded: {why}")


class NotEnoughMemory(Unavailable):
    """The model with these options needs more memory than there is. Sizes in bytes."""

    def __init__(self, what: str, needed: int, available: int, advice: str) -> None:
        sizes = {"needed": needed / 1e9, "available": available / 1e9}
        self._say(
            "not_enough_memory", {"what": what, **sizes, "advice": advice},
            f"{what} needs about {needed / 1e9:.1f} GB of memory, but only {available / 1e9:.1f} GB is free. {advice}"
        )  # fmt: skip


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
    """The user cancelled while a model was loading. `kept`: the model that is loaded all the same."""

    def __init__(self, kept: str = "") -> None:
        rest = f"{kept} is still loaded." if kept else "No model is loaded."
        self._say("load_cancelled_kept" if kept else "load_cancelled", {"kept": kept}, f"Loading cancelled. {rest}")


class ModelBusy(Conflict):
    """Another load or unload is under way."""

    def __init__(self, doing: str) -> None:
        self._say(f"model_busy_{doing}", {}, f"A model is being {doing}. Wait for it to finish, or cancel it.")


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
