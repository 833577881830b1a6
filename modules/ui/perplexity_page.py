"""The Training tab's page of perplexity: how much a text surprises models, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.training.evaluations import COLUMNS
from modules.training.measuring import Run
from modules.training.perplexity import Plan
from modules.ui.events import on, report, say
from modules.ui.hand_out import HandOut
from modules.ui.surprise import line_svg, tokens_html
from modules.ui.words import escape, short_name

#: Of the table's columns; it scrolls sideways where there is less room.
_WIDTHS = ["270px", "100px", "120px", "140px", "100px", "150px", "130px", "240px"]
_TEACH = "<p>Measure a text to see which of its tokens surprised the model.</p>"
_WAYS = [("Windows that move on by the stride", "stride"), ("Halves, as llama-perplexity does", "halves")]


class PerplexityPage:
    """The page."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_classes="training"):
            gr.HTML(
                "<h1>Perplexity</h1><p>How much a text surprises a model: lower is better, and only figures of the "
                "same text and windows compare.</p>",
                elem_classes="page-head",
            )
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
            app.shelf.names(), multiselect=True, label="Models", elem_id="measure-models",
            info="Several are measured in turn. None: the one that is loaded.",
        )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._text = gr.Dropdown(
                app.measuring.texts.names(), value=None, label="Text", elem_id="measure-text", filterable=True,
                info="Text files of the folder training/datasets, and sets of the hub.",
            )  # fmt: skip
            self._upload = gr.UploadButton("Add a text file", file_types=[".txt"], size="sm", elem_id="measure-add")
        self._way = gr.Radio(_WAYS, value="stride", label="Windows", elem_id="measure-way")
        with gr.Row(elem_classes="actions"):
            self._stride = gr.Number(512, minimum=1, precision=0, label="Stride, in tokens", elem_id="measure-stride")
            self._length = gr.Number(
                0, minimum=0, precision=0, label="Longest window, in tokens", elem_id="measure-length",
                info="0: the context of the model.",
            )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._run = gr.Button("Measure", variant="primary", elem_id="measure")
            self._stop = gr.Button("Stop", variant="stop", elem_id="measure-stop", visible="hidden")

    def _seen(self) -> None:
        self._progress = gr.HTML("", elem_id="measure-progress")
        self._picture = gr.HTML("", elem_id="measure-picture")
        with gr.Accordion("Token by token", open=False, elem_id="measure-tokens"):
            self._tokens = gr.HTML(_TEACH)

    def _results(self) -> None:
        gr.HTML("<h2>Results</h2>")
        self._table = gr.Dataframe(
            self._rows(), headers=list(COLUMNS), type="array", interactive=True, show_label=False,
            column_widths=_WIDTHS,
            elem_id="measure-table", static_columns=list(range(len(COLUMNS) - 1)), label="Results",
        )  # fmt: skip
        with gr.Row(elem_classes="actions"):
            self._comment = gr.Button("Save comments", size="sm", elem_id="measure-comment")
            self._refresh = gr.Button("Refresh", size="sm", elem_id="measure-refresh")
            self._csv = HandOut("Take out as CSV", "measure-csv")

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect it; `tab` is its own."""
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
        on(self._stop.click, self._app.measuring.stop, None, None, queue=False)
        on(self._comment.click, self._save, [self._table], [self._table])
        self._csv.wire(lambda: ("evaluations.csv", self._app.measuring.evaluations.text().encode()), [])

    # --- what it does ---

    def _start(
        self, names: Sequence[str] | None, text: str | None, way: str, stride: float | None, length: float | None
    ) -> Any:
        plan = Plan(int(stride or 0), int(length or 0), "halves" if way == "halves" else "stride")
        self._app.measuring.start(names or (), text or "", plan)
        return self._draw(None)

    def _draw(self, drawn: list[Any] | None) -> Any:
        run = self._app.measuring.run
        now = [run.phase, run.number, run.window, run.through]
        if now == drawn:
            return gr.skip()
        running, same = run.phase == "running", drawn is not None and run.through == drawn[3]
        tokens = tokens_html(run.measured, run.pieces) if run.measured and run.through else _TEACH
        return [
            _progress(run),
            line_svg(run.measured) if run.measured else "",
            gr.skip() if same else tokens,
            gr.skip() if same else self._rows(),
            gr.update(visible="hidden" if running else True),
            gr.update(visible=True if running else "hidden"),
            gr.Timer(active=running),
            now,
        ]

    def _add(self, path: str) -> Any:
        name = self._app.measuring.texts.add(Path(path))
        say(f"{name} is there now.")
        return gr.update(choices=self._app.measuring.texts.names(), value=name)

    def _save(self, table: Sequence[Sequence[Any]]) -> list[list[str]]:
        rows = [dict(zip(COLUMNS, map(str, row), strict=False)) for row in table]
        count = self._app.measuring.evaluations.comment(rows)
        say(f"{count} comments changed.")
        return self._rows()

    def _look(self) -> list[Any]:
        return [
            gr.update(choices=self._app.shelf.names()),
            gr.update(choices=self._app.measuring.texts.names()),
            self._rows(),
        ]

    def _rows(self) -> list[list[str]]:
        try:
            return [[row[name] for name in COLUMNS] for row in self._app.measuring.evaluations.rows()]
        except UserError as error:
            report(error)
            return []


def _progress(run: Run) -> str:
    name, measured = escape(short_name(run.name)), run.measured
    which = f" (model {run.number} of {run.count})" if run.count > 1 else ""
    match run.phase:
        case "none":
            return ""
        case "failed":
            return f"<p class='warning' role='alert'>{escape(run.error)}</p>"
        case "stopped":
            return f"<p>{name}{which} was stopped; what was through before is in the table.</p>"
    if measured is None:
        return f"<p>{name}{which}: loading, and reading the text</p>"
    rate = measured.scored / measured.seconds if measured.seconds else 0
    if run.through:
        return (
            f"<p><b>{measured.perplexity:.4f}</b> &plusmn; {measured.error:.4f} for {name}{which}: {measured.scored:,} "
            f"tokens at {rate:,.0f} per second</p>"
        )
    percent = round(100 * run.window / measured.windows)
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='Measuring'><span style='width:{percent}%'></span></div>"
        f"<p>{name}{which}: window {run.window:,} of {measured.windows:,}, {measured.perplexity:.3f} so far, "
        f"{measured.seconds_left:,.0f} s left</p>"
    )
