"""The Model tab's downloads: name a repository, see its files and which fit, fetch them, watch, pause, cancel.

What the hub answers stands in a sheet over the tab's right side (hub_view.py). The services do the work, so that a
reload of the page changes nothing. The list of downloads is updated while something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.library.downloads import DownloadProgress
from modules.library.hub_address import HubAddress, parse_address
from modules.library.hub_files import FileChoice, list_model_folders, select_files
from modules.ui.model.hub_view import files_html, format_size, found_html, suggestions_html
from modules.ui.parts.aside import Waiting, await_answer, run_aside
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.parts.formatting import escape, join_facts
from modules.ui.parts.list_picker import make_picker
from modules.ui.parts.sentences import translated
from modules.ui.session.queue_view import PICK
from modules.ui.texts import tr

#: What was found in another repository; nothing of it may be chosen in this one.
_FORGET = "() => ['', '']"
#: The units of the size that is chosen.
_UNITS = {"mb": "unit.mb", "gb": "unit.gb_exact"}
_EMPTY = "() => ['', '', '']"
#: The ticked files take the place of the third input.
_STILL_TICKED = "(listed, shown, _) => [listed, shown, Hub.ticked()]"
_TICKED = "(waiting, repo, _, ...rest) => [waiting, repo, Hub.ticked(), ...rest]"


@dataclass(frozen=True)
class Listed:
    """The files that the sheet shows, and whose they are."""

    address: HubAddress
    choices: tuple[FileChoice, ...] = ()
    line: str = ""  # what is said above them


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
            self._token = gr.Textbox(
                label=tr("download.token"), type="password", max_lines=1, elem_id="download-token",
                info=tr("download.token_info"),
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._start = gr.Button(tr("download.start"), variant="primary", size="sm", elem_id="download-start")
        self.list = gr.HTML("", elem_id="download-list", js_on_load=PICK, padding=False)
        self._shown = gr.State("")
        self._listed = gr.State(None)
        self._waiting = gr.State(Waiting())
        self.finished = gr.State(0)

    def hub_view(self) -> None:
        """Create the sheet, here. It is open while something stands in it: style.css."""
        with gr.Column(elem_id="hub-view"):
            with gr.Row(elem_classes="head"):
                gr.HTML(f"<h1>{tr('download.hub')}</h1>")
                self._stop = gr.Button(tr("button.stop"), size="sm", elem_id="download-stop", visible=False)
                self._close = gr.Button(tr("button.close"), size="sm", elem_id="hub-close")
            self._found = gr.HTML("", elem_id="download-found")
            self._results = make_picker("hub-results", elem_classes="hub-table")
            self._files = gr.HTML("", elem_id="download-files", elem_classes="hub-table", padding=False)
            self._ticked = gr.Textbox("", visible=False, label=tr("download.files"))
            with gr.Row(elem_classes="actions", elem_id="hub-foot"):
                self._start_here = gr.Button(tr("download.start"), variant="primary", size="sm", elem_id="hub-start")
                none, some = escape(tr("download.none_chosen")), escape(tr("download.chosen"))
                units = "".join(f" data-{unit}='{escape(tr(key))}'" for unit, key in _UNITS.items())
                line = f"<p role='status' data-none='{none}' data-some='{some}'{units}>{none}</p>"
                gr.HTML(line, elem_id="hub-chosen")

    def wire(self, page: gr.Blocks, timer: gr.Timer, model_chosen: Any) -> None:
        """Connect it; `model_chosen` is the event of another model on the tab's right side."""
        outputs = [self.list, self._shown, self.finished]
        asking = [self._found, self._search, self._look, self._start, self._start_here, self._stop]
        # not `input`: gradio sends it for keys only, and addresses are pasted
        on(self._repo.change, None, None, [self._files, self._found], js=_FORGET)
        on([self._close.click, model_chosen], None, None, [self._files, self._found, self._results], js=_EMPTY)
        asked = [self._waiting, self._repo, self._token]
        listed = [self._files, self._listed, *asking]
        on([self._look.click, self._repo.submit], self._asking(self._find), asked, [self._results, *listed])
        on(self._search.click, self._asking(self._search_hub), asked, [self._results, self._files, *asking])
        picked = on(self._results.click, self._pick, None, [self._repo, self._results])
        then(picked, self._asking(self._list_files), asked, listed)
        begun = on([self._start.click, self._start_here.click], self._asking(self._start_download),
           [self._waiting, self._repo, self._ticked, self._token, self._listed, self._files],
           [*outputs, self._token, self._files, *asking], js=_TICKED)  # fmt: skip
        then(begun, None, js="() => { Hub.untick(); }")
        on(self._stop.click, Waiting.stop, [self._waiting], queue=False)
        on([page.load, timer.tick], self._update, [self._shown], outputs, latest=True)
        on(self.list.click, self._act, None, outputs, several=True)
        on(self.finished.change, self._list_again, [self._listed, self._files, self._ticked], [self._files],
           js=_STILL_TICKED)  # fmt: skip

    def _asking(self, ask: Callable[..., Updates]) -> Callable[..., Iterator[Updates]]:
        """An action that asks the hub: it says so at once, and can be stopped."""

        def run(waiting: Waiting, *given: Any) -> Iterator[Updates]:
            answer = run_aside(ask, *given)
            off = gr.update(interactive=False)
            said = f"<p role='status'>{tr('download.asking')}</p>"
            buttons = (self._search, self._look, self._start, self._start_here)
            yield {self._found: said, **dict.fromkeys(buttons, off), self._stop: gr.update(visible=True)}
            idle = {**dict.fromkeys(buttons, gr.update(interactive=True)), self._stop: gr.update(visible=False)}
            if not await_answer(answer, waiting):
                yield {**idle, self._found: f"<p>{tr('download.not_asking')}</p>"}
            elif error := answer.exception():
                yield {
                    **idle,
                    self._found: f"<p class='warning'>{escape(error_text(error))}</p>"
                    if isinstance(error, UserError)
                    else "",
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
            return {
                self._results: suggestions_html(fits),
                self._files: "",
                self._found: f"<p>{escape(advice)}</p>",
            }
        found = self._app.downloads.search(" ".join(words.split()), self._allowed(token))
        return {
            self._results: found_html(found, fits),
            self._files: "",
            self._found: f"<p>{tr('download.repos', n=len(found))}</p>",
        }

    def _pick(self, event: gr.EventData) -> Updates:
        return {self._repo: event.pick, self._results: ""}

    def _list_files(self, repo: str, token: str) -> Updates:
        found = self._app.downloads.find(parse_address(repo), self._allowed(token))
        address, choices, everything = found.address, found.choices(), found.files
        folders = list_model_folders(everything)
        wanted = [name for name in address.names if name in {each.name for each in folders}]
        if others := [name for name in address.names if name not in wanted]:
            meant = select_files(everything, others)
            wanted += [each.name for each in choices if each.files[0] in meant]
        models = [each for each in choices if each.quantization]
        key = "download.found_gguf" if models else "download.found"
        line = f"<p><b>{escape(address.repo)}</b> {tr(key, n=len(choices), gguf=len(models))}</p>"
        listed = Listed(address, (*folders, *choices), line)
        return {
            self._files: self._table(listed, wanted),
            self._listed: listed,
            self._found: line,
        }

    def _table(self, listed: Listed, chosen: Collection[str]) -> str:
        def state(choice: FileChoice) -> str:
            return self._app.downloads.state_of(listed.address, choice)

        return files_html(listed.choices, chosen, self._app.system_memory.fits, state)

    def _list_again(self, listed: Listed | None, shown: str, ticked: str) -> Updates:
        """The same files, with what has become of them."""
        return {self._files: self._table(listed, ticked.splitlines())} if listed and shown else {}

    def _start_download(self, repo: str, files: str, token: str, listed: Listed | None, shown: str) -> Updates:
        self._app.downloads.start(parse_address(repo), files.splitlines(), self._allowed(token))
        show_info(tr("download.started"))
        again = {**self._list_again(listed, shown, ""), self._found: listed.line} if listed and shown else {}
        return {**self._update(""), **again, self._token: ""}

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
    amounts = format_size(one.size)
    if one.phase != "done":
        amounts = tr("download.amounts", done=format_size(one.done), size=amounts)
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
    error = f"<p class='warning' role='alert'>{escape(translated(one.error))}</p>" if one.error else ""
    return (
        f"<li><b>{name}</b><small>{escape(facts)}</small>{bar if one.phase != 'done' else ''}{error}"
        f"<div class='buttons'>{buttons}</div></li>"
    )


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return tr("unit.seconds", s=whole)
    if whole < 3600:
        return tr("unit.minutes_seconds", min=whole // 60, s=whole % 60)
    return tr("unit.hours", h=whole // 3600, min=whole % 3600 // 60)
