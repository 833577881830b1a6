"""The Training tab's page of LoRAs, in three steps (data, settings, the run with its curves), and what can follow.

A step that is done is folded, and its head says what was chosen (steps.py); the next one opens.

Controls are made from the declarations in `LoraSettings`; the training manager does the work, so a reload of the page
changes nothing.
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
from modules.training.lora.settings import LoraSettings
from modules.training.manager import TrainingState
from modules.ui.parameters import knob_controls
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on, show_error, show_info, then
from modules.ui.parts.formatting import escape
from modules.ui.texts import knob_help, knob_label, tr
from modules.ui.training import lora_view, steps

KNOBS: Mapping[str, Knob] = LoraSettings.knobs()

#: Knobs whose value is chosen from files on disk.
_MENUS = ("model", "dataset", "format", "eval_dataset", "raw_text_file")
#: Data settings that only apply to text files.
_TEXT = ("raw_text_file", "overlap_len", "newline_favor_len", "hard_cut_string", "min_chars")
_STEP = ["card", "step"]
#: Always visible; the rest of its group is collapsed.
_FIRST = ("lora_rank", "lora_alpha", "epochs", "learning_rate", "batch_size", "micro_batch_size")


class LoraPage:
    """The page."""

    def __init__(self, app: App) -> None:
        self._app, self._training = app, app.training
        self._made: dict[str, gr.components.Component] = {}
        with gr.Column(elem_classes=["training", "steps"]):
            gr.HTML(f"<h1>{tr('training.heading')}</h1><p>{tr('training.about')}</p>", elem_classes="page-head")
            with gr.Accordion(
                tr("training.step_data"), elem_id="lora-step-data", elem_classes=_STEP
            ) as self._step_data:
                self._data()
            with gr.Accordion(
                tr("training.step_settings"), open=False, elem_id="lora-step-settings", elem_classes=_STEP
            ) as self._step_settings:
                self._settings()
            self._run()
            with gr.Accordion(
                tr("training.step_use"), open=False, elem_id="lora-step-use", elem_classes=_STEP
            ) as self._step_use:
                self._after()
            with gr.Row(elem_id="lora-run"):
                self._plan = gr.HTML("", elem_id="lora-plan", padding=False)
                self._start = gr.Button(tr("training.start"), variant="primary", elem_id="lora-start")
                self._stop = gr.Button(tr("training.stop"), variant="stop", elem_id="lora-stop", visible="hidden")
        self._timer = gr.Timer(1, active=False)
        self._seen = gr.State("")

    # --- components ---

    def _data(self) -> None:
        self._put("lora_name", "model", "dataset", "format", "always_override", "eval_dataset")
        self._upload = gr.UploadButton(
            tr("training.add"), file_types=[".json", ".jsonl", ".txt"], size="sm", elem_id="lora-add"
        )
        with gr.Accordion(tr("training.raw"), open=False, elem_classes="rest"):
            self._put(*_TEXT)
        with gr.Accordion(tr("training.more_data"), open=False, elem_classes="rest"):
            self._put(*(name for name in (*self._group("data"), *self._group("what")) if name not in self._made))
        with gr.Row(elem_classes="actions"):
            self._look = gr.Button(tr("training.preview"), elem_id="lora-look")
            self._next = gr.Button(tr("training.next"), elem_id="lora-next")
        self._looked = gr.HTML("", elem_id="lora-looked")

    def _settings(self) -> None:
        self._copy = gr.Dropdown(
            self._training.adapters(), value=None, label=tr("training.copy"), elem_id="lora-copy",
            info=tr("training.copy_info"),
        )  # fmt: skip
        self._put(*_FIRST)
        for group in ("adapter", "steps", "learning", "keeping"):
            more = tr("training.more", group=tr(f"lora_group.{group}"))
            with gr.Accordion(more, open=False, elem_classes="rest"):
                self._put(*(name for name in self._group(group) if name not in self._made))

    def _run(self) -> None:
        with gr.Column(elem_classes="card", elem_id="lora-runs"):
            gr.HTML(f"<h2>{tr('training.step_run')}</h2><p>{tr('training.run_hint')}</p>", elem_id="lora-run-head")
            with gr.Row(elem_classes="actions", visible="hidden", elem_id="lora-cut-off") as self._cut_off:
                self._begun = gr.Dropdown(
                    [], label=tr("training.unfinished"), elem_id="lora-begun",
                    info=tr("training.unfinished_info"),
                )  # fmt: skip
                self._go_on = gr.Button(tr("training.resume"), size="sm", elem_id="lora-go-on")
            self._progress = gr.HTML("", elem_id="lora-progress")
            self._curves = gr.HTML("", elem_id="lora-curves")
            with gr.Column(visible="hidden", elem_id="lora-trying") as self._trying:
                self._prompt = gr.Textbox(
                    label=tr("training.try_prompt"), max_lines=4, elem_id="lora-prompt",
                    info=tr("training.try_info"),
                )  # fmt: skip
                self._try = gr.Button(tr("training.try"), size="sm", elem_id="lora-try")
                self._said = gr.HTML("", elem_id="lora-said")

    def _after(self) -> None:
        self._adapter = gr.Dropdown(
            self._training.finished(), value=None, label=tr("training.adapter"), elem_id="lora-adapter",
            info=tr("training.adapter_info"),
        )  # fmt: skip
        self._strength = gr.Slider(
            0, 2, 1, step=0.05, label=tr("training.strength"), buttons=[], elem_id="lora-strength",
            elem_classes=["knob"], info=tr("training.strength_info"),
        )  # fmt: skip
        self._load = gr.Button(tr("training.load"), variant="primary", elem_id="lora-load")
        with gr.Accordion(tr("training.gguf_title"), open=False, elem_classes="rest"):
            gr.HTML(f"<p>{tr('training.gguf_about')}</p>")
            self._gguf = gr.Button(tr("training.gguf"), size="sm", elem_id="lora-gguf")
        with gr.Accordion(tr("training.merge_title"), open=False, elem_classes="rest"):
            self._target = gr.Textbox(
                label=tr("training.target"), max_lines=1, elem_id="lora-target",
                info=tr("training.target_info"),
            )  # fmt: skip
            self._merge = gr.Button(tr("training.merge"), size="sm", elem_id="lora-merge")
        self._told = gr.HTML("", elem_id="lora-result")

    def _group(self, group: str) -> list[str]:
        return [name for name, knob in KNOBS.items() if knob.group == group]

    def _put(self, *names: str) -> None:
        for name in names:
            knob = KNOBS[name]
            if name in _MENUS:
                self._made[name] = gr.Dropdown(
                    self._choices(name), value="", label=knob_label(knob, "lora"), info=knob_help(knob, "lora"),
                    elem_id=f"lora-{name}", elem_classes=["knob"], filterable=True,
                )  # fmt: skip
            else:
                self._made[name] = knob_controls.make_control(knob, knob.default, prefix="lora", scope="lora")

    def _choices(self, name: str) -> list[tuple[str, str]]:
        found = {
            "model": self._training.models,
            "dataset": self._training.rows.names,
            "eval_dataset": self._training.rows.names,
            "format": self._training.formats.names,
            "raw_text_file": self._training.texts,
        }[name]()
        return [(tr("training.none"), ""), *((each, each) for each in found)]

    @property
    def _controls(self) -> list[gr.components.Component]:
        return [self._made[name] for name in KNOBS]

    # --- events ---

    def wire(self, page: gr.Blocks, tab: gr.Tab) -> None:
        """Connect the events; `tab` contains it."""
        menus = [self._made[name] for name in _MENUS]
        run = [
            self._progress, self._curves, self._said, self._start, self._stop, self._trying, self._timer, self._seen,
            self._adapter, self._copy, self._cut_off, self._begun, self._plan, self._step_use,
        ]  # fmt: skip
        heads = [self._step_data, self._step_settings]
        on(tab.select, self._refresh, [self._made["model"]], [*menus, self._copy, self._adapter])
        on([page.load, tab.select], lambda: self._draw(""), None, run)
        on(self._timer.tick, self._draw, [self._seen], run, latest=True)
        on(self._upload.upload, self._add, [self._upload], [self._made["dataset"], self._made["raw_text_file"]])
        for button, doing, work, inputs, place in (
            (self._look, "training.reading", self._look_at, self._controls, self._looked),
            (self._load, "training.loading", self._use, [self._adapter, self._strength], self._told),
            (self._gguf, "training.converting", self._for_llama, [self._adapter], self._told),
            (self._merge, "training.merging", self._export, [self._adapter, self._strength, self._target], self._told),
        ):
            begun = on(button.click, lambda key=doing: f"<p aria-live='polite'>{tr(key)} &hellip;</p>", None, place)
            then(begun, _in_words(work), inputs, [place])
        # not `input`, which gradio's menus report twice for one choice
        on(self._copy.select, self._copied, [self._copy, self._made["lora_name"]], self._controls)
        on(self._made["higher_rank_limit"].input, self._reach, [self._made["higher_rank_limit"]],
           [self._made["lora_rank"], self._made["lora_alpha"]])  # fmt: skip
        on(self._next.click, self._to_settings, self._controls, [*heads, self._plan])
        for step, head in ((self._step_data, steps.data_head), (self._step_settings, steps.settings_head)):
            on(step.collapse, self._summing_up(step, head), self._controls, [step, self._plan])
        on(self._step_data.expand, lambda: gr.update(label=tr("training.step_data")), None, [self._step_data])
        on(self._step_settings.expand, lambda: gr.update(label=tr("training.step_settings")), None,
           [self._step_settings])  # fmt: skip
        on(self._start.click, self._begin, self._controls, [*run, *heads])
        on(self._stop.click, self._end, None, run)
        shown = on(self._go_on.click, lambda name: self._copied(name, ""), [self._begun], self._controls)
        then(shown, self._go_on_with, [self._begun], run)
        on([self._try.click, self._prompt.submit], self._training.sample, [self._prompt])

    def _refresh(self, model: str | None) -> Updates:
        found = {name: gr.update(choices=self._choices(name)) for name in _MENUS}
        if not model:
            found["model"]["value"] = self._training.default_base(self._app.models.state.name)
        return {
            **{self._made[name]: update for name, update in found.items()},
            self._copy: gr.update(choices=self._training.adapters()),
            self._adapter: gr.update(choices=self._training.finished()),
        }

    def _add(self, path: str) -> Updates:
        file = Path(path)
        if file.suffix == ".txt":
            name = self._app.perplexity.texts.add(file)
            show_info(tr("training.added", name=name))
            return {self._made["raw_text_file"]: gr.update(choices=self._choices("raw_text_file"), value=name)}
        name = self._training.rows.add(file)
        show_info(tr("training.added", name=name))
        return {self._made["dataset"]: gr.update(choices=self._choices("dataset"), value=name)}

    def _look_at(self, *values: Any) -> str:
        return lora_view.preview_html(self._training.preview(_settings(values)))

    def _copied(self, name: str | None, own: str) -> Updates:
        if not name:
            return {}
        found = self._training.parameters(name)
        values = found.changed(lora_name=own or found.lora_name).model_dump()
        made = dict(zip(self._controls, knob_controls.control_updates(KNOBS.values(), values), strict=True))
        for each in _MENUS:
            known = values[each] in [value for _, value in self._choices(each)]
            made[self._made[each]] = gr.update(value=values[each] if known else "")
        show_info(tr("training.copied", name=name))
        return made

    def _reach(self, higher: bool) -> Updates:
        return {
            self._made[name]: gr.update(maximum=(KNOBS[name].maximum or 0) * (2 if higher else 1))
            for name in ("lora_rank", "lora_alpha")
        }

    def _summing_up(self, step: gr.Accordion, head: Callable[[LoraSettings], str]) -> Callable[..., Updates]:
        def folded(*values: Any) -> Updates:
            settings = _settings(values)
            return {step: gr.update(label=head(settings)), self._plan: _plan_html(settings)}

        return folded

    def _to_settings(self, *values: Any) -> Updates:
        """The first step is done: fold it, and open the second one."""
        settings = _settings(values)
        if not settings.lora_name:
            raise InvalidInput(tr("training.need_name"))
        if not settings.model or not (settings.dataset or settings.raw_text_file):
            raise InvalidInput(tr("training.need_data"))
        return {
            self._step_data: gr.update(label=steps.data_head(settings), open=False),
            self._step_settings: gr.update(label=tr("training.step_settings"), open=True),
            self._plan: _plan_html(settings),
        }

    def _begin(self, *values: Any) -> Updates:
        settings = _settings(values)
        if not settings.lora_name:
            raise InvalidInput(tr("training.need_name"))
        self._training.start(settings)
        return {
            **self._draw(""),
            self._step_data: gr.update(label=steps.data_head(settings), open=False),
            self._step_settings: gr.update(label=steps.settings_head(settings), open=False),
        }

    def _go_on_with(self, name: str | None) -> Updates:
        if not name:
            raise InvalidInput(tr("training.choose_unfinished"))
        self._training.resume(name)
        return self._draw("")

    def _end(self) -> Updates:
        self._training.stop()
        return self._draw("")

    def _draw(self, seen: str) -> Updates:
        state = self._training.state
        counts = f"{state.steps.total} {state.evaluations.total} {state.checkpoint} {id(state.sample)}"
        now = f"{state.phase} {counts} {state.doing}"
        if now == seen:
            return {}
        stoppable = state.phase == "running"
        return {
            self._progress: lora_view.state_html(state, self._app.paths.loras),
            self._curves: lora_view.curves_svg(state),
            self._said: lora_view.sample_html(state.sample),
            self._start: gr.update(visible="hidden" if state.active else True),
            self._stop: gr.update(visible=True if state.active else "hidden", interactive=stoppable),
            self._trying: gr.update(visible=True if state.active and state.ready else "hidden"),
            self._timer: gr.Timer(active=state.active),
            self._seen: now,
            **({self._plan: _plan_html(state.settings)} if state.active and state.settings else {}),
            **self._made_now(state),
            **self._unfinished(state),
        }

    def _made_now(self, state: TrainingState) -> Updates:
        """The menus of adapters, after a new one was created."""
        if state.phase != "done" or state.settings is None:
            return {}
        name = state.settings.lora_name
        return {
            self._adapter: gr.update(choices=self._training.finished(), value=name),
            self._copy: gr.update(choices=self._training.adapters()),
            self._step_use: gr.update(open=True),
        }

    def _unfinished(self, state: TrainingState) -> Updates:
        """The trainings that can be resumed, while none is running."""
        names = [] if state.active else self._training.unfinished()
        last = state.settings.lora_name if state.settings else ""
        value = last if last in names else next(iter(names), None)
        return {
            self._cut_off: gr.update(visible=True if names else "hidden"),
            self._begun: gr.update(choices=names, value=value),
        }

    def _use(self, name: str | None, strength: float) -> str:
        base = self._base_of(name)
        self._app.load_with_lora(base, str(name), strength)
        return tr("training.loaded", name=escape(name), base=escape(base), strength=strength)

    def _for_llama(self, name: str | None) -> str:
        place = self._training.to_gguf(self._base_of(name), str(name))
        return tr("training.converted", place=escape(place))

    def _export(self, name: str | None, strength: float, target: str) -> str:
        place = self._training.merge(self._base_of(name), str(name), target, strength)
        return tr("training.merged", place=escape(place))

    def _base_of(self, name: str | None) -> str:
        if not name:
            raise InvalidInput(tr("training.choose"))
        return self._training.base_of(name)


def _in_words(work: Callable[..., str]) -> Callable[..., str]:
    """Run something that reports in a place on the page: its result, or the error."""

    @functools.wraps(work)
    def told(*given: Any) -> str:
        try:
            return f"<div>{work(*given)}</div>"
        except UserError as error:
            return f"<p class='warning' role='alert'>{escape(error_text(error))}</p>"
        except Exception as error:
            show_error(error)
            return ""

    return told


def _plan_html(settings: LoraSettings) -> str:
    return f"<p>{escape(steps.plan_line(settings))}</p>"


def _settings(values: Sequence[Any]) -> LoraSettings:
    return knob_controls.parse_controls(LoraSettings, values)
