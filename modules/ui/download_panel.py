"""The Model tab's download lane: name a repository, see its files and which fit, fetch them, watch, pause, cancel.

The services do the work, so that a reload of the page changes nothing. The lane is drawn anew while something moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from modules.app import App
from modules.library.downloads import Progress
from modules.library.hub_address import Choice, chosen, folders_in, parse_address
from modules.ui.events import on, say
from modules.ui.queue_view import PICK
from modules.ui.words import escape, gigabytes, parts, plural


class DownloadPanel:
    """The lane. `arrived` counts what has come: others listen to its changes."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Accordion("Download a model or LoRA", open=False, elem_id="download", elem_classes="rest"):
            self._repo = gr.Textbox(
                label="Repository", max_lines=1, placeholder="user/repository or user/repository:branch",
                elem_id="download-repo", info="From the Hugging Face Hub, by name or by the address of its page.",
            )  # fmt: skip
            self._files = gr.Dropdown(
                [], value=[], multiselect=True, label="Files", elem_id="download-files", allow_custom_value=True,
                info="Empty: what a loader needs. Of several GGUFs, choose one.",
            )  # fmt: skip
            self._token = gr.Textbox(
                label="Token", type="password", max_lines=1, elem_id="download-token",
                info="For gated and private repositories; kept on this machine, readable by you alone.",
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                self._start = gr.Button("Download", variant="primary", size="sm", elem_id="download-start")
                self._look = gr.Button("Get file list", size="sm", elem_id="download-look")
            self._told = gr.HTML("", elem_id="download-told")
        self.lane = gr.HTML("", elem_id="download-lane", js_on_load=PICK, padding=False)
        self._seen = gr.State("")
        self.arrived = gr.State(0)

    def wire(self, page: gr.Blocks, timer: gr.Timer) -> None:
        """Connect it."""
        given = [self._repo, self._files, self._token]
        lane = [self.lane, self._seen, self.arrived]
        on([self._look.click, self._repo.submit], self._list, [self._repo, self._token], [self._files, self._told])
        on(self._start.click, self._begin, given, [*lane, self._token])
        on([page.load, timer.tick], self._draw, [self._seen], lane, latest=True)
        on(self.lane.click, self._act, None, lane)

    def _list(self, repo: str, token: str) -> list[Any]:
        address = parse_address(repo)
        choices = self._app.downloads.choices(address, self._allowed(token))
        everything = [file for each in choices for file in each.files]
        folders = folders_in(everything)
        offered = [(self._label(each), each.name) for each in (*folders, *choices)]
        wanted = [address.file] if address.file in {each.name for each in folders} else []
        if address.file and not wanted:
            meant = chosen(everything, [address.file])
            wanted = [each.name for each in choices if each.files[0] in meant]
        models = [each for each in choices if each.quantization]
        told = f"<p>{plural(len(choices), 'file')}" + (f", {len(models)} of them GGUF" if models else "") + ".</p>"
        return [gr.update(choices=offered, value=wanted), told]

    def _label(self, choice: Choice) -> str:
        fits = self._app.machine.fits(choice.size) if choice.quantization else ""
        many = f"{len(choice.files)} parts" if len(choice.files) > 1 else ""
        size = gigabytes(choice.size) if choice.size > 50_000_000 else f"{choice.size / 1e6:.1f} MB"
        return parts(choice.name, choice.quantization, many, size, fits)

    def _begin(self, repo: str, files: Sequence[str], token: str) -> list[Any]:
        self._app.downloads.start(parse_address(repo), list(files or ()), self._allowed(token))
        say("The download has begun; it goes on when you leave this page.")
        return [*self._draw(""), ""]

    def _allowed(self, token: str) -> str:
        """The token in use; one that was written into the field is kept."""
        if token.strip():
            self._app.hub_token.keep(token)
        return self._app.hub_token.known()

    def _act(self, event: gr.EventData) -> list[Any]:
        what, _, id = event.pick.partition(" ")
        downloads = self._app.downloads
        {"pause": downloads.pause, "resume": downloads.resume, "cancel": downloads.cancel}[what](id)
        return list(self._draw(""))

    def _draw(self, seen: str) -> Any:
        found = self._app.downloads.list()
        html = lane_html(found)
        if html == seen:
            return gr.skip()
        return [html, html, sum(each.phase == "done" for each in found)]


def lane_html(downloads: Sequence[Progress]) -> str:
    """Every download with its bar, speed, time left and buttons."""
    if not downloads:
        return ""
    rows = "".join(_row(each) for each in downloads)
    return f"<h3>Downloads</h3><ul class='lane' aria-live='polite'>{rows}</ul>"


def _row(one: Progress) -> str:
    percent = int(100 * one.done / one.size) if one.size else 100
    name = escape(one.name)
    how = {"fetching": "", "paused": "paused", "failed": "", "cancelled": "cancelled", "done": f"in {one.place}"}
    amounts = f"{_amount(one.done)} of {_amount(one.size)}" if one.phase != "done" else _amount(one.size)
    speed = f"{one.speed / 1e6:.1f} MB/s" if one.phase == "fetching" and one.speed else ""
    left = one.seconds_left
    facts = parts(how[one.phase], amounts, speed, f"{_time(left)} left" if left is not None else "")
    actions = {"fetching": ("pause", "cancel"), "paused": ("resume", "cancel"), "failed": ("resume", "cancel")}
    words = {"pause": "Pause", "resume": "Go on", "cancel": "Cancel"}
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
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
