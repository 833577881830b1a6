"""Shows the models on disk as HTML: the list, the title of the chosen one, what is loaded, what was decided.

Knows no gradio; from entries of the catalog to HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from modules.library.model_catalog import ModelEntry
from modules.library.model_state import LoaderChoice
from modules.ui.parts.formatting import escape, fit_words, format_gigabytes, format_thousands, join_facts, short_name
from modules.ui.parts.list_picker import PickerEntry, picker_entries
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr


def loader_choices(choices: Sequence[LoaderChoice]) -> list[tuple[str, str]]:
    """The loader menu; a loader with a missing package says so."""
    return [
        (choice.name if not choice.missing else tr("model.not_installed", name=choice.name), choice.name)
        for choice in choices
    ]


def catalog_html(
    items: Sequence[ModelEntry], chosen: str, loaded: Collection[str], fits: Callable[[ModelEntry], str] = lambda _: ""
) -> str:
    """The catalog as a list; `fits` says on which device a model fits."""
    made = [
        PickerEntry(
            item.name,
            _bare_name(item),
            translated(item.problem or "") or item_facts(item, quantization=False),
            badge=_badge(item, loaded, fits),
            tag=item.quantization,
        )
        for item in items
    ]
    return picker_entries(tr("model.heading"), made, chosen, tr("model.empty"))


def _bare_name(item: ModelEntry) -> str:
    """The name without its quantization, which stands beside it."""
    name, kind = short_name(item.name), item.quantization
    ends = kind and name.lower().endswith(kind.lower()) and name[: -len(kind)].rstrip(".-_")
    return ends or name


def now_html(name: str, *, idle: bool) -> str:
    """The line that says what is loaded."""
    if not name:
        return ""
    said = tr("header.idle" if idle else "model.loaded", name=escape(short_name(name)))
    return f"<p title='{said}'>{said}</p>"


def item_facts(item: ModelEntry, *, quantization: bool = True) -> str:
    """Facts from the file: "0.1 GB · Q4_1 · 8k context · llama · GGUF · chat template"."""
    context = tr("model.context", n=format_thousands(item.context_length)) if item.context_length else ""
    template = tr("model.chat_template") if item.has_template else ""
    size = format_gigabytes(item.size) if item.size else ""
    kind = item.quantization if quantization else ""
    return join_facts(size, kind, context, item.architecture, item.format, template)


def title_html(item: ModelEntry | None) -> str:
    """The heading on the right."""
    if item is None:
        return f"<h1>{tr('model.none_title')}</h1><p>{tr('model.none_about')}</p>"
    told = (
        f"<p class='warning'>{escape(translated(item.problem))}</p>"
        if item.problem
        else f"<p>{escape(item_facts(item))}</p>"
    )
    return f"<h1>{escape(short_name(item.name))}</h1>{told}"


def notes_html(notes: Sequence[str], error: str, name: str) -> str:
    """Decisions made while loading, with the reasons; or why it failed."""
    if error:
        return f"<p class='warning' role='alert'>{escape(translated(error))}</p>"
    if not notes:
        return ""
    lines = "".join(f"<li>{escape(translated(note))}</li>" for note in notes)
    return f"<div class='notes'><h2>{tr('model.loaded', name=escape(name))}</h2><ul>{lines}</ul></div>"


def _badge(item: ModelEntry, loaded: Collection[str], fits: Callable[[ModelEntry], str]) -> str:
    if item.problem:
        return tr("model.badge.broken")
    return tr("model.badge.loaded") if item.name in loaded else fit_words(fits(item))
