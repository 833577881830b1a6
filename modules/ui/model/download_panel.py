"""The Model tab's downloads: name a repository, see its files and which fit, fetch them, watch, pause, cancel.

The services do the work, so that a reload of the page changes nothing. The list is updated while something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.library.downloads import DownloadProgress
from modules.library.hub import FoundRepo
from modules.library.hub_address import FileChoice, list_model_folders, parse_address, select_files
from modules.library.suggestions import SUGGESTIONS
from modules.ui.parts.aside import Waiting, await_answer, run_aside
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.parts.formatting import escape, format_gigabytes, join_facts
from modules.ui.parts.list_picker import PickerEntry, make_picker, picker_entries
from modules.ui.session.queue_view import PICK
from modules.ui.texts import tr

#: What was chosen and found in another repository.
_FORGET = "() => [{__type__: 'update', choices: [], value: []}, '']"


class DownloadPanel:
    """The form and the list of downloads. `finished` counts complete downloads: others follow its changes."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Accordion(tr("download.title"), open=False, elem_id="download", elem_classes="rest"):
            self._repo = gr.Textbox(
                label=tr("download.repo"), max_lines=1, placeholder=tr("download.repo_hint"), elem_id="download-repo",
                info=tr("download.repo_info"),
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._search = gr.Button(tr("download.search"), size="sm", elem_id="download-search")
                self._look = gr.Button(tr("download.list"), size="sm", elem_id="download-look")
                self._stop = gr.Button(tr("button.stop"), size="sm", elem_id="download-stop", visible=False)
            self._found = gr.HTML("", elem_id="download-found")
            self._results = make_picker("hub-results")
            self._files = gr.Dropdown(
                [], value=[], multiselect=True, label=tr("download.files"), elem_id="download-files",
                allow_custom_value=True, info=tr("download.files_info"),
            )  # fmt: skip
            self._token = gr.Textbox(
                label=tr("download.token"), type="password", max_lines=1, elem_id="download-token",
                info=tr("download.token_info"),
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._start = gr.Button(tr("download.start"), variant="primary", size="sm", elem_id="download-start")
        self.list = gr.HTML("", elem_id="download-list", js_on_load=PICK, padding=False)
        self._shown = gr.State("")
        self._waiting = gr.State(Waiting())
        self.finished = gr.State(0)

    def wire(self, page: gr.Blocks, timer: gr.Timer) -> None:
        """Connect it."""
        inputs = [self._repo, self._files, self._token]
        outputs = [self.list, self._shown, self.finished]
        asking = [self._found, self._search, self._look, self._start, self._stop]
        # not `input`: gradio sends it for keys only, and addresses are pasted
        on(self._repo.change, None, None, [self._files, self._found], js=_FORGET)
        asked = [self._waiting, self._repo, self._token]
        on([self._look.click, self._repo.submit], self._asking(self._find), asked,
           [self._files, self._results, *asking])  # fmt: skip
        on(self._search.click, self._asking(self._search_hub), asked, [self._results, *asking])
        picked = on(self._results.click, self._pick, None, [self._repo, self._results])
        then(picked, self._asking(self._list_files), asked, [self._files, *asking])
        on(self._start.click, self._asking(self._start_download), [self._waiting, *inputs],
           [*outputs, self._token, *asking])  # fmt: skip
        on(self._stop.click, Waiting.stop, [self._waiting], queue=False)
        on([page.load, timer.tick], self._update, [self._shown], outputs, latest=True)
        on(self.list.click, self._act, None, outputs)

    def _asking(self, ask: Callable[..., Updates]) -> Callable[..., Iterator[Updates]]:
        """An action that asks the hub: it says so at once, and can be stopped."""

        def run(waiting: Waiting, *given: Any) -> Iterator[Updates]:
            answer = run_aside(ask, *given)
            off = gr.update(interactive=False)
            said = f"<p role='status'>{tr('download.asking')}</p>"
            buttons = (self._search, self._look, self._start)
            yield {self._found: said, **dict.fromkeys(buttons, off), self._stop: gr.update(visible=True)}
            idle = {**dict.fromkeys(buttons, gr.update(interactive=True)), self._stop: gr.update(visible=False)}
            if not await_answer(answer, waiting):
                yield {**idle, self._found: f"<p>{tr('download.not_asking')}</p>"}
            elif error := answer.exception():
                yield {
                    **idle,
                    self._found: f"<p class='warning'>{escape(error)}</p>" if isinstance(error, UserError) else "",
                }
                raise error
            else:
                yield {**idle, self._found: "", **answer.result()}

        return run

    def _find(self, text: str, token: str) -> Updates:
        """The files of a repository, or the repositories with these words in their names."""
        words = text.strip()
        named = "/" in words or len(words.split()) > 3  # an address, or a command that contains one
        return self._list_files(text, token) if named or not words else self._search_hub(text, token)

    def _search_hub(self, words: str, token: str) -> Updates:
        """Repositories with these words; without any, models to begin with."""
        fits = self._app.system_memory.fits
        if not words.strip():
            free = self._app.system_memory.free()
            advice = tr("download.advice", n=(free.memory if free.card is None else free.card) / 1e9)
            return {self._results: suggestions_html(fits), self._found: f"<p>{escape(advice)}</p>"}
        found = self._app.downloads.search(" ".join(words.split()), self._allowed(token))
        return {
            self._results: found_html(found, fits),
            self._found: f"<p>{tr('download.repos', n=len(found))}</p>",
        }

    def _pick(self, event: gr.EventData) -> Updates:
        return {self._repo: event.pick, self._results: ""}

    def _list_files(self, repo: str, token: str) -> Updates:
        address = parse_address(repo)
        choices = self._app.downloads.choices(address, self._allowed(token))
        everything = [file for each in choices for file in each.files]
        folders = list_model_folders(everything)
        models_first = sorted(choices, key=lambda each: not each.quantization)
        offered = [(self._label(each), each.name) for each in (*folders, *models_first)]
        wanted = [address.file] if address.file in {each.name for each in folders} else []
        if address.file and not wanted:
            meant = select_files(everything, [address.file])
            wanted = [each.name for each in choices if each.files[0] in meant]
        models = [each for each in choices if each.quantization]
        key = "download.found_gguf" if models else "download.found"
        return {
            self._files: gr.update(choices=offered, value=wanted),
            self._found: f"<p>{tr(key, n=len(choices), gguf=len(models))}</p>",
        }

    def _label(self, choice: FileChoice) -> str:
        fits = self._app.system_memory.fits(choice.size) if choice.quantization else ""
        many = tr("download.parts", n=len(choice.files)) if len(choice.files) > 1 else ""
        size = format_gigabytes(choice.size) if choice.size > 50_000_000 else _amount(choice.size)
        return join_facts(choice.name, choice.quantization, many, size, fits)

    def _start_download(self, repo: str, files: Sequence[str], token: str) -> Updates:
        self._app.downloads.start(parse_address(repo), list(files or ()), self._allowed(token))
        show_info(tr("download.started"))
        return {**self._update(""), self._token: ""}

    def _allowed(self, token: str) -> str:
        """The token in use; a newly entered one is saved."""
        if token.strip():
            self._app.hub_token.keep(token)
        return self._app.hub_token.known()

    def _act(self, event: gr.EventData) -> Updates:
        what, _, id = event.pick.partition(" ")
        downloads = self._app.downloads
        {"pause": downloads.pause, "resume": downloads.resume, "cancel": downloads.cancel}[what](id)
        return self._update("")

    def _update(self, shown: str) -> Updates:
        """The list as it is now, unless that is what is `shown`."""
        downloads = self._app.downloads.list()
        html = downloads_html(downloads)
        if html == shown:
            return {}
        done = sum(download.phase == "done" for download in downloads)
        return {self.list: html, self._shown: html, self.finished: done}


def found_html(found: Sequence[FoundRepo], fits: Callable[[int], str]) -> str:
    """Repositories as a list: size, downloads, likes, and whether the usual quantization fits here."""
    entries = [
        PickerEntry(
            each.repo,
            each.repo,
            join_facts(
                tr("download.parameters", n=each.parameters / 1e9) if each.parameters else "",
                tr("download.about", size=format_gigabytes(each.size)) if each.size else "",
                tr("download.downloads", n=each.downloads),
                tr("download.likes", n=each.likes),
            ),
            badge=fits(each.size) if each.size else "",
        )
        for each in found
    ]
    return picker_entries(tr("download.results"), entries, "", tr("download.nothing"))


def suggestions_html(fits: Callable[[int], str]) -> str:
    """Models to begin with, by the memory that they need."""
    entries = [
        PickerEntry(
            each.repo, each.repo, tr("download.about", size=format_gigabytes(round(each.size * 1e9))),
            group=tr("download.memory", n=each.memory), badge=fits(round(each.size * 1e9)),
        )
        for each in SUGGESTIONS
    ]  # fmt: skip
    return picker_entries(tr("download.results"), entries)


def downloads_html(downloads: Sequence[DownloadProgress]) -> str:
    """Every download with its progress bar, speed, remaining time and buttons."""
    if not downloads:
        return ""
    rows = "".join(_row(each) for each in downloads)
    return f"<h3>{tr('download.heading')}</h3><ul class='downloads' aria-live='polite'>{rows}</ul>"


def _row(one: DownloadProgress) -> str:
    percent = int(100 * one.done / one.size) if one.size else 100
    name = escape(one.name)
    how = tr(f"download.phase.{one.phase}", place=one.place) if one.phase in ("paused", "cancelled", "done") else ""
    amounts = _amount(one.size)
    if one.phase != "done":
        amounts = tr("download.amounts", done=_amount(one.done), size=amounts)
    speed = tr("unit.mb_second", n=one.speed / 1e6) if one.phase == "fetching" and one.speed else ""
    left = one.seconds_left
    facts = join_facts(how, amounts, speed, tr("unit.left", time=_time(left)) if left is not None else "")
    actions = {"fetching": ("pause", "cancel"), "paused": ("resume", "cancel"), "failed": ("resume", "cancel")}
    words = {"pause": tr("download.pause"), "resume": tr("download.resume"), "cancel": tr("button.cancel")}
    buttons = "".join(
        f"<button type='button' data-pick='{what} {one.id}' aria-label='{words[what]}: {name}'>{words[what]}</button>"
        for what in actions.get(one.phase, ())
    )
    bar = (
        f"<div role='progressbar' aria-label='{name}' aria-valuemin='0' aria-valuemax='100' aria-valuenow='{percent}'>"
        f"<span style='width:{percent}%'></span></div>"
    )
    error = f"<p class='warning' role='alert'>{escape(one.error)}</p>" if one.error else ""
    return (
        f"<li><b>{name}</b><small>{escape(facts)}</small>{bar if one.phase != 'done' else ''}{error}"
        f"<div class='buttons'>{buttons}</div></li>"
    )


def _amount(size: int) -> str:
    if size < 1e6:
        return tr("unit.kb", n=size / 1e3)
    return tr("unit.gb_exact", n=size / 1e9) if size >= 1e9 else tr("unit.mb", n=size / 1e6)


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return tr("unit.seconds", s=whole)
    if whole < 3600:
        return tr("unit.minutes_seconds", min=whole // 60, s=whole % 60)
    return tr("unit.hours", h=whole // 3600, min=whole % 3600 // 60)
