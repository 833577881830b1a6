"""What the hub has, as tables: repositories that were found, models to begin with, the files of a repository.

Knows no gradio and asks nobody: `fits` says whether a size fits here, `state` what became of a file here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby

from modules.library.hub import FoundRepo
from modules.library.hub_files import FileChoice
from modules.library.suggestions import SUGGESTIONS
from modules.ui.parts.formatting import escape, fit_words, format_gigabytes
from modules.ui.texts import tr

#: Where a model of a size fits, in a few words.
Fits = Callable[[int], str]


def found_html(found: Sequence[FoundRepo], fits: Fits) -> str:
    """Repositories: parameters, the usual quantization's size and whether it fits here, downloads, likes."""
    if not found:
        return f"<p class='empty'>{tr('download.nothing')}</p>"
    rows = [
        _repo_row(
            each.repo,
            tr("download.parameters", n=each.parameters / 1e9) if each.parameters else "",
            tr("download.about", size=format_gigabytes(each.size)) if each.size else "",
            fit_words(fits(each.size)) if each.size else "",
            tr("download.downloads", n=each.downloads),
            tr("download.likes", n=each.likes),
        )
        for each in found
    ]
    return _table("download.results", ("repo", "parameters", "size", "fits", "downloads", "likes"), rows)


def suggestions_html(fits: Fits) -> str:
    """Models to begin with, by the memory that they need."""
    rows: list[str] = []
    for memory, members in groupby(SUGGESTIONS, key=lambda each: each.memory):
        rows.append(f"<tr class='group'><th scope='rowgroup' colspan='3'>{tr('download.memory', n=memory)}</th></tr>")
        for each in members:
            size = round(each.size * 1e9)
            rows.append(_repo_row(each.repo, tr("download.about", size=format_gigabytes(size)), fit_words(fits(size))))
    return _table("download.results", ("repo", "size", "fits"), rows)


def files_html(
    choices: Sequence[FileChoice], chosen: Collection[str], fits: Fits, state: Callable[[FileChoice], str]
) -> str:
    """The files of a repository with a box to tick each. Models come first; files beside GGUFs are folded."""
    columns = ("file", "quantization", "size", "fits", "state")
    models = [each for each in choices if each.quantization]
    others = [each for each in choices if not each.quantization]

    def rows(files: Iterable[FileChoice]) -> list[str]:
        return [_file_row(each, each.name in chosen, fits, state(each)) for each in files]

    if not models or not others:
        return _table("download.files", columns, rows(choices))
    folded = _table("download.other_files", columns, rows(others))
    ticked = " open" if any(each.name in chosen for each in others) else ""
    title = f"{tr('download.other_files')} ({len(others)})"
    first = _table("download.files", columns, rows(models))
    return f"{first}<details{ticked}><summary>{title}</summary>{folded}</details>"


def format_size(size: int) -> str:
    """A file's size with its unit: "12 KB", "480.1 MB", "4.92 GB"."""
    if size < 1e6:
        return tr("unit.kb", n=size / 1e3)
    return tr("unit.gb_exact", n=size / 1e9) if size >= 1e9 else tr("unit.mb", n=size / 1e6)


def _table(label: str, columns: Sequence[str], rows: Iterable[str]) -> str:
    heads = "".join(f"<th scope='col'>{tr(f'download.column.{each}')}</th>" for each in columns)
    return (
        f"<table class='hub' aria-label='{escape(tr(label))}'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _repo_row(repo: str, *facts: str) -> str:
    name = escape(repo)
    cells = "".join(f"<td>{escape(each)}</td>" for each in facts)
    return f"<tr><th scope='row'><button type='button' data-pick='{name}'>{name}</button></th>{cells}</tr>"


def _file_row(one: FileChoice, chosen: bool, fits: Fits, state: str) -> str:
    name = escape(one.name)
    many = f" <small>{escape(tr('download.parts', n=len(one.files)))}</small>" if len(one.files) > 1 else ""
    told = tr(f"download.state.{state}") if state else ""
    facts = (one.quantization, format_size(one.size), fit_words(fits(one.size)) if one.quantization else "", told)
    cells = "".join(f"<td>{escape(each)}</td>" for each in facts)
    box = f"<input type='checkbox' value='{name}' data-size='{one.size}'{' checked' if chosen else ''}>"
    return f"<tr data-state='{state}'><th scope='row'><label>{box}<span>{name}{many}</span></label></th>{cells}</tr>"
