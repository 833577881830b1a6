"""The Training tab's page of LoRAs, in three steps: what is learned, how, and the run with its curves; and after it.

Controls are made from the declarations in `LoraSettings`; the workshop does the work, so a reload changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import InvalidInput, UserError
from loaders.knobs import Knob
from modules.app import App
from modules.training.lora_settings import GROUPS, LoraSettings
from modules.training.workshop import State
from modules.ui import knob_controls, lora_views
from modules.ui.events import on, report, say, then
from modules.ui.words import escape

KNOBS: Mapping[str, Knob] = LoraSettings.knobs()

#: Knobs of which a name is chosen from what lies on the disk.
_MENUS = ("model", "dataset", "format", "eval_dataset", "raw_text_file")
#: Of the data, what matters for a text file alone.
_TEXT = ("raw_text_file", "overlap_len", "newline_favor_len", "hard_cut_string", "min_chars")
#: What is shown at once; the rest of its group is folded.
_FIRST = ("lora_rank", "lora_alpha", "epochs", "learning_rate", "batch_size", "micro_batch_size")


class LoraPage:
    """The page."""

    def __init__(self, app: App) -> None:
        self._app, self._shop = app, app.workshop
        self._made: dict[str, gr.components.Component] = {}
        with gr.Column(elem_classes="training"):
            gr.HTML(
                "<h1>Train a LoRA</h1><p>A LoRA is a small adapter beside a model's weights: it teaches a style, a "
                "form or facts without changing the model itself.</p>",
                elem_classes="page-head",
            )
            with gr.Row(elem_classes="sides"):
                with gr.Column(min_width=440):
                    self._data()
                with gr.Column(min_width=440):
                    self._settings()
                    self._run()
                    self._after()
        self._timer = gr.Timer(1, active=False)
        self._seen = gr.State("")

    # --- what it is made of ---

    def _data(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML("<h2>1. What is learned</h2>", elem_classes="card-head")
            self._put("model", "lora_name", "always_override", "dataset", "format", "eval_dataset")
            self._upload = gr.UploadButton(
                "Add a data set or a text file", file_types=[".json", ".jsonl", ".txt"], size="sm", elem_id="lora-add"
            )
            self._put("cutoff_len")
            with gr.Accordion("A text file in place of a data set", open=False, elem_classes="rest"):
                self._put(*_TEXT)
            with gr.Accordion("More about data and base", open=False, elem_classes="rest"):
                self._put(*(name for name in (*self._group("data"), *self._group("what")) if name not in self._made))
            self._look = gr.Button("Look at it", elem_id="lora-look")
            self._looked = gr.HTML("", elem_id="lora-looked")

    def _settings(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML("<h2>2. How it is learned</h2>", elem_classes="card-head")
            self._copy = gr.Dropdown(
                self._shop.adapters(), value=None, label="Copy parameters from", elem_id="lora-copy",
                info="An adapter that was trained here or with the original.",
            )  # fmt: skip
            self._put(*_FIRST)
            for group in ("adapter", "steps", "learning", "keeping"):
                with gr.Accordion(f"More: {GROUPS[group].lower()}", open=False, elem_classes="rest"):
                    self._put(*(name for name in self._group(group) if name not in self._made))

    def _run(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML("<h2>3. The run</h2>", elem_classes="card-head")
            with gr.Row(elem_classes="actions"):
                self._start = gr.Button("Start training", variant="primary", elem_id="lora-start")
                self._stop = gr.Button("Stop and save", variant="stop", elem_id="lora-stop", visible="hidden")
            with gr.Row(elem_classes="actions", visible="hidden", elem_id="lora-cut-off") as self._cut_off:
                self._begun = gr.Dropdown(
                    [], label="Not finished", elem_id="lora-begun",
                    info="Was stopped, or cut off. It goes on from its last checkpoint, with its own parameters.",
                )  # fmt: skip
                self._go_on = gr.Button("Go on with it", size="sm", elem_id="lora-go-on")
            self._progress = gr.HTML("", elem_id="lora-progress")
            self._curves = gr.HTML("", elem_id="lora-curves")
            with gr.Column(visible="hidden", elem_id="lora-trying") as self._trying:
                self._prompt = gr.Textbox(
                    label="What does it say already?", max_lines=4, elem_id="lora-prompt",
                    info="It goes on from this text, between two batches; the training does not notice.",
                )  # fmt: skip
                self._try = gr.Button("Try it now", size="sm", elem_id="lora-try")
                self._said = gr.HTML("", elem_id="lora-said")

    def _after(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML("<h2>After it</h2>", elem_classes="card-head")
            self._adapter = gr.Dropdown(
                self._shop.finished(), value=None, label="Adapter", elem_id="lora-adapter",
                info="Of the folder loras, with its base model.",
            )  # fmt: skip
            self._strength = gr.Slider(
                0, 2, 1, step=0.05, label="Strength", buttons=[], elem_id="lora-strength", elem_classes=["knob"],
                info="1 as it was trained, 0 the base model's own output.",
            )  # fmt: skip
            self._load = gr.Button("Load it", variant="primary", elem_id="lora-load")
            with gr.Accordion("Use it with llama.cpp", open=False, elem_classes="rest"):
                gr.HTML(
                    "<p>As a GGUF file beside the adapter's folder. Load any GGUF of the same base model, then choose "
                    "the file under LoRA adapters in the Model tab.</p>"
                )
                self._gguf = gr.Button("Write it as GGUF", size="sm", elem_id="lora-gguf")
            with gr.Accordion("Export a merged model", open=False, elem_classes="rest"):
                self._target = gr.Textbox(
                    label="Name of the merged model", max_lines=1, elem_id="lora-target",
                    info="A folder in models/ with the base and the adapter in one, at the strength above.",
                )  # fmt: skip
                self._merge = gr.Button("Export merged", size="sm", elem_id="lora-merge")
            self._told = gr.HTML("", elem_id="lora-told")

    def _group(self, group: str) -> list[str]:
        return [name for name, knob in KNOBS.items() if knob.group == group]

    def _put(self, *names: str) -> None:
        for name in names:
            knob = KNOBS[name]
            if name in _MENUS:
                self._made[name] = gr.Dropdown(
                    self._choices(name), value="", label=knob.label, info=knob.help, elem_id=f"lora-{name}",
                    elem_classes=["knob"], filterable=True,
                )  # fmt: skip
            else:
                self._made[name] = knob_controls.control(knob, knob.default, prefix="lora")

    def _choices(self, name: str) -> list[tuple[str, str]]:
        found = {
            "model": self._shop.models,
            "dataset": self._shop.rows.names,
            "eval_dataset": self._shop.rows.names,
            "format": self._shop.formats.names,
            "raw_text_file": self._shop.texts,
        }[name]()
        return [("None", ""), *((each, each) for each in found)]

    @property
    def _controls(self) -> list[gr.components.Component]:
        return [self._made[name] for name in KNOBS]

    # --- what it does ---

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect it; `tab` is the one that it is in."""
        menus = [self._made[name] for name in _MENUS]
        run = [
            self._progress, self._curves, self._said, self._start, self._stop, self._trying, self._timer, self._seen,
            self._adapter, self._copy, self._cut_off, self._begun,
        ]  # fmt: skip
        on(tab.select, self._refresh, [self._made["model"]], [*menus, self._copy, self._adapter])
        on([page.load, tab.select], lambda: self._draw(""), None, run)
        on(self._timer.tick, self._draw, [self._seen], run, latest=True)
        on(self._upload.upload, self._add, [self._upload], [self._made["dataset"], self._made["raw_text_file"]])
        for button, doing, work, inputs, place in (
            (self._look, "Reading the data", self._look_at, self._controls, self._looked),
            (self._load, "Loading", self._use, [self._adapter, self._strength], self._told),
            (self._gguf, "Writing", self._for_llama, [self._adapter], self._told),
            (self._merge, "Merging", self._export, [self._adapter, self._strength, self._target], self._told),
        ):
            begun = on(button.click, lambda doing=doing: f"<p aria-live='polite'>{doing} &hellip;</p>", None, place)
            then(begun, _in_words(work), inputs, [place], stream=True)
        on(self._copy.input, self._copied, [self._copy, self._made["lora_name"]], self._controls)
        on(self._made["higher_rank_limit"].input, self._reach, [self._made["higher_rank_limit"]],
           [self._made["lora_rank"], self._made["lora_alpha"]])  # fmt: skip
        on(self._start.click, self._begin, self._controls, run)
        on(self._stop.click, self._end, None, run)
        shown = on(self._go_on.click, lambda name: self._copied(name, ""), [self._begun], self._controls)
        then(shown, self._go_on_with, [self._begun], run)
        on([self._try.click, self._prompt.submit], self._shop.sample, [self._prompt])

    def _refresh(self, model: str | None) -> list[Any]:
        found = {name: gr.update(choices=self._choices(name)) for name in _MENUS}
        if not model:
            found["model"]["value"] = self._shop.likely_base(self._app.models.state.name)
        return [
            *found.values(),
            gr.update(choices=self._shop.adapters()),
            gr.update(choices=self._shop.finished()),
        ]

    def _add(self, path: str) -> list[Any]:
        file = Path(path)
        if file.suffix == ".txt":
            name = self._app.measuring.texts.add(file)
            say(f"{name} is there now.")
            return [gr.skip(), gr.update(choices=self._choices("raw_text_file"), value=name)]
        name = self._shop.rows.add(file)
        say(f"{name} is there now.")
        return [gr.update(choices=self._choices("dataset"), value=name), gr.skip()]

    def _look_at(self, *values: Any) -> str:
        return lora_views.look_html(self._shop.look(_settings(values)))

    def _copied(self, name: str | None, own: str) -> list[Any]:
        if not name:
            return [gr.skip()] * len(KNOBS)
        found = self._shop.parameters(name)
        values = found.changed(lora_name=own or found.lora_name).model_dump()
        made = knob_controls.updates(KNOBS.values(), values)
        for place, each in enumerate(KNOBS):
            if each in _MENUS:
                known = values[each] in [value for _, value in self._choices(each)]
                made[place] = gr.update(value=values[each] if known else "")
        say(f"The parameters of {name} are set.")
        return made

    def _reach(self, higher: bool) -> list[Any]:
        return [gr.update(maximum=(KNOBS[name].maximum or 0) * (2 if higher else 1)) for name in
                ("lora_rank", "lora_alpha")]  # fmt: skip

    def _begin(self, *values: Any) -> Any:
        settings = _settings(values)
        if not settings.lora_name:
            raise InvalidInput("Give the adapter a name: it is saved under it in loras/.")
        self._shop.start(settings)
        return self._draw("")

    def _go_on_with(self, name: str | None) -> Any:
        if not name:
            raise InvalidInput("Choose a training that is not finished.")
        self._shop.go_on(name)
        return self._draw("")

    def _end(self) -> Any:
        self._shop.stop()
        return self._draw("")

    def _draw(self, seen: str) -> Any:
        state = self._shop.state
        counts = f"{state.steps.total} {state.evaluations.total} {state.checkpoint} {id(state.sample)}"
        now = f"{state.phase} {counts} {state.doing}"
        if now == seen:
            return gr.skip()
        return [
            lora_views.state_html(state, self._app.paths.loras),
            lora_views.curves_svg(state),
            lora_views.sample_html(state.sample),
            gr.update(visible="hidden" if state.active else True),
            gr.update(visible=True if state.active else "hidden", interactive=state.phase == "running"),
            gr.update(visible=True if state.active and state.ready else "hidden"),
            gr.Timer(active=state.active),
            now,
            *self._made_now(state),
            *self._unfinished(state),
        ]

    def _made_now(self, state: State) -> list[Any]:
        """The menus of adapters, when one has come."""
        if state.phase != "done" or state.settings is None:
            return [gr.skip(), gr.skip()]
        name = state.settings.lora_name
        return [gr.update(choices=self._shop.finished(), value=name), gr.update(choices=self._shop.adapters())]

    def _unfinished(self, state: State) -> list[Any]:
        """What can be gone on with, while nothing runs."""
        names = [] if state.active else self._shop.unfinished()
        last = state.settings.lora_name if state.settings else ""
        value = last if last in names else next(iter(names), None)
        return [gr.update(visible=True if names else "hidden"), gr.update(choices=names, value=value)]

    def _use(self, name: str | None, strength: float) -> str:
        base = self._base_of(name)
        self._app.load_with_lora(base, str(name), strength)
        return f"<b>{escape(name)}</b> acts on {escape(base)} at strength {strength:g}: go to the chat."

    def _for_llama(self, name: str | None) -> str:
        place = self._shop.to_gguf(self._base_of(name), str(name))
        return f"{escape(place)} is there: choose it in the Model tab when a GGUF of its base is loaded."

    def _export(self, name: str | None, strength: float, target: str) -> str:
        place = self._shop.merge(self._base_of(name), str(name), target, strength)
        return f"The merged model is {escape(place)}; it is in the Model tab's list."

    def _base_of(self, name: str | None) -> str:
        if not name:
            raise InvalidInput("Choose an adapter first.")
        return self._shop.base_of(name)


def _in_words(work: Callable[..., str]) -> Callable[..., str]:
    """Work of which a place on the page tells: what it says, or why it could not be done."""

    @functools.wraps(work)
    def told(*given: Any) -> str:
        try:
            return f"<div>{work(*given)}</div>"
        except UserError as error:
            return f"<p class='warning' role='alert'>{escape(error)}</p>"
        except Exception as error:
            report(error)
            return ""

    return told


def _settings(values: Sequence[Any]) -> LoraSettings:
    return knob_controls.parse(LoraSettings, values)
