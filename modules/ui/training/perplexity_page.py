"""The Training tab's perplexity page: measure models on a text, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.training.perplexity.evaluations import COLUMNS
from modules.training.perplexity.manager import PerplexityRun
from modules.training.perplexity.measure import WindowPlan
from modules.ui.parts.events import Updates, on, show_error, show_info
from modules.ui.parts.file_download import FileDownload
from modules.ui.parts.formatting import escape, short_name
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr
from modules.ui.training.token_heatmap import heatmap_html, perplexity_svg

#: The least widths of the table's columns in pixels; it scrolls sideways if there is less room.
_WIDTHS = (270, 100, 120, 140, 100, 150, 130, 240)
#: The width of a letter of a head, and of what stands beside the head's text.
_LETTER, _BESIDE = 9, 48


class PerplexityPage:
    """The page."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_classes="training"):
            gr.HTML(f"<h1>{tr('tab.perplexity')}</h1><p>{tr('perplexity.about')}</p>", elem_classes="page-head")
            with gr.Row(elem_classes="sides"):
                with gr.Column(min_width=440), gr.Column(elem_classes="card"):
                    self._form()
                with gr.Column(min_width=440):
                    self._seen()
            self._results()

        self._timer = gr.Timer(0.5, active=False)
        self._drawn: gr.State = gr.State(None)

    def _form(self) -> None:
        app = self._app
        self._models = gr.Dropdown(
            app.catalog.names(), multiselect=True, label=tr("perplexity.models"), elem_id="measure-models",
            info=tr("perplexity.models_info"),
        )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._text = gr.Dropdown(
                app.perplexity.texts.names(), value=None, label=tr("perplexity.text"), elem_id="measure-text",
                filterable=True, info=tr("perplexity.text_info"),
            )  # fmt: skip
            self._upload = gr.UploadButton(tr("perplexity.add"), file_types=[".txt"], size="sm", elem_id="measure-add")
        self._way = gr.Radio(
            [(tr("perplexity.sliding"), "stride"), (tr("perplexity.halves"), "halves")], value="stride",
            label=tr("perplexity.windows"), elem_id="measure-way",
        )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._stride = gr.Number(
                512, minimum=1, precision=0, label=tr("perplexity.stride"), elem_id="measure-stride"
            )
            self._length = gr.Number(
                0, minimum=0, precision=0, label=tr("perplexity.length"), elem_id="measure-length",
                info=tr("perplexity.length_info"),
            )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._run = gr.Button(tr("perplexity.measure"), variant="primary", elem_id="measure")
            self._stop = gr.Button(tr("button.stop"), variant="stop", elem_id="measure-stop", visible="hidden")

    def _seen(self) -> None:
        self._progress = gr.HTML("", elem_id="measure-progress")
        self._picture = gr.HTML("", elem_id="measure-picture")
        with gr.Accordion(tr("perplexity.tokens"), open=False, elem_id="measure-tokens"):
            self._tokens = gr.HTML(_hint())

    def _results(self) -> None:
        gr.HTML(f"<h2>{tr('perplexity.results')}</h2>")
        heads = [tr(f"perplexity.column.{name.lower()}") for name in COLUMNS]
        widths = [f"{max(least, _LETTER * len(head) + _BESIDE)}px" for least, head in zip(_WIDTHS, heads, strict=True)]
        # invisible until its tab is opened: a browser would load its large script at first
        self._table = gr.Dataframe(
            self._rows(), headers=heads, type="array", interactive=True, show_label=False, column_widths=widths,
            elem_id="measure-table", static_columns=list(range(len(COLUMNS) - 1)), label=tr("perplexity.results"),
            visible=False,
        )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._comment = gr.Button(tr("perplexity.save_comments"), size="sm", elem_id="measure-comment")
            self._refresh = gr.Button(tr("button.refresh"), size="sm", elem_id="measure-refresh")
            self._csv = FileDownload(tr("perplexity.export"), "measure-csv")

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect the events; `tab` is its own tab."""
        shown = [
            self._progress, self._picture, self._tokens, self._table, self._run, self._stop, self._timer, self._drawn,
        ]  # fmt: skip
        on(tab.select, self._look, None, [self._models, self._text, self._table])
        on(self._refresh.click, self._look, None, [self._models, self._text, self._table])
        on(self._upload.upload, self._add, [self._upload], [self._text])
        given = [self._models, self._text, self._way, self._stride, self._length]
        on(self._run.click, self._start, given, shown)
        on([page.load, tab.select], lambda: self._draw(None), None, shown)
        on(self._timer.tick, self._draw, [self._drawn], shown, latest=True)
        on(self._stop.click, self._app.perplexity.stop, None, None, queue=False)
        on(self._comment.click, self._save, [self._table], [self._table])
        self._csv.wire(lambda: ("evaluations.csv", self._app.perplexity.evaluations.text().encode()), [])

    # --- events ---

    def _start(
        self, names: Sequence[str] | None, text: str | None, way: str, stride: float | None, length: float | None
    ) -> Updates:
        plan = WindowPlan(int(stride or 0), int(length or 0), "halves" if way == "halves" else "stride")
        self._app.perplexity.start(names or (), text or "", plan)
        return self._draw(None)

    def _draw(self, drawn: list[Any] | None) -> Updates:
        run = self._app.perplexity.run
        now = [run.phase, run.number, run.window, run.through]
        if now == drawn:
            return {}
        running, same = run.phase == "running", drawn is not None and run.through == drawn[3]
        tokens = heatmap_html(run.measured, run.pieces) if run.measured and run.through else _hint()
        return {
            self._progress: _progress(run),
            self._picture: perplexity_svg(run.measured) if run.measured else "",
            **({} if same else {self._tokens: tokens, self._table: self._rows()}),
            self._run: gr.update(visible="hidden" if running else True),
            self._stop: gr.update(visible=True if running else "hidden"),
            self._timer: gr.Timer(active=running),
            self._drawn: now,
        }

    def _add(self, path: str) -> Any:
        name = self._app.perplexity.texts.add(Path(path))
        show_info(tr("training.added", name=name))
        return gr.update(choices=self._app.perplexity.texts.names(), value=name)

    def _save(self, table: Sequence[Sequence[Any]]) -> list[list[str]]:
        rows = [dict(zip(COLUMNS, map(str, row), strict=False)) for row in table]
        count = self._app.perplexity.evaluations.comment(rows)
        show_info(tr("perplexity.comments", n=count))
        return self._rows()

    def _look(self) -> Updates:
        return {
            self._models: gr.update(choices=self._app.catalog.names()),
            self._text: gr.update(choices=self._app.perplexity.texts.names()),
            self._table: gr.update(value=self._rows(), visible=True),
        }

    def _rows(self) -> list[list[str]]:
        try:
            return [[row[name] for name in COLUMNS] for row in self._app.perplexity.evaluations.rows()]
        except UserError as error:
            show_error(error)
            return []


def _progress(run: PerplexityRun) -> str:
    name, measured = escape(short_name(run.name)), run.measured
    if run.count > 1:
        name = tr("perplexity.name_of", name=name, number=run.number, count=run.count)
    match run.phase:
        case "none":
            return ""
        case "failed":
            return f"<p class='warning' role='alert'>{escape(translated(run.error))}</p>"
        case "stopped":
            return f"<p>{tr('perplexity.stopped', name=name)}</p>"
    if measured is None:
        return f"<p>{tr('perplexity.loading', name=name)} &hellip;</p>"
    rate = measured.scored / measured.seconds if measured.seconds else 0
    if run.through:
        value, error, tokens = measured.perplexity, measured.error, measured.scored
        return f"<p>{tr('perplexity.result', value=value, error=error, name=name, tokens=tokens, rate=rate)}</p>"
    percent = round(100 * run.window / measured.windows)
    said = tr(
        "perplexity.window", name=name, window=run.window, windows=measured.windows, value=measured.perplexity,
        seconds=measured.seconds_left,
    )  # fmt: skip
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='{escape(tr('perplexity.progress'))}'><span style='width:{percent}%'></span></div><p>{said}</p>"
    )


def _hint() -> str:
    return f"<p>{tr('perplexity.hint')}</p>"
