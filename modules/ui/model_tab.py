"""The Model tab: on the left what lies in models/, on the right how it is loaded.

Loaders, their options and what is missing for them come from the declarations; this file names none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from errors import InvalidInput, UserError
from loaders import LOADERS
from loaders.base import Loader, Lora
from loaders.knobs import Knob
from loaders.params import LOAD_GROUPS
from modules.app import App
from modules.library import demo
from modules.library.models import LoaderChoice
from modules.library.shelf import ShelfItem
from modules.ui import knob_controls
from modules.ui.download_panel import DownloadPanel
from modules.ui.events import on, say, then
from modules.ui.forecast_view import forecast_html
from modules.ui.picker import Entry, entries, picker
from modules.ui.words import escape, gigabytes, parts, short_name, thousands

_WHERE = (
    "<h3>Your own files</h3><p>Put GGUF files and model folders into <code>{folder}</code>, then press Refresh.</p>"
)
_EMPTY = "Nothing is in the models folder yet. Download a model below, or put a GGUF file there and press Refresh."


class ModelTab:
    """The tab. `progress` is where the frame tells how a load is going."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._knobs: dict[str, list[Knob]] = {
            name: list(kind.Options.knobs().values()) for name, kind in LOADERS.items()
        }
        self._controls: dict[str, list[gr.components.Component]] = {}
        self._panels: dict[str, gr.Column] = {}
        self.chosen = gr.State("")
        with gr.Row(elem_id="model"):
            with gr.Column(elem_id="shelf"):
                with gr.Row(elem_classes="head"):
                    gr.HTML("<h2>Models</h2>")
                    self.refresh = gr.Button("Refresh", size="sm", elem_id="shelf-refresh")
                self.shelf = picker("shelf-list")
                self.fetch = gr.Button(
                    f"Fetch the small demo model, {demo.PACKAGE_SIZE / 1e6:.0f} MB", visible=False, elem_id="fetch-demo"
                )
                self.downloads = DownloadPanel(app)
                gr.HTML(_WHERE.format(folder=escape(app.paths.models)), elem_id="where")
            with gr.Column(elem_id="load"):
                self._load_side()

    def _load_side(self) -> None:
        self.title = gr.HTML("", elem_id="model-title")
        self.forecast = gr.HTML("", elem_id="forecast", padding=False)
        with gr.Row(elem_id="load-bar"):
            self.load = gr.Button("Load", variant="primary", elem_id="load-model")
            self.cancel = gr.Button("Cancel", variant="stop", elem_id="cancel-load", visible="hidden")
            self.unload = gr.Button("Unload", elem_id="unload-model")
            self.reload = gr.Button("Reload", elem_id="reload-model")
            self.save = gr.Button("Save settings for this model", elem_id="save-options")
            self.autoload = gr.Checkbox(
                self._app.settings.autoload_model, label="Load a model when it is chosen", elem_id="autoload"
            )
        self.progress = gr.HTML("", elem_id="load-progress")
        self.notes = gr.HTML("", elem_id="load-notes")
        with gr.Row(elem_id="loras", visible=False) as self.loras_row:
            self.loras = gr.Dropdown(
                [], value=[], multiselect=True, label="LoRA adapters", elem_id="lora-menu",
                info="Of the folder loras; Apply lets these act and no others.",
            )  # fmt: skip
            self.apply_loras = gr.Button("Apply LoRAs", size="sm", elem_id="apply-loras")
        first = next(iter(LOADERS))
        with gr.Column(elem_id="how", visible=False) as self.how:
            self.loader = gr.Radio(list(LOADERS), label="Loader", elem_id="loader", value=first)
            self.missing = gr.HTML("", elem_id="loader-missing")
            self.reason = gr.HTML("", elem_id="options-reason")
            for name in LOADERS:
                with gr.Column(elem_classes="options", visible=name == first) as panel:
                    self._options(name)
                self._panels[name] = panel

    def _options(self, loader: str) -> None:
        made: dict[str, gr.components.Component] = {}
        rest: list[tuple[str, list[Knob]]] = []
        for group, (title, sentence) in LOAD_GROUPS.items():
            knobs = [knob for knob in self._knobs[loader] if knob.group == group]
            if group != "main":
                rest.append((group, knobs))
                continue
            with gr.Column(elem_classes="card"):
                gr.HTML(f"<h2>{title}</h2><p>{sentence}</p>", elem_classes="card-head")
                made |= {knob.name: self._control(loader, knob) for knob in knobs}
        with gr.Accordion("All other options", open=False, elem_classes="rest"):
            for group, knobs in rest:
                if knobs:
                    with gr.Column(elem_classes="card"):
                        title, sentence = LOAD_GROUPS[group]
                        gr.HTML(f"<h2>{title}</h2><p>{sentence}</p>", elem_classes="card-head")
                        made |= {knob.name: self._control(loader, knob) for knob in knobs}
        self._controls[loader] = [made[knob.name] for knob in self._knobs[loader]]

    def _control(self, loader: str, knob: Knob) -> gr.components.Component:
        return knob_controls.control(knob, knob.default, prefix=f"option-{loader.replace('.', '-')}")

    # --- what it does ---

    @property
    def _options_of_all(self) -> list[gr.components.Component]:
        return [control for name in LOADERS for control in self._controls[name]]

    def wire(self, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer, model: gr.State) -> None:
        """Connect it. `tab` is the one that holds it; `model` changes with the model."""
        side = [
            self.chosen, self.shelf, self.fetch, self.title, self.load, self.save, self.how, self.loader, self.missing,
            self.reason, *self._panels.values(), *self._options_of_all,
        ]  # fmt: skip
        state = [self.notes, self.load, self.cancel, self.unload, self.reload, self.loras_row, self.loras]
        self.downloads.wire(page, timer)
        chosen = on(self.shelf.click, self._choose, None, side)
        on(page.load, partial(self._open, fresh=True), [self.chosen], side)
        on(self.downloads.arrived.change, self._open, [self.chosen], side)
        on([page.load, model.change], self._state, [self.chosen], state)
        shown = [
            chosen,
            on(tab.select, None),
            on(self.refresh.click, self._open, [self.chosen], side),
            on(self.loader.input, self._with_loader, [self.chosen, self.loader], side),
        ]
        given = [self.chosen, self.loader, *self._options_of_all]
        under_way = [timer, self.load, self.cancel, self.unload, self.reload, self.fetch]
        for button, function, inputs in (
            (self.load, self._load, given),
            (self.reload, self._load, given),
            (self.fetch, self._fetch, None),
        ):
            done = then(on(button.click, self._starting, None, under_way), function, inputs)
            shown.append(then(then(done, self._state, [self.chosen], state), self._open, [self.chosen], side))
        done = then(chosen, self._load_if, [self.autoload, *given])
        then(then(done, self._state, [self.chosen], state), self._open, [self.chosen], side)
        moved = [control.input for name in LOADERS for control in self._weighing(name)]
        on(moved, self._forecast, given, [self.forecast], latest=True)
        for event in shown:
            then(event, self._forecast, given, [self.forecast])
        on(self.apply_loras.click, self._use_loras, [self.loras])
        on(self.cancel.click, self._app.models.cancel_load, queue=False)
        then(on(self.unload.click, self._app.models.unload), self._state, [self.chosen], state)
        on(self.save.click, self._save, given)

    def _weighing(self, loader: str) -> list[gr.components.Component]:
        """The controls on which the forecast depends; none, where there is no forecast. It is costly to hear all."""
        if LOADERS[loader].forecast.__func__ is Loader.forecast.__func__:  # type: ignore[attr-defined]
            return []
        pairs = zip(self._knobs[loader], self._controls[loader], strict=True)
        return [control for knob, control in pairs if knob.group in ("main", "memory", "speed")]

    def _open(self, chosen: str, *, fresh: bool = False) -> list[Any]:
        """The list anew, and what depends on it. `fresh`: the page has just come up, its controls as they were made."""
        items = self._app.shelf.items()
        names = [item.name for item in items]
        wanted = next((name for name in (chosen, self._app.models.state.name) if name in names), None)
        usable = next((item.name for item in items if not item.problem), "")
        return self._side(wanted or usable, fresh=fresh)

    def _choose(self, event: gr.EventData) -> list[Any]:
        return self._side(event.pick)

    def _with_loader(self, chosen: str, loader: str) -> list[Any]:
        return self._side(chosen, loader)

    def _side(self, name: str, loader: str = "", *, fresh: bool = False) -> list[Any]:
        """Everything that depends on the chosen model."""
        items = self._app.shelf.items()
        shelf = shelf_html(items, name, self._app.models.state.name, self._app.machine.fits)
        fetch = gr.update(visible=not any(each.name == demo.NAME for each in items))
        if not name:
            off = gr.update(interactive=False)
            return [name, shelf, fetch, title_html(None), off, off, gr.update(visible=False), *self._nothing]
        item = self._app.shelf.find(name)
        choices = self._app.models.loaders_for(name)
        loader = loader or (choices[0].name if choices else next(iter(LOADERS)))
        missing = next((choice.missing for choice in choices if choice.name == loader), None)
        options, reason = self._app.models.default_options(name, loader)
        return [
            name,
            shelf,
            fetch,
            title_html(item),
            gr.update(interactive=not item.problem and not missing),
            gr.update(interactive=not item.problem),
            gr.update(visible=not item.problem),
            gr.update(choices=loader_choices(choices), value=loader),
            f"<p class='warning'>{escape(missing)}</p>" if missing else "",
            f"<p>Options {escape(reason)}.</p>" if reason else "",
            *(gr.update(visible=each == loader) for each in LOADERS),
            *(update for each in LOADERS for update in self._values(each, loader, options.model_dump(), fresh)),
        ]

    def _values(self, panel: str, loader: str, values: Mapping[str, Any], fresh: bool) -> list[Any]:
        knobs = self._knobs[panel]
        shown = {knob.name: knob.default for knob in knobs} if fresh else None
        return knob_controls.updates(knobs, values, shown=shown) if panel == loader else [gr.skip()] * len(knobs)

    @property
    def _nothing(self) -> list[Any]:
        """For loader, missing, reason, panels and options, when there is no model to load."""
        return [gr.skip()] * (3 + len(LOADERS) + len(self._options_of_all))

    def _state(self, chosen: str) -> list[Any]:
        """What the model in memory allows, and what is told of it."""
        state = self._app.models.state
        busy, loaded = state.phase in ("loading", "unloading"), state.phase == "loaded"
        return [
            notes_html(state.notes, state.error, short_name(state.name)),
            gr.update(interactive=bool(chosen) and not busy, visible=state.phase != "loading" or "hidden"),
            gr.update(visible=state.phase == "loading" or "hidden"),
            gr.update(interactive=loaded),
            gr.update(interactive=loaded),
            gr.update(visible=loaded and bool(self._app.lora_names())),
            gr.update(choices=self._app.lora_names(), value=[each.path.name for each in self._loras_now()]),
        ]

    def _loras_now(self) -> Sequence[Lora]:
        model = self._app.models.loaded
        return model.loras if model else ()

    def _starting(self) -> list[Any]:
        off = gr.update(interactive=False)
        return [gr.Timer(0.3), gr.update(visible="hidden"), gr.update(visible=True), off, off, gr.update(visible=False)]

    def _fetch(self) -> None:
        """The demo model comes from the package index, and is loaded."""
        self._app.models.load(demo.NAME, obtain=demo.DemoModel(self._app.paths).fetch)

    def _load(self, name: str, loader: str, *values: Any) -> None:
        if not name:
            raise InvalidInput("Choose a model in the list first.")
        self._app.models.load(name, loader, self._parsed(loader, values))

    def _load_if(self, autoload: bool, name: str, loader: str, *_: Any) -> None:
        """A choice is enough where the user wants that."""
        state = self._app.models.state
        if autoload and name and state.name != name and state.phase in ("none", "loaded"):
            options, _reason = self._app.models.default_options(name, loader)
            self._app.models.load(name, loader, options.model_dump())

    def _forecast(self, name: str, loader: str, *values: Any) -> str:
        """What the model will take with the options as they stand."""
        if not name:
            return ""
        try:
            found = self._app.models.forecast(name, loader, self._parsed(loader, values))
        except UserError:  # a value half-way typed, or a file that cannot be loaded: the tab says so elsewhere
            return ""
        model = self._app.models.loaded
        taken = model.memory if model and self._app.models.state.name == name else 0
        return forecast_html(found, taken)

    def _use_loras(self, names: Sequence[str]) -> None:
        self._app.use_loras(list(names or ()))
        say("The adapters act from the next reply on." if names else "No adapter acts any more.")

    def _save(self, name: str, loader: str, *values: Any) -> None:
        if not name:
            raise InvalidInput("Choose a model in the list first.")
        self._app.models.save_options(name, loader, self._parsed(loader, values))
        say(f"{short_name(name)} will be loaded with these options from now on.")

    def _parsed(self, loader: str, values: Sequence[Any]) -> dict[str, Any]:
        start = 0
        for name in LOADERS:
            count = len(self._knobs[name])
            if name == loader:
                own = values[start : start + count]
                return dict(knob_controls.parse(LOADERS[name].Options, own).model_dump())
            start += count
        raise InvalidInput("Choose a loader first.")


def loader_choices(choices: Sequence[LoaderChoice]) -> list[tuple[str, str]]:
    """What the loader menu offers; one that lacks its package says so."""
    return [
        (choice.name if not choice.missing else f"{choice.name} (not installed)", choice.name) for choice in choices
    ]


def shelf_html(items: Sequence[ShelfItem], chosen: str, loaded: str, fits: Callable[[int], str] = lambda _: "") -> str:
    """The shelf as a list; `fits` says of a size where it would go."""
    made = [
        Entry(item.name, short_name(item.name), item.problem or item_facts(item), badge=_badge(item, loaded, fits))
        for item in items
    ]
    return entries("Models", made, chosen, _EMPTY)


def item_facts(item: ShelfItem) -> str:
    """What the file says of itself: "0.1 GB · Q4_1 · 8k context · llama · GGUF · with a chat template"."""
    context = f"{thousands(item.context_length)} context" if item.context_length else ""
    template = "with a chat template" if item.has_template else ""
    return parts(gigabytes(item.size), item.quantization, context, item.architecture, item.format, template)


def title_html(item: ShelfItem | None) -> str:
    """The heading of the right side."""
    if item is None:
        return "<h1>No model chosen</h1><p>Choose one on the left to see how it would be loaded.</p>"
    told = f"<p class='warning'>{escape(item.problem)}</p>" if item.problem else f"<p>{escape(item_facts(item))}</p>"
    return f"<h1>{escape(short_name(item.name))}</h1>{told}"


def notes_html(notes: Sequence[str], error: str, name: str) -> str:
    """What was decided while loading, with the reasons; or why it failed."""
    if error:
        return f"<p class='warning' role='alert'>{escape(error)}</p>"
    if not notes:
        return ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<div class='notes'><h3>{escape(name)} is loaded</h3><ul>{lines}</ul></div>"


def _badge(item: ShelfItem, loaded: str, fits: Callable[[int], str]) -> str:
    if item.problem:
        return "cannot be loaded"
    return "loaded" if item.name == loaded else fits(item.size)
